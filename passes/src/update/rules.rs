//! The rules of `update`, one function each: what a parameter becomes, and what is kept of it. The formulas and where they are from stand at
//! [`Rule`]. Read [`Moved::by`].

use pushforward_ir::program::Port;
use pushforward_ir::{Builder, DType, Op, Value};

use super::{ADAMW, MOMENTUM, Rule, keep, kept};

/// A parameter that moves, and all that a rule has to know of it.
pub struct Moved<'a> {
    pub w: Value,
    pub g: Value,
    pub lr: Value,
    /// 0 where it does not decay.
    pub decay: f64,
    /// Whether a rule of layers is meant for it.
    pub is_weight: bool,
    pub port: &'a Port,
}

impl Moved<'_> {
    /// Its new value.
    pub fn by(&self, b: &mut Builder, rule: Rule) -> Value {
        match rule {
            Rule::Sgd { momentum, nesterov } => self.sgd(b, momentum, nesterov),
            Rule::Lars { momentum, trust } => self.lars(b, momentum, trust),
            Rule::AdamW { beta1, beta2, eps } => self.adamw(b, [beta1, beta2], eps),
        }
    }

    fn sgd(&self, b: &mut Builder, momentum: f64, nesterov: bool) -> Value {
        let g = self.decayed(b, self.g);
        let v = self.momentum(b, momentum, g);
        let step = match nesterov && momentum != 0.0 {
            true => {
                let ahead = b.scale(v, momentum);
                b.op(Op::Add, &[g, ahead])
            }
            false => v,
        };
        let step = b.op(Op::Mul, &[self.lr, step]);
        b.op(Op::Sub, &[self.w, step])
    }

    fn lars(&self, b: &mut Builder, momentum: f64, trust: f64) -> Value {
        let mut rate = self.lr;
        if self.is_weight {
            let (w, g) = (norm(b, self.w), norm(b, self.g));
            let pull = b.scale(w, self.decay);
            let (above, below) = (b.scale(w, trust), b.op(Op::Add, &[g, pull]));
            let ratio = b.op(Op::Div, &[above, below]);
            let (zero, one) = (b.constant(0.0, self.port.dtype), b.constant(1.0, self.port.dtype));
            let (moves, counts) = (b.op(Op::Gt, &[g, zero]), b.op(Op::Gt, &[w, zero]));
            let both = b.op(Op::And, &[moves, counts]);
            let ratio = b.op(Op::Select, &[both, ratio, one]);
            rate = b.op(Op::Mul, &[rate, ratio]);
        }
        let g = self.decayed(b, self.g);
        let step = b.op(Op::Mul, &[rate, g]);
        let v = self.momentum(b, momentum, step);
        b.op(Op::Sub, &[self.w, v])
    }

    fn adamw(&self, b: &mut Builder, [beta1, beta2]: [f64; 2], eps: f64) -> Value {
        let square = b.op(Op::Mul, &[self.g, self.g]);
        let first = self.corrected(b, "mean", beta1, self.g);
        let second = self.corrected(b, "square", beta2, square);
        let root = b.op(Op::Sqrt, &[second]);
        let eps = b.constant(eps, self.port.dtype);
        let below = b.op(Op::Add, &[root, eps]);
        let step = b.op(Op::Div, &[first, below]);
        let step = self.decayed(b, step);
        let step = b.op(Op::Mul, &[self.lr, step]);
        b.op(Op::Sub, &[self.w, step])
    }

    /// `x + decay * w`.
    fn decayed(&self, b: &mut Builder, x: Value) -> Value {
        if self.decay == 0.0 {
            return x;
        }
        let pull = b.scale(self.w, self.decay);
        b.op(Op::Add, &[x, pull])
    }

    /// `v = momentum * v + x`, kept.
    fn momentum(&self, b: &mut Builder, momentum: f64, x: Value) -> Value {
        if momentum == 0.0 {
            return x;
        }
        let port = Port { name: format!("{MOMENTUM}{}", self.port.name), ..self.port.clone() };
        let old = kept(b, &port);
        let old = b.scale(old, momentum);
        let v = b.op(Op::Add, &[old, x]);
        keep(b, port, v);
        v
    }

    /// The running average of `x`, and that of ones by the same steps: the first over the second.
    fn corrected(&self, b: &mut Builder, what: &str, beta: f64, x: Value) -> Value {
        let dtype = self.port.dtype;
        let sum = average(b, Port { name: format!("{ADAMW}{what}.{}", self.port.name), ..self.port.clone() }, beta, x);
        let one = b.constant(1.0, dtype);
        let count = average(b, Port { name: weight(what, dtype), dtype, order: Vec::new() }, beta, one);
        b.op(Op::Div, &[sum, count])
    }
}

/// The name of an average of ones; all parameters of a dtype share it.
fn weight(what: &str, dtype: DType) -> String {
    format!("{ADAMW}weight.{what}.{}", dtype.name())
}

/// `a = beta * a + (1 - beta) * x`, kept.
fn average(b: &mut Builder, port: Port, beta: f64, x: Value) -> Value {
    let old = kept(b, &port);
    let old = b.scale(old, beta);
    let new = b.scale(x, 1.0 - beta);
    let a = b.op(Op::Add, &[old, new]);
    keep(b, port, a);
    a
}

/// The root of the sum of squares of all elements.
fn norm(b: &mut Builder, x: Value) -> Value {
    let square = b.op(Op::Mul, &[x, x]);
    let sum = b.sum(square, b.axes_of(square));
    b.op(Op::Sqrt, &[sum])
}
