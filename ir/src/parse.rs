//! Text to tree: a lexer and a recursive descent over it, both by hand. Every error is collected: after one, reading goes on behind the next
//! `;`, at the `}` that closes the block, or at the next item. It gives names no meaning, and no input makes it panic or exhaust the stack.
//!
//! Read [`parse`], then `Parser::item`, `Parser::stmt` and `Parser::primary`: one arm for each thing that can stand there.

mod lexer;
#[cfg(test)]
mod tests;

use crate::ast::{
    At, Axis, AxisArgs, AxisDef, Binary, Block, Expr, ExprKind, Function, Init, Item, Model, Module, Name, Scalar, ScalarFn, ScalarKind, ScalarOp,
    Stmt, StmtKind, TypeExpr, Unary, VERSION,
};
use crate::diag::{Diagnostic, Span};
use crate::types::DType;
use lexer::{Kind, Token};

/// Expressions, sizes and blocks nest no deeper than this, counted as levels of the tree.
pub const MAX_DEPTH: usize = 200;

/// More errors than this help nobody.
const MAX_ERRORS: usize = 50;

/// The tree of a file, or all that is wrong with it. `file`: the number by which spans name the text.
pub fn parse(text: &str, file: u16) -> Result<Module, Vec<Diagnostic>> {
    if u32::try_from(text.len()).is_err() {
        return Err(vec![Diagnostic::error("the text is longer than 4 GiB").hint("split it")]);
    }
    let (tokens, errors) = lexer::lex(text, file);
    let mut parser = Parser { text, tokens, at: 0, depth: 0, height: 0, braces: 0, suspect: None, last_error: None, errors };
    let module = parser.module();
    let mut errors = parser.errors;
    match module {
        Ok(module) if errors.is_empty() => Ok(module),
        Ok(_) | Err(Failed) => {
            errors.sort_by_key(|e| e.place.as_ref().map(|p| p.0.start));
            errors.truncate(MAX_ERRORS);
            Err(errors)
        }
    }
}

/// Words that begin an item.
const ITEMS: [&str; 5] = ["size", "option", "axis", "fn", "model"];

/// Words that begin a statement, where what follows fits.
pub(crate) const STATEMENTS: [&str; 8] = ["axis", "param", "exact", "local", "loss", "repeat", "output", "copies"];

/// The error is recorded; the caller looks for a place to go on.
#[derive(Clone, Copy, Debug)]
struct Failed;

type Result<T, E = Failed> = std::result::Result<T, E>;

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token<'t>>,
    at: usize,
    /// Levels of the tree above the present place.
    depth: usize,
    /// Levels of the expression or size that was read last.
    height: usize,
    /// Open `{`.
    braces: usize,
    /// The first `{` whose `}` is indented otherwise: likely the one that was not closed.
    suspect: Option<Span>,
    /// The token at which an error was reported last: one is enough.
    last_error: Option<usize>,
    errors: Vec<Diagnostic>,
}

/// What an element of a block turns out to be.
enum Element {
    Stmt(StmtKind),
    Result(Expr),
    /// Reported, and whole: reading goes on behind it.
    Nothing,
}

// ---- items

impl<'t> Parser<'t> {
    fn module(&mut self) -> Result<Module> {
        self.version()?;
        let mut items = Vec::new();
        while self.peek().kind != Kind::End {
            if self.eat(";") {
                continue;
            }
            let start = self.at;
            match self.item() {
                Ok(item) => items.push(item),
                Err(Failed) => self.skip_item(start),
            }
            self.braces = 0;
        }
        Ok(Module { items })
    }

    /// `pf 1`
    fn version(&mut self) -> Result<()> {
        let first = self.peek();
        if first.kind == Kind::Bad {
            return Err(Failed);
        }
        if !self.eat("pf") {
            let message = format!("a file begins with the version of its format, `pf {VERSION}`");
            self.fail(first.span, message, format!("write `pf {VERSION}` on the first line"));
            // Without the version and without anything known, this is some other kind of file.
            return if first.kind == Kind::Word && ITEMS.contains(&first.text) { Ok(()) } else { Err(Failed) };
        }
        let number = self.peek();
        if number.kind != Kind::Number {
            return Err(self.unexpected(&format!("the version `{VERSION}` after `pf`")));
        }
        if number.text != VERSION.to_string() {
            let message = format!("this file is written in version {} of the format; version {VERSION} is known here", number.text);
            let hint = match number.text.parse::<u32>() {
                Ok(n) if n > VERSION => "a newer pushforward reads it".to_string(),
                _ => format!("write `pf {VERSION}`"),
            };
            return Err(self.fail(number.span, message, hint));
        }
        self.bump();
        self.eat(";");
        Ok(())
    }

