//! Errors: one for a token, with a hint where the slip can be guessed, and where to go on reading after one. It builds no tree.

use super::lexer::{Kind, Token};
use super::{Failed, MAX_ERRORS, Parser};
use crate::diag::{Diagnostic, Span};

impl<'t> Parser<'t> {
    /// Records an error, unless one stands at this token already.
    pub(super) fn fail(&mut self, at: Span, message: impl Into<String>, hint: impl Into<String>) -> Failed {
        if self.last_error != Some(self.at) && self.errors.len() < MAX_ERRORS {
            self.errors.push(Diagnostic::error(message).at(at).hint(hint));
        }
        self.last_error = Some(self.at);
        Failed
    }

    /// `expected .., found ..` here; nothing where the lexer has spoken.
    pub(super) fn unexpected(&mut self, wants: &str) -> Failed {
        let token = self.peek();
        if token.kind == Kind::Bad {
            return Failed;
        }
        self.fail(token.span, format!("expected {wants}, found {}", describe(token)), "");
        if let Some(last) = self.errors.last_mut().filter(|e| e.hint.as_deref() == Some("")) {
            last.hint = None;
        }
        if wants == "`;`" && self.is("=") {
            self.hint(token.span, "`==` compares".to_string());
        }
        Failed
    }

    /// The error just recorded, if it stands at `at`.
    fn latest(&mut self, at: Span) -> Option<&mut Diagnostic> {
        self.errors.last_mut().filter(|e| e.place.as_ref().is_some_and(|p| p.0 == at))
    }

    pub(super) fn hint(&mut self, at: Span, hint: String) {
        if let Some(error) = self.latest(at).filter(|e| e.hint.is_none()) {
            error.hint = Some(hint);
        }
    }

    /// A second place for the error just recorded.
    pub(super) fn note(&mut self, at: Span, text: &str) {
        let here = self.peek().span;
        if let Some(error) = self.latest(here).filter(|e| e.calls.is_empty()) {
            error.calls.push((at, text.to_string()));
        }
    }

    pub(super) fn unclosed(&mut self, open: Span) {
        let message = format!("expected `}}`, found {}", describe(self.peek()));
        let place = self.suspect.take().unwrap_or(open);
        self.fail(place, message, "add `}`");
        if let Some(error) = self.latest(place) {
            error.place = Some((place, "this `{` is not closed".to_string()));
        }
    }

    /// Remembers a block whose `}` is indented otherwise than the line of its `{`.
    pub(super) fn suspicious(&mut self, open_index: usize, open: Span) {
        let first = self.tokens[..=open_index].iter().rposition(|t| t.first_on_line).unwrap_or(0);
        let column = |at: Span| self.text[..at.start as usize].bytes().rev().take_while(|&b| b != b'\n').count();
        let close = self.peek();
        if close.first_on_line && column(close.span) != column(self.tokens[first].span) {
            self.suspect.get_or_insert(open);
        }
    }

    /// Whether an item begins here, though a block is open.
    pub(super) fn at_item(&self) -> bool {
        let token = self.peek();
        let begins = matches!(token.text, "fn" | "model" | "size" | "option") && self.peek_at(1).kind == Kind::Word;
        token.first_on_line && token.kind == Kind::Word && begins
    }

    /// To behind the next `;` of the block, or to its end.
    pub(super) fn skip_stmt(&mut self, start: usize) {
        let mut open = 0usize;
        loop {
            let token = self.peek();
            if token.kind == Kind::End || self.at_item() && self.at > start {
                return;
            }
            let symbol = if token.kind == Kind::Symbol { token.text } else { "" };
            match symbol {
                "}" if open == 0 => return,
                "{" => open += 1,
                "}" => open -= 1,
                _ => {}
            }
            self.bump();
            if open == 0 && matches!(symbol, ";" | "}") {
                return;
            }
        }
    }

    /// To the next item.
    pub(super) fn skip_item(&mut self, start: usize) {
        let mut open = 0usize;
        loop {
            let token = self.peek();
            let begins = self.at_item() || token.first_on_line && open == 0 && self.is("axis");
            if token.kind == Kind::End || begins && self.at > start {
                return;
            }
            self.bump();
            match if token.kind == Kind::Symbol { token.text } else { "" } {
                ";" if open == 0 => return,
                "{" => open += 1,
                "}" => {
                    open = open.saturating_sub(1);
                    if open == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    /// To behind the `}` of braces that are open.
    pub(super) fn skip_braces(&mut self) {
        let mut open = 1usize;
        while open > 0 && self.peek().kind != Kind::End && !self.at_item() {
            match self.bump() {
                Token { kind: Kind::Symbol, text: "{", .. } => open += 1,
                Token { kind: Kind::Symbol, text: "}", .. } => open -= 1,
                _ => {}
            }
        }
    }
}

pub(super) fn describe(token: Token) -> String {
    match token.kind {
        Kind::End => "the end of the file".to_string(),
        Kind::Word | Kind::Number | Kind::Hex | Kind::Text | Kind::Symbol | Kind::Bad => format!("`{}`", token.text),
    }
}

pub(super) fn did_you_mean(word: &str, known: &[&str]) -> Option<String> {
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(&word.to_lowercase(), k), k)).min()?;
    let close = near.0 <= 1 || near.0 == 2 && word.len() > 4;
    (close && !word.is_empty() && word.len() < 32).then(|| format!("did you mean `{}`?", near.1))
}
