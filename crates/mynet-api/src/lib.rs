//! The HTTP API: one table of routes over [`mynet_node::handle::NodeHandle`].
//!
//! A request passes four stations: the connection ([`serve()`]: bounds on time and number), the table of routes (who may call
//! what, with which parameters), a handler that translates to one call of the node, and the answer. The node decides
//! everything about content; here nothing is decided but HTTP.
//!
//! Invariants:
//! 1. Bodies are streamed in both directions; what is buffered has a named bound.
//! 2. No status is sent before the first bytes of content were verified, and an error after that breaks the connection,
//!    so a client never takes a part for the whole.
//! 3. Every refusal is one object, `application/problem+json`, with a `code` from one table.
//! 4. Every route and its scope stand in one table; a route that is not there does not exist.
//! 5. Tokens are neither logged nor echoed.
//!
//! Deliberately absent until they exist: routes of systems that do not exist yet, TLS, CORS, cookies.
//!
//! Reading order: `serve`, `routes`, `auth`, then the handlers `upload`, `content`, `storage`, `peers`, `tokens`; `events`; `ranges`, `params`, `ids`, `body`, `heads`,
//! `request_id` and `problem` are what they are made of. The routes are described in `docs/api.md` and by the node itself: `openapi`.

mod auth;
mod body;
mod care;
mod content;
mod events;
#[cfg(test)]
mod fake;
mod heads;
mod ids;
mod multipart;
mod openapi;
mod params;
mod peers;
mod problem;
mod ranges;
mod request_id;
mod routes;
mod serve;
mod stall;
mod storage;
mod tokens;
mod upload;

/// The node that is called: the real one, except in this crate's own tests, where a node that is told what to answer
/// stands at the same place, so that tests run the very handlers and routes that ship.
mod node {
    #[cfg(test)]
    pub(crate) use crate::fake::NodeHandle;
    #[cfg(not(test))]
    pub(crate) use mynet_node::handle::NodeHandle;
}

pub use routes::router;
pub use serve::{ApiSettings, ServeError, serve};
