//! The document against the table of routes, the types and itself.

use std::collections::BTreeSet;

use mynet_node::{
    events::{EventKind, EventView},
    govern::{EvidenceView, ProposalView, RosterDetailView},
    recovery::RecoveryView,
    view::{
        DeletionView, DoctorView, FindOutcome, FindView, GarbageView, GroupView, Held, InviteView, OutcomeView, Page,
        PeerState, PeerView, PlanView, ReplicationStatusView, RoleView, Scope, StatusView, TokenView, WaitResult,
        WhyView,
    },
};
use mynet_types::{ContentState, ContentType, RelationshipKind};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    DOCUMENT, Describe, EXAMPLES, OPERATIONS, PAGE, PARAMETERS, SCHEMAS, TAGS, object, reference, schema::check,
};
use crate::routes::table;

/// Every operation with its line.
fn operations() -> Vec<(String, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let methods = |item: &'static Value| item.as_object().unwrap().iter();
    let line = |path: &str, method: &str| format!("{} {path}", method.to_uppercase());
    let all = paths.iter().flat_map(|(path, item)| methods(item).map(move |(method, op)| (line(path, method), op)));
    all.collect()
}

/// Every value in `value`, itself included.
fn all<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    found.push(value);
    match value {
        Value::Object(fields) => fields.values().for_each(|value| all(value, found)),
        Value::Array(items) => items.iter().for_each(|value| all(value, found)),
        _ => {}
    }
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let served: BTreeSet<String> = table().iter().map(|route| route.line()).collect();
    let described: BTreeSet<String> = OPERATIONS.iter().map(|operation| operation.route.to_owned()).collect();
    assert_eq!(described, served);
    assert_eq!(OPERATIONS.len(), described.len(), "no route is described twice");
    assert_eq!(operations().into_iter().map(|(line, _)| line).collect::<BTreeSet<_>>(), served);
}

#[test]
fn every_parameter_is_explained_and_none_is_left_over() {
    let mut used = BTreeSet::new();
    for (line, operation) in operations() {
        for parameter in operation["parameters"].as_array().unwrap() {
            assert!(parameter["description"].is_string(), "{line}: {parameter}");
            used.insert(parameter["name"].as_str().unwrap().to_owned());
        }
        let fields = &operation["requestBody"]["content"]["application/json"]["schema"]["properties"];
        for (name, field) in fields.as_object().into_iter().flatten() {
            assert!(field["description"].is_string(), "{line}: {name}");
            used.insert(name.clone());
        }
    }
    for key in object(PARAMETERS).keys() {
        let name = key.rsplit([':', '.']).next().unwrap().trim_matches(['{', '}']);
        assert!(used.contains(name), "nothing has a parameter {key}");
    }
}

#[test]
fn names_are_unique_and_lead_somewhere() {
    let ids: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), OPERATIONS.len());
    let tags: BTreeSet<_> = OPERATIONS.iter().map(|operation| operation.tag).collect();
    assert_eq!(tags, TAGS.iter().map(|(tag, _)| *tag).collect());
    let mut values = Vec::new();
    all(&DOCUMENT, &mut values);
    let mut used = BTreeSet::new();
    for name in values.iter().filter_map(|value| value["$ref"].as_str()) {
        assert!(DOCUMENT.pointer(name.trim_start_matches('#')).is_some(), "{name}");
        used.insert(name.rsplit('/').next().unwrap());
    }
    for name in object(SCHEMAS).keys() {
        assert!(used.contains(name.as_str()), "nothing has the shape {name}");
    }
}

#[test]
fn every_example_has_the_shape_beside_it() {
    let mut values = Vec::new();
    all(&DOCUMENT, &mut values);
    let mut examples = 0;
    for value in values.iter().filter(|value| value["example"].is_object()) {
        check(&value["schema"], &value["example"]).unwrap();
        examples += 1;
    }
    assert!(examples > 30, "{examples} examples");
    let in_schemas = values.iter().filter(|value| value["examples"].is_array());
    for (schema, example) in
        in_schemas.flat_map(|schema| schema["examples"].as_array().unwrap().iter().map(move |e| (schema, e)))
    {
        check(schema, example).unwrap();
    }
}