    fn item(&mut self) -> Result<Item> {
        let start = self.peek();
        let word = if start.kind == Kind::Word { start.text } else { "" };
        match word {
            "size" => {
                self.bump();
                let sizes = self.separated(Self::size_def)?;
                self.semicolon().map(|()| Item::Sizes(sizes))
            }
            "option" => {
                self.bump();
                let name = self.name("the name of an option")?;
                self.expect("=")?;
                let mut choices = vec![self.name("a choice")?];
                while self.eat("|") {
                    choices.push(self.name("a choice")?);
                }
                self.semicolon().map(|()| Item::Option { name, choices })
            }
            "axis" => {
                self.bump();
                let axes = self.separated(Self::axis_def)?;
                self.semicolon().map(|()| Item::Axes(axes))
            }
            "fn" => self.function().map(Item::Fn),
            "model" => self.model().map(Item::Model),
            _ if self.is("}") => Err(self.fail(start.span, "this `}` closes nothing", "leave it out, or look for a missing `{` before it")),
            _ => {
                let failed = self.unexpected("`size`, `option`, `axis`, `fn` or `model`");
                if let Some(hint) = did_you_mean(word, &ITEMS).or_else(|| (word == "pf").then(|| "a file has one version line".to_string())) {
                    self.hint(start.span, hint);
                } else if STATEMENTS.contains(&word) || self.peek_at(1).text == "=" {
                    self.hint(start.span, "statements stand inside `fn` and `model`".to_string());
                }
                Err(failed)
            }
        }
    }

    fn size_def(&mut self) -> Result<(Name, Option<Scalar>)> {
        let name = self.name("the name of a size")?;
        let default = if self.eat("=") { Some(self.scalar()?) } else { self.not_compare()? };
        Ok((name, default))
    }

    fn axis_def(&mut self) -> Result<Axis> {
        let name = self.name("the name of an axis")?;
        if self.eat("like") {
            let other = self.name("the axis that it is like")?;
            return Ok(Axis { name, def: AxisDef::Like(other) });
        }
        if !self.eat("=") {
            let def = self.not_compare::<()>()?.map_or(AxisDef::Batch, |()| AxisDef::Batch);
            return Ok(Axis { name, def });
        }
        let (after, further) = (self.peek_at(1), self.peek_at(2));
        let def = if self.is("batch") && (matches!(after.kind, Kind::Word | Kind::Number) || after.text == "(") {
            self.bump();
            AxisDef::BatchOf(self.scalar()?)
        } else if self.is("(") && after.kind == Kind::Word && further.text == "," {
            let open = self.bump().span;
            AxisDef::Tuple(self.list(")", open, |p| p.name("an axis"))?)
        } else {
            AxisDef::Size(self.scalar()?)
        };
        Ok(Axis { name, def })
    }

    fn function(&mut self) -> Result<Function> {
        let start = self.bump().span;
        let name = self.name("the name of a function")?;
        if matches!(name.text.as_str(), "size" | "const") || DType::parse(&name.text).is_some() {
            let message = format!("no function can be called `{}`", name.text);
            self.fail(name.at.0, message, "it has a meaning of its own in expressions: choose another name");
        }
        let (mut axes, mut variadic) = (Vec::new(), false);
        if self.is("[") {
            let open = self.bump().span;
            axes = self.list("]", open, |p| {
                let axis = p.name("an axis")?;
                if variadic {
                    return Err(p.fail(axis.at.0, "only the last axis can take the remaining ones", "move `..` to the last axis"));
                }
                variadic = p.eat("..");
                Ok(axis)
            })?;
        }
        let open = self.expect("(")?;
        let params = self.list(")", open, |p| p.name("an argument"))?;
        let at = self.since(start);
        let body = self.block()?;
        Ok(Function { name, axes, variadic, params, body, at })
    }

