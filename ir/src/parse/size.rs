//! Arithmetic on sizes: numbers, names, the four operations, `sqrt`, `min`, `max`, `size(A)`. Read [`Parser::scalar`].

use super::expr::special;
use super::lexer::{Kind, Token};
use super::recover::did_you_mean;
use super::{Parser, Result, join};
use crate::ast::{At, Scalar, ScalarFn, ScalarKind, ScalarOp};

impl<'t> Parser<'t> {
    pub(super) fn scalar(&mut self) -> Result<Scalar> {
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
            Kind::Hex | Kind::Text | Kind::Symbol | Kind::Bad | Kind::End => {
                return Err(self.unexpected("a size: a number, a name or arithmetic on them"));
            }
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
                let hint =
                    did_you_mean(other, &["sqrt", "min", "max", "size"]).unwrap_or_else(|| "there are sqrt, min, max and size".to_string());
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
