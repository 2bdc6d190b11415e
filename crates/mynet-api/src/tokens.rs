//! API keys: list, create, revoke. The secret of a key is in the answer to its creation and nowhere else.

use std::{
    cmp::Reverse,
    time::{Duration, SystemTime},
};

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
};
use mynet_node::{
    handle::TokenOptions,
    view::{Page, Scope, TokenView},
};
use mynet_types::Timestamp;

use crate::{
    content::{cut, json},
    ids::{InPath, TokenId},
    params::{Params, duration, word},
    problem::{Code, Problem},
    routes::App,
};

/// Fields of a new key.
pub(crate) const FIELDS: &[&str] = &["name", "scope", "expires"];

/// Bytes of a key's name at most: it is a label in a table.
const NAME_BYTES_MAX: usize = 64;

/// `GET /api/v1/auth/tokens`, newest first
pub(crate) async fn list(State(app): State<App>, params: Params) -> Result<Json<Page<TokenView>>, Problem> {
    let mut tokens = app.node.tokens().await?;
    tokens.sort_by_key(|token| Reverse(token.created_at));
    Ok(Json(cut(tokens, |token| token.id.clone(), &params)?))
}

/// `POST /api/v1/auth/tokens`
pub(crate) async fn create(State(app): State<App>, request: Request) -> Result<(StatusCode, Json<TokenView>), Problem> {
    let options = token_options(&json(request, &app, FIELDS).await?, now())?;
    Ok((StatusCode::CREATED, Json(app.node.create_token(options).await?)))
}

/// `DELETE /api/v1/auth/tokens/{id}`
pub(crate) async fn revoke(
    State(app): State<App>,
    InPath(TokenId(id)): InPath<TokenId>,
) -> Result<StatusCode, Problem> {
    app.node.revoke_token(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::default().after(since)
}

/// Reads a new key. Without a scope it may only read: more has to be asked for.
fn token_options(fields: &Params, now: Timestamp) -> Result<TokenOptions, Problem> {
    let name = fields.one("name", "a label of 1 to 64 bytes", |text| match text.trim() {
        "" => Err("it is empty"),
        name if name.len() > NAME_BYTES_MAX => Err("it is too long"),
        name if name.contains(char::is_control) => Err("it holds control characters"),
        name => Ok(name.to_owned()),
    })?;
    let name = name.ok_or_else(|| {
        Problem::new(Code::Invalid("name"), "a key needs a name").with_hint("give name as a label of 1 to 64 bytes")
    })?;
    let scope = fields.one("scope", "read, write or admin", word)?.unwrap_or(Scope::Read);
    let expected = "a duration such as 30d, or a time such as 2030-01-01T00:00:00Z, in the future";
    let expires = fields.one("expires", expected, |text| {
        let expires = match duration(text) {
            Ok(after) => now.after(after),
            Err(_) => word::<Timestamp>(text).map_err(|_none| "it is neither a duration nor a time")?,
        };
        if expires > now { Ok(expires) } else { Err("it would be over at once") }
    })?;
    Ok(TokenOptions { name, scope, expires })
}

#[cfg(test)]
mod tests {
    use mynet_node::view::Scope;
    use mynet_types::Timestamp;

    use super::{FIELDS, token_options};
    use crate::{params::Params, problem::Problem};

    const NOW: Timestamp = Timestamp(1_000_000);

    fn options(json: &str) -> Result<super::TokenOptions, Problem> {
        token_options(&Params::of_json(json.as_bytes(), FIELDS)?, NOW)
    }

    #[test]
    fn a_key_may_only_read_and_never_ends_unless_said_otherwise() {
        let plain = options(r#"{"name": " ci "}"#).unwrap();
        assert_eq!((plain.name.as_str(), plain.scope, plain.expires), ("ci", Scope::Read, None));
        let full = options(r#"{"name": "ci", "scope": "admin", "expires": "1h"}"#).unwrap();
        assert_eq!((full.scope, full.expires), (Scope::Admin, Some(Timestamp(4_600_000))));
        let dated = options(r#"{"name": "ci", "expires": "1970-01-02T00:00:00Z"}"#).unwrap();
        assert_eq!(dated.expires, Some(Timestamp(86_400_000)));
    }

    #[test]
    fn senseless_keys_are_refused_by_field() {
        let long = format!(r#"{{"name": "{}"}}"#, "x".repeat(65));
        for (json, want) in [
            ("{}", "invalid_name"),
            (r#"{"name": ""}"#, "invalid_name"),
            (r#"{"name": "a\u0007"}"#, "invalid_name"),
            (&long, "invalid_name"),
            (r#"{"name": "a", "scope": "root"}"#, "invalid_scope"),
            (r#"{"name": "a", "expires": "0s"}"#, "invalid_expires"),
            (r#"{"name": "a", "expires": "1970-01-01T00:00:00Z"}"#, "invalid_expires"),
            (r#"{"name": "a", "expires": "soon"}"#, "invalid_expires"),
            (r#"{"name": "a", "scopes": "read"}"#, "unknown_parameter"),
        ] {
            assert_eq!(options(json).unwrap_err().code().name(), want, "{json}");
        }
    }
}
