//! Compares values with the schemas of the document: for tests only, and stricter than JSON Schema, so that an object with a field
//! that the document does not have is a failure.

use serde_json::Value;

use super::DOCUMENT;

/// What is wrong with an answer by the document, if anything: its route, status, media type and body.
pub(crate) fn check_answer(line: &str, status: u16, media: &str, body: &[u8]) -> Result<(), String> {
    let (method, path) = line.split_once(' ').ok_or("a method and a path")?;
    let method = if method == "HEAD" { "get" } else { &method.to_lowercase() };
    let response = &DOCUMENT["paths"][path][method]["responses"][status.to_string()];
    let response = match response["$ref"].as_str() {
        Some(name) => DOCUMENT.pointer(name.trim_start_matches('#')).unwrap_or(&Value::Null),
        None => response,
    };
    if response.is_null() {
        return Err(format!("{line} does not answer {status} in the document"));
    }
    let Some(contents) = response["content"].as_object() else {
        return if body.is_empty() { Ok(()) } else { Err(format!("{line} answers {status} without a body")) };
    };
    let media = media.split(';').next().unwrap_or_default();
    let Some(content) = contents.get(media).or_else(|| contents.get("*/*")) else {
        return Err(format!("{line} does not answer {status} with {media}"));
    };
    if !media.ends_with("json") || media == "*/*" || body.is_empty() {
        return Ok(());
    }
    let value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    check(&content["schema"], &value).map_err(|why| format!("{line} {status}: {why} in {value}"))
}

/// What is wrong with `value` by `schema`, if anything.
pub(crate) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = DOCUMENT.pointer(name.trim_start_matches('#')).ok_or(format!("there is no {name}"))?;
        return check(target, value).map_err(|why| format!("{why} of {name}"));
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let tried: Vec<_> = either.iter().map(|schema| check(schema, value)).collect();
        return if tried.iter().any(Result::is_ok) { Ok(()) } else { Err(format!("none fits: {tried:?}")) };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Ok(()) } else { Err(format!("{value} is none of {words:?}")) };
    }
    let kinds = match &schema["type"] {
        Value::Null => return Ok(()),
        Value::String(kind) => vec![kind.as_str()],
        kinds => kinds.as_array().ok_or("type is a text or a list")?.iter().filter_map(Value::as_str).collect(),
    };
    match value {
        Value::Object(fields) if kinds.contains(&"object") => check_object(schema, fields),
        Value::Array(items) if kinds.contains(&"array") => {
            items.iter().try_for_each(|item| check(&schema["items"], item))
        }
        Value::String(text) if kinds.contains(&"string") => check_text(schema, text),
        Value::Bool(_) if kinds.contains(&"boolean") => Ok(()),
        Value::Number(number) if kinds.contains(&"integer") && number.is_u64() || kinds.contains(&"number") => {
            let least = schema["minimum"].as_f64().unwrap_or(f64::MIN);
            let most = schema["maximum"].as_f64().unwrap_or(f64::MAX);
            let number = number.as_f64().unwrap_or_default();
            if (least..=most).contains(&number) { Ok(()) } else { Err(format!("{number} is out of bounds")) }
        }
        other => Err(format!("{other} is no {kinds:?}")),
    }
}

fn check_text(schema: &Value, text: &str) -> Result<(), String> {
    let Some(pattern) = schema["pattern"].as_str() else { return Ok(()) };
    let fits = regex::Regex::new(pattern).map_err(|error| error.to_string())?.is_match(text);
    if fits { Ok(()) } else { Err(format!("{text} is not like {pattern}")) }
}

fn check_object(schema: &Value, fields: &serde_json::Map<String, Value>) -> Result<(), String> {
    for needed in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(needed) {
            return Err(format!("{needed} is missing"));
        }
    }
    for (name, value) in fields {
        match schema["properties"].get(name).or_else(|| schema.get("additionalProperties")) {
            Some(schema) => check(schema, value).map_err(|why| format!("{why} at {name}"))?,
            None if schema["properties"].is_null() => {}
            None => return Err(format!("{name} is not in the document")),
        }
    }
    Ok(())
}
