//! The document as a page: plain HTML without scripts, made once from the document itself.
//!
//! Nothing on it comes from another host. Backticks of descriptions become code; everything is escaped.

use serde_json::{Map, Value};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;\
    background:#fff}code,pre{font:14px/1.45 ui-monospace,monospace;background:#f3f3f3;border-radius:3px}code{padding:.1em .3em}\
    pre{padding:.7em;overflow:auto}table{border-collapse:collapse;width:100%;margin:.5em 0}td,th{text-align:left;\
    vertical-align:top;padding:.25em .6em .25em 0;border-bottom:1px solid #ddd}h2{margin-top:2.5em}h3{margin-top:2em;\
    border-top:1px solid #ddd;padding-top:1em}a{color:#0b57a4}.m{font-weight:700}@media(prefers-color-scheme:dark){body{\
    background:#161616;color:#e6e6e6}code,pre{background:#262626}a{color:#7ab8ff}td,th,h3{border-color:#444}}";

/// Methods in the order in which they are read about.
const METHODS: [&str; 3] = ["get", "post", "delete"];

/// The page of `document`.
pub(super) fn render(document: &Value) -> String {
    let info = &document["info"];
    let title = escape(text(&info["title"]));
    let mut page = format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title} {}</h1><p>{} {}</p>\
         <p><a href=\"/api/openapi.json\">OpenAPI document</a></p>",
        escape(text(&info["version"])),
        prose(text(&info["summary"])),
        prose(text(&info["description"])),
    );
    let operations = operations(document);
    page += "<h2 id=routes>Routes</h2>";
    for tag in list(&document["tags"]) {
        page += &format!("<p><b>{}</b>: {}</p><ul>", escape(text(&tag["name"])), prose(text(&tag["description"])));
        for (line, operation) in operations.iter().filter(|(_, operation)| operation["tags"][0] == tag["name"]) {
            let id = escape(text(&operation["operationId"]));
            page += &format!("<li><a href=\"#{id}\"><code>{}</code></a></li>", escape(line));
        }
        page += "</ul>";
    }
    page += "<h2 id=use>Use</h2>";
    for (line, operation) in &operations {
        page += &one(line, operation);
    }
    page += &codes(document);
    page += "<h2 id=objects>Objects</h2>";
    for (name, schema) in entries(&document["components"]["schemas"]) {
        page += &format!("<h3 id=\"object-{0}\">{0}</h3><p>{1}</p>", escape(name), prose(text(&schema["description"])));
        page += &shape(schema);
    }
    page + "</body></html>\n"
}

/// Every operation with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (path, item) in entries(&document["paths"]) {
        for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
            found.push((format!("{} {path}", method.to_uppercase()), &item[*method]));
        }
    }
    found
}

/// One operation in full.
fn one(line: &str, operation: &Value) -> String {
    let id = escape(text(&operation["operationId"]));
    let scope =
        operation["x-scope"].as_str().map_or("no token".to_owned(), |scope| format!("a token with scope `{scope}`"));
    let mut part = format!(
        "<h3 id=\"{id}\"><code>{}</code></h3><p>{} Needs {}.</p>",
        escape(line),
        prose(text(&operation["summary"])),
        prose(&scope)
    );
    let parameters = list(&operation["parameters"]);
    if !parameters.is_empty() {
        part += "<table><tr><th>parameter<th>in<th>type<th>means</tr>";
        for parameter in parameters {
            part += &format!(
                "<tr><td><code>{}</code><td>{}<td>{}<td>{}</tr>",
                escape(text(&parameter["name"])),
                escape(text(&parameter["in"])),
                kind(&parameter["schema"]),
                prose(text(&parameter["description"]))
            );
        }
        part += "</table>";
    }
    let body = &operation["requestBody"];
    for (media, content) in entries(&body["content"]) {
        part += &format!("<p>Body <code>{}</code>. {}</p>", escape(media), prose(text(&body["description"])));
        part += &shape(&content["schema"]);
        part += &sample(&content["example"]);
    }
    for (status, response) in entries(&operation["responses"]) {
        if let Some(refusal) = response["$ref"].as_str() {
            let anchor = refusal.trim_start_matches("#/components/responses/Refused");
            part += &format!("<a href=\"#codes-{}\">{}</a> ", escape(anchor), escape(status));
            continue;
        }
        part += &format!("<p><b>{}</b> {}</p>", escape(status), prose(text(&response["description"])));
        for (media, content) in entries(&response["content"]) {
            part += &format!("<p><code>{}</code> {}</p>", escape(media), kind(&content["schema"]));
            part += &sample(&content["example"]);
        }
    }
    part
}

