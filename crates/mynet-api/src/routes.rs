//! The table of routes: method, path, who may, which parameters, handler.
//!
//! A request passes, from the outside in: the log line, the catcher of panics, the match of path and method, and
//! [`guard`], which checks the token and then the parameters; only then the handler runs.

use std::{any::Any, sync::Arc, time::Instant};

use axum::handler::Handler;
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use mynet_node::view::Scope;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::{
    auth::{self, Access},
    care, content, events, heads,
    node::NodeHandle,
    openapi,
    params::Params,
    peers,
    problem::{self, Code, Problem},
    request_id::{self, RequestId},
    serve::ApiSettings,
    storage, tokens, upload,
};

/// What every handler may use.
#[derive(Debug, Clone)]
pub(crate) struct App {
    /// The node.
    pub(crate) node: NodeHandle,
    /// Bounds.
    pub(crate) settings: ApiSettings,
    /// One permit per upload whose body is being received.
    pub(crate) uploads: Arc<Semaphore>,
    /// One permit per reader of events.
    pub(crate) readers: Arc<Semaphore>,
    /// Cancelled when answers that have no end must end.
    pub(crate) closing: CancellationToken,
}

/// One row of the table.
pub(crate) struct Route {
    /// Built into the handler; here for the document of the API.
    method: MethodFilter,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) params: &'static [&'static str],
    handler: MethodRouter<App>,
}

impl Route {
    fn new<H: Handler<T, App>, T: 'static>(
        method: MethodFilter,
        path: &'static str,
        access: Access,
        params: &'static [&'static str],
        handler: H,
    ) -> Self {
        Self { method, path, access, params, handler: on(method, handler) }
    }

    /// The word of its method.
    pub(crate) fn method_word(&self) -> &'static str {
        match self.method {
            MethodFilter::POST => "POST",
            MethodFilter::DELETE => "DELETE",
            _ => "GET",
        }
    }

    /// Method and path.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method_word(), self.path)
    }
}

/// The table. A route for `GET` also answers `HEAD`.
pub(crate) fn table() -> Vec<Route> {
    const ADMIN: Access = Access::Scope(Scope::Admin);
    const DELETE: MethodFilter = MethodFilter::DELETE;
    const GET: MethodFilter = MethodFilter::GET;
    const PAGE: &[&str] = &["limit", "cursor"];
    const POST: MethodFilter = MethodFilter::POST;
    const READ: Access = Access::Scope(Scope::Read);
    const WRITE: Access = Access::Scope(Scope::Write);
    vec![
        Route::new(GET, "/livez", Access::Probe, &[], peers::livez),
        Route::new(GET, "/readyz", Access::Probe, &[], peers::readyz),
        Route::new(GET, "/api/openapi.json", Access::Anybody, &[], openapi::serve),
        Route::new(GET, "/api/docs", Access::Anybody, &[], openapi::docs),
        Route::new(POST, "/api/v1/content", WRITE, upload::PARAMS, upload::upload),
        Route::new(GET, "/api/v1/content", READ, PAGE, content::list),
        Route::new(GET, "/api/v1/content/{id}", READ, &[], content::show),
        Route::new(DELETE, "/api/v1/content/{id}", WRITE, content::DELETE_PARAMS, content::delete),
        Route::new(GET, "/api/v1/content/{id}/group", READ, &[], content::show),
        Route::new(GET, "/api/v1/content/{id}/certificate", READ, &[], content::certificate),
        Route::new(GET, "/api/v1/content/{id}/why", READ, &[], content::why),
        Route::new(GET, "/api/v1/content/{id}/data", Access::Anybody, storage::PARAMS, storage::by_id),
        Route::new(POST, "/api/v1/content/{id}/publish", WRITE, content::PUBLISH_PARAMS, content::publish),
        Route::new(GET, "/api/v1/content/{id}/relationships", READ, PAGE, content::relationships),
        Route::new(POST, "/api/v1/content/{id}/relationships", WRITE, content::RELATE_PARAMS, content::relate),
        Route::new(POST, "/api/v1/content/{id}/propose", WRITE, content::PROPOSE_PARAMS, content::propose),
        Route::new(GET, "/api/v1/operations/{id}", READ, &[], content::operation),
        Route::new(GET, "/api/v1/storage/{hash}", Access::Anybody, &[], storage::by_hash),
        Route::new(GET, "/api/v1/storage", READ, &[], storage::usage),
        Route::new(POST, "/api/v1/storage/gc", ADMIN, care::PARAMS, care::gc),
        Route::new(POST, "/api/v1/doctor", ADMIN, care::PARAMS, care::doctor),
        Route::new(GET, "/api/v1/find/{hash}", READ, &[], content::find),
        Route::new(GET, "/api/v1/status", READ, &[], peers::status),
        Route::new(GET, "/api/v1/roster", READ, &[], peers::roster),
        Route::new(POST, "/api/v1/roster/{node}/approve", ADMIN, &[], peers::approve),
        Route::new(POST, "/api/v1/roster/recovery/offer", ADMIN, &[], peers::recovery_offer),
        Route::new(POST, "/api/v1/roster/recovery", ADMIN, care::PARAMS, peers::recover),
        Route::new(GET, "/api/v1/events", READ, &[], events::follow),
        Route::new(GET, "/api/v1/evidence", READ, PAGE, peers::evidence),
        Route::new(GET, "/api/v1/proposals", READ, PAGE, peers::proposals),
        Route::new(GET, "/api/v1/genesis", READ, &[], peers::genesis),
        Route::new(GET, "/api/v1/peers", READ, PAGE, peers::list),
        Route::new(GET, "/api/v1/peers/{node}", READ, &[], peers::show),
        Route::new(POST, "/api/v1/peers/{node}/trust", ADMIN, &[], peers::trust),
        Route::new(POST, "/api/v1/peers/{node}/untrust", ADMIN, &[], peers::untrust),
        Route::new(POST, "/api/v1/invites", ADMIN, &[], peers::invite),
        Route::new(GET, "/api/v1/auth/me", READ, &[], auth::me),
        Route::new(GET, "/api/v1/auth/tokens", ADMIN, PAGE, tokens::list),
        Route::new(POST, "/api/v1/auth/tokens", ADMIN, &[], tokens::create),
        Route::new(DELETE, "/api/v1/auth/tokens/{id}", ADMIN, &[], tokens::revoke),
    ]
}

