//! prune: perturbations at ReLU zeros are never made. The mask of an activity is found on its path to the ReLU; a residual may stand between.
//! It is part of the estimator (same mean, less variance): the noise is masked before jvp, the update follows for free.

use pushforward_ir::axis::AxisId;
use pushforward_ir::{Builder, Op, Program, Value};

/// The condition under which a perturbation of `activity` passes the ReLU after it; `None` if no ReLU stands right after it. `program` is the
/// one that `b` adds to: masks of other activities are no users of what they look at.
pub fn mask(b: &mut Builder, program: &Program, activity: Value) -> Option<Value> {
    let axes = program.axes_of(activity);
    let mut v = activity;
    let mut renames: Vec<Vec<(AxisId, AxisId)>> = Vec::new();
    let relu = loop {
        // Only a sole user sees all of the perturbation; a mark is a user, too.
        if program.losses.iter().any(|l| l.value == v || l.local.as_ref().is_some_and(|m| m.at == v)) {
            return None;
        }
        let mut users = users(program, v);
        let (Some(user), None) = (users.next(), users.next()) else { return None };
        // What lies between must map zeros of the ReLU back to single elements of the activity.
        match program.op(user) {
            Op::Relu => break v,
            Op::Rename(pairs) => renames.push(pairs.clone()),
            op if matches!(op, Op::Add | Op::Sub | Op::Neg) && program.axes_of(user) == program.axes_of(v) => {}
            _ => return None,
        }
        v = user;
    };
    let zero = b.constant(0.0, b.ty(relu).dtype);
    let mut mask = b.op(Op::Gt, &[relu, zero]);
    for pairs in renames.iter().rev() {
        let back: Vec<_> = pairs.iter().map(|&(from, to)| (to, from)).collect();
        mask = b.rename(mask, &back);
    }
    (b.axes_of(mask) == axes).then_some(mask)
}

fn users(program: &Program, v: Value) -> impl Iterator<Item = Value> {
    program.values().filter(move |&u| program.args(u).contains(&v))
}
