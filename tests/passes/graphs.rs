//! Random small graphs of f64 values over a few axes: every op that a derivative may pass, and some that it may not. Input `x` is what the tests
//! move; input `y` stands still.

use pushforward_ir::axis::AxisId;
use pushforward_ir::op::{Affine, Number};
use pushforward_ir::program::{Output, Port};
use pushforward_ir::{AxisSet, Builder, DType, Op, Program, Value};

use crate::support::Random;

const F64: DType = DType::F64;

/// A graph with the output `loss`, which depends on `x` somehow.
pub fn graph(random: &mut Random) -> Program {
    loop {
        let program = attempt(random);
        let depends = program.depends(&[Value(0)], |_| false);
        if let Some(v) = program
            .values()
            .rev()
            .find(|&v| v.0 > 4 && depends[v.0 as usize] && program.ty(v).dtype == F64 && !matches!(program.op(v), Op::Max(_)))
        {
            let order = program.axes.in_order(program.axes_of(v));
            let port = Port { name: "loss".into(), dtype: F64, order };
            return Program { outputs: vec![Output { port, value: v }], ..program };
        }
    }
}

fn attempt(random: &mut Random) -> Program {
    let mut program = Program { name: "graph".into(), ..Program::default() };
    let mut axes = Vec::new();
    for (name, size, like) in [("A", 2, None), ("B", 2, None), ("C", 3, None), ("A'", 2, Some(AxisId(0))), ("C'", 3, Some(AxisId(2)))] {
        axes.push(program.axes.add(name, size, like).expect("few axes"));
    }
    let some = |random: &mut Random| axes[..3].iter().copied().filter(|_| random.chance(65)).collect::<Vec<AxisId>>();
    for name in ["x", "y"] {
        let order = some(random);
        program.inputs.push(Port { name: name.into(), dtype: F64, order });
    }
    program.inputs.push(Port { name: "index".into(), dtype: DType::I32, order: some(random) });
    let mut g = Graph { b: Builder::new(program), random, axes };
    for i in 0..3 {
        g.b.op(Op::Input(i), &[]);
    }
    for _ in 0..4 + g.random.below(14) {
        g.grow();
    }
    g.b.finish()
}

struct Graph<'a> {
    b: Builder,
    random: &'a mut Random,
    axes: Vec<AxisId>,
}

