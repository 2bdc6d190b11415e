//! What each route is for: the part of the document that the table of routes does not know.

use crate::{content, peers, tokens};

/// The description of one route. Method, path, scope and parameters come from the table of routes.
pub(super) struct Operation {
    /// Method and path, as in the table of routes.
    pub(super) route: &'static str,
    /// Its name for programs that are made from the document.
    pub(super) id: &'static str,
    /// The heading under which it stands.
    pub(super) tag: &'static str,
    /// What it does.
    pub(super) says: &'static str,
    pub(super) body: Body,
    pub(super) answer: Answer,
}

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing.
    Nothing,
    /// A file as it is, or a form with a part `file`.
    FileOrForm,
    /// Bytes of any type.
    Bytes,
    /// A JSON object with these fields, the first so many of which must be there.
    Object(&'static [&'static str], usize),
}

/// What is answered when all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200 with one of these objects.
    Object(&'static [&'static str]),
    /// 201 with an object.
    Created(&'static str),
    /// 204.
    Nothing,
    /// Bytes to be saved.
    File,
    /// Bytes of content, or a part of them, or that the client has them.
    Content,
    /// A stream of events, each with this object.
    Events(&'static str),
    /// 200 with text of this type.
    Text(&'static str),
}

const NODE: &str = "Node";
const CONTENT: &str = "Content";
const BYTES: &str = "Bytes";
const NETWORK: &str = "Network";
const ROSTER: &str = "Validators";
const TOKENS: &str = "Tokens";
const API: &str = "This API";

/// Headings in their order, each with what stands under it.
pub(super) const TAGS: [(&str, &str); 7] = [
    (CONTENT, "Groups of linked states: uploading, listing, replicating, certifying, deleting."),
    (BYTES, "The bytes of states, with ranges and conditions."),
    (NODE, "The node at hand: how it is, what happens on it, and care for what it keeps."),
    (NETWORK, "Other nodes."),
    (ROSTER, "Who certifies, and what is being voted on."),
    (TOKENS, "Keys to this API."),
    (API, "The API itself."),
];

/// One row of the list below.
const fn row(head: [&'static str; 4], body: Body, answer: Answer) -> Operation {
    let [route, id, tag, says] = head;
    Operation { route, id, tag, says, body, answer }
}

/// A row without a body whose answer is an object.
const fn get(head: [&'static str; 4], object: &'static [&'static str]) -> Operation {
    row(head, Body::Nothing, Answer::Object(object))
}

/// Every route, in the order in which people read about them.
#[rustfmt::skip]
pub(super) const OPERATIONS: &[Operation] = &[
    row(["POST /api/v1/content", "upload", CONTENT, "Uploads one file as a group, replicates it, and waits as asked. \
        201 as soon as it is stored; `wait_result` says how far the wait came."], Body::FileOrForm, Answer::Created("Group")),
    get(["GET /api/v1/content", "list_groups", CONTENT, "Groups held here, newest first."], &["GroupPage"]),
    get(["GET /api/v1/content/{id}", "show_group", CONTENT, "One group; peers are asked if it is not held here."], &["Group"]),
    row(["DELETE /api/v1/content/{id}", "delete_group", CONTENT, "Deletes a group for ever, on the node where it was uploaded. \
        The answer says which holders confirmed within `timeout` (10s)."], Body::Nothing, Answer::Object(&["Deletion"])),
    get(["GET /api/v1/content/{id}/group", "show_group_of", CONTENT, "The same as without `/group`."], &["Group"]),
    get(["GET /api/v1/content/{id}/relationships", "list_relationships", CONTENT, "How the states of a group came from each \
        other."], &["RelationshipPage"]),
    row(["POST /api/v1/content/{id}/relationships", "replace_preview", CONTENT, "Gives a group that was uploaded here the body \
        as its preview, in its next version."], Body::Bytes, Answer::Object(&["Group"])),
    row(["POST /api/v1/content/{id}/publish", "publish", CONTENT, "Replicates a group that was uploaded here; with `dry_run` \
        tells how it would be done."], Body::Object(content::PUBLISH_PARAMS, 0), Answer::Object(&["Group", "Plan"])),
    row(["POST /api/v1/content/{id}/propose", "propose", CONTENT, "Asks the validators to certify a group that is held \
        here."], Body::Nothing, Answer::Object(&["Proposal"])),
    row(["GET /api/v1/content/{id}/certificate", "certificate", CONTENT, "The certificate file, for `mynet verify`."],
        Body::Nothing, Answer::File),
    get(["GET /api/v1/operations/{id}", "show_operation", CONTENT, "How far the work came that an upload, a publication or a new \
        preview began, by the `operation_id` of its answer. It is known as long as its version is the newest one."],
        &["Operation"]),
    get(["GET /api/v1/content/{id}/why", "why", CONTENT, "Why a group is where it is, as far as this node knows."], &["Why"]),
    get(["GET /api/v1/find/{hash}", "find", CONTENT, "Who holds a hash. 200 whatever the outcome."], &["Find"]),

    row(["GET /api/v1/content/{id}/data", "read_group", BYTES, "The bytes of one state of a group."],
        Body::Nothing, Answer::Content),
    row(["GET /api/v1/storage/{hash}", "read_hash", BYTES, "The bytes with a hash, from here or through the network."],
        Body::Nothing, Answer::Content),

    get(["GET /api/v1/status", "status", NODE, "The node and its network at a glance."], &["Status"]),
    row(["GET /api/v1/events", "events", NODE, "What happens on this node, as Server-Sent Events: `id`, `event` (the kind) and \
        `data` (the object). With `Last-Event-ID` what came after that event is told first; an event `lost` stands for those \
        that are not kept any more."], Body::Nothing, Answer::Events("Event")),
    get(["GET /api/v1/storage", "show_storage", NODE, "What the node may keep, and what of it is taken."], &["Storage"]),
    row(["POST /api/v1/storage/gc", "collect_garbage", NODE, "Frees what nothing keeps."],
        Body::Nothing, Answer::Object(&["Garbage"])),
    row(["POST /api/v1/doctor", "examine", NODE, "Looks whether all that is kept fits together, and puts right what it can."],
        Body::Nothing, Answer::Object(&["Doctor"])),
    get(["GET /livez", "livez", NODE, "The process answers."], &["Probe"]),
    get(["GET /readyz", "readyz", NODE, "The node serves; else 503."], &["Probe"]),

    get(["GET /api/v1/peers", "list_peers", NETWORK, "Every other admitted node, by node id."], &["PeerPage"]),
    get(["GET /api/v1/peers/{node}", "show_peer", NETWORK, "One peer."], &["Peer"]),
    row(["POST /api/v1/peers/{node}/trust", "trust", NETWORK, "Grants a node the decrypted states of this node's groups, old and \
        new."], Body::Nothing, Answer::Object(&["Peer"])),
    row(["POST /api/v1/peers/{node}/untrust", "untrust", NETWORK, "Grants a node no further groups."],
        Body::Nothing, Answer::Object(&["Peer"])),
    row(["POST /api/v1/invites", "invite", NETWORK, "Makes a ticket with which a node joins."],
        Body::Object(peers::INVITE_FIELDS, 0), Answer::Created("Invite")),
    row(["GET /api/v1/genesis", "genesis", NETWORK, "The genesis file, for `mynet verify`."], Body::Nothing, Answer::File),

    get(["GET /api/v1/roster", "roster", ROSTER, "The newest roster, and who waits for a seat."], &["RosterDetail"]),
    row(["POST /api/v1/roster/{node}/approve", "approve", ROSTER, "This operator wants a node to have a seat; it has one once a \
        quorum of operators does."], Body::Nothing, Answer::Object(&["RosterDetail"])),
    row(["POST /api/v1/roster/recovery/offer", "offer_recovery", ROSTER, "What this node brings to a roster that the offline keys \
        make, as a file. Closes the epoch here."], Body::Nothing, Answer::File),
    row(["POST /api/v1/roster/recovery", "recover_roster", ROSTER, "Takes a recovery file that enough of the offline keys \
        signed."], Body::Bytes, Answer::Object(&["Recovery"])),
    get(["GET /api/v1/evidence", "list_evidence", ROSTER, "What seats and owners signed that excludes itself."], &["EvidencePage"]),
    get(["GET /api/v1/proposals", "list_proposals", ROSTER, "Values of this node that are not decided yet."], &["ProposalPage"]),

    get(["GET /api/v1/auth/me", "me", TOKENS, "The token that is shown."], &["Me"]),
    get(["GET /api/v1/auth/tokens", "list_tokens", TOKENS, "Tokens without their secrets, newest first."], &["TokenPage"]),
    row(["POST /api/v1/auth/tokens", "create_token", TOKENS, "Makes a token. Its secret is in this answer and nowhere else."],
        Body::Object(tokens::FIELDS, 1), Answer::Created("Token")),
    row(["DELETE /api/v1/auth/tokens/{id}", "revoke_token", TOKENS, "Ends a token."], Body::Nothing, Answer::Nothing),

    row(["GET /api/openapi.json", "document", API, "This document."], Body::Nothing, Answer::Text("application/json")),
    row(["GET /api/docs", "docs", API, "This document, for people."], Body::Nothing, Answer::Text("text/html")),
];
