//! The description of this API: an OpenAPI 3.1 document, and the same as a page for people.
//!
//! Method, path, scope and parameters of a route come from the table of routes that serves it, what it is for from
//! [`operations`], the shapes of objects and parameters from two JSON files, examples of whole objects from a third: answers of a real
//! network of three nodes, shortened. Tests compare the routes of both tables, and every
//! answer of this crate's other tests with the document, so that neither can say what the other does not do.
//!
//! Source: OpenAPI Specification 3.1.1; JSON Schema 2020-12.

mod operations;
mod page;
#[cfg(test)]
pub(crate) mod schema;

use std::{collections::BTreeMap, sync::LazyLock};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use self::operations::{Answer, Body, OPERATIONS, Operation, TAGS};
use crate::{
    auth::Access,
    problem::Code,
    routes::{Route, table},
};

/// The shapes of objects, by name.
const SCHEMAS: &str = include_str!("openapi/schemas.json");

/// Objects as a node answers them, by the name of their shape. Under the name of an operation stands what is different in its
/// answer, `null` for a field that it has not; under `Refused` and a status, how a refusal with it may read.
const EXAMPLES: &str = include_str!("openapi/examples.json");

/// What parameters mean, by name; `operation.name` goes before `name`.
const PARAMETERS: &str = include_str!("openapi/parameters.json");

/// Nothing on the page may be loaded or run.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);
static DOCUMENT_TEXT: LazyLock<String> = LazyLock::new(|| DOCUMENT.to_string());
static PAGE: LazyLock<String> = LazyLock::new(|| page::render(&DOCUMENT));

/// `GET /api/openapi.json`
pub(crate) async fn serve() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT_TEXT.as_str()).into_response()
}

/// `GET /api/docs`
pub(crate) async fn docs() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)),
    ];
    (headers, PAGE.as_str()).into_response()
}

/// The whole document.
fn document() -> Value {
    let routes: BTreeMap<String, Route> = table().into_iter().map(|route| (route.line(), route)).collect();
    let describe = Describe::new();
    let mut paths = Map::new();
    for operation in OPERATIONS {
        // That both tables have the same routes is what a test is for; a node serves what it can.
        let Some(route) = routes.get(operation.route) else { continue };
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method_word().to_lowercase()] = describe.operation(operation, route);
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "MY Network node",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The HTTP API of one node.",
            "description": "Times are RFC 3339 in UTC, sizes bytes, durations seconds. Every `GET` also answers `HEAD`. \
                Every answer names its request in `X-Request-Id`, which a client may choose. Parameters that a route does not \
                have are refused. Fields may be added to objects; those that are there keep their meaning.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "this node" }],
        "tags": TAGS.map(|(name, description)| json!({ "name": name, "description": description })),
        "paths": paths,
        "components": {
            "schemas": describe.schemas_with_examples(),
            "responses": refusals(&describe),
            "headers": {
                "RequestId": {
                    "description": "The name of the request, as in the node's log.", "required": true,
                    "schema": { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,72}$" },
                },
            },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token made by `mynet token create`." },
            },
        },
        "x-codes": Code::table()
            .map(|(code, status, means)| json!({ "code": code, "status": status.as_u16(), "means": means }))
            .collect::<Vec<_>>(),
    })
}

/// A file of this crate; tests read it too.
fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).expect("a JSON object that every test of this module reads")
}

/// A refusal for each status that has a code, with the codes that it may carry.
fn refusals(describe: &Describe) -> Value {
    let mut refusals = Map::new();
    for (code, status, means) in Code::table() {
        let entry = refusals.entry(format!("Refused{}", status.as_u16())).or_insert_with(|| {
            let mut example = describe.example(&reference("Problem"));
            example["status"] = status.as_u16().into();
            example["title"] = status.canonical_reason().unwrap_or_default().into();
            describe.amend(&mut example, &format!("Refused{}", status.as_u16()));
            json!({
                "description": "",
                "headers": request_id(),
                "content": { "application/problem+json": { "schema": reference("Problem"), "example": example } },
            })
        });
        let told = entry["description"].as_str().unwrap_or_default();
        let told = if told.is_empty() { String::new() } else { format!("{told}\n") };
        entry["description"] = format!("{told}`{code}`: {means}").into();
    }
    Value::Object(refusals)
}

/// A schema by name.
fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// The header of every answer.
fn request_id() -> Value {
    json!({ "X-Request-Id": { "$ref": "#/components/headers/RequestId" } })
}

/// What a route is described with.
struct Describe {
    schemas: Map<String, Value>,
    parameters: Map<String, Value>,
    examples: Map<String, Value>,
}

impl Describe {
    fn new() -> Self {
        Self { schemas: object(SCHEMAS), parameters: object(PARAMETERS), examples: object(EXAMPLES) }
    }

    /// The shapes, those with an example of the whole with that.
    fn schemas_with_examples(&self) -> Map<String, Value> {
        let mut schemas = self.schemas.clone();
        for (name, schema) in &mut schemas {
            if let Some(example) = self.examples.get(name) {
                schema["examples"] = json!([example]);
            }
        }
        schemas
    }

