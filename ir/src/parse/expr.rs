//! Expressions: operators by precedence, calls with their brackets, constants. Read [`Parser::primary`].

use super::lexer::{Kind, Token};
use super::recover::did_you_mean;
use super::{Parser, Result, join};
use crate::ast::{Arm, At, AxisArgs, Binary, Expr, ExprKind, Name, Unary};
use crate::diag::Span;
use crate::types::DType;

impl<'t> Parser<'t> {
    pub(super) fn expr(&mut self) -> Result<Expr> {
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

    pub(super) fn primary(&mut self) -> Result<Expr> {
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
            Kind::Text | Kind::Symbol | Kind::Bad | Kind::End => return Err(self.unexpected("an expression")),
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
                ".." => {
                    Err(p.fail(p.peek().span, "`..` stands only where a function is declared", "name the axis alone, it stands for all"))
                }
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
        let (option, open) = self.match_head()?;
        let mut height = 0;
        let arms = self.list("}", open, |p| {
            let choices = p.choices()?;
            let body = p.nested(Self::expr)?;
            height = height.max(p.height);
            Ok(Arm { choices, body })
        });
        self.height = height + 1;
        Ok(ExprKind::Match { option, arms: self.whole_match(arms)? })
    }

    /// `size(A)`
    pub(super) fn size_of(&mut self) -> Result<Name> {
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
            Kind::Word | Kind::Hex | Kind::Text | Kind::Symbol | Kind::Bad | Kind::End => return Err(self.unexpected("a number")),
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
            _ => Err(self.fail(
                token.span,
                format!("`{}` is no constant", token.text),
                "bits are 16 hexadecimal digits: `0x7ff8000000000001`",
            )),
        }
    }

    /// A number or one of the words for numbers. `negative`: a minus stands before it.
    pub(super) fn number(&mut self, negative: bool) -> Result<(f64, Option<DType>)> {
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
                Some(i) if !token.text.contains('.') => {
                    format!("a dtype (f32, f64, i32, bool) may be attached; a product is `{} * {}`", &token.text[..i], &token.text[i..])
                }
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
            None => Err(self.fail(
                token.span,
                format!("`{}` is no whole number of 64 bits", token.text),
                "positions are whole: `[H = 2 * A + B - 1]`",
            )),
        }
    }
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
