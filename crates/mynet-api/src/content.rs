//! Groups: list, show, certificate, publish, find.

use std::time::Duration;

use axum::{
    Json,
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use mynet_node::{
    govern::ProposalView,
    handle::PublishOptions,
    media::{SNIFF_BYTES, media_type},
    view::{DeletionView, FindView, GroupView, OperationId, OperationView, Page, RelationshipView, Wait, WhyView},
};
use mynet_types::{Claim, ContentHash, wire::REPLICAS_MAX};

use crate::{
    body::BoundedBody,
    ids::{ContentKey, InPath},
    params::{Params, duration, invalid, number, word},
    problem::{Code, Problem},
    routes::App,
};

/// Parameters of a publication, in the query or as a JSON object.
pub(crate) const PUBLISH_PARAMS: &[&str] = &["replicas", "mode", "dry_run", "wait", "timeout"];

/// Parameters of a deletion.
pub(crate) const DELETE_PARAMS: &[&str] = &["timeout"];

/// Items of a page unless asked otherwise: one screenful of a client that scrolls.
const LIMIT_DEFAULT: u32 = 100;

/// Items of a page at most: about one megabyte of groups.
const LIMIT_MAX: u32 = 1000;

/// How long a request waits unless asked otherwise; as `mynet add`.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// How long a deletion waits for its holders unless asked otherwise; as `mynet rm`.
const DELETE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Parameters of a new relationship.
pub(crate) const RELATE_PARAMS: &[&str] = &["type", "filename", "timeout"];

/// Bytes of a supplied preview at most; the node allows no more either.
const PREVIEW_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Parameters of a proposal.
pub(crate) const PROPOSE_PARAMS: &[&str] = &["claim", "timeout"];

/// How long a proposal waits for votes unless asked otherwise; as `mynet propose`.
const PROPOSE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How long a request may wait: whoever needs more asks again, as the work goes on without them.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of a JSON body at most: several times what any route takes.
const JSON_BYTES_MAX: u64 = 64 * 1024;

/// `GET /api/v1/content`
pub(crate) async fn list(State(app): State<App>, params: Params) -> Result<Json<Page<GroupView>>, Problem> {
    let (limit, cursor) = page(&params)?;
    Ok(Json(app.node.list(limit, cursor).await?))
}

/// `GET /api/v1/content/{id}` and `GET /api/v1/content/{id}/group`
pub(crate) async fn show(State(app): State<App>, InPath(id): InPath<ContentKey>) -> Result<Json<GroupView>, Problem> {
    Ok(Json(id.resolve(|key| app.node.show(key)).await?))
}

/// `DELETE /api/v1/content/{id}`: 200 whoever has confirmed, as the object tells it.
pub(crate) async fn delete(
    State(app): State<App>,
    InPath(id): InPath<ContentKey>,
    params: Params,
) -> Result<Json<DeletionView>, Problem> {
    let timeout = timeout_or(&params, DELETE_TIMEOUT_DEFAULT)?;
    Ok(Json(id.resolve(|key| app.node.delete(key, timeout)).await?))
}

/// `GET /api/v1/content/{id}/certificate`
pub(crate) async fn certificate(State(app): State<App>, InPath(id): InPath<ContentKey>) -> Result<Response, Problem> {
    let bytes = id.resolve(|key| app.node.certificate(key)).await?;
    Ok(attachment("certificate.mynet", bytes))
}

/// `GET /api/v1/content/{id}/why`
pub(crate) async fn why(State(app): State<App>, InPath(id): InPath<ContentKey>) -> Result<Json<WhyView>, Problem> {
    Ok(Json(id.resolve(|key| app.node.why(key)).await?))
}

/// `GET /api/v1/operations/{id}`
pub(crate) async fn operation(
    State(app): State<App>,
    InPath(id): InPath<OperationId>,
) -> Result<Json<OperationView>, Problem> {
    Ok(Json(app.node.operation(id).await?))
}

/// `GET /api/v1/find/{hash}`: 200 whatever the outcome, as the object tells it.
pub(crate) async fn find(State(app): State<App>, InPath(hash): InPath<ContentHash>) -> Result<Json<FindView>, Problem> {
    Ok(Json(app.node.find(hash).await?))
}

/// `POST /api/v1/content/{id}/publish`
pub(crate) async fn publish(
    State(app): State<App>,
    InPath(id): InPath<ContentKey>,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    let params = params.and(json(request, &app, PUBLISH_PARAMS).await?);
    let options = PublishOptions { replicas: replicas(&params)?, all: mode_is_all(&params)? };
    let (wait, timeout) = (wait(&params)?.unwrap_or(Wait::Durable), timeout(&params)?);
    if params.flag("dry_run", false)? {
        let plan = id.resolve(|key| app.node.plan(key, options.clone())).await?;
        return Ok(Json(plan).into_response());
    }
    let group = id.resolve(|key| app.node.publish(key, options.clone(), wait, timeout)).await?;
    Ok(Json(group).into_response())
}

/// `POST /api/v1/content/{id}/propose`: 200 whatever the validators said, as the object tells it.
pub(crate) async fn propose(
    State(app): State<App>,
    InPath(id): InPath<ContentKey>,
    params: Params,
) -> Result<Json<ProposalView>, Problem> {
    let claim = params.one("claim", "seen, durable or verified", |text| match text {
        "seen" => Ok(Claim::Seen),
        "durable" => Ok(Claim::Durable),
        "verified" => Ok(Claim::Verified),
        _ => Err("there is no such claim"),
    })?;
    let timeout = timeout_or(&params, PROPOSE_TIMEOUT_DEFAULT)?;
    let claim = claim.unwrap_or(Claim::Durable);
    Ok(Json(id.resolve(|key| app.node.propose(key, claim, timeout)).await?))
}

/// `GET /api/v1/content/{id}/relationships`
pub(crate) async fn relationships(
    State(app): State<App>,
    InPath(id): InPath<ContentKey>,
    params: Params,
) -> Result<Json<Page<RelationshipView>>, Problem> {
    // Before the network is searched for the group.
    page(&params)?;
    let links = id.resolve(|key| app.node.show(key)).await?.relationships;
    Ok(Json(cut(links, |link| format!("{}-{}", link.parent_content_id, link.child_content_id), &params)?))
}

/// `POST /api/v1/content/{id}/relationships`: the body is the new preview.
pub(crate) async fn relate(
    State(app): State<App>,
    InPath(id): InPath<ContentKey>,
    params: Params,
    request: Request,
) -> Result<Json<GroupView>, Problem> {
    params.one("type", "preview", |text| match text {
        "preview" => Ok(()),
        _ => Err("only the preview of a group can be replaced"),
    })?;
    let name = params.one("filename", "the name of the file", |text| Ok::<_, String>(text.to_owned()))?;
    let timeout = timeout(&params)?;
    let (parts, body) = request.into_parts();
    let (body, refusal) = BoundedBody::new(&parts.headers, body, PREVIEW_BYTES_MAX, app.settings.body_idle)?;
    let bytes =
        body.collect().await.map_err(|error| refusal.or_else(|| Problem::new(Code::Upload, error.to_string())))?;
    if bytes.is_empty() {
        return Err(Problem::new(Code::Invalid("body"), "there are no bytes").with_hint("send the preview as the body"));
    }
    let head = bytes.get(..SNIFF_BYTES.min(bytes.len())).unwrap_or_default();
    let mime = media_type(&name.unwrap_or_default(), head).to_owned();
    let preview = (Bytes::from(bytes), mime);
    Ok(Json(id.resolve(|key| app.node.replace_preview(key, preview.clone(), timeout)).await?))
}

/// A file to be saved, under `name`.
pub(crate) fn attachment(name: &str, bytes: Vec<u8>) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, disposition.as_str())];
    (headers, bytes).into_response()
}

