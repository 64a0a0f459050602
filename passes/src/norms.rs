//! Norms, found in a graph by what they compute: `c * rsqrt(mean(c * c) + e)` or `c / sqrt(mean(c * c) + e)`, where `c` is `x - mean(x)` or `x`,
//! along some axes. No function's name counts. Some rules take them for the identity: that is for their callers to do.

use std::collections::HashMap;

use pushforward_ir::{AxisSet, Op, Program, Value};

use crate::reach::{Names, Rule};

/// A norm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Norm {
    /// What is normalised.
    pub x: Value,
    /// Along which axes.
    pub over: AxisSet,
    /// Whether the mean is taken away first.
    pub centred: bool,
}

impl Norm {
    /// Whether all that it gives is 0: nothing is left of a single element without its mean.
    pub fn vanishes(&self, program: &Program) -> bool {
        self.centred && program.axes.count(self.over) == 1
    }
}

/// All norms of a program, by their results.
pub fn norms(program: &Program) -> HashMap<Value, Norm> {
    program.values().filter_map(|v| Some((v, norm(program, v)?))).collect()
}

/// What every norm takes for the identity: its result, and what it normalises.
pub fn identities(program: &Program) -> HashMap<Value, Value> {
    norms(program).into_iter().map(|(y, norm)| (y, norm.x)).collect()
}

/// `rule`, with these norms taken for the identity: what holds of what a norm normalises holds of its result.
pub fn unseen<'a>(
    identities: &'a HashMap<Value, Value>,
    rule: &'a Rule,
) -> impl Fn(&Program, Value, &[Option<Names>]) -> Option<Names> + 'a {
    |program, v, state| match identities.get(&v) {
        Some(x) => state[x.0 as usize].clone(),
        None => rule(program, v, state),
    }
}

fn norm(program: &Program, v: Value) -> Option<Norm> {
    match (program.op(v), program.args(v)) {
        (Op::Mul, &[a, b]) => by(program, a, b, Op::Rsqrt).or_else(|| by(program, b, a, Op::Rsqrt)),
        (Op::Div, &[c, root]) => by(program, c, root, Op::Sqrt),
        _ => None,
    }
}

/// `c` by `r`, which is `root` of the mean of its squares.
fn by(program: &Program, c: Value, r: Value, root: Op) -> Option<Norm> {
    if *program.op(r) != root {
        return None;
    }
    let square = unscaled(program, program.args(r)[0]);
    let over = match program.op(square) {
        Op::Contract(over) if program.args(square) == [c, c] => *over,
        Op::Sum(over) => {
            let product = program.args(square)[0];
            if *program.op(product) != Op::Mul || program.args(product) != [c, c] {
                return None;
            }
            *over
        }
        _ => return None,
    };
    let centred = match (program.op(c), program.args(c)) {
        (Op::Sub, &[x, mean]) => {
            let sum = unscaled(program, mean);
            (*program.op(sum) == Op::Sum(over) && program.args(sum) == [x]).then_some(x)
        }
        _ => None,
    };
    Some(Norm { x: centred.unwrap_or(c), over, centred: centred.is_some() })
}

/// What is left of a value when constants that scale it or are added to it are taken away.
fn unscaled(program: &Program, mut v: Value) -> Value {
    let constant = |v: Value| matches!(program.op(v), Op::Const(_));
    loop {
        v = match (program.op(v), program.args(v)) {
            (Op::Mul | Op::Add, &[x, c]) if constant(c) => x,
            (Op::Mul | Op::Add, &[c, x]) if constant(c) => x,
            (Op::Div | Op::Sub, &[x, c]) if constant(c) => x,
            _ => return v,
        };
    }
}
