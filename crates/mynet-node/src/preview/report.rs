//! The one line a preview worker tells its parent, and the exit status that goes with it.
//!
//! `preview=made kind=audio size_bytes=.. duration_us=.. start_us=.. bitrate_bps=.. concealed_us=..`, `preview=made kind=image
//! size_bytes=.. width=.. height=..`, or `preview=<kind> what=<text>` with the rest of the line as text. The parent accepts a
//! line only when its kind matches the exit status, every key is there once and every number parses: the child has read hostile
//! bytes and is not believed further than that.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use super::{AudioInfo, ImageInfo, PreviewError, PreviewInfo, PreviewKind, WorkerFailure};

/// Longest text in a report; longer ones are cut. It ends up in logs.
const WHAT_CHARS_MAX: usize = 200;

/// How a preview worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerExit {
    /// A preview was made.
    Made,
    /// See [`PreviewError::Unsupported`].
    Unsupported,
    /// See [`PreviewError::Corrupt`].
    Corrupt,
    /// See [`PreviewError::TooShort`].
    TooShort,
    /// See [`PreviewError::TooSmall`].
    TooSmall,
    /// See [`PreviewError::Read`].
    Read,
    /// See [`PreviewError::Write`].
    Write,
    /// See [`PreviewError::Encode`].
    Encode,
    /// The resource limits could not be set; the original was not touched.
    Limits,
}

impl WorkerExit {
    const ALL: [Self; 9] = [
        Self::Made,
        Self::Unsupported,
        Self::Corrupt,
        Self::TooShort,
        Self::TooSmall,
        Self::Read,
        Self::Write,
        Self::Encode,
        Self::Limits,
    ];

    /// The exit status. Failures begin at 10, clear of the shell's and the runtime's own numbers.
    pub fn code(self) -> u8 {
        match self {
            Self::Made => 0,
            Self::Unsupported => 10,
            Self::Corrupt => 11,
            Self::TooShort => 12,
            Self::Read => 13,
            Self::Write => 14,
            Self::Encode => 15,
            Self::Limits => 16,
            Self::TooSmall => 17,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::TooShort => "too_short",
            Self::TooSmall => "too_small",
            Self::Read => "read",
            Self::Write => "write",
            Self::Encode => "encode",
            Self::Limits => "limits",
        }
    }

    fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| i32::from(exit.code()) == code)
    }
}

