//! Conditional and range requests on content that never changes.
//!
//! One pure function decides what of a representation is sent. The only validator is a strong entity tag made of the
//! content's SHA-256; there are no modification times, so conditions on dates are ignored and an `If-Range` with a date never
//! matches.
//!
//! Order of evaluation (RFC 9110, 13.2.2): `If-Match`, `If-None-Match`, then `Range` under `If-Range`.
//!
//! Ranges: one range is answered with 206; several, another unit or an unreadable header with the whole, as the RFC allows;
//! a readable range that lies outside with 416. `Range` counts for `GET` only.
//!
//! Source: RFC 9110, sections 8.8.3 (entity tags), 13 (conditions), 14 (ranges).

use axum::http::{HeaderMap, HeaderName, Method, header};
use mynet_types::ContentHash;

/// What is sent of a representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All of it: 200.
    Whole,
    /// These bytes: 206.
    Part {
        /// The first byte.
        first: u64,
        /// The last byte, below the size.
        last: u64,
    },
    /// Nothing, the client has it: 304.
    NotModified,
    /// Nothing, the client wants another one: 412.
    PreconditionFailed,
    /// Nothing, the range lies outside: 416.
    Unsatisfiable,
}

/// The entity tag of content, with its quotes.
pub(crate) fn etag(hash: &ContentHash) -> String {
    format!("\"{}\"", hash.to_string().replace(':', "-"))
}

/// Decides what of a representation of `size` bytes with the strong tag `etag` is sent.
pub(crate) fn evaluate(method: &Method, headers: &HeaderMap, size: u64, etag: &str) -> Verdict {
    if headers.contains_key(header::IF_MATCH) && !any_tag(headers, &header::IF_MATCH, etag, Comparison::Strong) {
        return Verdict::PreconditionFailed;
    }
    if any_tag(headers, &header::IF_NONE_MATCH, etag, Comparison::Weak) {
        return Verdict::NotModified;
    }
    if *method != Method::GET || !if_range_holds(headers, etag) {
        return Verdict::Whole;
    }
    single_range(headers).map_or(Verdict::Whole, |range| range.within(size))
}

/// Whether a weak tag can equal a strong one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of tags in `name` holds `etag` or is `*`.
fn any_tag(headers: &HeaderMap, name: &HeaderName, etag: &str, comparison: Comparison) -> bool {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|list| {
        list.trim() == "*" || tags(list).any(|(weak, tag)| tag == etag && (!weak || comparison == Comparison::Weak))
    })
}

/// The tags of a list, each with whether it is weak and with its quotes; ends at the first unreadable one.
fn tags(mut rest: &str) -> impl Iterator<Item = (bool, &str)> {
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
        // Tags hold no escapes: the next quote ends the tag, and commas inside of it do not separate.
        let end = quoted.strip_prefix('"')?.find('"')? + 2;
        let (tag, after) = quoted.split_at(end);
        rest = after;
        Some((weak, tag))
    })
}

/// Whether `If-Range` lets a range stand.
fn if_range_holds(headers: &HeaderMap, etag: &str) -> bool {
    headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes())
}

/// One range as it was asked for.
#[derive(Clone, Copy)]
enum Asked {
    /// From the first byte to the last, or to the end.
    From { first: u64, last: Option<u64> },
    /// That many bytes at the end.
    Suffix(u64),
}

impl Asked {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        match (first, last) {
            ("", last) => number(last).map(Self::Suffix),
            (first, "") => Some(Self::From { first: number(first)?, last: None }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From { first, last: Some(last) })
            }
        }
    }

    fn within(self, size: u64) -> Verdict {
        let Some(end) = size.checked_sub(1) else {
            // Nothing can be a part of nothing; a suffix of an empty whole is the whole.
            return if matches!(self, Self::Suffix(1..)) { Verdict::Whole } else { Verdict::Unsatisfiable };
        };
        match self {
            Self::Suffix(0) => Verdict::Unsatisfiable,
            Self::Suffix(len) => Verdict::Part { first: size.saturating_sub(len), last: end },
            Self::From { first, .. } if first > end => Verdict::Unsatisfiable,
            Self::From { first, last } => Verdict::Part { first, last: last.unwrap_or(end).min(end) },
        }
    }
}

