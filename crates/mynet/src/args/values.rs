//! Values that are more than a word, and words that their types know.

use std::{fmt::Display, net::SocketAddr, ops::RangeInclusive, str::FromStr, time::Duration};

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mynet_types::NodeId;

/// One of the words that `T` reads: mistyped ones have the nearest named, and shells complete them.
pub(super) fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::error::Error + Send + Sync> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>())
}

/// How long something takes.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_jargon| "durations are like 90s, 24h or 7d")
}

/// How many bytes something has.
pub(super) fn size(text: &str) -> Result<ByteSize, &'static str> {
    text.parse().map_err(|_jargon| "sizes are like 500MB, 100GiB or 2TiB")
}

/// Where something listens.
pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_jargon| "addresses are like 127.0.0.1:8420 or [::1]:8420; port 0 takes a free one")
}

/// A whole number of `range`.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("give a whole number from {} to {}", range.start(), range.end()))
    }
}

/// Something that may stand in a path of the API: with a slash in it, a request would go elsewhere than meant.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("it is empty"),
        _ if text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_')) => Ok(text.to_owned()),
        _ => Err("ids and hashes are made of letters, digits, ':' and '-'"),
    }
}

/// The same for a command that takes something away, which wants the whole id.
pub(super) fn whole_name(text: &str) -> Result<String, &'static str> {
    match is_beginning(text) {
        true => Err(
            "the beginning of an id may be that of another group too; give the whole one, as `mynet show` prints it",
        ),
        false => name(text),
    }
}

/// A node, by its whole id: a command that changes who may do what takes no beginning of one.
pub(super) fn whole_node(text: &str) -> Result<NodeId, String> {
    text.parse().map_err(|error| format!("{error}; `mynet peers NODE` takes a beginning and prints the whole"))
}

/// A node, or the beginning of its id.
pub(super) fn node(text: &str) -> Result<String, String> {
    if is_beginning(text) {
        return Ok(text.to_owned());
    }
    text.parse::<NodeId>().map(|node| node.to_string()).map_err(|error| format!("{error}, or the first of them"))
}

/// Whether a text can be the beginning of an id, and is no whole one.
pub(crate) fn is_beginning(text: &str) -> bool {
    const DIGITS: usize = 64;
    (1..DIGITS).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// One tag. On the wire commas separate tags, so one with a comma would become two without a word.
pub(super) fn tag(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("a tag is not empty"),
        tag if tag.contains(',') => Err("a tag has no comma; for several say --tag once for each"),
        tag => Ok(tag.to_owned()),
    }
}

/// One range of bytes. A server ignores what it cannot read, so a mistyped range would fetch the whole.
pub(super) fn range(text: &str) -> Result<String, &'static str> {
    const FORM: &str = "give A-B with A <= B, A- or -N";
    let number = |text: &str| match text {
        "" => Ok(None),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse::<u64>().map(Some).map_err(|_huge| FORM),
        _ => Err(FORM),
    };
    let (from, to) = text.split_once('-').ok_or(FORM)?;
    match (number(from)?, number(to)?) {
        (None, None) => Err(FORM),
        (Some(from), Some(to)) if from > to => Err(FORM),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_beginning, name, node, range, tag};

    #[test]
    fn what_would_change_the_path_of_a_request_is_no_name() {
        for good in ["sha256:00ff", "00000000-0000-0000-0000-000000000000", "not-an-id"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "../x", "a/b", "a b", "a?b", "a#b", "a%2fb", "..", "\u{e4}"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_beginning_of_an_id_is_told_from_everything_else() {
        for beginning in ["0", "0123456789", &"a".repeat(63)] {
            assert!(is_beginning(beginning) && node(beginning).is_ok(), "{beginning}");
        }
        for other in ["", "xyz", "ABC", "sha256:00", "00000000-0000"] {
            assert!(!is_beginning(other) && node(other).is_err(), "{other}");
        }
        assert!(!is_beginning(&"a".repeat(64)) && node(&"a".repeat(64)).is_ok());
    }

    #[test]
    fn a_tag_is_one_tag() {
        assert_eq!(tag(" slow rock "), Ok("slow rock".to_owned()));
        for bad in ["", " ", "a,b", "a,"] {
            assert!(tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_have_one_of_three_forms() {
        for good in ["0-0", "5-10", "7-", "-3"] {
            assert!(range(good).is_ok(), "{good}");
        }
        for bad in ["", "-", "5", "5-2", "a-b", "0-1,3-4", "+1-2", "--1", "1-99999999999999999999"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
