//! Parameters: query strings and small JSON objects, read the same way.
//!
//! Every route names the parameters it has; any other is refused with the nearest one that exists, because a misspelt
//! parameter that is ignored does something else than was asked. A parameter given twice is refused unless it is a list.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use axum::{
    extract::{FromRequestParts, Query},
    http::{Uri, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::problem::{Code, Problem};

/// Characters of a refused value that are echoed: enough to recognise it, too few to fill a terminal.
const ECHO_CHARS_MAX: usize = 64;

/// The parameters of one request, each with its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params {
    given: Vec<(String, String)>,
}

impl Params {
    /// Reads the query of `uri`.
    ///
    /// # Errors
    /// [`Code::UnknownParameter`] names the nearest of `known`.
    pub(crate) fn of_query(uri: &Uri, known: &[&'static str]) -> Result<Self, Problem> {
        let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::new(Code::Invalid("query"), format!("the query is unreadable: {error}")))?;
        Self { given }.refuse_unknown(known)
    }

    /// Reads a JSON object of texts, numbers, booleans and lists of them; `null` is absent, an empty body is `{}`.
    ///
    /// # Errors
    /// [`Code::Invalid`] `body` if it is no such object; [`Code::UnknownParameter`].
    pub(crate) fn of_json(body: &[u8], known: &[&'static str]) -> Result<Self, Problem> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let refuse = |why: String| Problem::new(Code::Invalid("body"), why).with_hint("send one flat JSON object");
        let object = serde_json::from_slice(body).map_err(|error| refuse(format!("the body is not JSON: {error}")))?;
        let Value::Object(object) = object else {
            return Err(refuse("the body is JSON, but no object".to_owned()));
        };
        let mut given = Vec::new();
        for (name, value) in object {
            let values = match value {
                // Given, and nothing: what that means is for each parameter to say.
                Value::Array(values) if values.is_empty() => vec![Value::String(String::new())],
                Value::Array(values) => values,
                value => vec![value],
            };
            for value in values {
                match value {
                    Value::Null => {}
                    Value::String(text) => given.push((name.clone(), text)),
                    Value::Bool(_) | Value::Number(_) => given.push((name.clone(), value.to_string())),
                    Value::Array(_) | Value::Object(_) => {
                        return Err(refuse(format!("'{name}' holds an object or a list of lists")));
                    }
                }
            }
        }
        Self { given }.refuse_unknown(known)
    }

    /// These parameters and `others`; one that is in both counts as given twice.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.given.extend(others.given);
        self
    }

    fn refuse_unknown(self, known: &[&'static str]) -> Result<Self, Problem> {
        match self.given.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(self),
            Some((name, _)) => Err(unknown("parameter", name, known)),
        }
    }