    /// Changes an example to what it is in the answer `name`.
    fn amend(&self, example: &mut Value, name: &str) {
        let changes = self.examples.get(name).and_then(Value::as_object);
        for (field, value) in changes.into_iter().flatten() {
            match (value, example.as_object_mut()) {
                (Value::Null, Some(fields)) => drop(fields.remove(field)),
                (value, _) => example[field] = value.clone(),
            }
        }
    }

    fn operation(&self, operation: &Operation, route: &Route) -> Value {
        let mut described = json!({
            "operationId": operation.id,
            "tags": [operation.tag],
            "summary": operation.says,
            "parameters": self.parameters(operation, route),
            "responses": self.responses(operation, route),
            "security": security(route.access),
        });
        if let Some(scope) = route.access.scope_word() {
            described["x-scope"] = scope.into();
        }
        if let Some(body) = self.body(operation) {
            described["requestBody"] = body;
        }
        described
    }

    /// What is known of a parameter.
    fn known(&self, operation: &Operation, name: &str) -> Value {
        let own = match name.split_once(':') {
            Some((place, name)) => format!("{place}:{}.{name}", operation.id),
            None => format!("{}.{name}", operation.id),
        };
        self.parameters.get(&own).or_else(|| self.parameters.get(name)).cloned().unwrap_or_default()
    }

    fn parameters(&self, operation: &Operation, route: &Route) -> Vec<Value> {
        let place = |name: &str, place: &str, key: &str| {
            let mut parameter = self.known(operation, key);
            parameter["name"] = name.into();
            parameter["in"] = place.into();
            parameter["required"] = (place == "path").into();
            parameter
        };
        let in_path = route.path.split('/').filter(|part| part.starts_with('{'));
        let in_path = in_path.map(|part| place(part.trim_matches(['{', '}']), "path", &format!("path:{part}")));
        let in_query = route.params.iter().map(|name| place(name, "query", name));
        let headers: &[&str] = match operation.answer {
            Answer::Content => &["Range", "If-Range", "If-None-Match", "If-Match"],
            Answer::Events(_) => &["Last-Event-ID"],
            _ => &[],
        };
        let in_head = headers.iter().map(|name| place(name, "header", &format!("header:{name}")));
        in_path.chain(in_query).chain(in_head).collect()
    }

    fn body(&self, operation: &Operation) -> Option<Value> {
        let bytes = json!({ "schema": {}, "x-bytes": true });
        Some(match operation.body {
            Body::Nothing => return None,
            Body::Bytes => json!({ "required": true, "content": { "application/octet-stream": bytes } }),
            Body::FileOrForm => json!({
                "required": true,
                "description": "The file; or a form with an optional part `preview` and after it the part `file`.",
                "content": { "application/octet-stream": bytes, "multipart/form-data": { "schema": {
                    "type": "object", "required": ["file"],
                    "properties": {
                        "preview": { "type": "string", "contentMediaType": "application/octet-stream" },
                        "file": { "type": "string", "contentMediaType": "application/octet-stream" },
                    },
                } } },
            }),
            Body::Object(fields, required) => {
                let field = |name: &&'static str| {
                    let mut known = self.known(operation, name);
                    let mut schema = known["schema"].take();
                    schema["description"] = known["description"].take();
                    ((*name).to_owned(), schema)
                };
                let properties: Map<String, Value> = fields.iter().map(field).collect();
                let needed = fields.get(..required).unwrap_or_default();
                let schema = json!({
                    "type": "object", "required": needed, "properties": properties, "additionalProperties": false,
                });
                let example = self.example(&schema);
                json!({
                    "required": required > 0,
                    "content": { "application/json": { "schema": schema, "example": example } },
                })
            }
        })
    }

    fn responses(&self, operation: &Operation, route: &Route) -> Value {
        let mut responses = Map::new();
        for (status, response) in self.successes(operation) {
            responses.insert(status.as_u16().to_string(), response);
        }
        for status in refused_with(operation, route) {
            let name = format!("#/components/responses/Refused{}", status.as_u16());
            responses.insert(status.as_u16().to_string(), json!({ "$ref": name }));
        }
        Value::Object(responses)
    }

    fn successes(&self, operation: &Operation) -> Vec<(StatusCode, Value)> {
        let answered = |description: &str, content: Value| json!({ "description": description, "headers": request_id(), "content": content });
        let object = |names: &[&str]| {
            let schemas: Vec<Value> = names.iter().map(|name| reference(name)).collect();
            let schema = if let [one] = schemas.as_slice() { one.clone() } else { json!({ "anyOf": schemas }) };
            let mut example = schemas.first().map(|schema| self.example(schema)).unwrap_or_default();
            self.amend(&mut example, operation.id);
            json!({ "application/json": { "schema": schema, "example": example } })
        };
        let bytes = || json!({ "application/octet-stream": { "schema": {} } });
        match operation.answer {
            Answer::Object(names) => vec![(StatusCode::OK, answered("As asked.", object(names)))],
            Answer::Created(name) => {
                let mut made = answered("Made.", object(&[name]));
                if name == "Group" {
                    let location = json!({ "description": "Where the group is.", "schema": { "type": "string" } });
                    made["headers"]["Location"] = location;
                }
                vec![(StatusCode::CREATED, made)]
            }
            Answer::Nothing => {
                vec![(StatusCode::NO_CONTENT, json!({ "description": "Done.", "headers": request_id() }))]
            }
            Answer::File => vec![(StatusCode::OK, answered("A file to be saved.", bytes()))],
            Answer::Content => contents(),
            Answer::Events(name) => {
                let event = self.example(&reference(name));
                let text = |field: &str| event[field].as_str().unwrap_or_default();
                let example = format!("id: {}\nevent: {}\ndata: {event}\n\n", text("id"), text("kind"));
                let schema = json!({ "type": "string", "contentSchema": reference(name) });
                let content = json!({ "text/event-stream": { "schema": schema, "example": example } });
                vec![(StatusCode::OK, answered("Events, until the client or the node ends.", content))]
            }
            Answer::Text(kind) => {
                let schema =
                    if kind == "text/html" { json!({ "type": "string" }) } else { json!({ "type": "object" }) };
                vec![(StatusCode::OK, answered("As asked.", json!({ kind: { "schema": schema } })))]
            }
        }
    }

    /// A value that `schema` allows: one that is given, or one made of the examples in it, with every field.
    fn example(&self, schema: &Value) -> Value {
        if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
            if let Some(given) = self.examples.get(name) {
                return given.clone();
            }
            return self.schemas.get(name).map(|schema| self.example(schema)).unwrap_or_default();
        }
        if let Some(first) = schema["anyOf"].get(0) {
            return self.example(first);
        }
        let given = schema["examples"].get(0).or(schema.get("default")).or(schema["enum"].get(0));
        if let Some(given) = given {
            return given.clone();
        }
        match schema["type"].as_str() {
            Some("object") => {
                let properties = schema["properties"].as_object().cloned().unwrap_or_default();
                let values = properties.iter().map(|(name, schema)| (name.clone(), self.example(schema)));
                Value::Object(values.collect())
            }
            Some("array") => json!([self.example(&schema["items"])]),
            Some("number") => 2.5.into(),
            Some("integer") => schema.get("minimum").filter(|least| **least != 0).cloned().unwrap_or(2.into()),
            Some("boolean") => true.into(),
            _ => Value::Null,
        }
    }
}