/// The table of codes.
fn codes(document: &Value) -> String {
    let mut part =
        "<h2 id=codes>Refusals</h2><p>Every refusal is an object <a href=\"#object-Problem\">Problem</a> of type \
                    <code>application/problem+json</code>.</p><table><tr><th>code<th>status<th>means</tr>"
            .to_owned();
    let mut last = 0;
    for code in list(&document["x-codes"]) {
        let status = code["status"].as_u64().unwrap_or_default();
        // The first code of a status is where links to the status lead.
        let anchor = if status == last { String::new() } else { format!(" id=codes-{status}") };
        last = status;
        part += &format!(
            "<tr{anchor}><td><code>{}</code><td>{status}<td>{}</tr>",
            escape(text(&code["code"])),
            prose(text(&code["means"]))
        );
    }
    part + "</table>"
}

/// The fields of an object, or the values of anything else.
fn shape(schema: &Value) -> String {
    let required = list(&schema["required"]);
    let fields = entries(&schema["properties"]);
    if fields.is_empty() {
        return if schema["type"].is_string() || schema["anyOf"].is_array() {
            format!("<p>{}</p>", kind(schema))
        } else {
            String::new()
        };
    }
    let mut part = "<table><tr><th>field<th>type<th>means</tr>".to_owned();
    for (name, field) in fields {
        let sometimes = if required.iter().any(|needed| *needed == name.as_str()) { "" } else { " (not always)" };
        let (name, means) = (escape(name), prose(text(&field["description"])));
        part += &format!("<tr><td><code>{name}</code>{sometimes}<td>{}<td>{means}</tr>", kind(field));
    }
    part + "</table>"
}

/// What a value looks like, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return format!("<a href=\"#object-{0}\">{0}</a>", escape(name));
    }
    let either = list(&schema["anyOf"]);
    if !either.is_empty() {
        return either.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    let words = list(&schema["enum"]);
    let default = match &schema["default"] {
        Value::Null => String::new(),
        default => format!(", else <code>{}</code>", escape(&plain(default))),
    };
    if !words.is_empty() {
        let words = words.iter().map(|word| format!("<code>{}</code>", escape(&plain(word)))).collect::<Vec<_>>();
        return words.join(", ") + &default;
    }
    let bounds = match (&schema["minimum"], &schema["maximum"]) {
        (Value::Number(least), Value::Number(most)) => format!(" {least} to {most}"),
        (Value::Number(least), _) => format!(" from {least}"),
        _ => String::new(),
    };
    let pattern = schema["pattern"].as_str().map_or(String::new(), |text| format!(" <code>{}</code>", escape(text)));
    let what = match &schema["type"] {
        Value::String(one) if one == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(one) => escape(schema["format"].as_str().unwrap_or(one)),
        Value::Array(several) => escape(&several.iter().map(plain).collect::<Vec<_>>().join(" or ")),
        _ => "bytes".to_owned(),
    };
    format!("{what}{bounds}{pattern}{default}")
}

/// An example, if there is one.
fn sample(example: &Value) -> String {
    match example {
        Value::Null => String::new(),
        Value::String(text) => format!("<pre>{}</pre>", escape(text)),
        example => format!("<pre>{}</pre>", escape(&format!("{example:#}"))),
    }
}

/// A value without the quotes of a text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn entries(value: &Value) -> Vec<(&String, &Value)> {
    value.as_object().map(Map::iter).into_iter().flatten().collect()
}

/// Text for HTML, between tags and in quotes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            letter => safe.push(letter),
        }
    }
    safe
}

/// Escaped text in which what stands between backticks is code.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    });
    parts.collect()
}
