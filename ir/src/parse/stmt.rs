//! Statements: what can stand in the block of a function, a model or a mark. Read [`Parser::stmt`].

use super::lexer::Kind;
use super::recover::{describe, did_you_mean};
use super::{Element, Failed, Parser, Result, STATEMENTS};
use crate::ast::{Arm, At, Binary, Block, ExprKind, Init, Name, Stmt, StmtKind};
use crate::diag::Span;
use crate::types::DType;

impl<'t> Parser<'t> {
    pub(super) fn block(&mut self) -> Result<Block> {
        let open_index = self.at;
        let open = self.expect("{")?;
        self.braces += 1;
        let block = self.nested(|p| p.elements(open_index, open))?;
        self.braces = self.braces.saturating_sub(1);
        self.eat(";");
        Ok(block)
    }

    fn elements(&mut self, open_index: usize, open: Span) -> Result<Block> {
        let mut block = Block::default();
        loop {
            if self.peek().kind == Kind::End || self.at_item() {
                self.unclosed(open);
                return Ok(block);
            }
            if self.is("}") {
                self.suspicious(open_index, open);
                self.bump();
                return Ok(block);
            }
            if self.eat(";") {
                continue;
            }
            let (start_index, start) = (self.at, self.peek().span);
            match self.stmt() {
                Ok(Element::Stmt(kind)) => block.stmts.push(Stmt { kind, at: self.since(start) }),
                Ok(Element::Result(e)) => block.result = Some(Box::new(e)),
                Ok(Element::Nothing) => {}
                Err(Failed) => self.skip_stmt(start_index),
            }
        }
    }

    pub(super) fn stmt(&mut self) -> Result<Element> {
        let first = self.peek();
        let after = self.peek_at(1);
        let named = after.kind == Kind::Word;
        let begins = named || after.kind == Kind::Number || ["(", "-", "!"].contains(&after.text);
        let word = if first.kind == Kind::Word { first.text } else { "" };
        match word {
            "axis" if named => {
                self.bump();
                let axes = self.separated(Self::axis_def)?;
                self.semicolon()?;
                Ok(Element::Stmt(StmtKind::Axes(axes)))
            }
            "param" if named => self.param(false),
            "exact" if after.text == "param" => {
                self.bump();
                self.param(true)
            }
            "local" if begins => self.local(),
            "loss" if begins => {
                self.bump();
                let label = self.label()?;
                let value = self.expr()?;
                self.semicolon()?;
                Ok(Element::Stmt(StmtKind::Loss { label, value }))
            }
            "repeat" if named => {
                self.bump();
                let counter = self.name("the name of a counter")?;
                self.expect("=")?;
                let from = self.scalar()?;
                self.expect("..")?;
                let to = self.scalar()?;
                let body = self.block()?;
                Ok(Element::Stmt(StmtKind::Repeat { counter, from, to, body }))
            }
            "output" if named => {
                self.bump();
                let name = self.name("the name of a result")?;
                self.expect(":")?;
                let ty = self.type_expr()?;
                self.expect("=")?;
                let value = self.expr()?;
                self.semicolon()?;
                Ok(Element::Stmt(StmtKind::Output { name, ty, value }))
            }
            "match" if self.arms_are_blocks() => self.match_stmt(),
            "warn" if after.kind == Kind::Text => {
                self.bump();
                let text = self.bump().text;
                self.semicolon()?;
                Ok(Element::Stmt(StmtKind::Warn(text.trim_matches('"').to_string())))
            }
            "copies" if begins => Err(self.fail(first.span, "`copies` stands only behind the block of a `local`", "leave it out")),
            _ if !word.is_empty() && self.is_let() => self.binding(),
            _ => self.result(),
        }
    }

    /// Whether the first arm of the `match` that stands here is a block, which no expression is.
    fn arms_are_blocks(&self) -> bool {
        let mut n = 3;
        while self.peek_at(n + 1).text == "|" {
            n += 2;
        }
        self.peek_at(2).text == "{" && self.peek_at(n + 1).text == "=>" && self.peek_at(n + 2).text == "{"
    }

    /// `match option { choice => { .. } other => { .. } }`
    fn match_stmt(&mut self) -> Result<Element> {
        let open_index = self.at + 2;
        let (option, open) = self.match_head()?;
        self.braces += 1;
        let mut arms = Vec::new();
        let read = loop {
            if self.is("}") {
                self.suspicious(open_index, open);
                self.bump();
                break Ok(());
            }
            if self.peek().kind == Kind::End || self.at_item() {
                self.unclosed(open);
                break Ok(());
            }
            match self.choices().and_then(|choices| Ok(Arm { choices, body: self.block()? })) {
                Ok(arm) => {
                    arms.push(arm);
                    self.eat(",");
                }
                Err(Failed) => break Err(Failed),
            }
        };
        self.braces = self.braces.saturating_sub(1);
        if self.whole_match(read).is_err() {
            return Ok(Element::Nothing);
        }
        self.eat(";");
        Ok(Element::Stmt(StmtKind::Match { option, arms }))
    }

