//! Content on a terminal: text only, unless whoever asked insists.
//!
//! Bytes that are no text would do to a terminal what nobody foresees, from a beep to typed commands. A pipe gets every byte.

use std::{io::IsTerminal, str};

use super::{Failure, Status, acts};

/// What to do instead of looking at bytes.
const INSTEAD: &str = "name a file with -o FILE, or pipe it on";

/// Lets text through to a terminal, in whatever pieces it comes.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// The bytes of a character that is not complete yet.
    begun: Vec<u8>,
}

impl Screen {
    /// What can be shown after `bytes` more.
    ///
    /// # Errors
    /// If that is no text; nothing of it may be shown then.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<String, Failure> {
        self.begun.extend_from_slice(bytes);
        let complete = match str::from_utf8(&self.begun) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(not_text()),
        };
        let rest = self.begun.split_off(complete);
        let whole = std::mem::replace(&mut self.begun, rest);
        let text = String::from_utf8(whole).map_err(|_checked| not_text())?;
        let shown = |c| matches!(c, '\n' | '\r' | '\t') || !acts(c);
        if text.chars().all(shown) { Ok(text) } else { Err(not_text()) }
    }

    /// Says that no more comes.
    ///
    /// # Errors
    /// If a character is not complete.
    pub(crate) fn end(self) -> Result<(), Failure> {
        if self.begun.is_empty() { Ok(()) } else { Err(not_text()) }
    }
}

/// Refuses bytes that are never text, if standard output is a terminal.
pub(crate) fn refuse_on_terminal(what: &str) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() {
        return Err(Failure::new(Status::Usage, "binary_to_terminal", format!("{what} is not text"), INSTEAD));
    }
    Ok(())
}

fn not_text() -> Failure {
    let hint = format!("{INSTEAD}; --force shows it all the same");
    Failure::new(Status::Usage, "binary_to_terminal", "the content is not text, which a terminal could show", hint)
}

#[cfg(test)]
mod tests {
    use super::Screen;

    #[test]
    fn text_passes_whole_however_it_is_cut() {
        let text = "\u{feff}песня\t1\r\n\u{1f3b5} and more\n";
        for size in 1..text.len() {
            let mut screen = Screen::default();
            let shown: String = text.as_bytes().chunks(size).map(|piece| screen.take(piece).unwrap()).collect();
            assert_eq!(shown, text, "in pieces of {size}");
            screen.end().unwrap();
        }
    }

    #[test]
    fn what_is_no_text_or_acts_on_a_terminal_does_not_pass() {
        for bytes in
            [b"\0".as_slice(), b"a\x1b[2J", b"\xff\xd8\xff", b"bell\x07", "\u{202e}txt.exe".as_bytes(), b"\x9b"]
        {
            let refused = Screen::default().take(bytes).unwrap_err();
            assert_eq!(refused.code, "binary_to_terminal", "{bytes:?}");
        }
        let mut cut = Screen::default();
        assert_eq!(cut.take(b"a\xd0").unwrap(), "a");
        assert!(cut.end().is_err(), "half a character is none");
        let mut late = Screen::default();
        assert_eq!(late.take(b"text ").unwrap(), "text ");
        assert!(late.take(b"and \0").is_err());
    }
}