    /// The text of `name`, if it was given.
    ///
    /// # Errors
    /// [`Code::Invalid`] if it was given twice.
    fn text(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let mut values = self.given.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str());
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(Problem::new(Code::Invalid(name), format!("{name} was given twice"))
                .with_hint(format!("give {name} once"))),
        }
    }

    /// The value of `name` as `parse` reads it; `expected` tells what would be right.
    ///
    /// # Errors
    /// [`Code::Invalid`] names the parameter, the reason and what is expected.
    pub(crate) fn one<T, E: Display>(
        &self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse(text).map(Some).map_err(|why| invalid(name, text, &why, expected))
    }

    /// Whether `name` is on: `true`, `false`, or the bare name for `true`.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub(crate) fn flag(&self, name: &'static str, default: bool) -> Result<bool, Problem> {
        let parse = |text: &str| if text.is_empty() { Ok(true) } else { bool::from_str(text) };
        Ok(self.one(name, "true or false", parse)?.unwrap_or(default))
    }

    /// Whether `name` was given, be it empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| given == name)
    }

    /// The items of a list: `name=a,b` and `name=a&name=b` are the same; empty items are dropped.
    pub(crate) fn many(&self, name: &str) -> Vec<&str> {
        let lists = self.given.iter().filter(|(given, _)| given == name);
        lists.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|item| !item.is_empty()).collect()
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    /// Takes what the table of routes let through.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Refuses a word that is none of `known`, naming the nearest.
pub(crate) fn unknown(what: &str, name: &str, known: &[&'static str]) -> Problem {
    let nearest = known.iter().max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    let problem = Problem::new(Code::UnknownParameter, format!("there is no {what} '{}'", echo(name)));
    match nearest {
        Some(nearest) => problem.with_hint(format!("did you mean '{nearest}'? known: {}", known.join(", "))),
        None => problem.with_hint("this route has no parameters"),
    }
}

/// Refuses the value of a field.
pub(crate) fn invalid(field: &'static str, value: &str, why: &dyn Display, expected: &str) -> Problem {
    Problem::new(Code::Invalid(field), format!("{field} '{}' cannot be used: {why}", echo(value)))
        .with_hint(format!("give {field} as {expected}"))
}

/// The beginning of `text`, for a message.
fn echo(text: &str) -> String {
    let mut echo: String = text.chars().take(ECHO_CHARS_MAX).collect();
    if echo.len() < text.len() {
        echo.push_str("...");
    }
    echo
}

/// A word of an enumeration, spelt as in JSON.
///
/// # Errors
/// Says that there is none; which there are is for the caller to say.
pub(crate) fn word<T: DeserializeOwned>(text: &str) -> Result<T, &'static str> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|_library| "there is no such word")
}

/// A whole number of `range`.
///
/// # Errors
/// Says why it is none.
pub(crate) fn number<T: FromStr + PartialOrd>(range: RangeInclusive<T>, text: &str) -> Result<T, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ if digits => Err("it is out of bounds"),
        _ => Err("it is no whole number"),
    }
}

