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

use super::{DOCUMENT, Describe, OPERATIONS, PAGE, PARAMETERS, SCHEMAS, TAGS, object, reference, schema::check};
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
    for (name, schema) in object(SCHEMAS) {
        for example in schema["examples"].as_array().into_iter().flatten() {
            check(&schema, example).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
}

/// The example of a shape is read by its type, and written as it was: the document has no field that the type has not, and every
/// field that the type needs.
fn same<T: Serialize + DeserializeOwned>(name: &str) {
    let describe = Describe { schemas: object(SCHEMAS), parameters: object(PARAMETERS) };
    let example = describe.example(&reference(name));
    let value: T = serde_json::from_value(example.clone()).unwrap_or_else(|why| panic!("{name}: {why} in {example:#}"));
    assert_eq!(serde_json::to_value(value).unwrap(), example, "{name}");
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
