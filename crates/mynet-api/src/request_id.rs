//! Names of requests: one name in the answer, in the log and in the report of whoever asked.
//!
//! A client may name its request with `X-Request-Id`; what it gives is taken if it is short and made of letters, digits and
//! `-_.`, because it is written to the log. Otherwise, and without one, the node makes a name.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Carries the name in both directions.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of a name at most: twice a UUID, so that clients may put a prefix before one.
const CHARS_MAX: usize = 72;

/// The name of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// The name that the client gave, or a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(HEADER).iter();
        match (given.next().and_then(|value| value.to_str().ok()), given.next()) {
            (Some(name), None) if may_be_written(name) => Self(name.to_owned()),
            _ => Self(uuid::Uuid::new_v4().to_string()),
        }
    }

    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As a header.
    pub(crate) fn value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("made of letters, digits and -_. only")
    }
}

/// Whether a name can stand in a log line and a header without doing anything there.
fn may_be_written(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=CHARS_MAX).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::{CHARS_MAX, HEADER, RequestId};

    fn of(given: &[&str]) -> RequestId {
        let mut headers = HeaderMap::new();
        for value in given {
            headers.append(HEADER, value.parse().unwrap());
        }
        RequestId::of(&headers)
    }

    #[test]
    fn a_plain_name_is_taken_and_every_other_replaced() {
        let longest = "x".repeat(CHARS_MAX);
        for name in ["a", "deploy-7_x.2", &longest] {
            assert_eq!(of(&[name]).as_str(), name);
        }
        let too_long = "x".repeat(CHARS_MAX + 1);
        for given in [&[][..], &[""], &[&too_long], &["a b"], &["a=\"b\""], &["a", "b"]] {
            let name = of(given);
            assert_eq!(name.as_str().len(), 36, "{given:?}");
            assert_ne!(name, of(given), "names that the node makes differ");
        }
    }
}
