//! The node and its network: probes, status, peers, trust, invites, roster, recovery, evidence, proposals, genesis.

use std::time::Duration;

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use mynet_node::{
    govern::{EvidenceView, ProposalView, RosterDetailView},
    handle::InviteOptions,
    recovery::RecoveryView,
    view::{InviteView, Page, PeerView, StatusView},
};
use mynet_types::{NodeId, Roles, recovery::RECOVERY_BYTES_MAX};
use serde::Serialize;

use crate::{
    content::{attachment, bytes, cut, json},
    ids::InPath,
    params::{Params, duration, invalid, number},
    problem::{Code, Problem},
    routes::App,
};

/// Fields of an invitation.
pub(crate) const INVITE_FIELDS: &[&str] = &["roles", "trusted", "expires", "uses"];

/// How long an invitation stands unless asked otherwise; as `mynet invite`.
const INVITE_EXPIRES_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a probe says when all is well.
#[derive(Serialize)]
pub(crate) struct Probe {
    status: &'static str,
}

/// `GET /livez`: the process answers.
pub(crate) async fn livez() -> Json<Probe> {
    Json(Probe { status: "alive" })
}

/// `GET /readyz`: the node can serve.
pub(crate) async fn readyz(State(app): State<App>) -> Result<Json<Probe>, Problem> {
    match app.node.is_ready() {
        true => Ok(Json(Probe { status: "ready" })),
        false => Err(Problem::new(Code::NotReady, "the node is starting or stopping")),
    }
}

/// `GET /api/v1/status`
pub(crate) async fn status(State(app): State<App>) -> Result<Json<StatusView>, Problem> {
    Ok(Json(app.node.status().await?))
}

/// `GET /api/v1/roster`
pub(crate) async fn roster(State(app): State<App>) -> Result<Json<RosterDetailView>, Problem> {
    Ok(Json(app.node.roster().await?))
}

/// `POST /api/v1/roster/{node}/approve`
pub(crate) async fn approve(
    State(app): State<App>,
    InPath(node): InPath<NodeId>,
) -> Result<Json<RosterDetailView>, Problem> {
    Ok(Json(app.node.approve(node).await?))
}

/// `POST /api/v1/roster/recovery/offer`: what this node brings to a recovered roster, as a file
pub(crate) async fn recovery_offer(State(app): State<App>) -> Result<Response, Problem> {
    Ok(attachment("recovery-offer.mynet", app.node.recovery_offer().await?))
}

/// `POST /api/v1/roster/recovery`: takes a recovery file that two of the offline keys signed
pub(crate) async fn recover(
    State(app): State<App>,
    params: Params,
    request: Request,
) -> Result<Json<RecoveryView>, Problem> {
    let dry_run = params.flag("dry_run", false)?;
    let file = bytes(request, &app, RECOVERY_BYTES_MAX as u64).await?;
    Ok(Json(app.node.recover(&file, dry_run).await?))
}

/// `GET /api/v1/evidence`: against validators, newest first, then against owners
pub(crate) async fn evidence(State(app): State<App>, params: Params) -> Result<Json<Page<EvidenceView>>, Problem> {
    Ok(Json(cut(app.node.evidence().await?, |evidence| evidence.id().to_owned(), &params)?))
}

/// `GET /api/v1/proposals`, in the order of manifest hashes
pub(crate) async fn proposals(State(app): State<App>, params: Params) -> Result<Json<Page<ProposalView>>, Problem> {
    Ok(Json(cut(app.node.proposals().await?, |proposal| proposal.id.clone(), &params)?))
}

/// `GET /api/v1/genesis`
pub(crate) async fn genesis(State(app): State<App>) -> Result<Response, Problem> {
    Ok(attachment("genesis.mynet", app.node.genesis()))
}

/// `GET /api/v1/peers`, in the order of node ids
pub(crate) async fn list(State(app): State<App>, params: Params) -> Result<Json<Page<PeerView>>, Problem> {
    let mut peers = app.node.peers().await?;
    peers.sort_unstable_by_key(|peer| peer.node_id);
    Ok(Json(cut(peers, |peer| peer.node_id.to_string(), &params)?))
}

