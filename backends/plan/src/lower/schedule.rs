//! The order of launches, and which of them run example by example. Kernels that are pure maps over the batch run as long as there are any,
//! one slice of the examples after the other; what mixes examples (weight gradients, batch statistics) runs whole. What such maps read and
//! no example has a part in runs before them, so that it does not cut their run in two. It moves no data and chooses no kernel. Read
//! [`schedule`] first.

use std::collections::BTreeSet;

use pushforward_ir::{Op, Program, Value};

use super::cluster::{ClusterId, Clusters};
use crate::kernel::{Body, Cut, Kernel};

/// A run of clusters, in order; `by_example`: one slice of the batch after the other.
pub struct Group {
    pub clusters: Vec<ClusterId>,
    pub by_example: bool,
}

/// `updates`: of each parameter, the value that is its update. `by_example[c]`: whether cluster c may run example by example; none for
/// clusters that compute nothing. `None`: clusters wait for each other.
pub fn schedule(program: &Program, clusters: &Clusters, updates: &[Option<Value>], by_example: &[Option<bool>]) -> Option<Vec<Group>> {
    let count = clusters.list.len();
    let mut users: Vec<BTreeSet<ClusterId>> = vec![BTreeSet::new(); count];
    let mut waits: Vec<BTreeSet<ClusterId>> = vec![BTreeSet::new(); count];
    let live = |c: ClusterId| by_example[c].is_some();
    for (c, cluster) in clusters.list.iter().enumerate().filter(|(c, _)| live(*c)) {
        let mut need = |before: ClusterId| {
            if before != c && live(before) {
                waits[c].insert(before);
                users[before].insert(c);
            }
        };
        for &v in &cluster.computes {
            for &a in program.args(v) {
                if let Some(before) = clusters.of[super::cluster::source(program, a).0 as usize]
                    && !cluster.computes.contains(&a)
                {
                    need(before);
                }
            }
        }
    }
    // A reader of a parameter comes before its update.
    for c in (0..count).filter(|&c| live(c)) {
        for &v in &clusters.list[c].computes {
            for &a in program.args(v) {
                let Op::Param(p) = program.op(super::cluster::source(program, a)) else { continue };
                let update = updates[*p as usize].and_then(|u| clusters.of[u.0 as usize]);
                let Some(d) = update.filter(|&d| d != c && live(d)) else { continue };
                waits[d].insert(c);
                users[c].insert(d);
            }
        }
    }
    let sliced: Vec<bool> = by_example.iter().map(|b| *b == Some(true)).collect();
    let (after, before) = (reached(&sliced, &users), reached(&sliced, &waits));
    let goes_first = |c: ClusterId| !after[c] && before[c];
    // The first value decides between clusters that are ready: the order in which the program was written.
    let key = |c: ClusterId| (clusters.list[c].roots.first().copied(), c);
    let mut ready: BTreeSet<(Option<Value>, ClusterId)> = (0..count).filter(|&c| live(c) && waits[c].is_empty()).map(key).collect();
    let mut groups: Vec<Group> = Vec::new();
    while let Some(&first) = ready.first() {
        let ahead = ready.iter().copied().find(|&(_, c)| goes_first(c));
        let next = ahead.or_else(|| ready.iter().copied().find(|&(_, c)| sliced[c])).unwrap_or(first);
        let by_example = sliced[next.1];
        ready.remove(&next);
        let c = next.1;
        match groups.last_mut() {
            Some(group) if by_example && group.by_example => group.clusters.push(c),
            _ => groups.push(Group { clusters: vec![c], by_example }),
        }
        for &u in &users[c] {
            waits[u].remove(&c);
            if waits[u].is_empty() {
                ready.insert(key(u));
            }
        }
    }
    waits.iter().all(BTreeSet::is_empty).then_some(groups)
}

/// Clusters to which `edges` lead from those of `from`, these among them.
fn reached(from: &[bool], edges: &[BTreeSet<ClusterId>]) -> Vec<bool> {
    let mut reached = from.to_vec();
    let mut open: Vec<ClusterId> = (0..from.len()).filter(|&c| from[c]).collect();
    while let Some(c) = open.pop() {
        for &next in &edges[c] {
            if !std::mem::replace(&mut reached[next], true) {
                open.push(next);
            }
        }
    }
    reached
}

/// Examples of a slice: as many as give its largest matrix product enough rows, but at least two slices.
pub fn chunk<'k>(examples: usize, kernels: impl Iterator<Item = &'k Kernel>) -> usize {
    let products = kernels.filter_map(|k| match &k.body {
        Body::Gemm(g) => Some((g.m.size * g.n.size * g.k.size, g)),
        Body::Loops(_) | Body::Normals(_) => None,
    });
    let rows = products.max_by_key(|r| r.0).map(|(_, g)| match g.cut {
        Cut::M { per } => per,
        Cut::N { per } => per,
        Cut::Batch(_) | Cut::None => g.m.size.max(g.n.size),
    });
    let each = match rows {
        Some(rows) => ROWS.div_ceil(rows.max(1)),
        None => 4,
    };
    each.clamp(1, examples.div_ceil(2).max(1))
}

/// Rows of a matrix product below which it does not run well.
const ROWS: usize = 64;