impl Graph<'_> {
    fn grow(&mut self) {
        match self.random.below(20) {
            0..3 => {
                let op = self.random.of(&[Op::Add, Op::Sub]);
                self.op(op, 2);
            }
            3..6 => self.op(Op::Mul, 2),
            6..9 => {
                // Bounded, smooth, and nowhere flat.
                let op = self.random.of(&[Op::Neg, Op::Tanh, Op::Erf, Op::Exp, Op::Rsqrt, Op::Log]);
                let Some(x) = self.value() else { return };
                let x = if op == Op::Neg { x } else { self.positive(x, matches!(op, Op::Tanh | Op::Erf)) };
                self.b.op(op, &[x]);
            }
            9 => {
                let (Some(x), Some(y)) = (self.value(), self.value()) else { return };
                let y = self.positive(y, false);
                self.b.op(Op::Div, &[x, y]);
            }
            10..12 => {
                let Some(x) = self.value() else { return };
                let over = self.some(self.b.axes_of(x));
                let _ = self.b.try_op(Op::Sum(over), &[x]);
            }
            12..14 => {
                let count = 1 + self.random.below(3);
                let Some(x) = (0..count).map(|_| self.value()).collect::<Option<Vec<Value>>>() else { return };
                let join = x.iter().fold(AxisSet::EMPTY, |s, &f| s | self.b.axes_of(f));
                let over = self.some(join);
                let _ = self.b.try_op(Op::Contract(over), &x);
            }
            14 | 15 => {
                let Some(x) = self.value() else { return };
                let pairs = [(0, 3), (3, 0), (2, 4), (4, 2), (0, 1), (1, 0)].map(|(a, b)| (self.axes[a], self.axes[b]));
                let pairs: Vec<_> = pairs.into_iter().filter(|_| self.random.chance(40)).collect();
                let _ = self.b.try_op(Op::rename(pairs), &[x]);
            }
            16 => self.select(),
            17 => {
                let axis = self.axes[self.random.of(&[0, 2])];
                let term = self.axes[self.random.of(&[0, 2, 3, 4])];
                let offset = self.random.of(&[0, 1, -1]);
                let factor = self.random.of(&[1, -1, 2]);
                let terms = if self.random.chance(80) { vec![(factor, term)] } else { Vec::new() };
                self.op(Op::Window(Box::new(Affine { axis, terms, offset })), 1);
            }
            18 => {
                let Some(x) = self.value() else { return };
                let axis = self.axes[self.random.of(&[0, 1, 2])];
                let _ = self.b.try_op(Op::Gather(axis), &[x, Value(2)]);
            }
            // A maximum has no derivative rule.
            19 if self.random.chance(30) => {
                let Some(x) = self.value() else { return };
                let over = self.some(self.b.axes_of(x));
                if let Ok(max) = self.b.try_op(Op::Max(over), &[x]) {
                    self.b.op(Op::StopGradient, &[max]);
                }
            }
            _ => {
                let op = self.random.of(&[Op::StopGradient, Op::Activity(format!("a{}", self.b.program().nodes.len()))]);
                self.op(op, 1);
            }
        }
    }

    fn op(&mut self, op: Op, count: usize) {
        if let Some(x) = (0..count).map(|_| self.value()).collect::<Option<Vec<Value>>>() {
            let _ = self.b.try_op(op, &x);
        }
    }

    fn select(&mut self) {
        let (Some(x), Some(y)) = (self.value(), self.value()) else { return };
        let delta = |g: &mut Self, a: usize, b: usize| g.b.op(Op::Delta((g.axes[a], g.axes[b])), &[]);
        let condition = match self.random.below(6) {
            0 => delta(self, 0, 3),
            1 => delta(self, 2, 4),
            2 => {
                let (l, r) = (delta(self, 0, 3), delta(self, 2, 4));
                self.b.op(Op::And, &[l, r])
            }
            // A chain: summed over A', B stands for A.
            3 => {
                let (l, r) = (delta(self, 0, 3), delta(self, 3, 1));
                self.b.op(Op::And, &[l, r])
            }
            4 => {
                let d = delta(self, 0, 3);
                self.b.op(Op::Not, &[d])
            }
            _ => {
                let zero = self.b.op(Op::Const(Number::new(0.0, F64)), &[]);
                self.b.op(Op::Gt, &[Value(1), zero])
            }
        };
        let other = match self.random.below(10) {
            0..5 => self.b.constant(0.0, F64),
            5..7 => x, // constant along the condition's axes after all
            _ => y,
        };
        self.b.op(Op::Select, &[condition, x, other]);
    }

    /// `tanh(x) + 2`, between 1 and 3, or a half of `x`.
    fn positive(&mut self, x: Value, any_sign: bool) -> Value {
        if any_sign {
            return self.b.scale(x, 0.5);
        }
        let x = self.b.op(Op::Tanh, &[x]);
        let two = self.b.constant(2.0, F64);
        self.b.op(Op::Add, &[x, two])
    }

    /// A float, late ones and `x` more likely.
    fn value(&mut self) -> Option<Value> {
        let all: Vec<Value> = self.b.program().values().filter(|&v| self.b.ty(v).dtype == F64 && !is_max(&self.b, v)).collect();
        match self.random.below(10) {
            0..5 => Some(self.random.of(&all[all.len().saturating_sub(3)..])),
            5..7 => Some(Value(0)),
            _ => Some(self.random.of(&all)),
        }
    }

    fn some(&mut self, axes: AxisSet) -> AxisSet {
        axes.iter().filter(|_| self.random.chance(45)).collect()
    }
}

fn is_max(b: &Builder, v: Value) -> bool {
    matches!(b.program().op(v), Op::Max(_))
}
