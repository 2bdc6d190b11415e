//! Tables: whole in a pipe, cut to the width of a terminal.
//!
//! On a terminal that is too narrow, text is shortened first, then the columns go that matter least; which, stands under the
//! table. What a column may lose is said where the table is made: an id is never cut a second time, a sentence may be.

use std::{io::Write, iter::zip};

use console::{Style, measure_text_width, style, truncate_str};

use super::{line, plain, terminal_width};

/// Between two columns.
const GAP: &str = "  ";
/// Characters that a text keeps while there is anything to leave out instead.
const TEXT_MIN: usize = 12;
/// Characters that it keeps when there is nothing else left; with fewer it says nothing.
const TEXT_LEAST: usize = 4;

/// What a table may do to a column that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing: without it a line is about nothing.
    Key,
    /// Leave it out, the rightmost first.
    Fact,
    /// Leave it out before any fact.
    Extra,
    /// Cut it.
    Text,
}

/// The head of a column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    head: &'static str,
    kind: Kind,
}

impl Column {
    /// Names what the line is about.
    pub(crate) const fn key(head: &'static str) -> Self {
        Self { head, kind: Kind::Key }
    }

    /// A word or a number.
    pub(crate) const fn fact(head: &'static str) -> Self {
        Self { head, kind: Kind::Fact }
    }

    /// The same, for those with room.
    pub(crate) const fn extra(head: &'static str) -> Self {
        Self { head, kind: Kind::Extra }
    }

    /// Words that say something even if they are cut.
    pub(crate) const fn text(head: &'static str) -> Self {
        Self { head, kind: Kind::Text }
    }
}

/// Prints rows with aligned columns.
pub(crate) fn table(columns: &[Column], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let width = terminal_width();
    let (lines, hidden) = lay_out(columns, rows, width);
    for text in lines {
        line(&text)?;
    }
    if let (Some(width), false) = (width, hidden.is_empty()) {
        let note = format!("(no room for {}; --json has all)", hidden.join(", "));
        // A note is no result.
        drop(writeln!(std::io::stderr(), "{}", style(truncate_str(&note, width, "\u{2026}")).for_stderr().dim()));
    }
    Ok(())
}