/// The JSON body of a request, as parameters.
///
/// # Errors
/// Those of [`BoundedBody`] and [`Params::of_json`].
pub(crate) async fn json(request: Request, app: &App, known: &[&'static str]) -> Result<Params, Problem> {
    Params::of_json(&bytes(request, app, JSON_BYTES_MAX).await?, known)
}

/// The whole body of a request, at most `max` bytes.
///
/// # Errors
/// Those of [`BoundedBody`].
pub(crate) async fn bytes(request: Request, app: &App, max: u64) -> Result<Vec<u8>, Problem> {
    let (parts, body) = request.into_parts();
    let (body, refusal) = BoundedBody::new(&parts.headers, body, max, app.settings.body_idle)?;
    body.collect().await.map_err(|error| refusal.or_else(|| Problem::new(Code::Upload, error.to_string())))
}

/// How many items, and from where.
pub(crate) fn page(params: &Params) -> Result<(u32, Option<String>), Problem> {
    let limit = params.one("limit", &format!("a number from 1 to {LIMIT_MAX}"), |text| number(1..=LIMIT_MAX, text))?;
    let cursor = params.one("cursor", "the next_cursor of the page before", |text| Ok::<_, String>(text.to_owned()))?;
    Ok((limit.unwrap_or(LIMIT_DEFAULT), cursor))
}

/// Cuts the page that `params` ask for out of a list that is in memory anyway; the cursor is the id of the last item.
pub(crate) fn cut<T>(mut items: Vec<T>, id: impl Fn(&T) -> String, params: &Params) -> Result<Page<T>, Problem> {
    let (limit, cursor) = page(params)?;
    if let Some(cursor) = cursor {
        let Some(at) = items.iter().position(|item| id(item) == cursor) else {
            return Err(invalid("cursor", &cursor, &"its item is gone", "none, to begin anew"));
        };
        items.drain(..=at);
    }
    let limit = limit as usize;
    let next_cursor = if items.len() > limit { items.get(limit - 1).map(id) } else { None };
    items.truncate(limit);
    Ok(Page { items, next_cursor })
}

/// Copies wanted.
pub(crate) fn replicas(params: &Params) -> Result<Option<u8>, Problem> {
    params.one("replicas", &format!("a number from 1 to {REPLICAS_MAX}"), |text| number(1..=REPLICAS_MAX, text))
}

/// How far to wait, if that was said.
pub(crate) fn wait(params: &Params) -> Result<Option<Wait>, Problem> {
    params.one("wait", "stored, durable or certified", word)
}

/// How long to wait.
pub(crate) fn timeout(params: &Params) -> Result<Duration, Problem> {
    timeout_or(params, TIMEOUT_DEFAULT)
}

fn timeout_or(params: &Params, default: Duration) -> Result<Duration, Problem> {
    let timeout =
        params.one("timeout", "seconds, or a duration up to 24h such as 60s", |text| match duration(text) {
            Ok(timeout) if timeout <= TIMEOUT_MAX => Ok(timeout),
            Ok(_) => Err("it is longer than a request may wait"),
            Err(why) => Err(why),
        })?;
    Ok(timeout.unwrap_or(default))
}

/// Whether every holder must have it, if that was said.
fn mode_is_all(params: &Params) -> Result<Option<bool>, Problem> {
    params.one("mode", "quorum or all", |text| match text {
        "quorum" => Ok(false),
        "all" => Ok(true),
        _ => Err("there is no such mode"),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{cut, page, replicas, timeout};
    use crate::params::Params;

    fn params(query: &str) -> Params {
        let known = ["limit", "cursor", "replicas", "timeout"];
        Params::of_query(&format!("/x?{query}").parse().unwrap(), &known).unwrap()
    }

    #[test]
    fn limits_lie_within_bounds() {
        for (query, want) in [("", Some(100)), ("limit=1", Some(1)), ("limit=1000", Some(1000)), ("limit=0", None)] {
            assert_eq!(page(&params(query)).ok().map(|(limit, _)| limit), want, "{query}");
        }
        for query in ["limit=1001", "limit=-1", "limit=many"] {
            assert_eq!(page(&params(query)).unwrap_err().code().name(), "invalid_limit", "{query}");
        }
    }

    #[test]
    fn replicas_and_timeout_lie_within_bounds() {
        assert_eq!(replicas(&params("")).unwrap(), None);
        assert_eq!(replicas(&params("replicas=16")).unwrap(), Some(16));
        for query in ["replicas=0", "replicas=17", "replicas=300", "replicas=x"] {
            assert_eq!(replicas(&params(query)).unwrap_err().code().name(), "invalid_replicas", "{query}");
        }
        assert_eq!(timeout(&params("")).unwrap(), Duration::from_secs(60));
        assert_eq!(timeout(&params("timeout=0")).unwrap(), Duration::ZERO);
        assert_eq!(timeout(&params("timeout=25h")).unwrap_err().code().name(), "invalid_timeout");
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repetition() {
        let mut seen = Vec::new();
        let mut query = "limit=3".to_owned();
        loop {
            let page = cut((0..7).collect(), ToString::to_string, &params(&query)).unwrap();
            seen.extend(page.items);
            let Some(cursor) = page.next_cursor else { break };
            query = format!("limit=3&cursor={cursor}");
        }
        assert_eq!(seen, (0..7).collect::<Vec<_>>());
        let whole = cut((0..3).collect(), ToString::to_string, &params("limit=3")).unwrap();
        assert_eq!(whole.next_cursor, None);
        let gone = cut(vec![1], ToString::to_string, &params("cursor=9")).unwrap_err();
        assert_eq!(gone.code().name(), "invalid_cursor");
    }
}
