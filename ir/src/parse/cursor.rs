//! Walking over tokens: looking ahead, taking what is expected, lists, names, and the bound on how deep a tree may grow. It reports through
//! `recover` and knows no construct of the language.

use super::expr::special;
use super::lexer::{Kind, Token};
use super::{Failed, MAX_DEPTH, Parser, Result};
use crate::ast::{At, Name};
use crate::diag::Span;

impl<'t> Parser<'t> {
    pub(super) fn peek(&self) -> Token<'t> {
        self.peek_at(0)
    }

    /// The token `n` places on; the last one for ever.
    pub(super) fn peek_at(&self, n: usize) -> Token<'t> {
        self.tokens[(self.at + n).min(self.tokens.len() - 1)]
    }

    pub(super) fn bump(&mut self) -> Token<'t> {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    pub(super) fn is(&self, text: &str) -> bool {
        let token = self.peek();
        matches!(token.kind, Kind::Symbol | Kind::Word) && token.text == text
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let here = self.is(text);
        if here {
            self.bump();
        }
        here
    }

    pub(super) fn expect(&mut self, text: &str) -> Result<Span> {
        if self.is(text) {
            return Ok(self.bump().span);
        }
        let failed = self.unexpected(&format!("`{text}`"));
        if text == "=" && self.is("==") {
            self.hint(self.peek().span, "`=` defines, `==` compares".to_string());
        }
        if text == "{" && self.peek_at(0).kind != Kind::End && self.tokens[self.at.saturating_sub(1)].text.contains('{') {
            self.hint(self.peek().span, "put a blank before `{`: joined to a name it holds a counter".to_string());
        }
        Err(failed)
    }

    /// The bracket that closes the one at `open`.
    pub(super) fn close(&mut self, text: &str, open: Span) -> Result<()> {
        if self.eat(text) {
            return Ok(());
        }
        let failed = self.unexpected(&format!("`{text}`"));
        self.note(open, "opened here");
        if self.is("=") {
            self.hint(self.peek().span, "`==` compares".to_string());
        }
        Err(failed)
    }

    /// Elements between commas until `close`, which is taken too. A comma may stand behind the last.
    pub(super) fn list<T>(&mut self, close: &str, open: Span, mut element: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while !self.eat(close) {
            all.push(element(self)?);
            if self.eat(",") {
                continue;
            }
            if !self.is(close) {
                let failed = self.unexpected(&format!("`,` or `{close}`"));
                self.note(open, "opened here");
                if self.is("=") {
                    self.hint(self.peek().span, "`==` compares".to_string());
                }
                return Err(failed);
            }
        }
        Ok(all)
    }

    /// One or more elements between commas.
    pub(super) fn separated<T>(&mut self, mut element: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut all = vec![element(self)?];
        while self.eat(",") {
            all.push(element(self)?);
        }
        Ok(all)
    }

    /// A name that is no number and holds no counter.
    pub(super) fn name(&mut self, what: &str) -> Result<Name> {
        let token = self.peek();
        if token.kind != Kind::Word {
            return Err(self.unexpected(what));
        }
        if special(token.text).is_some() {
            return Err(self.fail(token.span, format!("expected {what}, found the number `{}`", token.text), "choose another name"));
        }
        if token.text.contains('{') {
            let message = format!("`{}` holds a counter; only labels can", token.text);
            return Err(self.fail(token.span, message, "put a blank before `{` if a block begins there"));
        }
        self.bump();
        Ok(Name { text: token.text.to_string(), at: At(token.span) })
    }

    /// No `==` where `=` was meant.
    pub(super) fn not_compare<T>(&mut self) -> Result<Option<T>> {
        if self.is("==") { Err(self.expect("=").err().unwrap_or(Failed)) } else { Ok(None) }
    }

    pub(super) fn since(&self, start: Span) -> At {
        At(Span { end: self.tokens[self.at.saturating_sub(1)].span.end.max(start.start), ..start })
    }

    /// One level deeper in the tree.
    pub(super) fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(self.too_deep(self.peek().span));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// One level above a tree of `height`.
    pub(super) fn taller(&mut self, height: usize, at: Span) -> Result<usize> {
        if self.depth + height >= MAX_DEPTH { Err(self.too_deep(at)) } else { Ok(height + 1) }
    }

    fn too_deep(&mut self, at: Span) -> Failed {
        self.fail(at, format!("nested more than {MAX_DEPTH} deep"), "give parts of it names: `y = ..;`")
    }
}
