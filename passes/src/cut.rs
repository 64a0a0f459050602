//! cut: the stop-gradients of local algorithms. Where they are greedy, everything after a marked value but its own loss sees `stop_gradient`
//! of it, so no derivative of a later loss passes; where they are not, only global losses do. It changes no number.

use std::collections::HashMap;

use pushforward_ir::program::rebuild;
use pushforward_ir::{Builder, Op, Program, Value};

use crate::algorithm::Losses;
use crate::util::slice;

pub fn run(program: &Program, losses: Losses) -> Program {
    match losses {
        Losses::Global => program.clone(),
        Losses::Local => from_global(program),
        Losses::Greedy => greedy(program),
    }
}

/// Clones of what lies between marked values and global losses, from stop-gradients of the marked values. Outputs move to them.
fn from_global(program: &Program) -> Program {
    let mut b = Builder::new(program.clone());
    let marked: Vec<Value> = program.losses.iter().filter_map(|l| Some(l.local.as_ref()?.at)).collect();
    let after = program.depends(&marked, |_| false);
    let global: Vec<usize> = (0..program.losses.len()).filter(|&i| program.losses[i].local.is_none()).collect();
    let before = program.reaches(global.iter().map(|&i| program.losses[i].value));
    let local = program.reaches(program.losses.iter().filter(|l| l.local.is_some()).map(|l| l.value));
    let mut new: HashMap<Value, Value> = HashMap::new();
    let at = |new: &HashMap<Value, Value>, v: Value| *new.get(&v).unwrap_or(&v);
    for v in program.values().filter(|v| after[v.0 as usize] && before[v.0 as usize]) {
        let args: Vec<Value> = program.args(v).iter().map(|&a| at(&new, a)).collect();
        let seen = if matches!(program.op(v), Op::Activity(_)) && local[v.0 as usize] {
            // Noise has its place once: where the local losses are.
            args[0]
        } else if marked.contains(&v) {
            b.origin = program.node(v).origin;
            b.op(Op::StopGradient, &[v])
        } else {
            b.copy(program, v, &args)
        };
        new.insert(v, seen);
    }
    for i in global {
        let loss = &mut b.program_mut().losses[i];
        loss.value = at(&new, loss.value);
    }
    for output in &mut b.program_mut().outputs {
        output.value = at(&new, output.value);
    }
    crate::dce::run(&b.finish())
}

fn greedy(program: &Program) -> Program {
    // Slices from every marked value to its loss, in terms of the old program.
    let slices: Vec<(Value, Value, Vec<Value>)> = program
        .losses
        .iter()
        .filter_map(|l| Some((l.local.as_ref()?.at, l.value)))
        .map(|(at, loss)| (at, loss, slice(program, at, loss)))
        .collect();
    // What is needed of each slice by anything else than its own loss: noise has its place once, and that is there.
    let local = (0..program.losses.len()).filter(|&i| program.losses[i].local.is_some());
    let elsewhere: Vec<Vec<bool>> = local.map(|i| program.reaches(roots_but(program, i))).collect();
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
        for ((at, _, values), elsewhere) in slices.iter().zip(&elsewhere).filter(|(s, _)| s.1 == v) {
            let mut own: HashMap<Value, Value> = HashMap::from([(*at, marked[at])]);
            for &u in values.iter().filter(|u| *u != at) {
                let args: Vec<Value> = program.args(u).iter().map(|a| own.get(a).copied().unwrap_or_else(|| new[a])).collect();
                let moved = matches!(program.op(u), Op::Activity(_)) && elsewhere[u.0 as usize];
                let clone = if moved { args[0] } else { b.copy(program, u, &args) };
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

/// All that a program is for, its losses and outputs, but one loss.
fn roots_but(program: &Program, loss: usize) -> impl Iterator<Item = Value> {
    let others = program.losses.iter().enumerate().filter(move |(i, _)| *i != loss);
    others.map(|(_, l)| l.value).chain(program.outputs.iter().map(|o| o.value))
}