/// The whole API over `node`, without a listener. [`crate::serve()`] adds the bounds on connections.
pub fn router(node: NodeHandle, settings: ApiSettings) -> Router {
    router_until(node, settings, CancellationToken::new())
}

/// The same; answers that have no end, end when `closing` is cancelled.
pub(crate) fn router_until(node: NodeHandle, settings: ApiSettings, closing: CancellationToken) -> Router {
    let (uploads, readers) = (Semaphore::new(settings.uploads_max), Semaphore::new(settings.readers_max));
    let app = App { node, settings, uploads: Arc::new(uploads), readers: Arc::new(readers), closing };
    let mut router = Router::new();
    for route in table() {
        let guarded = Guard { node: app.node.clone(), access: route.access, params: route.params };
        router = router.route(route.path, route.handler.route_layer(from_fn_with_state(guarded, guard)));
    }
    router
        .fallback(auth::no_route)
        .method_not_allowed_fallback(auth::no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(observe))
        .with_state(app)
}

/// What [`guard`] knows of the route it stands before.
#[derive(Clone)]
struct Guard {
    node: NodeHandle,
    access: Access,
    params: &'static [&'static str],
}

/// Checks the token, then the parameters, and hands both to the handler.
async fn guard(State(route): State<Guard>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let caller = auth::admit(&route.node, request.headers(), route.access).await?;
    if route.access != Access::Probe {
        let params = Params::of_query(request.uri(), route.params)?;
        request.extensions_mut().insert(params);
    }
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// Names the request, refuses it if its path is too long, and logs one line for it.
async fn observe(request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    // The pattern, not the path and never the query: a log must not tell who reads what.
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str);
    let span = tracing::info_span!("http", method = %request.method(), route, request_id = id.as_str());
    async move {
        let started = Instant::now();
        let response = match heads::check_uri(request.uri()) {
            Ok(()) => next.run(request).await,
            Err(problem) => problem.into_response(),
        };
        let response = finish(response, &id);
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(status = response.status().as_u16(), milliseconds, "request answered");
        response
    }
    .instrument(span)
    .await
}

/// Names the request in its answer, and says what caches and browsers may do with it if it does not say so itself.
pub(crate) fn finish(response: Response, id: &RequestId) -> Response {
    let mut response = problem::complete(response, id);
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(request_id::HEADER, id.value());
    response
}

/// Answers a request whose handler panicked: a bug, for a human.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("no text"), "a request handler panicked");
    Problem::new(Code::Internal, "the node met a bug while it answered").into_response()
}

#[cfg(test)]
mod tests;
