//! Licence expressions: does an allow-list satisfy one?
//!
//! Source: SPDX specification 2.3, annex D (`AND` binds tighter than `OR`, `WITH` tighter than both). Where we differ:
//! `/` is read as `OR`, as in manifests from before the standard.

/// Whether a user who accepts exactly the licences in `allowed` may use something under `expression`.
///
/// `X WITH exception` is satisfied by `X` (an exception only adds rights) or by the whole term in `allowed`.
///
/// # Errors
/// The expression does not follow the grammar; the text says where it stopped.
pub(super) fn satisfied(expression: &str, allowed: &[&str]) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    let outcome = parser.either().ok_or_else(|| parser.stopped(expression))?;
    if parser.words.is_empty() { Ok(outcome) } else { Err(parser.stopped(expression)) }
}

/// A recursive descent over the words that are left. Each step returns whether its part is satisfied, or `None` when
/// the words do not follow the grammar.
struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [&'a str],
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Option<bool> {
        let mut outcome = self.both()?;
        while self.take("OR") {
            outcome |= self.both()?;
        }
        Some(outcome)
    }

    fn both(&mut self) -> Option<bool> {
        let mut outcome = self.term()?;
        while self.take("AND") {
            outcome &= self.term()?;
        }
        Some(outcome)
    }

    fn term(&mut self) -> Option<bool> {
        if self.take("(") {
            let outcome = self.either()?;
            return self.take(")").then_some(outcome);
        }
        let licence = self.name()?;
        if self.take("WITH") {
            let whole = format!("{licence} WITH {}", self.name()?);
            return Some(self.allowed.contains(&licence) || self.allowed.contains(&whole.as_str()));
        }
        Some(self.allowed.contains(&licence))
    }

    fn name(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        if ["AND", "OR", "WITH", "(", ")"].contains(first) {
            return None;
        }
        self.words = rest;
        Some(first)
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn stopped(&self, expression: &str) -> String {
        match self.words.first() {
            Some(word) => format!("licence expression `{expression}` is not understood at `{word}`"),
            None => format!("licence expression `{expression}` ends too early"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_bind_as_the_standard_says() {
        let check = |expression: &str, expected: bool| {
            assert_eq!(satisfied(expression, &["MIT", "Apache-2.0"]), Ok(expected), "{expression}");
        };
        check("MIT", true);
        check("GPL-3.0-only", false);
        check("GPL-2.0-only OR Apache-2.0", true);
        check("MIT AND GPL-3.0-only", false);
        check("MIT OR GPL-3.0-only AND GPL-2.0-only", true);
        check("(MIT OR GPL-3.0-only) AND GPL-2.0-only", false);
        check("(MIT OR GPL-3.0-only) AND (GPL-2.0-only OR Apache-2.0)", true);
        check("GPL-2.0-only/MIT", true);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("GPL-2.0-only WITH Classpath-exception-2.0", false);
    }

    #[test]
    fn an_exception_can_be_allowed_as_a_whole() {
        let term = "GPL-2.0-only WITH Classpath-exception-2.0";
        assert_eq!(satisfied(term, &[term]), Ok(true));
    }

    #[test]
    fn what_is_no_expression_is_an_error_and_not_a_guess() {
        for expression in ["", "MIT OR", "MIT Apache-2.0", "(MIT", "MIT)", "AND MIT", "MIT WITH"] {
            assert!(satisfied(expression, &["MIT"]).is_err(), "{expression}");
        }
    }
}
