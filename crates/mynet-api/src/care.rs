//! Care of what the node keeps: collecting garbage, and looking whether all fits together.

use axum::{Json, extract::State};
use mynet_node::view::{DoctorView, GarbageView};

use crate::{params::Params, problem::Problem, routes::App};

/// Parameters of everything that can be tried without doing it.
pub(crate) const PARAMS: &[&str] = &["dry_run"];

/// `POST /api/v1/storage/gc`
pub(crate) async fn gc(State(app): State<App>, params: Params) -> Result<Json<GarbageView>, Problem> {
    Ok(Json(app.node.collect_garbage(params.flag("dry_run", false)?).await?))
}

/// `POST /api/v1/doctor`: 200 whatever was found, as the object tells it.
pub(crate) async fn doctor(State(app): State<App>, params: Params) -> Result<Json<DoctorView>, Problem> {
    Ok(Json(app.node.examine(params.flag("dry_run", false)?).await?))
}