/// The example beside what an operation answers.
fn answered(line: &str) -> &'static Value {
    let (method, path) = line.split_once(' ').unwrap();
    let responses = DOCUMENT["paths"][path][method.to_lowercase()]["responses"].as_object().unwrap();
    let success = responses.iter().find(|(status, _)| status.starts_with('2')).unwrap().1;
    &success["content"]["application/json"]["example"]
}

#[test]
fn every_example_is_given_for_something() {
    let ids: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.id).collect();
    let (schemas, refusals) = (object(SCHEMAS), DOCUMENT["components"]["responses"].as_object().unwrap());
    let examples = object(EXAMPLES);
    for name in examples.keys() {
        assert!(ids.contains(&name[..]) || schemas.contains_key(name) || refusals.contains_key(name), "{name}");
    }
    for (name, refusal) in refusals {
        assert!(examples.contains_key(name), "{name} is not shown");
        let example = &refusal["content"]["application/problem+json"]["example"];
        let code = example["code"].as_str().unwrap();
        let known = crate::problem::Code::table().find(|(name, ..)| {
            name == code || name.strip_suffix("<field>").is_some_and(|family| code.starts_with(family))
        });
        let (_, status, _) = known.unwrap_or_else(|| panic!("there is no code {code}"));
        assert_eq!(
            (example["status"].as_u64(), name),
            (Some(status.as_u16().into()), &format!("Refused{}", status.as_u16()))
        );
    }
}

#[test]
fn examples_of_groups_say_what_a_node_would() {
    let waited =
        ["POST /api/v1/content", "POST /api/v1/content/{id}/publish", "POST /api/v1/content/{id}/relationships"];
    let shown = ["GET /api/v1/content/{id}", "GET /api/v1/content/{id}/group"];
    for line in waited.iter().chain(&shown) {
        let group = answered(line);
        for field in ["wait_result", "operation_id"] {
            assert_eq!(
                group[field].is_string(),
                waited.contains(line),
                "{line}: {field} is of answers to those who waited"
            );
        }
        let view: GroupView = serde_json::from_value(group.clone()).unwrap();
        let operation = view.operation_id.map(|id| id == format!("{}-{}", view.group_id, view.version));
        assert_ne!(operation, Some(false), "{line}");
        let ids: Vec<_> = view.states.iter().map(|state| state.content_id).collect();
        assert!(ids.contains(&view.root_content_id), "{line}");
        for link in &view.relationships {
            assert!(ids.contains(&link.parent_content_id) && ids.contains(&link.child_content_id), "{line}");
        }
        let preview = view.states.iter().any(|state| state.state == ContentState::Preview);
        assert!(!(preview && view.no_preview.is_some()), "{line}: it has a preview, and says why it has none");
        // The node that answers holds it too.
        assert_eq!(view.replica_count, view.replicated_on_peers.len() + 1, "{line}");
        let (full, durable) = (view.replica_count >= view.replicas_wanted, view.replica_count >= 2);
        let status = if full { ReplicationStatusView::Replicated } else { ReplicationStatusView::Degraded };
        assert_eq!((durable, view.replication_status), (true, status), "{line}");
        assert_eq!(view.consensus_achieved, view.consensus.outcome == OutcomeView::Approved, "{line}");
        assert_eq!(view.consensus_achieved, view.consensus.certificate, "{line}");
    }
    for group in answered("GET /api/v1/content")["items"].as_array().unwrap() {
        assert_eq!(group, answered(shown[0]));
    }
}