/// The lines of a table in `width` columns, or in as many as it takes, and the heads that had no room.
fn lay_out(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> (Vec<String>, Vec<&'static str>) {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let widest = |index: usize, head: &str| {
        let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| measure_text_width(cell));
        cells.chain([measure_text_width(head)]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = columns.iter().enumerate().map(|(index, column)| widest(index, column.head)).collect();
    let mut shown = vec![true; columns.len()];
    if let Some(width) = width {
        fit(columns, width, (&mut widths, &mut shown));
    }
    let heads = columns.iter().map(|column| column.head);
    let hidden = zip(heads.clone(), &shown).filter(|(_, shown)| !**shown).map(|(head, _)| head).collect();
    let print = |cells: Vec<&str>, style: &dyn Fn(&str) -> Style| {
        let cells = zip(cells, zip(&widths, &shown)).filter(|(_, (_, shown))| **shown);
        let mut text = String::new();
        for (cell, (&width, _)) in cells {
            let cell = truncate_str(cell, width, "\u{2026}");
            let room = " ".repeat(width.saturating_sub(measure_text_width(&cell)));
            text += &format!("{}{room}{GAP}", style(&cell).apply_to(&cell));
        }
        text.truncate(text.trim_end().len());
        text
    };
    let mut lines = vec![print(heads.collect(), &|_| Style::new().bold())];
    lines.extend(rows.iter().map(|row| print(row.iter().map(String::as_str).collect(), &tone)));
    (lines, hidden)
}

/// Leaves out and cuts until the columns that are shown fit into `width`, if they can.
fn fit(columns: &[Column], width: usize, (widths, shown): (&mut [usize], &mut [bool])) {
    let least = |column: &Column, width: usize| if column.kind == Kind::Text { width.min(TEXT_MIN) } else { width };
    let sum = |widths: &[usize], shown: &[bool], least: &dyn Fn(&Column, usize) -> usize| {
        let cells = zip(columns, zip(widths, shown)).filter(|(_, (_, shown))| **shown);
        let (count, sum) =
            cells.fold((0, 0), |(count, sum), (column, (width, _))| (count + 1, sum + least(column, *width)));
        sum + GAP.len() * usize::saturating_sub(count, 1)
    };
    for kind in [Kind::Extra, Kind::Fact] {
        while sum(widths, shown, &least) > width {
            let last = columns
                .iter()
                .enumerate()
                .rev()
                .find(|(index, column)| column.kind == kind && shown.get(*index).is_some_and(|shown| *shown));
            let Some(place) = last.and_then(|(index, _)| shown.get_mut(index)) else { break };
            *place = false;
        }
    }
    for least in [TEXT_MIN, TEXT_LEAST] {
        // The widest text gives first, so that short ones stay whole.
        while sum(widths, shown, &|_, width| width) > width {
            let texts = zip(columns, zip(widths.iter_mut(), &*shown))
                .filter(|(column, (width, shown))| column.kind == Kind::Text && **shown && **width > least);
            let Some((_, (widest, _))) = texts.max_by_key(|(_, (width, _))| **width) else { break };
            *widest -= 1;
        }
    }
}

/// The colour of a word that says how something stands: the same in every table.
fn tone(word: &str) -> Style {
    match word {
        "alive" | "replicated" | "yes" | "held" | "repaired" => Style::new().green(),
        "suspect" | "degraded" | "replicating" | "pending" | "waits" => Style::new().yellow(),
        "down" | "out" | "failed" | "open" | "contradicted itself" => Style::new().red(),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;

    use super::{Column, lay_out};

    const COLUMNS: [Column; 5] = [
        Column::key("GROUP"),
        Column::fact("STATUS"),
        Column::fact("COPIES"),
        Column::extra("CREATED"),
        Column::text("NAME"),
    ];

    fn rows(name: &str) -> Vec<Vec<String>> {
        vec![["0123456789", "replicated", "3/3", "2026-11-26T09:00:00Z", name].map(str::to_owned).to_vec()]
    }

    fn check(width: Option<usize>, name: &str, hidden: &[&str], row: &str) {
        let (lines, left_out) = lay_out(&COLUMNS, &rows(name), width);
        assert_eq!(left_out, hidden, "{width:?}");
        assert_eq!(lines.last().map(String::as_str), Some(row), "{width:?}");
        for line in lines {
            assert!(measure_text_width(&line) <= width.unwrap_or(usize::MAX), "{width:?}: {line}");
        }
    }

    #[test]
    fn a_pipe_gets_everything() {
        let name = "n".repeat(200);
        check(None, &name, &[], &format!("0123456789  replicated  3/3     2026-11-26T09:00:00Z  {name}"));
    }

    #[test]
    fn a_narrow_terminal_cuts_text_and_then_leaves_out_what_matters_least() {
        check(Some(80), "song.flac", &[], "0123456789  replicated  3/3     2026-11-26T09:00:00Z  song.flac");
        let name = "a rather long name of a song.flac";
        check(Some(72), name, &[], "0123456789  replicated  3/3     2026-11-26T09:00:00Z  a rather long nam\u{2026}");
        check(Some(50), name, &["CREATED"], "0123456789  replicated  3/3     a rather long nam\u{2026}");
        check(Some(40), name, &["COPIES", "CREATED"], "0123456789  replicated  a rather long n\u{2026}");
        check(Some(30), name, &["STATUS", "COPIES", "CREATED"], "0123456789  a rather long nam\u{2026}");
        check(Some(18), name, &["STATUS", "COPIES", "CREATED"], "0123456789  a rat\u{2026}");
    }

    #[test]
    fn wide_characters_are_measured_as_they_are_seen() {
        check(
            Some(50),
            "歌歌歌歌歌歌歌歌歌歌歌歌",
            &["CREATED"],
            "0123456789  replicated  3/3     歌歌歌歌歌歌歌歌\u{2026}",
        );
    }

    #[test]
    fn a_cell_is_one_line_whatever_is_in_it() {
        let (lines, _) = lay_out(&[Column::text("NAME")], &[vec!["a\n\u{1b}[31mb".to_owned()]], None);
        assert_eq!(lines, ["NAME", "a\u{fffd}\u{fffd}[31mb"]);
    }
}
