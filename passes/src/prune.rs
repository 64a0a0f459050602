//! prune: perturbations at ReLU zeros are never made. The mask of an activity is found on its path to the ReLU; a residual may stand between.
//! It is part of the estimator (same mean, less variance): the noise is masked before jvp, the update follows for free. What a mask spares
//! beside the noise is counted by `needless.rs`.

use std::fmt;

use pushforward_ir::axis::AxisId;
use pushforward_ir::{Builder, Op, Program, Value};

/// The ReLU that all of an activity's noise has to pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gate {
    pub relu: Value,
    /// On the way from the activity to the ReLU, in order.
    renames: Vec<Vec<(AxisId, AxisId)>>,
}

/// Why noise has no mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ungated {
    /// Nothing uses the value.
    Unused,
    /// A loss, or a mark, sees the value before any ReLU does.
    Marked,
    /// More than one value uses it.
    Shared(usize),
    /// The one value that uses it is no ReLU, and does not take zeros of a later one back to single elements.
    Other(&'static str),
    /// It meets a value with more axes: one element of the noise passes several elements of a later ReLU.
    Spread(&'static str),
}

impl fmt::Display for Ungated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ungated::Unused => write!(f, "nothing uses it"),
            Ungated::Marked => write!(f, "a mark sees it before any ReLU does"),
            Ungated::Shared(users) => write!(f, "{users} values use it, so a ReLU on one way does not stop it on the others"),
            Ungated::Other(op) => write!(f, "`{op}` comes before any ReLU"),
            Ungated::Spread(op) => write!(f, "`{op}` spreads it along more axes before any ReLU"),
        }
    }
}

/// The ReLU behind `activity`.
pub fn gate(program: &Program, activity: Value) -> Result<Gate, Ungated> {
    follow(program, activity, |op| *op == Op::Relu)
}

/// What a layer gives: the value of the nonlinear function that all of `activity` goes through, element by element. The activity itself where
/// something else comes first.
pub fn behind(program: &Program, activity: Value) -> Value {
    let gate = follow(program, activity, |op| matches!(op, Op::Relu | Op::Tanh | Op::Erf | Op::Exp));
    gate.ok().filter(|g| g.renames.is_empty()).map_or(activity, |g| g.relu)
}

/// The value of the first op for which `ends` holds on the way of all of an activity.
fn follow(program: &Program, activity: Value, ends: impl Fn(&Op) -> bool) -> Result<Gate, Ungated> {
    let mut v = activity;
    let mut renames: Vec<Vec<(AxisId, AxisId)>> = Vec::new();
    loop {
        // Only a sole user sees all of the perturbation; a mark is a user, too.
        if program.losses.iter().any(|l| l.value == v || l.local.as_ref().is_some_and(|m| m.at == v)) {
            return Err(Ungated::Marked);
        }
        let users: Vec<Value> = program.values().filter(|&u| program.args(u).contains(&v)).collect();
        let user = match users[..] {
            [] => return Err(Ungated::Unused),
            [user] => user,
            [..] => return Err(Ungated::Shared(users.len())),
        };
        // What lies between must map zeros of the ReLU back to single elements of the activity.
        match program.op(user) {
            op if ends(op) => return Ok(Gate { relu: user, renames }),
            Op::Rename(pairs) => renames.push(pairs.clone()),
            op if matches!(op, Op::Add | Op::Sub | Op::Neg) => {
                if program.axes_of(user) != program.axes_of(v) {
                    return Err(Ungated::Spread(op.name()));
                }
            }
            op => return Err(Ungated::Other(op.name())),
        }
        v = user;
    }
}

/// The condition under which a perturbation of `activity` passes the ReLU after it; `None` if no ReLU stands right after it. `program` is the
/// one that `b` adds to: masks of other activities are no users of what they look at.
pub fn mask(b: &mut Builder, program: &Program, activity: Value) -> Option<Value> {
    let Gate { relu, renames } = gate(program, activity).ok()?;
    let mut mask = open(b, program, relu);
    for pairs in renames.iter().rev() {
        let back: Vec<_> = pairs.iter().map(|&(from, to)| (to, from)).collect();
        mask = b.rename(mask, &back);
    }
    Some(mask)
}

/// A mask of [`mask`], computed a second time: `0 < x` is `x > 0`, and no pass sees them as one.
pub fn apart(b: &mut Builder, mask: Value) -> Value {
    let (op, args) = (b.program().op(mask).clone(), b.program().args(mask).to_vec());
    match (op, &args[..]) {
        (Op::Rename(pairs), &[x]) => {
            let x = apart(b, x);
            b.rename(x, &pairs)
        }
        (Op::Gt, &[x, zero]) => b.op(Op::Lt, &[zero, x]),
        _ => mask,
    }
}

/// Where a ReLU lets its operand, and tangents, pass: the condition that the derivative of `relu` has.
pub fn open(b: &mut Builder, program: &Program, relu: Value) -> Value {
    let x = program.args(relu)[0];
    let zero = b.constant(0.0, b.ty(x).dtype);
    b.op(Op::Gt, &[x, zero])
}