#[test]
fn the_example_of_a_token_has_its_secret_where_it_was_just_made_and_nowhere_else() {
    let made = answered("POST /api/v1/auth/tokens");
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let secret = token.strip_prefix(&format!("mynt_{}_", &id[..8])).unwrap_or_else(|| panic!("{token} is not of {id}"));
    assert!(secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    for listed in answered("GET /api/v1/auth/tokens")["items"].as_array().unwrap() {
        assert!(listed["token"].is_null() && listed["id"].as_str().is_some_and(|id| id.len() == 32), "{listed}");
    }
    assert_eq!(answered("GET /livez")["status"], "alive");
    assert_eq!(answered("GET /readyz")["status"], "ready");
}

#[test]
fn the_example_of_events_is_one_event_as_it_is_sent() {
    let content = &DOCUMENT["paths"]["/api/v1/events"]["get"]["responses"]["200"]["content"]["text/event-stream"];
    let lines: Vec<&str> = content["example"].as_str().unwrap().lines().collect();
    let [id, kind, data, ""] = lines[..] else { panic!("{lines:?}") };
    let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    check(&reference("Event"), &event).unwrap();
    assert_eq!(id.strip_prefix("id: "), event["id"].as_str());
    assert_eq!(kind.strip_prefix("event: "), event["kind"].as_str());
}

/// An object with every field of a shape, and the one that is shown, are read by its type and written as they were: the document
/// has no field that the type has not, and every field that the type needs.
fn same<T: Serialize + DeserializeOwned>(name: &str) {
    let shown = Describe::new();
    let whole = Describe { examples: object("{}"), ..Describe::new() };
    for example in [shown, whole].map(|describe| describe.example(&reference(name))) {
        let value: T =
            serde_json::from_value(example.clone()).unwrap_or_else(|why| panic!("{name}: {why} in {example:#}"));
        assert_eq!(serde_json::to_value(value).unwrap(), example, "{name}");
    }
}

/// Every word of a shape is one of its type.
fn words<T: Serialize + DeserializeOwned>(name: &str) {
    for word in DOCUMENT["components"]["schemas"][name]["enum"].as_array().unwrap() {
        let value: T = serde_json::from_value(word.clone()).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(serde_json::to_value(value).unwrap(), *word);
    }
}

#[test]
fn shapes_are_those_of_the_types() {
    same::<GroupView>("Group");
    same::<Page<GroupView>>("GroupPage");
    same::<DeletionView>("Deletion");
    same::<PlanView>("Plan");
    same::<ProposalView>("Proposal");
    same::<WhyView>("Why");
    same::<FindView>("Find");
    same::<StatusView>("Status");
    same::<EventView>("Event");
    same::<GarbageView>("Garbage");
    same::<DoctorView>("Doctor");
    same::<PeerView>("Peer");
    same::<InviteView>("Invite");
    same::<RosterDetailView>("RosterDetail");
    same::<RecoveryView>("Recovery");
    same::<EvidenceView>("ValidatorEvidence");
    same::<EvidenceView>("OwnerEvidence");
    same::<TokenView>("Token");
    words::<ContentState>("ContentState");
    words::<ContentType>("ContentType");
    words::<RelationshipKind>("RelationshipKind");
    words::<Held>("Held");
    words::<ReplicationStatusView>("ReplicationStatus");
    words::<OutcomeView>("Outcome");
    words::<WaitResult>("WaitResult");
    words::<PeerState>("PeerState");
    words::<FindOutcome>("FindOutcome");
    words::<RoleView>("Role");
    words::<Scope>("Scope");
    words::<EventKind>("EventKind");
}

#[test]
fn the_page_shows_every_route_object_and_code_and_loads_nothing() {
    for operation in OPERATIONS {
        assert!(PAGE.contains(&format!("<h3 id=\"{}\"><code>{}</code>", operation.id, operation.route)));
    }
    for name in object(SCHEMAS).keys() {
        assert!(PAGE.contains(&format!("id=\"object-{name}\"")));
    }
    for (code, ..) in crate::problem::Code::table() {
        assert!(PAGE.contains(&code.replace('<', "&lt;").replace('>', "&gt;")));
    }
    for foreign in ["<script", "<link", "<img", "<iframe", "src=", "//", "url("] {
        assert!(!PAGE.replace("http://127.0.0.1:8420", "").contains(foreign), "the page holds {foreign}");
    }
    // Each link on the page leads to a place on it.
    for target in PAGE.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(PAGE.contains(&format!("id=\"{target}\"")) || PAGE.contains(&format!("id={target}>")), "{target}");
    }
}
