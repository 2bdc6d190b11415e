//! Lines of several parts: one line in a pipe, folded to the width of a terminal.
//!
//! Nothing is cut, as in a table: what stands here is often wanted whole, such as an id to be copied.

use console::measure_text_width;

use super::{line, plain, terminal_width};

/// Between two parts.
const GAP: &str = "  ";
/// How far what goes on below a line is moved in.
const INDENT: usize = 2;

/// Prints the parts of a line. On a terminal that is too narrow a part that has no room goes on below.
pub(crate) fn fields(parts: &[&str]) -> anyhow::Result<()> {
    indented(INDENT, parts)
}

/// The same with another indentation of what goes on below.
pub(crate) fn indented(indent: usize, parts: &[&str]) -> anyhow::Result<()> {
    for text in fold(parts, indent, terminal_width()) {
        line(&text)?;
    }
    Ok(())
}

/// The lines of `parts` in `width` columns, or one line.
pub(super) fn fold(parts: &[&str], indent: usize, width: Option<usize>) -> Vec<String> {
    let parts = parts.iter().map(|part| plain(part)).filter(|part| !part.is_empty());
    let Some(width) = width else { return vec![parts.collect::<Vec<_>>().join(GAP)] };
    let below = " ".repeat(indent);
    let (mut lines, mut last) = (Vec::new(), String::new());
    let fits =
        |line: &str, gap: &str, more: &str| measure_text_width(line) + gap.len() + measure_text_width(more) <= width;
    for part in parts {
        match last.as_str() {
            "" => last = part,
            line if fits(line, GAP, &part) => last = last + GAP + &part,
            _ => {
                lines.push(std::mem::take(&mut last));
                last = below.clone() + &part;
            }
        }
        if fits(&last, "", "") {
            continue;
        }
        // Too long for a line of its own: between its words. A word that is too long stays whole.
        let text = std::mem::take(&mut last);
        let words = text.trim_start();
        last = " ".repeat(text.len() - words.len());
        for word in words.split(' ') {
            if last.trim_start().is_empty() {
                last += word;
            } else if fits(&last, " ", word) {
                last = last + " " + word;
            } else {
                lines.push(std::mem::replace(&mut last, below.clone() + word));
            }
        }
    }
    lines.push(last);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::fold;

    const ID: &str = "baa1071aa960cf9972d3e1a14d6d9238f36f33dd901fc93c728d3b6cec4ef7eb";

    #[test]
    fn a_pipe_gets_one_line() {
        let long = "word ".repeat(50) + "end";
        assert_eq!(fold(&[ID, "", &long], 2, None), [format!("{ID}  {long}")]);
    }

    #[test]
    fn a_terminal_gets_parts_that_fit_and_the_rest_below() {
        let said = "stored here; too few nodes may hold it, tried again when one joins";
        assert_eq!(fold(&[ID, "x.bin", said], 2, Some(80)), [format!("{ID}  x.bin"), format!("  {said}")]);
        assert_eq!(fold(&[ID, "x.bin", "durable"], 2, Some(80)), [format!("{ID}  x.bin  durable")]);
        let sha256 = format!("sha256:{ID}");
        assert_eq!(
            fold(&["encrypted 4.9 KiB", "held as a view", &sha256], 2, Some(80)),
            ["encrypted 4.9 KiB  held as a view".to_owned(), format!("  {sha256}")]
        );
    }

    #[test]
    fn a_sentence_is_folded_between_words_and_an_id_never() {
        assert_eq!(
            fold(&["  it has no preview: none can be made"], 2, Some(20)),
            ["  it has no preview:", "  none can be made"]
        );
        assert_eq!(fold(&["   a b c d"], 3, Some(6)), ["   a b", "   c d"]);
        assert_eq!(fold(&["on", ID], 2, Some(40)), ["on".to_owned(), format!("  {ID}")]);
        assert_eq!(fold(&["歌歌歌 歌歌歌", "歌"], 2, Some(10)), ["歌歌歌", "  歌歌歌", "  歌"]);
    }

    #[test]
    fn no_part_acts_on_a_terminal() {
        assert_eq!(fold(&["a\u{1b}[2J", "b\nc"], 2, None), ["a\u{fffd}[2J  b\u{fffd}c"]);
    }
}