/// What a token must be able to do.
fn security(access: Access) -> Value {
    match access {
        Access::Probe => json!([]),
        Access::Anybody => json!([{}, { "token": [] }]),
        Access::Scope(_) => json!([{ "token": [] }]),
    }
}

/// What reading content answers.
fn contents() -> Vec<(StatusCode, Value)> {
    let text = |says: &str| json!({ "description": says, "schema": { "type": "string" } });
    let headers = |more: Value| {
        let mut headers = request_id();
        headers["ETag"] = text("A strong tag made of the hash.");
        headers["X-MyNet-Source"] = json!({
            "description": "Where the bytes came from.", "required": true,
            "schema": { "type": "string", "enum": ["local", "cache", "peer"] },
        });
        for (name, header) in more.as_object().into_iter().flatten() {
            headers[name] = header.clone();
        }
        headers
    };
    let bytes = json!({ "*/*": { "schema": {} } });
    let range = json!({ "Content-Range": text("Which part it is, and of how many bytes.") });
    vec![
        (StatusCode::OK, json!({ "description": "All of it.", "headers": headers(json!({})), "content": bytes })),
        (
            StatusCode::PARTIAL_CONTENT,
            json!({ "description": "The part.", "headers": headers(range), "content": bytes }),
        ),
        (StatusCode::NOT_MODIFIED, json!({ "description": "The client has it.", "headers": headers(json!({})) })),
    ]
}

/// The statuses with which a route may refuse.
fn refused_with(operation: &Operation, route: &Route) -> Vec<StatusCode> {
    let mut refused = vec![StatusCode::URI_TOO_LONG, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];
    if route.access == Access::Probe {
        refused.extend((route.path == "/readyz").then_some(StatusCode::SERVICE_UNAVAILABLE));
        return refused;
    }
    refused.extend([
        StatusCode::BAD_REQUEST,
        StatusCode::UNAUTHORIZED,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::SERVICE_UNAVAILABLE,
    ]);
    if route.access != Access::Anybody || operation.answer == Answer::Content {
        refused.push(StatusCode::FORBIDDEN);
    }
    if route.path.contains('{') {
        refused.push(StatusCode::NOT_FOUND);
    }
    if operation.body != Body::Nothing {
        refused.extend([StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE]);
    }
    if matches!(operation.body, Body::FileOrForm | Body::Bytes) {
        refused.push(StatusCode::INSUFFICIENT_STORAGE);
    }
    if operation.answer == Answer::Content {
        refused.extend([StatusCode::PRECONDITION_FAILED, StatusCode::RANGE_NOT_SATISFIABLE]);
    }
    refused
}

#[cfg(test)]
mod tests;