    /// Whether `name =` or `name: dtype` stands here.
    fn is_let(&self) -> bool {
        let (colon, ty) = (self.peek_at(1), self.peek_at(2));
        colon.text == "=" || (colon.text == ":" && ty.kind == Kind::Word && DType::parse(ty.text).is_some())
    }

    fn binding(&mut self) -> Result<Element> {
        let name = self.name("the name of a value")?;
        let ty = if self.eat(":") { Some(self.type_expr()?) } else { None };
        self.expect("=")?;
        let value = self.expr()?;
        self.semicolon()?;
        Ok(Element::Stmt(StmtKind::Let { name, ty, value }))
    }

    fn param(&mut self, exact: bool) -> Result<Element> {
        self.bump();
        let name = self.name("the name of a parameter")?;
        self.expect(":")?;
        let ty = self.type_expr()?;
        let init = if self.eat("=") {
            Init::Constant(self.scalar()?)
        } else if self.eat("~") {
            if !self.eat("normal") {
                return Err(self.unexpected("`normal(deviation)`"));
            }
            let open = self.expect("(")?;
            let deviation = self.scalar()?;
            self.close(")", open)?;
            Init::Normal(deviation)
        } else {
            let failed = self.unexpected("`= value` or `~ normal(deviation)`");
            self.hint(self.peek().span, "a parameter says how it begins: `param b: f32[K] = 0;`".to_string());
            return Err(failed);
        };
        let decay = self.eat("decay");
        self.semicolon()?;
        Ok(Element::Stmt(StmtKind::Param { name, ty, init, exact, decay }))
    }

    fn local(&mut self) -> Result<Element> {
        self.bump();
        let label = self.label()?;
        let at = self.expr()?;
        let mut along = Vec::new();
        if self.eat("along") {
            along = self.separated(|p| p.name("an axis"))?;
        } else if !self.is("{") {
            return Err(self.unexpected("`along` and axes, or `{` and the loss"));
        }
        let loss = self.block()?;
        let after = self.peek_at(1);
        let mut copies = None;
        if self.is("copies") && (matches!(after.kind, Kind::Word | Kind::Number) || ["(", "-", "!"].contains(&after.text)) {
            self.bump();
            copies = Some(Box::new(self.expr()?));
            self.semicolon()?;
        }
        Ok(Element::Stmt(StmtKind::Local { label, at: Box::new(at), along, loss, copies }))
    }

    /// `name:` before what a mark is on.
    pub(super) fn label(&mut self) -> Result<Option<Name>> {
        if self.peek().kind != Kind::Word || self.peek_at(1).text != ":" {
            return Ok(None);
        }
        let token = self.bump();
        self.bump();
        Ok(Some(Name { text: token.text.to_string(), at: At(token.span) }))
    }

    /// An expression that no statement begins with: the result of the block, if it closes behind it.
    fn result(&mut self) -> Result<Element> {
        let (first, second) = (self.peek(), self.peek_at(1));
        let is_match = first.text == "match" && self.peek_at(2).text == "{";
        if first.kind == Kind::Word && second.kind == Kind::Word && !second.first_on_line && !is_match {
            let failed = self.unexpected("a statement");
            let hint = did_you_mean(first.text, &STATEMENTS).filter(|_| !STATEMENTS.contains(&first.text));
            self.hint(first.span, hint.unwrap_or_else(|| "values are named by `name = ..;`".to_string()));
            return Err(failed);
        }
        let e = self.expr()?;
        let next = self.peek();
        if self.is("}") || next.kind == Kind::End || self.at_item() {
            return Ok(Element::Result(e));
        }
        if self.is(";") || (next.first_on_line && next.kind != Kind::Bad) {
            let hint = match &e.kind {
                ExprKind::Binary(Binary::Eq, l, _) if matches!(l.kind, ExprKind::Name(_)) => "`=` names a value, `==` compares",
                _ if self.is(";") && self.peek_at(1).text == "}" => "name it: `y = ..;`, or leave out `;` if it is the result of the block",
                _ => "name it: `y = ..;`; only the last expression of a block is its result",
            };
            self.fail(e.at.0, "this value is not used", hint);
            self.eat(";");
            return Ok(Element::Nothing);
        }
        Err(self.unexpected("an operator, `;` or `}`"))
    }

    /// The end of a statement. A `;` that is missing at the end of a line is reported and taken as read.
    pub(super) fn semicolon(&mut self) -> Result<()> {
        let next = self.peek();
        if self.eat(";") {
            return Ok(());
        }
        if next.kind == Kind::End && self.braces > 0 {
            return Ok(()); // the brace that is not closed is the better message
        }
        if next.kind == Kind::Bad || !(next.first_on_line || next.kind == Kind::End || self.is("}")) {
            return Err(self.unexpected("`;`"));
        }
        let end = self.tokens[self.at.saturating_sub(1)].span;
        self.fail(Span { start: end.end, ..end }, format!("expected `;`, found {}", describe(next)), "end the statement with `;`");
        Ok(())
    }
}
