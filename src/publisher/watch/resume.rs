//! A point to resume from, and its text form.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The point up to which a watcher has followed.
///
/// [`Watch::resume_point`](crate::publisher::Watch::resume_point) and
/// [`Update::resume`](crate::publisher::Update::resume) return it, and
/// [`Request::after`](crate::publisher::Request::after) takes it.
///
/// A client stores these two numbers and sends them back when it reconnects. Their text form,
/// `epoch-index` in decimal, fits the `Last-Event-ID` of server-sent events. With the feature
/// `serde` a `Resume` is serialized as that text, since JSON readers corrupt numbers of more than
/// 53 bits. Any two numbers are safe to accept: a watch that
/// cannot continue from them is reset.
///
/// ```
/// use event_buffer::publisher::{Publisher, Request, Resume};
///
/// let publisher = Publisher::<&str, u32>::builder().epoch(1).build();
/// publisher.publish(7, [])?;
/// let place: Resume = "1-7".parse()?;
/// let watch = publisher.subscribe(Request::new("key").after(place));
/// assert_eq!(watch.resume_point(), Some(Resume { epoch: 1, index: 7 }));
/// assert_eq!(place.to_string(), "1-7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resume {
    /// The [epoch](crate::publisher::Publisher::epoch) of the index.
    pub epoch: u64,
    /// The last index that the watcher has seen.
    pub index: u64,
}

/// The error of parsing a text that is not a [`Resume`].
///
/// ```
/// use event_buffer::publisher::{ParseResumeError, Resume};
///
/// assert_eq!("7".parse::<Resume>(), Err(ParseResumeError));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseResumeError;

impl fmt::Display for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.index)
    }
}

impl FromStr for Resume {
    type Err = ParseResumeError;

    /// Parses exactly what [`Display`](fmt::Display) writes: no signs, spaces or leading zeros.
    fn from_str(text: &str) -> Result<Self, ParseResumeError> {
        let number = |digits: &str| {
            let is_plain = digits.bytes().all(|digit| digit.is_ascii_digit());
            let is_canonical = is_plain && (digits.len() == 1 || !digits.starts_with('0'));
            { is_canonical.then(|| digits.parse().ok()) }
                .flatten()
                .ok_or(ParseResumeError)
        };
        let (epoch, index) = text.split_once('-').ok_or(ParseResumeError)?;
        Ok(Self {
            epoch: number(epoch)?,
            index: number(index)?,
        })
    }
}

impl fmt::Display for ParseResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a place to resume from: expected `epoch-index` in decimal")
    }
}

impl Error for ParseResumeError {}

#[cfg(feature = "serde")]
mod text {
    use serde::de::{Error, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Resume, fmt};

    impl Serialize for Resume {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl<'de> Deserialize<'de> for Resume {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Text;

            impl Visitor<'_> for Text {
                type Value = Resume;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a text `epoch-index`")
                }

                fn visit_str<E: Error>(self, text: &str) -> Result<Resume, E> {
                    text.parse().map_err(E::custom)
                }
            }

            deserializer.deserialize_str(Text)
        }
    }
}
