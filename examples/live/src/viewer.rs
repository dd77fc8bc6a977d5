//! What a viewer asks for, in the query of its URL.

use axum::http::StatusCode;
use event_buffer::publisher::Resume;

use crate::event::Key;

/// The most keys that one viewer may watch.
const MOST_KEYS: usize = 20;

/// What a viewer asks for.
#[derive(Default)]
pub(crate) struct Viewer {
    pub(crate) keys: Vec<Key>,
    /// The place to continue from.
    pub(crate) after: Option<Resume>,
    /// The viewer's session, by which all its watches can be closed.
    pub(crate) session: Option<String>,
}

impl Viewer {
    /// Reads the parameters of a query.
    ///
    /// # Errors
    ///
    /// [`StatusCode::BAD_REQUEST`], and what is wrong with them.
    pub(crate) fn of(pairs: Vec<(String, String)>) -> Result<Self, (StatusCode, String)> {
        let refused = |text: String| (StatusCode::BAD_REQUEST, text);
        let mut viewer = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "key" => {
                    let key = value.parse::<Key>();
                    viewer
                        .keys
                        .push(key.map_err(|error| refused(error.to_string()))?);
                }
                "after" => {
                    let place = value.parse::<Resume>();
                    let place = place.map_err(|error| refused(format!("after: {error}")))?;
                    viewer.after = Some(place);
                }
                "session" => viewer.session = Some(value),
                _ => return Err(refused(format!("no such parameter: {name:?}"))),
            }
        }
        match viewer.keys.len() {
            1..=MOST_KEYS => Ok(viewer),
            0 => Err(refused("no key: say ?key=jobs or ?key=job/7".into())),
            _ => Err(refused(format!("more than {MOST_KEYS} keys"))),
        }
    }
}
