//! Text to tree: a lexer and a recursive descent over it, both by hand. Every error is collected: after one, reading goes on behind the next
//! `;`, at the `}` that closes the block, or at the next item. It gives names no meaning, and no input makes it panic or exhaust the stack.
//!
//! Read [`parse`] and `Parser::item` here, then `Parser::stmt` in `stmt.rs` and `Parser::primary` in `expr.rs`: one arm for each thing that can
//! stand there. `cursor.rs` walks over the tokens of `lexer.rs`; what is said of an error, and where reading goes on, is in `recover.rs`.

mod cursor;
mod expr;
mod lexer;
mod recover;
mod size;
mod stmt;
#[cfg(test)]
mod tests;

use crate::ast::{Arm, Axis, AxisDef, Expr, Function, Item, Model, Module, Name, Scalar, StmtKind, TypeExpr, VERSION};
use crate::diag::{Diagnostic, Span};
use crate::types::DType;
pub(crate) use expr::special;
use lexer::{Kind, Token};
use recover::did_you_mean;

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
pub(crate) const STATEMENTS: [&str; 10] = ["axis", "param", "exact", "local", "loss", "repeat", "output", "copies", "match", "warn"];

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
                if let Some(hint) = did_you_mean(word, &ITEMS).or_else(|| (word == "pf").then(|| "a file has one version line".to_string()))
                {
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
        Ok(Axis { name, def: self.axis_is()? })
    }

    /// What stands behind `axis C =`, and in the arms of a `match` there.
    fn axis_is(&mut self) -> Result<AxisDef> {
        let (after, further) = (self.peek_at(1), self.peek_at(2));
        if self.is("match") && after.kind == Kind::Word && further.text == "{" {
            let (option, open) = self.match_head()?;
            let arms = self.list("}", open, |p| {
                let choices = p.choices()?;
                Ok(Arm { choices, body: p.nested(Self::axis_is)? })
            });
            return Ok(AxisDef::Match { option, arms: self.whole_match(arms)? });
        }
        if self.is("batch") && (matches!(after.kind, Kind::Word | Kind::Number) || after.text == "(") {
            self.bump();
            return Ok(AxisDef::BatchOf(self.scalar()?));
        }
        if self.is("(") && (after.text == ")" || after.kind == Kind::Word && further.text == ",") {
            let open = self.bump().span;
            return Ok(AxisDef::Tuple(self.list(")", open, |p| p.name("an axis"))?));
        }
        Ok(AxisDef::Size(self.scalar()?))
    }

    /// `match option {`: the option, and the bracket.
    fn match_head(&mut self) -> Result<(Name, Span)> {
        self.bump();
        let option = self.name("an option")?;
        Ok((option, self.expect("{")?))
    }

    /// `one | other =>`
    fn choices(&mut self) -> Result<Vec<Name>> {
        let mut choices = vec![self.name("a choice")?];
        while self.eat("|") {
            choices.push(self.name("a choice")?);
        }
        if self.eat("=>") {
            return Ok(choices);
        }
        let failed = self.unexpected("`=>`");
        if self.is("->") || self.is("=") || self.is(":") {
            self.hint(self.peek().span, "a choice and what it means are joined by `=>`".to_string());
        }
        Err(failed)
    }

    /// The arms of a `match`; after an error, reading goes on behind it.
    fn whole_match<T>(&mut self, arms: Result<T>) -> Result<T> {
        if arms.is_err() {
            self.skip_braces();
        }
        arms
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

fn join(left: Span, right: Span) -> Span {
    Span { end: right.end, ..left }
}
