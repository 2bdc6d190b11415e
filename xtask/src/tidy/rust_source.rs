//! Rust text without its comments and literals, for rules that must not mistake a sentence for code.
//!
//! This is a lexer and not a parser: it knows line comments, nested block comments, strings in all their forms and
//! the difference between a character and a lifetime, and nothing else.

/// A Rust file, read once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RustSource {
    /// The text with every comment and the content of every literal blanked; line breaks are kept.
    pub(super) code: String,
    /// Lines that hold more than blanks and comments. A line inside a string counts.
    pub(super) code_lines: usize,
}

impl RustSource {
    /// Reads `text`. Text that is not Rust gives some result and never fails: the compiler has judged it already.
    pub(super) fn read(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut lexer = Lexer { chars: &chars, position: 0, code: String::with_capacity(text.len()), code_lines: 0 };
        let mut line_has_code = false;
        while lexer.position < chars.len() {
            line_has_code = lexer.step(line_has_code);
        }
        lexer.code_lines += usize::from(line_has_code);
        Self { code: lexer.code, code_lines: lexer.code_lines }
    }

    /// Lines of code, blanked as in [`Self::code`], with their numbers from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

struct Lexer<'a> {
    chars: &'a [char],
    position: usize,
    code: String,
    code_lines: usize,
}

impl Lexer<'_> {
    /// Consumes one character of code, or one comment or literal as a whole.
    ///
    /// Takes and returns whether the current line holds code so far.
    fn step(&mut self, line_has_code: bool) -> bool {
        if self.looking_at("//") {
            let end = self.find_from(self.position, |chars, at| chars[at] == '\n');
            return self.blank_until(end, false, line_has_code);
        }
        if self.looking_at("/*") {
            return self.blank_until(self.block_comment_end(), false, line_has_code);
        }
        if let Some(end) = self.raw_string_end().or_else(|| self.quoted_end()) {
            return self.blank_until(end, true, line_has_code);
        }
        let current = self.chars[self.position];
        self.code.push(current);
        self.position += 1;
        if current == '\n' {
            self.code_lines += usize::from(line_has_code);
            return false;
        }
        line_has_code || !current.is_whitespace()
    }

    /// Blanks everything before `end`; `is_code` says whether its lines count as code.
    fn blank_until(&mut self, end: usize, is_code: bool, mut line_has_code: bool) -> bool {
        for &blanked in &self.chars[self.position..end] {
            if blanked == '\n' {
                self.code.push('\n');
                self.code_lines += usize::from(line_has_code);
                line_has_code = false;
            } else {
                self.code.push(' ');
                line_has_code |= is_code && !blanked.is_whitespace();
            }
        }
        self.position = end;
        line_has_code
    }

    fn looking_at(&self, wanted: &str) -> bool {
        self.matches(self.position, wanted)
    }

    fn matches(&self, at: usize, wanted: &str) -> bool {
        wanted.chars().enumerate().all(|(offset, wanted)| self.chars.get(at + offset) == Some(&wanted))
    }

    /// The first position from `start` on where `found` holds, or the end of the text.
    fn find_from(&self, start: usize, found: impl Fn(&[char], usize) -> bool) -> usize {
        (start..self.chars.len()).find(|&at| found(self.chars, at)).unwrap_or(self.chars.len())
    }

    fn block_comment_end(&self) -> usize {
        let mut depth = 0_usize;
        let mut at = self.position;
        while at < self.chars.len() {
            if self.matches(at, "/*") {
                depth += 1;
                at += 2;
            } else if self.matches(at, "*/") {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            } else {
                at += 1;
            }
        }
        self.chars.len()
    }

    /// The end of a raw string (`r"..."`, `br#"..."#`, `cr"..."`) that starts here.
    fn raw_string_end(&self) -> Option<usize> {
        let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
            self.looking_at(prefix) && matches!(self.chars.get(self.position + prefix.len()), Some('"' | '#'))
        })?;
        let inside_a_word = self.position > 0 && is_word(self.chars[self.position - 1]);
        let hashes_start = self.position + prefix.len();
        let quote = self.find_from(hashes_start, |chars, at| chars[at] != '#');
        if inside_a_word || self.chars.get(quote) != Some(&'"') {
            return None; // a raw identifier, or a word that ends in `r`
        }
        let terminator: String = std::iter::once('"').chain(self.chars[hashes_start..quote].iter().copied()).collect();
        let last = self.find_from(quote + 1, |_, at| self.matches(at, &terminator));
        Some((last + terminator.len()).min(self.chars.len()))
    }

    /// The end of a string or character literal that starts here.
    fn quoted_end(&self) -> Option<usize> {
        let quote = self.chars[self.position];
        let is_literal = match quote {
            '"' => true,
            // `'x'` and `'\n'` are characters, `'x` is a lifetime.
            '\'' => {
                self.chars.get(self.position + 1) == Some(&'\\') || self.chars.get(self.position + 2) == Some(&'\'')
            }
            _ => false,
        };
        if !is_literal {
            return None;
        }
        let mut at = self.position + 1;
        while at < self.chars.len() && self.chars[at] != quote {
            at += if self.chars[at] == '\\' { 2 } else { 1 };
        }
        Some((at + 1).min(self.chars.len()))
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &str, code_lines: usize) {
        let expected = RustSource { code: code.to_owned(), code_lines };
        assert_eq!(RustSource::read(text), expected, "{text}");
    }

    #[test]
    fn comments_are_blanked_and_do_not_count() {
        check("a; // b\n\n/// doc\nc;\n", "a;     \n\n       \nc;\n", 2);
        check("/* a /* b */ c */ d", "                  d", 1);
        check("/* a\n b\n*/\n", "    \n  \n  \n", 0);
        check("x /* open", "x        ", 1);
    }

    #[test]
    fn strings_are_blanked_and_count() {
        check(r#"f("// no \" comment") // yes"#, r"f(                  )       ", 1);
        check("let s = \"one\n\n  two\";\n", "let s =     \n\n      ;\n", 2);
        check(r##"r#"a " b"# + br"c" c"##, r"           +       c", 1);
        check("\"open", "     ", 1);
    }

    #[test]
    fn identifiers_that_look_like_raw_strings_are_code() {
        check("r#type = for_r;", "r#type = for_r;", 1);
        check("bar\"x\"", "bar   ", 1);
    }

    #[test]
    fn characters_are_blanked_and_lifetimes_are_not() {
        check("'\"' 'x' '\\'' b'/' &'a str", "             b    &'a str", 1);
    }

    #[test]
    fn text_after_a_tricky_literal_is_still_read() {
        check("'/'// c\nd", "       \nd", 2);
        check("'\\\\'; todo", "    ; todo", 1);
    }
}
