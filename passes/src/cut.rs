//! cut: the greedy stop-gradient. After a marked value, everything but its own loss sees `stop_gradient` of it, so no derivative of a later
//! loss passes. It changes no number.

use std::collections::HashMap;

use pushforward_ir::program::rebuild;
use pushforward_ir::{Op, Program, Value};

use crate::util::slice;

pub fn run(program: &Program) -> Program {
    // Slices from every marked value to its loss, in terms of the old program.
    let slices: Vec<(Value, Value, Vec<Value>)> = program
        .losses
        .iter()
        .filter_map(|l| Some((l.local.as_ref()?.at, l.value)))
        .map(|(at, loss)| (at, loss, slice(program, at, loss)))
        .collect();
    let mut new: HashMap<Value, Value> = HashMap::new();
    let mut marked: HashMap<Value, Value> = HashMap::new();
    let mut losses: HashMap<(Value, Value), Value> = HashMap::new();
    let mut out = rebuild(program, |b, v, args| {
        let y = b.copy(program, v, args);
        let mut seen = y;
        if slices.iter().any(|s| s.0 == v) {
            seen = b.op(Op::StopGradient, &[y]);
            marked.insert(v, y);
        }
        new.insert(v, seen);
        // A loss is complete: clone it from the value itself.
        for (at, _, values) in slices.iter().filter(|s| s.1 == v) {
            let mut own: HashMap<Value, Value> = HashMap::from([(*at, marked[at])]);
            for &u in values.iter().filter(|u| *u != at) {
                let args: Vec<Value> = program.args(u).iter().map(|a| own.get(a).copied().unwrap_or_else(|| new[a])).collect();
                let clone = b.copy(program, u, &args);
                own.insert(u, clone);
            }
            losses.insert((*at, v), own[&v]);
        }
        seen
    });
    for (mark, old) in out.losses.iter_mut().zip(&program.losses) {
        if let (Some(local), Some(before)) = (&mut mark.local, &old.local) {
            local.at = marked[&before.at];
            mark.value = losses[&(before.at, old.value)];
        }
    }
    crate::dce::run(&out)
}
