//! Care of the disk: collecting garbage.

use axum::{Json, extract::State};
use mynet_node::view::GarbageView;

use crate::{params::Params, problem::Problem, routes::App};

/// Parameters of everything that can be tried without doing it.
pub(crate) const PARAMS: &[&str] = &["dry_run"];

/// `POST /api/v1/storage/gc`
pub(crate) async fn gc(State(app): State<App>, params: Params) -> Result<Json<GarbageView>, Problem> {
    Ok(Json(app.node.collect_garbage(params.flag("dry_run", false)?).await?))
}
