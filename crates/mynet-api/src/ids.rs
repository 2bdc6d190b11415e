//! What stands in the path: ids of content, hashes, nodes and tokens.
//!
//! `{id}` of content is a content id (a UUID), a group id or a hash. A `sha256:` prefix says hash. Bare 64 hex digits may be
//! either a group id or a hash: the group is tried first and the hash second, and since both are SHA-256 values of different
//! things, at most one of them exists.

use std::{fmt::Display, future::Future, str::FromStr};

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use mynet_node::{handle::NodeError, view::OperationId};
use mynet_types::{ContentHash, ContentId, GroupId, NodeId, rpc::GroupKey};

use crate::{params::invalid, problem::Problem};

/// One value of the path.
pub(crate) struct InPath<T>(pub(crate) T);

/// What can stand in a path.
pub(crate) trait PathValue: Sized {
    /// Its field in `invalid_<field>`.
    const FIELD: &'static str;
    /// What it looks like.
    const EXPECTED: &'static str;
    /// Reads it.
    fn parse(text: &str) -> Result<Self, impl Display>;
}

impl<S: Send + Sync, T: PathValue> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| invalid(T::FIELD, "", &error.body_text(), T::EXPECTED))?;
        T::parse(&text).map(Self).map_err(|why| invalid(T::FIELD, &text, &why, T::EXPECTED))
    }
}

impl PathValue for NodeId {
    const FIELD: &'static str = "node";
    const EXPECTED: &'static str = "64 hex digits, as 'mynet peers' prints them";

    fn parse(text: &str) -> Result<Self, impl Display> {
        Self::from_str(text)
    }
}

impl PathValue for ContentHash {
    const FIELD: &'static str = "hash";
    const EXPECTED: &'static str = "sha256:<64 hex digits>";

    fn parse(text: &str) -> Result<Self, impl Display> {
        Self::from_str(text)
    }
}

impl PathValue for OperationId {
    const FIELD: &'static str = "operation_id";
    const EXPECTED: &'static str = "the operation_id that an upload or a publication answered";

    fn parse(text: &str) -> Result<Self, impl Display> {
        Self::from_str(text)
    }
}

/// The public part of an API key.
pub(crate) struct TokenId(pub(crate) String);

impl PathValue for TokenId {
    const FIELD: &'static str = "token_id";
    const EXPECTED: &'static str = "the id that 'mynet token ls' prints";

    fn parse(text: &str) -> Result<Self, impl Display> {
        match text.chars().all(|c| c.is_ascii_alphanumeric()) {
            true => Ok(Self(text.to_owned())),
            false => Err("it holds something other than letters and digits"),
        }
    }
}

/// How content is named in a path: the keys that it may stand for, likeliest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentKey {
    first: GroupKey,
    second: Option<GroupKey>,
}

impl PathValue for ContentKey {
    const FIELD: &'static str = "id";
    const EXPECTED: &'static str = "a content id (UUID), a group id (64 hex digits) or sha256:<64 hex digits>";

    fn parse(text: &str) -> Result<Self, impl Display> {
        if text.starts_with("sha256:") {
            return text.parse().map(|hash| Self { first: GroupKey::Hash(hash), second: None });
        }
        if let Ok(id) = ContentId::from_str(text) {
            return Ok(Self { first: GroupKey::Content(id), second: None });
        }
        text.parse().map(|GroupId(bytes)| Self {
            first: GroupKey::Group(GroupId(bytes)),
            second: Some(GroupKey::Hash(ContentHash(bytes))),
        })
    }
}

impl ContentKey {
    /// Does `ask` with the first key, and with the second if the first is not known.
    ///
    /// # Errors
    /// Those of `ask`.
    pub(crate) async fn resolve<T, F>(self, ask: impl Fn(GroupKey) -> F) -> Result<T, NodeError>
    where
        F: Future<Output = Result<T, NodeError>>,
    {
        let unknown = |error: &NodeError| matches!(error, NodeError::NotFound(_) | NodeError::Unknown(_));
        match (ask(self.first).await, self.second) {
            (Err(error), Some(second)) if unknown(&error) => match ask(second).await {
                // What is neither is called by its likelier name.
                Err(other) if unknown(&other) => Err(error),
                answer => answer,
            },
            (answer, _) => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use mynet_node::handle::NodeError;
    use mynet_types::{ContentHash, GroupId, rpc::GroupKey};

    use super::{ContentKey, PathValue, TokenId};

    fn key(text: &str) -> Option<ContentKey> {
        ContentKey::parse(text).ok()
    }

    #[test]
    fn each_form_of_an_id_is_told_from_the_others() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = ContentHash::of(b"abc");
        let group = GroupId(hash.0);
        let uuid = "0192f0c1-2345-7abc-8def-0123456789ab";
        let by_hash = ContentKey { first: GroupKey::Hash(hash), second: None };
        assert_eq!(key(&format!("sha256:{hex}")), Some(by_hash));
        let either = ContentKey { first: GroupKey::Group(group), second: Some(GroupKey::Hash(hash)) };
        assert_eq!(key(hex), Some(either));
        let by_row = ContentKey { first: GroupKey::Content(uuid.parse().unwrap()), second: None };
        assert_eq!(key(uuid), Some(by_row));
        for junk in ["", "abc", "sha256:", "sha256:12", &"z".repeat(64), &hex[1..], "../../etc/passwd"] {
            assert_eq!(key(junk), None, "{junk}");
        }
    }

    #[tokio::test]
    async fn bare_hex_is_tried_as_a_group_and_then_as_a_hash() {
        let either = key(&"ab".repeat(32)).unwrap();
        let asked = Mutex::new(Vec::new());
        let answer = either
            .resolve(|key| {
                asked.lock().unwrap().push(key);
                async move {
                    match key {
                        GroupKey::Hash(hash) => Ok(hash),
                        GroupKey::Group(_) | GroupKey::Content(_) => Err(NodeError::NotFound("x".to_owned())),
                    }
                }
            })
            .await;
        assert_eq!(answer.unwrap(), ContentHash([0xab; 32]));
        assert_eq!(
            *asked.lock().unwrap(),
            [GroupKey::Group(GroupId([0xab; 32])), GroupKey::Hash(ContentHash([0xab; 32]))]
        );
    }

    #[tokio::test]
    async fn another_error_than_not_found_ends_the_search() {
        let either = key(&"ab".repeat(32)).unwrap();
        let answer = either
            .resolve(|key| async move {
                match key {
                    GroupKey::Group(_) => Err::<(), _>(NodeError::Stopping),
                    GroupKey::Hash(_) | GroupKey::Content(_) => Ok(()),
                }
            })
            .await;
        assert!(matches!(answer, Err(NodeError::Stopping)));
    }

    #[test]
    fn token_ids_are_letters_and_digits() {
        assert!(TokenId::parse("k3yId009").is_ok());
        assert!(TokenId::parse("a/b").is_err());
    }
}