impl From<WorkerExit> for ExitCode {
    fn from(exit: WorkerExit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// The exit and the line for a result.
pub(super) fn encode(result: &Result<PreviewInfo, PreviewError>) -> (WorkerExit, String) {
    let (exit, what) = match result {
        Ok(info) => return (WorkerExit::Made, encode_info(info)),
        Err(PreviewError::Unsupported { what }) => (WorkerExit::Unsupported, what.to_string()),
        Err(PreviewError::Corrupt { what }) => (WorkerExit::Corrupt, what.to_string()),
        Err(PreviewError::TooShort) => (WorkerExit::TooShort, String::new()),
        Err(PreviewError::TooSmall) => (WorkerExit::TooSmall, String::new()),
        Err(PreviewError::Read(error)) => (WorkerExit::Read, error.to_string()),
        Err(PreviewError::Write(error)) => (WorkerExit::Write, error.to_string()),
        Err(PreviewError::Encode { what }) => (WorkerExit::Encode, what.to_string()),
        Err(PreviewError::Worker { failure }) => (WorkerExit::Limits, failure.to_string()),
    };
    (exit, format!("preview={} what={}\n", exit.name(), one_line(&what)))
}

fn encode_info(info: &PreviewInfo) -> String {
    let mut line = format!("preview={}", WorkerExit::Made.name());
    let numbers = match info {
        PreviewInfo::Audio(info) => vec![
            ("size_bytes", u128::from(info.size_bytes)),
            ("duration_us", info.duration.as_micros()),
            ("start_us", info.start.as_micros()),
            ("bitrate_bps", u128::from(info.bitrate_bps)),
            ("concealed_us", info.concealed.as_micros()),
        ],
        PreviewInfo::Image(info) => vec![
            ("size_bytes", u128::from(info.size_bytes)),
            ("width", u128::from(info.width)),
            ("height", u128::from(info.height)),
        ],
    };
    write!(line, " kind={}", info.kind().as_str()).expect("writing to a string cannot fail");
    for (key, value) in numbers {
        write!(line, " {key}={value}").expect("writing to a string cannot fail");
    }
    line.push('\n');
    line
}

/// The result behind an exit status and what the child printed; `None` when the status is not one of ours.
pub(super) fn decode(code: Option<i32>, stdout: &[u8]) -> Option<Result<PreviewInfo, PreviewError>> {
    let exit = code.and_then(WorkerExit::from_code)?;
    let Some(line) = report_line(stdout, exit) else {
        return Some(Err(WorkerFailure::Report { what: "no line for this exit status" }.into()));
    };
    if exit == WorkerExit::Made {
        let info = decode_info(line);
        return Some(info.ok_or_else(|| WorkerFailure::Report { what: "a number is missing" }.into()));
    }
    let what: Cow<'static, str> = Cow::Owned(one_line(line.strip_prefix("what=").unwrap_or(line)));
    Some(Err(match exit {
        WorkerExit::Unsupported => PreviewError::Unsupported { what },
        WorkerExit::Corrupt => PreviewError::Corrupt { what },
        WorkerExit::TooShort => PreviewError::TooShort,
        WorkerExit::TooSmall => PreviewError::TooSmall,
        WorkerExit::Read => PreviewError::Read(io::Error::other(what)),
        WorkerExit::Write => PreviewError::Write(io::Error::other(what)),
        WorkerExit::Encode => PreviewError::Encode { what },
        WorkerExit::Limits | WorkerExit::Made => WorkerFailure::Limits { what }.into(),
    }))
}

/// What follows `preview=<kind of exit> ` in the first line that begins so.
fn report_line(stdout: &[u8], exit: WorkerExit) -> Option<&str> {
    let text = std::str::from_utf8(stdout).ok()?;
    text.lines().find_map(|line| line.strip_prefix("preview=")?.strip_prefix(exit.name())?.strip_prefix(' '))
}

fn decode_info(line: &str) -> Option<PreviewInfo> {
    let value = |key: &str| -> Option<&str> {
        let mut values = line.split(' ').filter_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let value = values.next()?;
        values.next().is_none().then_some(value)
    };
    let number = |key: &str| -> Option<u64> { value(key)?.parse().ok() };
    let small = |key: &str| -> Option<u32> { value(key)?.parse().ok() };
    match value("kind")?.parse().ok()? {
        PreviewKind::Audio => Some(PreviewInfo::Audio(AudioInfo {
            size_bytes: number("size_bytes")?,
            duration: Duration::from_micros(number("duration_us")?),
            start: Duration::from_micros(number("start_us")?),
            bitrate_bps: small("bitrate_bps")?,
            concealed: Duration::from_micros(number("concealed_us")?),
        })),
        PreviewKind::Image => Some(PreviewInfo::Image(ImageInfo {
            size_bytes: number("size_bytes")?,
            width: small("width")?,
            height: small("height")?,
        })),
    }
}

/// Text without control characters, cut to [`WHAT_CHARS_MAX`].
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WHAT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::{WorkerExit, decode, encode};
    use crate::preview::{AudioInfo, ImageInfo, PreviewError, PreviewInfo, WorkerFailure};

    fn info() -> PreviewInfo {
        PreviewInfo::Audio(AudioInfo {
            size_bytes: 361_740,
            duration: Duration::from_micros(29_999_979),
            start: Duration::from_secs(50),
            bitrate_bps: 96_000,
            concealed: Duration::ZERO,
        })
    }

    #[test]
    fn made_round_trips() {
        let image = PreviewInfo::Image(ImageInfo { size_bytes: 9_000, width: 512, height: 341 });
        for info in [info(), image] {
            let (exit, line) = encode(&Ok(info));
            let decoded = decode(Some(exit.code().into()), line.as_bytes()).unwrap();
            assert_eq!(decoded.unwrap(), info);
        }
    }

    #[test]
    fn failures_round_trip() {
        for error in [
            PreviewError::unsupported("MP3"),
            PreviewError::corrupt("two\nlines"),
            PreviewError::TooShort,
            PreviewError::TooSmall,
            PreviewError::Read(io::Error::other("bad sector")),
            PreviewError::Write(io::Error::other("no space")),
            PreviewError::Encode { what: "no".into() },
            WorkerFailure::Limits { what: "cpu".into() }.into(),
        ] {
            let shown = format!("{error:?}").replace('\n', " ").replace("\\n", " ");
            let (exit, line) = encode(&Err(error));
            assert_eq!(line.lines().count(), 1, "{line}");
            let decoded = decode(Some(exit.code().into()), line.as_bytes()).unwrap().unwrap_err();
            assert_eq!(std::mem::discriminant(&decoded), discriminant_of(exit), "{shown}");
        }
    }

    fn discriminant_of(exit: WorkerExit) -> std::mem::Discriminant<PreviewError> {
        std::mem::discriminant(&match exit {
            WorkerExit::Unsupported => PreviewError::unsupported(""),
            WorkerExit::Corrupt => PreviewError::corrupt(""),
            WorkerExit::TooShort => PreviewError::TooShort,
            WorkerExit::TooSmall => PreviewError::TooSmall,
            WorkerExit::Read => PreviewError::Read(io::Error::other("")),
            WorkerExit::Write => PreviewError::Write(io::Error::other("")),
            WorkerExit::Encode => PreviewError::Encode { what: "".into() },
            WorkerExit::Limits | WorkerExit::Made => WorkerFailure::Limits { what: "".into() }.into(),
        })
    }

    #[test]
    fn reports_that_do_not_fit_are_refused() {
        let (_, made) = encode(&Ok(info()));
        let no_size = made.replace("size_bytes", "size");
        let no_kind = made.replace("kind=audio", "kind=smell");
        let doubled = made.replace("\n", " size_bytes=1\n");
        let (_, corrupt) = encode(&Err(PreviewError::corrupt("x")));
        for (code, line) in
            [(0, ""), (0, &no_size), (0, &no_kind), (0, &doubled), (0, &corrupt), (11, &made), (0, "\u{0}")]
        {
            let decoded = decode(Some(code), line.as_bytes()).unwrap();
            assert!(
                matches!(decoded, Err(PreviewError::Worker { failure: WorkerFailure::Report { .. } })),
                "{code} {line} {decoded:?}"
            );
        }
        assert!(decode(Some(0), b"\xff\xfe").unwrap().is_err());
        assert!(decode(Some(101), made.as_bytes()).is_none());
        assert!(decode(None, made.as_bytes()).is_none());
    }
}
