//! The sessions of watchers, named by a cookie: a stand-in for the login that a service has.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::COOKIE;
use axum::http::request::Parts;

/// Where a service keeps its sessions.
pub trait Sessions: Send + Sync {
    /// Returns `true` while the session is logged in.
    fn contains(&self, session: &str) -> bool;

    /// Logs the session out.
    fn remove(&self, session: &str);
}

/// The session that a request is of.
pub(crate) struct Session(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let cookies = { parts.headers.get(COOKIE) }.and_then(|cookies| cookies.to_str().ok());
        let mut cookies = cookies.unwrap_or_default().split("; ");
        let session = cookies.find_map(|cookie| cookie.strip_prefix("session="));
        let session = session.ok_or(StatusCode::UNAUTHORIZED)?;
        Ok(Self(session.to_owned()))
    }
}