/// A duration: a number of seconds, or numbers with units such as `60s`, `1h 30m`, `7d`.
///
/// # Errors
/// Says that it is none.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    let read = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => humantime::parse_duration(text).ok(),
    };
    read.ok_or("it is no duration")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mynet_node::view::Wait;

    use super::{Params, duration, number, word};
    use crate::problem::Problem;

    const KNOWN: [&str; 3] = ["timeout", "tags", "public"];

    fn query(text: &str) -> Result<Params, Problem> {
        Params::of_query(&format!("/x?{text}").parse().unwrap(), &KNOWN)
    }

    fn code(problem: &Problem) -> String {
        problem.code().name().into_owned()
    }

    #[test]
    fn an_unknown_parameter_is_refused_and_the_nearest_one_named() {
        let problem = query("timeot=3").unwrap_err();
        assert_eq!(code(&problem), "unknown_parameter");
        assert!(problem.detail().contains("'timeot'"));
        assert!(problem.hint().contains("did you mean 'timeout'?"), "{}", problem.hint());
        let problem = Params::of_query(&"/x?a=1".parse().unwrap(), &[]).unwrap_err();
        assert!(problem.hint().contains("no parameters"));
    }

    #[test]
    fn a_refused_value_is_told_in_our_words() {
        for (text, why) in
            [("x", "it is no whole number"), ("-1", "it is no whole number"), ("", "it is no whole number")]
        {
            assert_eq!(number(1..=16_u8, text), Err(why), "{text}");
        }
        for text in ["0", "17", "300", "99999999999999999999"] {
            assert_eq!(number(1..=16_u8, text), Err("it is out of bounds"), "{text}");
        }
        assert_eq!(number(1..=16_u8, "16"), Ok(16));
        assert_eq!(word::<Wait>("forever"), Err("there is no such word"));
        for text in ["yesterday", "-1", "1e400", ""] {
            assert_eq!(duration(text), Err("it is no duration"), "{text}");
        }
    }

    #[test]
    fn a_value_is_read_once_and_refused_twice() {
        let params = query("timeout=1m").unwrap();
        assert_eq!(params.one("timeout", "", duration).unwrap(), Some(Duration::from_secs(60)));
        assert_eq!(params.one("tags", "", duration).unwrap(), None);
        let problem = query("timeout=1&timeout=2").unwrap().one("timeout", "", duration).unwrap_err();
        assert_eq!(code(&problem), "invalid_timeout");
        assert!(problem.detail().contains("twice"));
    }

    #[test]
    fn a_refused_value_names_parameter_reason_and_remedy() {
        let problem = query("timeout=soon").unwrap().one("timeout", "seconds or 60s", duration).unwrap_err();
        assert_eq!(code(&problem), "invalid_timeout");
        assert!(problem.detail().starts_with("timeout 'soon' cannot be used: "), "{}", problem.detail());
        assert_eq!(problem.hint(), "give timeout as seconds or 60s");
        let long = format!("timeout={}", "x".repeat(500));
        let problem = query(&long).unwrap().one("timeout", "", duration).unwrap_err();
        assert!(problem.detail().contains(&format!("{}...'", "x".repeat(64))));
    }

    #[test]
    fn flags_are_words_or_bare_names() {
        for (text, want) in [("", false), ("public", true), ("public=true", true), ("public=false", false)] {
            assert_eq!(query(text).unwrap().flag("public", false).unwrap(), want, "{text}");
        }
        assert_eq!(code(&query("public=1").unwrap().flag("public", false).unwrap_err()), "invalid_public");
    }

    #[test]
    fn lists_may_be_repeated_or_separated_by_commas() {
        for text in ["tags=a,b&tags=c", "tags=a&tags=b&tags=c", "tags=a,%20b,,c"] {
            assert_eq!(query(text).unwrap().many("tags"), ["a", "b", "c"], "{text}");
        }
        assert!(query("").unwrap().many("tags").is_empty());
    }

    #[test]
    fn json_reads_like_the_query() {
        let json = br#"{"timeout": 60, "tags": ["a", "b", "c"], "public": true}"#;
        let params = Params::of_json(json, &KNOWN).unwrap();
        assert_eq!(params.many("tags"), ["a", "b", "c"]);
        assert_eq!(params.one("timeout", "", duration).unwrap(), Some(Duration::from_secs(60)));
        assert!(params.flag("public", false).unwrap());
        assert_eq!(Params::of_json(b" \n", &KNOWN).unwrap(), Params::default());
        assert_eq!(Params::of_json(br#"{"tags": null}"#, &KNOWN).unwrap(), Params::default());
        for (body, want) in [
            (&b"{"[..], "invalid_body"),
            (b"[1]", "invalid_body"),
            (br#"{"tags": {"a": 1}}"#, "invalid_body"),
            (br#"{"tagz": 1}"#, "unknown_parameter"),
        ] {
            assert_eq!(code(&Params::of_json(body, &KNOWN).unwrap_err()), want);
        }
    }

    #[test]
    fn a_parameter_in_query_and_body_counts_as_twice() {
        let both = query("timeout=1").unwrap().and(Params::of_json(br#"{"timeout": 1}"#, &KNOWN).unwrap());
        assert_eq!(code(&both.one("timeout", "", duration).unwrap_err()), "invalid_timeout");
    }

    #[test]
    fn durations_are_seconds_or_carry_units() {
        for (text, want) in
            [("60", Some(60_000)), ("0.5", Some(500)), ("60s", Some(60_000)), ("1h 30m", Some(5_400_000))]
        {
            assert_eq!(duration(text).ok(), want.map(Duration::from_millis), "{text}");
        }
        for text in ["", "-1", "inf", "nan", "1e300", "60 apples"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_are_spelt_as_in_json_and_a_refused_one_is_told_the_others() {
        assert_eq!(word::<Wait>("durable"), Ok(Wait::Durable));
        let params = query("tags=forever").unwrap();
        let refused = params.one("tags", "stored, durable or certified", word::<Wait>).unwrap_err();
        assert!(refused.hint().contains("stored, durable or certified"), "{}", refused.hint());
    }
}
