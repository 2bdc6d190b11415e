//! Who asks, and whether they may.
//!
//! Every row of the table of routes carries an [`Access`]; this is the only place where it is checked. A token that is not
//! good is refused also where none is needed, so that a client with an expired key learns of it instead of seeing less.
//! Probes alone never look at tokens: they must answer while the database does not.
//!
//! Source: RFC 6750 (bearer tokens), RFC 9110 section 11.

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, Method, Uri, header, request::Parts},
};
use mynet_node::{
    handle::{Asker, Principal},
    view::Scope,
};
use serde::Serialize;

use crate::{
    node::NodeHandle,
    problem::{Code, Problem},
};

/// Characters of a token at most: several times the length of an API key, so that nobody makes the node hash kilobytes.
const TOKEN_CHARS_MAX: usize = 512;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody; tokens are not looked at.
    Probe,
    /// Everybody; the node decides what it shows to whom.
    Anybody,
    /// Bearers of a token with at least this scope.
    Scope(Scope),
}

impl Access {
    /// The word of the scope that is needed.
    pub(crate) fn scope_word(self) -> Option<&'static str> {
        match self {
            Self::Probe | Self::Anybody => None,
            Self::Scope(scope) => Some(scope_word(scope)),
        }
    }
}

/// Whoever was let in. Every handler that needs it takes it as an argument.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Option<Principal>);

impl Caller {
    /// As the node wants to be told.
    pub(crate) fn asker(&self) -> Asker {
        self.0.as_ref().map_or(Asker::Anonymous, |principal| Asker::Key(principal.scope))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    /// Takes who the table of routes let in; nobody known where it did not look.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or(Self(None)))
    }
}

/// Finds out who asks and whether `access` lets them in.
///
/// # Errors
/// [`Code::Unauthorized`], [`Code::Forbidden`], or that the node cannot look up tokens.
pub(crate) async fn admit(node: &NodeHandle, headers: &HeaderMap, access: Access) -> Result<Caller, Problem> {
    if access == Access::Probe {
        return Ok(Caller(None));
    }
    let principal = match bearer(headers)? {
        None => None,
        Some(token) => Some(node.authenticate(token).await?.ok_or_else(refused_token)?),
    };
    permit(access, principal)
}

/// A token was shown and is not good. Which of unknown, expired and revoked it is, is not told.
fn refused_token() -> Problem {
    let challenge = HeaderValue::from_static("Bearer realm=\"mynet\", error=\"invalid_token\"");
    Problem::new(Code::Unauthorized, "the token is unknown, expired or revoked")
        .with_header(header::WWW_AUTHENTICATE, challenge)
}

/// The token of the `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let refuse = |why: &str| Problem::new(Code::Unauthorized, format!("the Authorization header {why}"));
    if values.next().is_some() {
        return Err(refuse("was given twice"));
    }
    let Some((scheme, token)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
        return Err(refuse("is not 'Bearer <token>'"));
    };
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refuse("names a scheme other than Bearer"));
    }
    if token.is_empty() || token.len() > TOKEN_CHARS_MAX || token.contains(char::is_whitespace) {
        return Err(refuse("holds no token"));
    }
    Ok(Some(token))
}

/// Compares a scope with what a route wants.
fn permit(access: Access, principal: Option<Principal>) -> Result<Caller, Problem> {
    match (access, principal) {
        (Access::Scope(_), None) => Err(Problem::new(Code::Unauthorized, "this route needs a token")),
        (Access::Scope(needed), Some(principal)) if principal.scope < needed => {
            let (needed, given) = (scope_word(needed), scope_word(principal.scope));
            Err(Problem::new(
                Code::Forbidden,
                format!("this route needs the scope '{needed}', the token has '{given}'"),
            )
            .with_hint(format!("use a token made with 'mynet token create --scope {needed}'")))
        }
        (_, principal) => Ok(Caller(principal)),
    }
}

/// The word of a scope, as in JSON.
fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "read",
        Scope::Write => "write",
        Scope::Admin => "admin",
    }
}

/// The token that was shown, as its bearer may see it.
#[derive(Serialize)]
pub(crate) struct Me {
    token_id: String,
    scope: Scope,
}

/// `GET /api/v1/auth/me`
pub(crate) async fn me(Caller(principal): Caller) -> Result<Json<Me>, Problem> {
    let Principal { token_id, scope } =
        principal.ok_or_else(|| Problem::new(Code::Unauthorized, "this route needs a token"))?;
    Ok(Json(Me { token_id, scope }))
}

/// Answers an unknown route.
pub(crate) async fn no_route(uri: Uri) -> Problem {
    Problem::new(Code::RouteNotFound, format!("there is no route {}", uri.path()))
}

/// Answers a known route with another method; the router adds `Allow`.
pub(crate) async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{} does not take {method}", uri.path()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, header};
    use mynet_node::{
        handle::{Asker, Principal},
        view::Scope,
    };

    use super::{Access, TOKEN_CHARS_MAX, bearer, permit};
    use crate::problem::Code;

    /// The values of the header, and what is made of them.
    type Case<'a> = (&'a [&'a str], Result<Option<&'a str>, Code>);

    #[test]
    fn only_one_bearer_token_is_taken() {
        let long = format!("Bearer {}", "x".repeat(TOKEN_CHARS_MAX + 1));
        let table: [Case<'_>; 10] = [
            (&[], Ok(None)),
            (&["Bearer abc"], Ok(Some("abc"))),
            (&["bearer  abc "], Ok(Some("abc"))),
            (&["Basic abc"], Err(Code::Unauthorized)),
            (&["Bearer"], Err(Code::Unauthorized)),
            (&["Bearer "], Err(Code::Unauthorized)),
            (&["Bearer a b"], Err(Code::Unauthorized)),
            (&["abc"], Err(Code::Unauthorized)),
            (&[&long], Err(Code::Unauthorized)),
            (&["Bearer a", "Bearer b"], Err(Code::Unauthorized)),
        ];
        for (values, want) in table {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(bearer(&headers).map_err(|problem| problem.code()), want, "{values:?}");
        }
    }

    #[test]
    fn each_scope_includes_those_before_it() {
        use Scope::{Admin, Read, Write};
        for (needed, given, want) in [
            (Read, None, Err(Code::Unauthorized)),
            (Read, Some(Read), Ok(())),
            (Read, Some(Admin), Ok(())),
            (Write, Some(Read), Err(Code::Forbidden)),
            (Write, Some(Write), Ok(())),
            (Admin, Some(Write), Err(Code::Forbidden)),
            (Admin, Some(Admin), Ok(())),
        ] {
            let principal = given.map(|scope| Principal { token_id: "k".to_owned(), scope });
            let answer = permit(Access::Scope(needed), principal).map(drop).map_err(|problem| problem.code());
            assert_eq!(answer, want, "{needed:?} {given:?}");
        }
    }

    #[test]
    fn a_public_route_tells_the_node_who_asks() {
        assert_eq!(permit(Access::Anybody, None).unwrap().asker(), Asker::Anonymous);
        let principal = Principal { token_id: "k".to_owned(), scope: Scope::Read };
        assert_eq!(permit(Access::Anybody, Some(principal)).unwrap().asker(), Asker::Key(Scope::Read));
    }
}