    fn model(&mut self) -> Result<Model> {
        let start = self.bump().span;
        let name = self.name("the name of the model")?;
        let open = self.expect("(")?;
        let inputs = self.list(")", open, |p| {
            let name = p.name("an input")?;
            p.expect(":")?;
            Ok((name, p.type_expr()?))
        })?;
        let at = self.since(start);
        let body = self.block()?;
        Ok(Model { name, inputs, body, at })
    }

    fn type_expr(&mut self) -> Result<TypeExpr> {
        let token = self.peek();
        let Some(dtype) = DType::parse(token.text).filter(|_| token.kind == Kind::Word) else {
            let failed = self.unexpected("a type, such as `f32[N, C]`");
            let names = DType::ALL.map(DType::name);
            self.hint(token.span, did_you_mean(token.text, &names).unwrap_or_else(|| format!("dtypes are {}", names.join(", "))));
            return Err(failed);
        };
        self.bump();
        let mut axes = Vec::new();
        if self.is("[") {
            let open = self.bump().span;
            axes = self.list("]", open, |p| p.name("an axis"))?;
        }
        Ok(TypeExpr { dtype, axes, at: self.since(token.span) })
    }
}

// ---- statements

impl<'t> Parser<'t> {
    fn block(&mut self) -> Result<Block> {
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

    fn stmt(&mut self) -> Result<Element> {
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
            "copies" if begins => Err(self.fail(first.span, "`copies` stands only behind the block of a `local`", "leave it out")),
            _ if !word.is_empty() && self.is_let() => self.binding(),
            _ => self.result(),
        }
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
            copies = Some(self.expr()?);
            self.semicolon()?;
        }
        Ok(Element::Stmt(StmtKind::Local { label, at, along, loss, copies }))
    }

    /// `name:` before what a mark is on.
    fn label(&mut self) -> Result<Option<Name>> {
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
    fn semicolon(&mut self) -> Result<()> {
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

// ---- expressions

impl<'t> Parser<'t> {
    fn expr(&mut self) -> Result<Expr> {
        self.binary(0)
    }

    /// Operators that bind at least as tightly as `least`.
    fn binary(&mut self, least: u8) -> Result<Expr> {
        let mut left = self.unary()?;
        let mut height = self.height;
        let mut compared = false;
        loop {
            let token = self.peek();
            let Some((op, level)) = operator(token).filter(|(_, level)| *level >= least) else { break };
            if op.compares() && compared {
                return Err(self.fail(token.span, "comparisons do not chain", "compare twice: `a < b & b < c`"));
            }
            compared = op.compares();
            self.bump();
            let right = self.nested(|p| p.binary(level + 1))?;
            height = self.taller(height.max(self.height), token.span)?;
            let at = At(join(left.at.0, right.at.0));
            left = Expr { kind: ExprKind::Binary(op, Box::new(left), Box::new(right)), at };
        }
        self.height = height;
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr> {
        let start = self.peek().span;
        let op = match self.peek() {
            Token { kind: Kind::Symbol, text: "-", .. } => Unary::Neg,
            Token { kind: Kind::Symbol, text: "!", .. } => Unary::Not,
            _ => return self.primary(),
        };
        self.bump();
        let x = self.nested(Self::unary)?;
        self.height = self.taller(self.height, start)?;
        Ok(Expr { kind: ExprKind::Unary(op, Box::new(x)), at: self.since(start) })
    }

    fn primary(&mut self) -> Result<Expr> {
        let token = self.peek();
        let (after, further) = (self.peek_at(1), self.peek_at(2));
        self.height = 1;
        let kind = match token.kind {
            Kind::Number => {
                let (value, dtype) = self.number(false)?;
                ExprKind::Number(value, dtype)
            }
            Kind::Hex => return Err(self.fail(token.span, "bits stand only in `const(..)`", format!("write `const({})`", token.text))),
            Kind::Symbol if token.text == "(" => {
                self.bump();
                let inner = self.nested(Self::expr)?;
                self.close(")", token.span)?;
                return Ok(inner);
            }
            Kind::Word if after.text == ":" => {
                let label = self.label()?;
                if self.peek().kind != Kind::Word {
                    return Err(self.unexpected("a call behind the label"));
                }
                self.call(label)?
            }
            Kind::Word if special(token.text).is_some() => {
                let (value, dtype) = self.number(false)?;
                ExprKind::Number(value, dtype)
            }
            Kind::Word if token.text == "match" && after.kind == Kind::Word && further.text == "{" => self.match_option()?,
            Kind::Word if token.text == "size" && after.text == "(" => ExprKind::Size(self.size_of()?),
            Kind::Word if token.text == "const" && after.text == "(" => self.constant()?,
            Kind::Word if after.text == "(" || after.text == "[" => self.call(None)?,
            Kind::Word => ExprKind::Name(self.name("a value")?.text),
            Kind::Symbol | Kind::Bad | Kind::End => return Err(self.unexpected("an expression")),
        };
        Ok(Expr { kind, at: self.since(token.span) })
    }

    /// `name[axes](args)`
    fn call(&mut self, label: Option<Name>) -> Result<ExprKind> {
        let name = self.name("the name of an op or a function")?;
        let axes = if self.is("[") { self.axis_args()? } else { AxisArgs::List(Vec::new()) };
        if !self.is("(") {
            let failed = self.unexpected(if label.is_some() { "a call behind the label: `(`" } else { "`(` and operands" });
            let names = DType::ALL.map(DType::name);
            if let Some(hint) = did_you_mean(&name.text, &names).filter(|_| label.is_some() && self.is("=")) {
                self.hint(self.peek().span, hint);
            }
            return Err(failed);
        }
        let open = self.bump().span;
        let mut height = 0;
        let args = self.list(")", open, |p| {
            let e = p.nested(Self::expr)?;
            height = height.max(p.height);
            Ok(e)
        })?;
        self.height = height + 1;
        Ok(ExprKind::Call { label, name, axes, args })
    }

    fn axis_args(&mut self) -> Result<AxisArgs> {
        let open = self.bump().span;
        let after = self.peek_at(1);
        if self.eat("->") {
            self.close("]", open)?;
            return Ok(AxisArgs::Rename(Vec::new()));
        }
        if after.text == "->" {
            let pairs = self.list("]", open, |p| {
                let from = p.name("an axis")?;
                p.expect("->")?;
                Ok((from, p.name("an axis")?))
            })?;
            return Ok(AxisArgs::Rename(pairs));
        }
        if after.text == "=" {
            return self.window(open);
        }
        let (mut index, mut along) = (0, None);
        let axes = self.list("]", open, |p| {
            let mark = p.peek();
            if p.is("along") && p.peek_at(1).kind == Kind::Word {
                p.bump();
                if along.replace(index).is_some() {
                    return Err(p.fail(mark.span, "a second axis is marked with `along`", "mark one"));
                }
            }
            index += 1;
            let name = p.name("an axis")?;
            match p.peek().text {
                ".." => Err(p.fail(p.peek().span, "`..` stands only where a function is declared", "name the axis alone, it stands for all")),
                _ => Ok(name),
            }
        })?;
        Ok(match along {
            Some(along) => AxisArgs::Along { axes, along },
            None => AxisArgs::List(axes),
        })
    }

    /// `H = 2 * A + B - 1]`
    fn window(&mut self, open: Span) -> Result<AxisArgs> {
        let axis = self.name("an axis")?;
        self.bump();
        let (mut terms, mut offset) = (Vec::new(), 0i64);
        let mut negative = self.eat("-");
        loop {
            let token = self.peek();
            let number = if token.kind == Kind::Number { Some(self.whole(negative)?) } else { None };
            let factor = number.unwrap_or(if negative { -1 } else { 1 });
            if number.is_none() || self.eat("*") {
                terms.push((factor, self.name("an axis, or a whole number")?));
            } else {
                match offset.checked_add(factor) {
                    Some(sum) => offset = sum,
                    None => return Err(self.fail(token.span, "the offset is too large", "it must fit in 64 bits")),
                }
            }
            negative = self.is("-");
            if !self.eat("+") && !self.eat("-") {
                break;
            }
        }
        self.close("]", open)?;
        Ok(AxisArgs::Window { axis, terms, offset })
    }

    /// `match option { choice => value, .. }`
    fn match_option(&mut self) -> Result<ExprKind> {
        self.bump();
        let option = self.name("an option")?;
        let open = self.bump().span;
        let mut height = 0;
        let arms = self.list("}", open, |p| {
            let choice = p.name("a choice")?;
            if !p.is("=>") {
                let failed = p.unexpected("`=>`");
                if p.is("->") || p.is("=") || p.is(":") {
                    p.hint(p.peek().span, "a choice and its value are joined by `=>`".to_string());
                }
                return Err(failed);
            }
            p.bump();
            let value = p.nested(Self::expr)?;
            height = height.max(p.height);
            Ok((choice, value))
        });
        if arms.is_err() {
            self.skip_braces();
        }
        self.height = height + 1;
        Ok(ExprKind::Match { option, arms: arms? })
    }

    /// `size(A)`
    fn size_of(&mut self) -> Result<Name> {
        self.bump();
        let open = self.expect("(")?;
        let axis = self.name("an axis")?;
        self.close(")", open)?;
        Ok(axis)
    }

    /// `const(-1.5f32)`, `const(0x7ff8000000000001_f64)`
    fn constant(&mut self) -> Result<ExprKind> {
        self.bump();
        let open = self.expect("(")?;
        let negative = self.eat("-");
        let token = self.peek();
        let (value, dtype) = match token.kind {
            Kind::Hex if !negative => self.bits()?,
            Kind::Number => self.number(negative)?,
            Kind::Word if special(token.text).is_some() => self.number(negative)?,
            Kind::Word | Kind::Hex | Kind::Symbol | Kind::Bad | Kind::End => return Err(self.unexpected("a number")),
        };
        self.close(")", open)?;
        Ok(ExprKind::Number(if negative { -value } else { value }, dtype))
    }

    /// The bits of an f64, as 16 hexadecimal digits, perhaps with `_` and a dtype behind.
    fn bits(&mut self) -> Result<(f64, Option<DType>)> {
        let token = self.peek();
        let digits = &token.text[2..];
        let (digits, dtype) = match digits.split_once('_') {
            Some((digits, name)) => (digits, DType::parse(name).map(Some)),
            None => (digits, Some(None)),
        };
        let bits = Some(digits).filter(|d| d.len() == 16).and_then(|d| u64::from_str_radix(d, 16).ok());
        match (bits, dtype) {
            (Some(bits), Some(dtype)) => {
                self.bump();
                Ok((f64::from_bits(bits), dtype))
            }
            _ => Err(self.fail(token.span, format!("`{}` is no constant", token.text), "bits are 16 hexadecimal digits: `0x7ff8000000000001`")),
        }
    }

    /// A number or one of the words for numbers. `negative`: a minus stands before it.
    fn number(&mut self, negative: bool) -> Result<(f64, Option<DType>)> {
        let token = self.peek();
        if let Some(number) = special(token.text) {
            self.bump();
            return Ok(number);
        }
        let suffix = DType::ALL.into_iter().find_map(|d| Some((token.text.strip_suffix(d.name())?, Some(d))));
        let (digits, dtype) = suffix.unwrap_or((token.text, None));
        let Some(value) = digits.parse::<f64>().ok().filter(|_| digits.bytes().next_back().is_some_and(|b| b.is_ascii_digit())) else {
            let hint = match token.text.find(|c: char| !c.is_ascii_digit()) {
                Some(i) if token.text[i..].starts_with('_') => format!("write `{}`", token.text.replace('_', "")),
                Some(i) if !token.text.contains('.') => format!("a dtype (f32, f64, i32, bool) may be attached; a product is `{} * {}`", &token.text[..i], &token.text[i..]),
                _ => "a dtype (f32, f64, i32, bool) may be attached".to_string(),
            };
            return Err(self.fail(token.span, format!("`{}` is no number", token.text), hint));
        };
        let largest_int = i32::MAX as f64 + negative as u8 as f64;
        let problem = match dtype {
            None | Some(DType::F64) if value.is_infinite() => Some("is larger than any f64"),
            Some(DType::F32) if (value as f32).is_infinite() => Some("is larger than any f32"),
            Some(DType::I32) if value.fract() != 0.0 || value > largest_int => Some("is no i32"),
            Some(DType::Bool) if value != 0.0 && value != 1.0 || negative => Some("is no bool: it is 0 or 1"),
            None | Some(DType::F32 | DType::F64 | DType::I32 | DType::Bool) => None,
        };
        if let Some(problem) = problem {
            return Err(self.fail(token.span, format!("`{}` {problem}", token.text), "infinity is written `inf`"));
        }
        self.bump();
        Ok((value, dtype))
    }

    /// A whole number that fits, with its sign, in 64 bits.
    fn whole(&mut self, negative: bool) -> Result<i64> {
        let token = self.peek();
        let value = token.text.parse::<i128>().ok().map(|v| if negative { -v } else { v }).and_then(|v| i64::try_from(v).ok());
        match value {
            Some(value) => {
                self.bump();
                Ok(value)
            }
            None => Err(self.fail(token.span, format!("`{}` is no whole number of 64 bits", token.text), "positions are whole: `[H = 2 * A + B - 1]`")),
        }
    }
}

// ---- sizes

impl<'t> Parser<'t> {
    fn scalar(&mut self) -> Result<Scalar> {
        self.scalar_binary(0)
    }

    fn scalar_binary(&mut self, least: u8) -> Result<Scalar> {
        let mut left = self.scalar_unary()?;
        let mut height = self.height;
        loop {
            let token = self.peek();
            let (op, level) = match token {
                Token { kind: Kind::Symbol, text: "+", .. } => (ScalarOp::Add, 0),
                Token { kind: Kind::Symbol, text: "-", .. } => (ScalarOp::Sub, 0),
                Token { kind: Kind::Symbol, text: "*", .. } => (ScalarOp::Mul, 1),
                Token { kind: Kind::Symbol, text: "/", .. } => (ScalarOp::Div, 1),
                _ => break,
            };
            if level < least {
                break;
            }
            self.bump();
            let right = self.nested(|p| p.scalar_binary(level + 1))?;
            height = self.taller(height.max(self.height), token.span)?;
            let at = At(join(left.at.0, right.at.0));
            left = Scalar { kind: ScalarKind::Binary(op, Box::new(left), Box::new(right)), at };
        }
        self.height = height;
        Ok(left)
    }

    fn scalar_unary(&mut self) -> Result<Scalar> {
        let start = self.peek().span;
        if !self.eat("-") {
            return self.scalar_primary();
        }
        let x = self.nested(Self::scalar_unary)?;
        self.height = self.taller(self.height, start)?;
        Ok(Scalar { kind: ScalarKind::Neg(Box::new(x)), at: self.since(start) })
    }

    fn scalar_primary(&mut self) -> Result<Scalar> {
        let token = self.peek();
        let call = self.peek_at(1).text == "(";
        self.height = 1;
        let kind = match token.kind {
            Kind::Number => ScalarKind::Number(self.bare()?),
            Kind::Word if special(token.text).is_some() => ScalarKind::Number(self.bare()?),
            Kind::Word if token.text == "size" && call => ScalarKind::Size(self.size_of()?),
            Kind::Word if call => self.scalar_call()?,
            Kind::Word => ScalarKind::Name(self.name("a size")?.text),
            Kind::Symbol if token.text == "(" => {
                self.bump();
                let inner = self.nested(Self::scalar)?;
                self.close(")", token.span)?;
                return Ok(inner);
            }
            Kind::Hex | Kind::Symbol | Kind::Bad | Kind::End => return Err(self.unexpected("a size: a number, a name or arithmetic on them")),
        };
        Ok(Scalar { kind, at: self.since(token.span) })
    }

    /// A number without a dtype.
    fn bare(&mut self) -> Result<f64> {
        let token = self.peek();
        match self.number(false)? {
            (value, None) => Ok(value),
            (_, Some(dtype)) => Err(self.fail(token.span, "a size has no dtype", format!("leave out `{}`", dtype.name()))),
        }
    }

    fn scalar_call(&mut self) -> Result<ScalarKind> {
        let token = self.bump();
        let f = match token.text {
            "sqrt" => ScalarFn::Sqrt,
            "min" => ScalarFn::Min,
            "max" => ScalarFn::Max,
            other => {
                let hint = did_you_mean(other, &["sqrt", "min", "max", "size"]).unwrap_or_else(|| "there are sqrt, min, max and size".to_string());
                return Err(self.fail(token.span, format!("`{other}` is no function of sizes"), hint));
            }
        };
        let open = self.expect("(")?;
        let mut height = 0;
        let args = self.list(")", open, |p| {
            let arg = p.nested(Self::scalar)?;
            height = height.max(p.height);
            Ok(arg)
        })?;
        let (fits, wants) = match f {
            ScalarFn::Sqrt => (args.len() == 1, "one argument"),
            ScalarFn::Min | ScalarFn::Max => (args.len() >= 2, "at least two arguments"),
        };
        if !fits {
            let message = format!("`{}` takes {wants}, got {}", token.text, args.len());
            return Err(self.fail(token.span, message, "arguments are separated by `,`"));
        }
        self.height = height + 1;
        Ok(ScalarKind::Call(f, args))
    }
}

// ---- tokens

impl<'t> Parser<'t> {
    fn peek(&self) -> Token<'t> {
        self.peek_at(0)
    }

    /// The token `n` places on; the last one for ever.
    fn peek_at(&self, n: usize) -> Token<'t> {
        self.tokens[(self.at + n).min(self.tokens.len() - 1)]
    }

    fn bump(&mut self) -> Token<'t> {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn is(&self, text: &str) -> bool {
        let token = self.peek();
        matches!(token.kind, Kind::Symbol | Kind::Word) && token.text == text
    }

    fn eat(&mut self, text: &str) -> bool {
        let here = self.is(text);
        if here {
            self.bump();
        }
        here
    }

    fn expect(&mut self, text: &str) -> Result<Span> {
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
    fn close(&mut self, text: &str, open: Span) -> Result<()> {
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
    fn list<T>(&mut self, close: &str, open: Span, mut element: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
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
    fn separated<T>(&mut self, mut element: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut all = vec![element(self)?];
        while self.eat(",") {
            all.push(element(self)?);
        }
        Ok(all)
    }

    /// A name that is no number and holds no counter.
    fn name(&mut self, what: &str) -> Result<Name> {
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
    fn not_compare<T>(&mut self) -> Result<Option<T>> {
        if self.is("==") { Err(self.expect("=").err().unwrap_or(Failed)) } else { Ok(None) }
    }

    fn since(&self, start: Span) -> At {
        At(Span { end: self.tokens[self.at.saturating_sub(1)].span.end.max(start.start), ..start })
    }

    /// One level deeper in the tree.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(self.too_deep(self.peek().span));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// One level above a tree of `height`.
    fn taller(&mut self, height: usize, at: Span) -> Result<usize> {
        if self.depth + height >= MAX_DEPTH { Err(self.too_deep(at)) } else { Ok(height + 1) }
    }

    fn too_deep(&mut self, at: Span) -> Failed {
        self.fail(at, format!("nested more than {MAX_DEPTH} deep"), "give parts of it names: `y = ..;`")
    }
}

// ---- errors

impl<'t> Parser<'t> {
    /// Records an error, unless one stands at this token already.
    fn fail(&mut self, at: Span, message: impl Into<String>, hint: impl Into<String>) -> Failed {
        if self.last_error != Some(self.at) && self.errors.len() < MAX_ERRORS {
            self.errors.push(Diagnostic::error(message).at(at).hint(hint));
        }
        self.last_error = Some(self.at);
        Failed
    }

    /// `expected .., found ..` here; nothing where the lexer has spoken.
    fn unexpected(&mut self, wants: &str) -> Failed {
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

    fn hint(&mut self, at: Span, hint: String) {
        if let Some(error) = self.latest(at).filter(|e| e.hint.is_none()) {
            error.hint = Some(hint);
        }
    }

    /// A second place for the error just recorded.
    fn note(&mut self, at: Span, text: &str) {
        let here = self.peek().span;
        if let Some(error) = self.latest(here).filter(|e| e.calls.is_empty()) {
            error.calls.push((at, text.to_string()));
        }
    }

    fn unclosed(&mut self, open: Span) {
        let message = format!("expected `}}`, found {}", describe(self.peek()));
        let place = self.suspect.take().unwrap_or(open);
        self.fail(place, message, "add `}`");
        if let Some(error) = self.latest(place) {
            error.place = Some((place, "this `{` is not closed".to_string()));
        }
    }

    /// Remembers a block whose `}` is indented otherwise than the line of its `{`.
    fn suspicious(&mut self, open_index: usize, open: Span) {
        let first = self.tokens[..=open_index].iter().rposition(|t| t.first_on_line).unwrap_or(0);
        let column = |at: Span| self.text[..at.start as usize].bytes().rev().take_while(|&b| b != b'\n').count();
        let close = self.peek();
        if close.first_on_line && column(close.span) != column(self.tokens[first].span) {
            self.suspect.get_or_insert(open);
        }
    }

    /// Whether an item begins here, though a block is open.
    fn at_item(&self) -> bool {
        let token = self.peek();
        let begins = matches!(token.text, "fn" | "model" | "size" | "option") && self.peek_at(1).kind == Kind::Word;
        token.first_on_line && token.kind == Kind::Word && begins
    }

    /// To behind the next `;` of the block, or to its end.
    fn skip_stmt(&mut self, start: usize) {
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
    fn skip_item(&mut self, start: usize) {
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
    fn skip_braces(&mut self) {
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

impl Binary {
    pub(crate) fn compares(self) -> bool {
        match self {
            Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => true,
            Binary::Or | Binary::And | Binary::Add | Binary::Sub | Binary::Mul | Binary::Div => false,
        }
    }

    /// Operators of a higher level bind more tightly.
    pub(crate) fn level(self) -> u8 {
        match self {
            Binary::Or => 0,
            Binary::And => 1,
            Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => 2,
            Binary::Add | Binary::Sub => 3,
            Binary::Mul | Binary::Div => 4,
        }
    }

    pub const ALL: [(Binary, &'static str); 12] = [
        (Binary::Or, "|"),
        (Binary::And, "&"),
        (Binary::Lt, "<"),
        (Binary::Le, "<="),
        (Binary::Gt, ">"),
        (Binary::Ge, ">="),
        (Binary::Eq, "=="),
        (Binary::Ne, "!="),
        (Binary::Add, "+"),
        (Binary::Sub, "-"),
        (Binary::Mul, "*"),
        (Binary::Div, "/"),
    ];
}

fn operator(token: Token) -> Option<(Binary, u8)> {
    let (op, _) = Binary::ALL.into_iter().find(|(_, text)| token.kind == Kind::Symbol && token.text == *text)?;
    Some((op, op.level()))
}

/// Numbers without digits.
pub(crate) fn special(word: &str) -> Option<(f64, Option<DType>)> {
    match word {
        "inf" => Some((f64::INFINITY, None)),
        "inf_f32" => Some((f64::INFINITY, Some(DType::F32))),
        "inf_f64" => Some((f64::INFINITY, Some(DType::F64))),
        "nan" => Some((f64::NAN, None)),
        "nan_f32" => Some((f64::NAN, Some(DType::F32))),
        "nan_f64" => Some((f64::NAN, Some(DType::F64))),
        _ => None,
    }
}

fn join(left: Span, right: Span) -> Span {
    Span { end: right.end, ..left }
}

fn describe(token: Token) -> String {
    match token.kind {
        Kind::End => "the end of the file".to_string(),
        Kind::Word | Kind::Number | Kind::Hex | Kind::Symbol | Kind::Bad => format!("`{}`", token.text),
    }
}

fn did_you_mean(word: &str, known: &[&str]) -> Option<String> {
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(&word.to_lowercase(), k), k)).min()?;
    let close = near.0 <= 1 || near.0 == 2 && word.len() > 4;
    (close && !word.is_empty() && word.len() < 32).then(|| format!("did you mean `{}`?", near.1))
}