/// Digits as a number; one that is too large is larger than any content.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The range asked for, if it is exactly one readable range of bytes.
fn single_range(headers: &HeaderMap) -> Option<Asked> {
    let mut values = headers.get_all(header::RANGE).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (unit, ranges) = value.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
    match (ranges.next(), ranges.next()) {
        (Some(range), None) => Asked::parse(range),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, Method, header};
    use mynet_types::ContentHash;

    use super::{Verdict, etag, evaluate};

    const TAG: &str = "\"sha256-aa\"";

    fn part(first: u64, last: u64) -> Verdict {
        Verdict::Part { first, last }
    }

    fn verdict(method: &Method, given: &[(HeaderName, &str)], size: u64) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(name, value.parse().unwrap());
        }
        evaluate(method, &headers, size, TAG)
    }

    #[test]
    fn etag_is_the_hash_with_a_dash_in_quotes() {
        let hash = ContentHash([0xab; 32]);
        assert_eq!(etag(&hash), format!("\"sha256-{}\"", "ab".repeat(32)));
    }

    #[test]
    fn a_range_is_cut_to_the_content_or_refused() {
        let huge = format!("bytes=0-{}0", u64::MAX);
        let beyond = format!("bytes={}0-", u64::MAX);
        for (range, size, want) in [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=2-5", 10, part(2, 5)),
            ("bytes=0-9", 10, part(0, 9)),
            ("bytes=5-99", 10, part(5, 9)),
            (&huge, 10, part(0, 9)),
            ("bytes=7-", 10, part(7, 9)),
            ("bytes=9-", 10, part(9, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-99", 10, part(0, 9)),
            ("BYTES = 2-5 ", 10, part(2, 5)),
            ("bytes=,2-5,", 10, part(2, 5)),
            ("bytes=10-", 10, Verdict::Unsatisfiable),
            ("bytes=10-20", 10, Verdict::Unsatisfiable),
            (&beyond, 10, Verdict::Unsatisfiable),
            ("bytes=-0", 10, Verdict::Unsatisfiable),
            ("bytes=0-", 0, Verdict::Unsatisfiable),
            ("bytes=0-0", 0, Verdict::Unsatisfiable),
            ("bytes=-0", 0, Verdict::Unsatisfiable),
            ("bytes=-5", 0, Verdict::Whole),
        ] {
            assert_eq!(verdict(&Method::GET, &[(header::RANGE, range)], size), want, "{range} of {size}");
        }
    }

    #[test]
    fn what_is_not_one_readable_range_of_bytes_is_ignored() {
        for range in [
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=0x1-2",
            "bytes=1",
            "bytes=--1",
            "bytes=1.5-2",
        ] {
            assert_eq!(verdict(&Method::GET, &[(header::RANGE, range)], 10), Verdict::Whole, "{range}");
        }
        let twice = [(header::RANGE, "bytes=0-1"), (header::RANGE, "bytes=3-4")];
        assert_eq!(verdict(&Method::GET, &twice, 10), Verdict::Whole);
    }

    #[test]
    fn head_is_told_of_the_whole() {
        assert_eq!(verdict(&Method::HEAD, &[(header::RANGE, "bytes=0-1")], 10), Verdict::Whole);
        assert_eq!(verdict(&Method::HEAD, &[(header::IF_NONE_MATCH, TAG)], 10), Verdict::NotModified);
    }

    #[test]
    fn if_none_match_compares_weakly_in_lists() {
        for (tags, want) in [
            (TAG, Verdict::NotModified),
            ("*", Verdict::NotModified),
            ("W/\"sha256-aa\"", Verdict::NotModified),
            ("\"x\", \"a,b\" ,\"sha256-aa\"", Verdict::NotModified),
            ("\"x\"", Verdict::Whole),
            ("sha256-aa", Verdict::Whole),
            ("\"sha256-aa", Verdict::Whole),
            ("\"x, \\\"sha256-aa\\\"\"", Verdict::Whole),
        ] {
            assert_eq!(verdict(&Method::GET, &[(header::IF_NONE_MATCH, tags)], 10), want, "{tags}");
        }
        let lines = [(header::IF_NONE_MATCH, "\"x\""), (header::IF_NONE_MATCH, TAG)];
        assert_eq!(verdict(&Method::GET, &lines, 10), Verdict::NotModified);
    }

    #[test]
    fn if_match_compares_strongly_and_comes_first() {
        for (tags, want) in [
            (TAG, Verdict::Whole),
            ("*", Verdict::Whole),
            ("\"x\", \"sha256-aa\"", Verdict::Whole),
            ("W/\"sha256-aa\"", Verdict::PreconditionFailed),
            ("\"x\"", Verdict::PreconditionFailed),
            ("", Verdict::PreconditionFailed),
        ] {
            assert_eq!(verdict(&Method::GET, &[(header::IF_MATCH, tags)], 10), want, "{tags}");
        }
        let both = [(header::IF_MATCH, "\"x\""), (header::IF_NONE_MATCH, TAG)];
        assert_eq!(verdict(&Method::GET, &both, 10), Verdict::PreconditionFailed);
        let range = [(header::IF_NONE_MATCH, TAG), (header::RANGE, "bytes=0-1")];
        assert_eq!(verdict(&Method::GET, &range, 10), Verdict::NotModified);
    }

    #[test]
    fn if_range_lets_a_range_stand_only_with_the_same_strong_tag() {
        for (tag, want) in [
            (TAG, part(0, 1)),
            ("W/\"sha256-aa\"", Verdict::Whole),
            ("\"sha256-bb\"", Verdict::Whole),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Verdict::Whole),
        ] {
            let given = [(header::IF_RANGE, tag), (header::RANGE, "bytes=0-1")];
            assert_eq!(verdict(&Method::GET, &given, 10), want, "{tag}");
        }
        let outside = [(header::IF_RANGE, "\"sha256-bb\""), (header::RANGE, "bytes=99-")];
        assert_eq!(verdict(&Method::GET, &outside, 10), Verdict::Whole);
    }
}
