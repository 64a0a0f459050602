//! What kernels are called: over which axes they run and what they compute, never a layer's name, as equal layers share their kernels. Where
//! a kernel came from stands in its comment. Read [`name`] and [`about`].

use std::collections::BTreeSet;

use pushforward_ir::op::Class;
use pushforward_ir::{AxisSet, Op, Program, Value};

use super::cluster::Cluster;
use crate::kernel::{Body, Loop};

/// `row_G_D__norm...`: the kind, the axes, and the ops that say most. Identifiers of every target's language.
pub fn name(program: &Program, cluster: &Cluster, body: &Body) -> String {
    match body {
        Body::Gemm(g) => short(gemm(&g.m.axes, &g.n.axes, &g.k.axes)),
        Body::Normals(_) => short(format!("noise_{}", along(program, cluster.points))),
        Body::Loops(_) => of_nest(program, cluster),
    }
}

pub fn of_nest(program: &Program, cluster: &Cluster) -> String {
    let ops: BTreeSet<&str> = cluster.computes.iter().filter_map(|&v| telling(program.op(v))).collect();
    let ops: Vec<&str> = ops.into_iter().collect();
    let outer = along(program, cluster.points - cluster.row);
    short(match (cluster.row.is_empty(), outer.is_empty()) {
        (true, _) => format!("map_{outer}_{}", ops.join("_")),
        (false, true) => format!("rows_{}_{}", along(program, cluster.row), ops.join("_")),
        (false, false) => format!("rows_{}_of_{outer}_{}", along(program, cluster.row), ops.join("_")),
    })
}

pub fn of_product(m: &[Loop], n: &[Loop], k: &[Loop]) -> String {
    let axes = |loops: &[Loop]| loops.iter().map(|l| l.axis.as_str()).collect::<Vec<_>>().join("*");
    short(gemm(&axes(m), &axes(n), &axes(k)))
}

fn gemm(m: &str, n: &str, k: &str) -> String {
    let part = |axes: &str| identifier(&axes.replace('*', "_"));
    format!("gemm_{}_by_{}_over_{}", part(m), part(n), part(k))
}

fn along(program: &Program, set: AxisSet) -> String {
    program.axes.in_order(set).iter().map(|&a| identifier(&program.axes[a].name)).collect::<Vec<_>>().join("_")
}

fn short(name: String) -> String {
    let name: String = name.replace("__", "_").chars().take(60).collect();
    name.trim_end_matches('_').into()
}

/// Ops by which a person recognises what is computed.
fn telling(op: &Op) -> Option<&'static str> {
    match op {
        op if op.class() == Class::Slow => Some(op.name()),
        Op::Normal(_) | Op::Sqrt | Op::Rsqrt | Op::Relu | Op::Max(_) | Op::Select => Some(op.name()),
        _ => None,
    }
}

/// Only letters, digits and single underscores: primes are spelled.
pub fn identifier(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\'' => 'p',
            c if c.is_ascii_alphanumeric() => c,
            _ => '_',
        })
        .collect()
}

/// `name`, or with the first number that makes it unique.
pub fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    match taken(name) {
        false => name.to_string(),
        true => (2..).map(|i| format!("{name}_{i}")).find(|n| !taken(n)).expect("numbers do not end"),
    }
}

/// What it computes, in terms of the program: shapes, ops, and the layer where it stands first.
pub fn about(program: &Program, cluster: &Cluster) -> String {
    let show = |v: Value| format!("{} {}", program.op(v).name(), program.ty(v).show(&program.axes));
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for &v in &cluster.computes {
        let op = program.op(v).name();
        match counts.iter_mut().find(|c| c.0 == op) {
            Some(c) => c.1 += 1,
            None => counts.push((op, 1)),
        }
    }
    let ops = counts.iter().map(|(op, n)| if *n == 1 { op.to_string() } else { format!("{n} {op}") }).collect::<Vec<_>>().join(", ");
    let gives = cluster.roots.iter().map(|&v| show(v)).collect::<Vec<_>>().join("; ");
    let scope = cluster.roots.iter().find_map(|&v| {
        let origin = program.origins.get(program.node(v).origin as usize)?;
        (!origin.scope.is_empty()).then_some(origin.scope.as_str())
    });
    let at = scope.map(|s| format!(", first in `{s}`")).unwrap_or_default();
    format!("{ops} -> {gives}{at}")
}
