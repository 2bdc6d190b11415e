//! Progress for a person at a terminal, on standard error; nothing of it anywhere else.

use std::{io::IsTerminal, time::Duration};

use console::truncate_str;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plain;
use crate::args::Global;

/// Characters of a name beside a bar.
const NAME_MAX: usize = 20;
/// The narrowest terminal with room for a bar beside name and numbers.
const BAR_COLUMNS_MIN: u16 = 76;
/// The narrowest one with room for the numbers of bytes.
const NUMBERS_COLUMNS_MIN: u16 = 60;
/// Between two pictures of a spinner.
const TICK: Duration = Duration::from_millis(100);
/// What is left on any narrower one.
const NARROW: &str = "{wide_msg}  {bytes_per_sec}  ETA {eta}";

/// Whether progress is shown, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    shown: bool,
    columns: u16,
}

/// Progress of one thing; it vanishes when it is dropped.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    name: String,
    /// How it looks as soon as there are bytes to count.
    counting: &'static str,
}

impl Meter {
    /// Progress is for people: a terminal, and neither `--json` nor `--quiet`.
    pub(crate) fn new(global: &Global) -> Self {
        let shown = std::io::stderr().is_terminal() && !global.json && !global.quiet;
        Self { shown, columns: console::Term::stderr().size().1 }
    }

    /// Whether anybody sees it.
    pub(crate) fn is_shown(self) -> bool {
        self.shown
    }

    /// Bytes on their way; `total` if it is known.
    pub(crate) fn bytes(self, name: &str, total: Option<u64>) -> Bar {
        let bar = match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let template = match total {
            None => "{wide_msg}  {bytes}  {bytes_per_sec}",
            Some(_) if self.columns < NUMBERS_COLUMNS_MIN => NARROW,
            Some(_) if self.columns < BAR_COLUMNS_MIN => {
                "{wide_msg}  {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}"
            }
            Some(_) => "{msg}  [{wide_bar}]  {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}",
        };
        self.show(bar, name, template)
    }

    /// Work that others do; [`Bar::set`] says how far it is.
    pub(crate) fn work(self, name: &str) -> Bar {
        let template = match self.columns {
            ..NUMBERS_COLUMNS_MIN => NARROW,
            NUMBERS_COLUMNS_MIN.. => "{wide_msg}  {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}",
        };
        self.show(ProgressBar::new(1), name, template)
    }

    /// Something that the node does by itself and says nothing about until it is done. Vanishes when it is dropped.
    pub(crate) fn spinner(self, what: &str) -> Bar {
        let bar = self.show(ProgressBar::new_spinner(), what, "{spinner} {wide_msg}{elapsed}");
        if self.shown {
            bar.bar.enable_steady_tick(TICK);
        }
        bar
    }

    fn show(self, bar: ProgressBar, name: &str, counting: &'static str) -> Bar {
        let target = if self.shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        bar.set_draw_target(target);
        bar.set_style(styled(counting));
        let name = truncate_str(&plain(name), NAME_MAX, "\u{2026}").into_owned();
        bar.set_message(name.clone());
        Bar { bar, name, counting }
    }
}

/// A bar in the words of the library, which checks them when the program runs.
fn styled(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_template| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl Bar {
    /// So many more are through.
    pub(crate) fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// So many of so many are through, and what to say about it.
    pub(crate) fn set(&self, (done, total): (u64, u64), words: &str) {
        // Zero of zero bytes says nothing.
        self.bar.set_style(styled(if total == 0 { "{wide_msg}" } else { self.counting }));
        self.bar.set_length(total);
        self.bar.set_position(done);
        // What matters most comes first: a narrow terminal cuts the end.
        self.bar.set_message(format!("{words}  {}", self.name));
    }

    /// Counts bytes from elsewhere, as long as it is kept.
    pub(crate) fn counter(&self) -> impl Fn(u64) + Send + use<> {
        let bar = self.bar.clone();
        move |bytes| bar.inc(bytes)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