/// `GET /api/v1/peers/{node}`
pub(crate) async fn show(State(app): State<App>, InPath(node): InPath<NodeId>) -> Result<Json<PeerView>, Problem> {
    let peer = app.node.peers().await?.into_iter().find(|peer| peer.node_id == node);
    peer.map(Json).ok_or_else(|| {
        Problem::new(Code::NotFound, format!("{node} is no peer of this node"))
            .with_hint("'mynet peers' lists those that are; the node itself is in 'mynet status'")
    })
}

/// `POST /api/v1/peers/{node}/trust`
pub(crate) async fn trust(State(app): State<App>, InPath(node): InPath<NodeId>) -> Result<Json<PeerView>, Problem> {
    Ok(Json(app.node.set_trust(node, true).await?))
}

/// `POST /api/v1/peers/{node}/untrust`
pub(crate) async fn untrust(State(app): State<App>, InPath(node): InPath<NodeId>) -> Result<Json<PeerView>, Problem> {
    Ok(Json(app.node.set_trust(node, false).await?))
}

/// `POST /api/v1/invites`
pub(crate) async fn invite(
    State(app): State<App>,
    request: Request,
) -> Result<(StatusCode, Json<InviteView>), Problem> {
    let options = invite_options(&json(request, &app, INVITE_FIELDS).await?)?;
    Ok((StatusCode::CREATED, Json(app.node.invite(options).await?)))
}

fn invite_options(fields: &Params) -> Result<InviteOptions, Problem> {
    let words = fields.many("roles").join(",");
    let roles = match fields.has("roles") {
        false => Roles::STORAGE.union(Roles::INDEX).union(Roles::VALIDATOR),
        true => Roles::parse(&words)
            .map_err(|why| invalid("roles", &words, &why, "some of storage, index, validator; or edge alone"))?,
    };
    let expires =
        fields.one("expires", "seconds, or a duration above zero such as 24h", |text| match duration(text) {
            Ok(Duration::ZERO) => Err("it would be over at once"),
            other => other,
        })?;
    let uses = fields.one("uses", "a number from 1", |text| number(1..=u32::MAX, text))?;
    Ok(InviteOptions {
        roles,
        trusted: fields.flag("trusted", false)?,
        expires: expires.unwrap_or(INVITE_EXPIRES_DEFAULT),
        uses: uses.unwrap_or(1),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mynet_types::Roles;

    use super::{INVITE_FIELDS, invite_options};
    use crate::params::Params;

    fn fields(json: &str) -> Params {
        Params::of_json(json.as_bytes(), INVITE_FIELDS).unwrap()
    }

    #[test]
    fn an_invitation_is_for_one_full_node_and_one_day_unless_said_otherwise() {
        let options = invite_options(&fields("{}")).unwrap();
        assert_eq!(options.roles, Roles(7));
        assert_eq!((options.trusted, options.expires, options.uses), (false, Duration::from_secs(86_400), 1));
        let json = r#"{"roles": ["storage", "index"], "trusted": true, "expires": "2h", "uses": 3}"#;
        let options = invite_options(&fields(json)).unwrap();
        assert_eq!(options.roles, Roles(3));
        assert_eq!((options.trusted, options.expires, options.uses), (true, Duration::from_secs(7200), 3));
        assert_eq!(invite_options(&fields(r#"{"roles": "edge"}"#)).unwrap().roles, Roles::EDGE);
    }

    #[test]
    fn senseless_invitations_are_refused_by_field() {
        for (json, want) in [
            (r#"{"roles": "king"}"#, "invalid_roles"),
            (r#"{"roles": []}"#, "invalid_roles"),
            (r#"{"roles": ""}"#, "invalid_roles"),
            (r#"{"roles": ["edge", "storage"]}"#, "invalid_roles"),
            (r#"{"expires": "0s"}"#, "invalid_expires"),
            (r#"{"expires": "later"}"#, "invalid_expires"),
            (r#"{"uses": 0}"#, "invalid_uses"),
            (r#"{"uses": -1}"#, "invalid_uses"),
            (r#"{"trusted": "yes"}"#, "invalid_trusted"),
        ] {
            assert_eq!(invite_options(&fields(json)).unwrap_err().code().name(), want, "{json}");
        }
    }
}
