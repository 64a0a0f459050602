//! Fusion: which values are computed in one loop nest, which of them reach memory, and which are computed again where they are needed.
//!
//! A nest has *points*, and perhaps a *row*: the axes that its reductions remove. Values over all points are computed for each point, values
//! over the points without the row once for each row. A producer joins its consumer's nest if it has the same points and row, or points that
//! are the consumer's without the row, and if no third kernel would have to run between them. Nothing here knows a target, or what an op
//! computes. Read [`clusters`] first.

use std::collections::{BTreeSet, HashSet};

use pushforward_ir::op::Class;
use pushforward_ir::{AxisSet, Op, Program, Value};

use super::prepare::{COPY, Prepared, Target, is_map};

/// Index into [`Clusters::list`].
pub type ClusterId = usize;

/// What one kernel computes.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub kind: Kind,
    /// In topological order. A matrix product or noise has one.
    pub members: Vec<Value>,
    /// All axes of the nest.
    pub points: AxisSet,
    /// The axes that its reductions remove; none in a nest of maps only.
    pub row: AxisSet,
    /// What it leaves behind: values that others read from memory, and outputs. None: nobody needs it.
    pub roots: Vec<Value>,
    /// What it computes for that, in topological order: members, and values of other nests that are computed again.
    pub computes: Vec<Value>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Nest,
    Gemm,
    Noise,
}

/// What the kernels of a machine can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ability {
    /// Noise is drawn wherever it is used. A product computes its operands while it loads them, and maps of its result before it stores them.
    pub fuses: bool,
    /// A kernel can be bound to this many tensors, as far as fusion decides it.
    pub most_args: usize,
}

impl Ability {
    /// Matrix products and noise are calls; arguments are pointers.
    pub const CALLS: Ability = Ability { fuses: false, most_args: usize::MAX };
}

/// What [`clusters`] decided.
pub struct Clusters {
    /// Those that others took in have no members.
    pub list: Vec<Cluster>,
    /// Of each value; none for leaves and renamings.
    pub of: Vec<Option<ClusterId>>,
    /// Values that are in memory after their kernel has run.
    pub stored: Vec<bool>,
}

/// No more values than this in one nest: registers and compile time are finite.
const MOST_MEMBERS: usize = 160;
/// A value is computed again rather than stored if that takes no more ops than this,
const MOST_AGAIN: usize = 12;
/// and reads no more than this many times its own elements,
const MOST_READ: f64 = 1.5;
/// or where kernels fuse more and launches cost more, this many times.
const MOST_READ_FUSED: f64 = 2.0;
/// An operand of a product is computed while it is loaded if that takes no more ops than this,
const MOST_LOADING: usize = 4;
/// and noise is drawn for it if each number is drawn no more often than this. Drawing one costs about as much as to store it and read it again.
const MOST_DRAWN: usize = 2;
/// Rows or columns of a product's result for which an operand is loaded once.
const TILE: usize = 64;
/// Ops that drawing a number counts for.
const DRAWING: usize = 8;

/// Constants and indices: computed wherever they are used.
pub fn is_free(op: &Op) -> bool {
    matches!(op, Op::Const(_) | Op::Iota(_) | Op::Delta(_))
}

/// Whether a kernel that reads a value is bound to a tensor for it: inputs without axes are handed in otherwise.
fn is_bound(program: &Program, v: Value) -> bool {
    let scalar = matches!(program.op(v), Op::Input(_)) && program.axes_of(v).is_empty();
    !is_free(program.op(v)) && !scalar
}

/// The value whose memory a renaming shows.
pub fn source(program: &Program, v: Value) -> Value {
    match program.op(v) {
        Op::Rename(_) => source(program, program.args(v)[0]),
        _ => v,
    }
}

/// When parameters that the program updates are read and written. Where a kernel that updates one leads to a reader of the old numbers, the
/// kernels have no order: the next way has fewer such readers, the last has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Updates {
    /// A value that depends on the parameter may be computed again, which reads the parameter once more.
    ReadAgain,
    /// Only the kernels of the parameter's own users read it.
    ReadByUsers,
    /// Each update is a kernel that only copies what another has left in memory: parameters may be exchanged.
    Apart,
}

impl Updates {
    pub const ALL: [Updates; 3] = [Updates::ReadAgain, Updates::ReadByUsers, Updates::Apart];
}

/// The kernels of a program, and what of theirs reaches memory.
pub fn clusters(prepared: &Prepared, updates: Updates, ability: Ability) -> Clusters {
    let mut fusion = Fusion::new(prepared, updates == Updates::Apart, ability);
    fusion.fuse();
    let (list, of) = (fusion.list, fusion.of);
    let pinned = match updates {
        Updates::ReadAgain | Updates::Apart => HashSet::new(),
        Updates::ReadByUsers => updated(prepared),
    };
    let mut memory = Memory { prepared, ability, pinned, list, of: &of, choice: vec![None; of.len()], stored: vec![false; of.len()] };
    memory.run();
    let Memory { list, stored, .. } = memory;
    Clusters { list, of, stored }
}

struct Fusion<'a> {
    prepared: &'a Prepared,
    ability: Ability,
    list: Vec<Cluster>,
    of: Vec<Option<ClusterId>>,
    /// Values that must come after: users of a value, and for readers of an updated parameter the update.
    after: Vec<Vec<Value>>,
    /// Parameters that are updated.
    updated: HashSet<u32>,
    /// [`Updates::Apart`].
    apart: bool,
}

impl<'a> Fusion<'a> {
    fn new(prepared: &'a Prepared, apart: bool, ability: Ability) -> Fusion<'a> {
        let program = &prepared.program;
        let (of, after, updated) = (vec![None; program.nodes.len()], after(prepared), updated(prepared));
        let mut fusion = Fusion { prepared, ability, list: Vec::new(), of, after, updated, apart };
        for v in program.values() {
            let op = program.op(v);
            let axes = program.axes_of(v);
            let (kind, points, row) = match op {
                Op::Sum(over) | Op::Max(over) => (Kind::Nest, axes | *over, *over),
                Op::Contract(_) => (Kind::Gemm, axes, AxisSet::EMPTY),
                Op::Normal(_) if ability.fuses => (Kind::Nest, axes, AxisSet::EMPTY),
                Op::Normal(_) => (Kind::Noise, axes, AxisSet::EMPTY),
                op if is_map(op) => (Kind::Nest, axes, AxisSet::EMPTY),
                _ => continue,
            };
            fusion.of[v.0 as usize] = Some(fusion.list.len());
            fusion.list.push(Cluster { kind, members: vec![v], points, row, roots: Vec::new(), computes: Vec::new() });
        }
        fusion
    }

    fn fuse(&mut self) {
        let program = &self.prepared.program;
        // Reductions first: what they sum is larger than what they give, and must not reach memory on the way.
        for reductions in [true, false] {
            for v in program.values() {
                if matches!(program.op(v).class(), Class::Reduce) != reductions {
                    continue;
                }
                for &a in program.args(v) {
                    if let (Some(from), Some(to)) = (self.of[a.0 as usize], self.of[v.0 as usize]) {
                        self.merge(from, to);
                    }
                }
            }
        }
        if self.ability.fuses {
            self.finish_products();
        }
    }

    /// Maps of a product's result go with the product, where nothing else took them in.
    fn finish_products(&mut self) {
        let program = &self.prepared.program;
        for v in program.values() {
            for &a in program.args(v) {
                let (Some(from), Some(to)) = (self.of[a.0 as usize], self.of[v.0 as usize]) else { continue };
                let (product, maps) = (&self.list[from], &self.list[to]);
                let fits = product.kind == Kind::Gemm && maps.kind == Kind::Nest && maps.row.is_empty() && product.points == maps.points;
                let bound = || self.arguments(from, to) <= self.ability.most_args;
                if fits && bound() && !self.reads_renamed(from, to) && !self.detour(from, to) && !self.updates_operand(from, to) {
                    self.join(from, to, product.points, AxisSet::EMPTY, Kind::Gemm);
                }
            }
        }
    }

    /// Whether maps update a parameter that the product's operands are made of: other blocks of threads may still read it.
    fn updates_operand(&self, product: ClusterId, maps: ClusterId) -> bool {
        let program = &self.prepared.program;
        let updated: Vec<u32> = self.list[maps].members.iter().filter_map(|&v| self.update_of(v)).collect();
        let contraction = self.list[product].members.iter().filter(|&&v| matches!(program.op(v), Op::Contract(_)));
        let mut open: Vec<Value> = contraction.flat_map(|&v| program.args(v)).copied().collect();
        let mut seen = HashSet::new();
        while let Some(v) = open.pop() {
            match program.op(v) {
                Op::Param(p) if updated.contains(p) => return true,
                op if (is_map(op) || matches!(op, Op::Rename(_))) && seen.insert(v) => open.extend(program.args(v)),
                _ => {}
            }
        }
        false
    }

    /// How many tensors the two would be bound to as one, at least: what they read of others, and what they leave behind.
    fn arguments(&self, from: ClusterId, to: ClusterId) -> usize {
        let program = &self.prepared.program;
        let own = |v: Value| self.of[v.0 as usize].is_some_and(|c| c == from || c == to);
        let members = || self.list[from].members.iter().chain(&self.list[to].members).copied();
        let read: BTreeSet<Value> =
            members().flat_map(|v| program.args(v)).map(|&a| source(program, a)).filter(|&s| !own(s) && is_bound(program, s)).collect();
        let outputs = |v: Value| program.outputs.iter().filter(|o| o.value == v).count();
        let left = |v: Value| outputs(v) + self.after[v.0 as usize].iter().any(|&u| !own(u)) as usize;
        read.len() + members().map(left).sum::<usize>()
    }

    /// Joins two clusters, if that is possible.
    fn merge(&mut self, from: ClusterId, to: ClusterId) {
        let (a, b) = (&self.list[from], &self.list[to]);
        if from == to || a.kind != Kind::Nest || b.kind != Kind::Nest || a.members.len() + b.members.len() > MOST_MEMBERS {
            return;
        }
        if self.apart && b.members.iter().any(|&v| self.update_of(v).is_some()) {
            return;
        }
        let Some((points, row)) = joint(a, b) else { return };
        if self.ability.most_args < usize::MAX && self.arguments(from, to) > self.ability.most_args {
            return;
        }
        if self.reads_renamed(from, to) || self.detour(from, to) {
            return;
        }
        self.join(from, to, points, row, Kind::Nest);
    }

    /// Puts all of `from` into `to`.
    fn join(&mut self, from: ClusterId, to: ClusterId, points: AxisSet, row: AxisSet, kind: Kind) {
        let moved = std::mem::take(&mut self.list[from].members);
        moved.iter().for_each(|v| self.of[v.0 as usize] = Some(to));
        let cluster = &mut self.list[to];
        cluster.members.extend(moved);
        cluster.members.sort_unstable();
        (cluster.points, cluster.row, cluster.kind) = (points, row, kind);
    }

    /// Whether a path leads from `from` to `to` through another cluster.
    fn detour(&self, from: ClusterId, to: ClusterId) -> bool {
        let last = *self.list[to].members.last().expect("clusters have members");
        let mut seen: HashSet<ClusterId> = HashSet::from([from, to]);
        let mut open: Vec<Value> = self.list[from].members.clone();
        let mut first = true;
        while !open.is_empty() {
            let mut next = Vec::new();
            for v in open.drain(..) {
                for &user in &self.after[v.0 as usize] {
                    let cluster = self.of[user.0 as usize];
                    match cluster {
                        Some(c) if c == to && !first => return true,
                        Some(c) if c == from || c == to => {}
                        // Everything that leads to `to` stands before its last member.
                        Some(c) if self.list[c].members[0] < last && seen.insert(c) => next.extend(&self.list[c].members),
                        Some(_) => {}
                        // A renaming is no kernel, but what uses it is.
                        None => unreachable!("`after` lists values of kernels only"),
                    }
                }
            }
            open = next;
            first = false;
        }
        false
    }

    /// Whether one of the two would read through a renaming what it computes or updates itself: other elements than those at hand.
    fn reads_renamed(&self, from: ClusterId, to: ClusterId) -> bool {
        let program = &self.prepared.program;
        let members = || self.list[from].members.iter().chain(&self.list[to].members).copied();
        let updates: Vec<u32> = members().filter_map(|v| self.update_of(v)).collect();
        let renamed = members().flat_map(|v| program.args(v)).filter(|&&a| matches!(program.op(a), Op::Rename(_)));
        renamed.map(|&a| source(program, a)).any(|s| match program.op(s) {
            Op::Param(p) => updates.contains(p),
            _ => self.of[s.0 as usize].is_some_and(|c| c == from || c == to),
        })
    }

    fn update_of(&self, v: Value) -> Option<u32> {
        let program = &self.prepared.program;
        if *program.op(v) != COPY {
            return None;
        }
        let mut targets = self.prepared.targets.iter().zip(&program.outputs);
        targets.find_map(|(t, out)| match *t {
            Target::State(p) if out.value == v && self.updated.contains(&(p as u32)) => Some(p as u32),
            Target::State(_) | Target::Output(_) => None,
        })
    }
}

/// Points and row of two nests in one.
fn joint(a: &Cluster, b: &Cluster) -> Option<(AxisSet, AxisSet)> {
    let once = |c: &Cluster| c.points - c.row;
    match (a.row.is_empty(), b.row.is_empty()) {
        (true, true) => (a.points == b.points).then_some((a.points, a.row)),
        (false, false) => (a.points == b.points && a.row == b.row).then_some((a.points, a.row)),
        (true, false) => (a.points == b.points || a.points == once(b)).then_some((b.points, b.row)),
        (false, true) => (b.points == a.points || b.points == once(a)).then_some((a.points, a.row)),
    }
}

fn updated(prepared: &Prepared) -> HashSet<u32> {
    let state = |t: &Target| match t {
        Target::State(p) => Some(*p as u32),
        Target::Output(_) => None,
    };
    prepared.targets.iter().filter_map(state).collect()
}

/// Of each parameter, the value that is its update.
pub fn updates(prepared: &Prepared) -> Vec<Option<Value>> {
    let program = &prepared.program;
    let mut update: Vec<Option<Value>> = vec![None; program.params.len()];
    for (target, out) in prepared.targets.iter().zip(&program.outputs) {
        if let Target::State(p) = target {
            update[*p] = Some(out.value);
        }
    }
    update
}

/// For each value, the values of kernels that must come after it: its users, seen through renamings, and for readers of a parameter that is
/// updated the update.
fn after(prepared: &Prepared) -> Vec<Vec<Value>> {
    let program = &prepared.program;
    let mut after: Vec<Vec<Value>> = vec![Vec::new(); program.nodes.len()];
    let update = updates(prepared);
    for v in program.values().filter(|&v| !matches!(program.op(v), Op::Rename(_))) {
        for &a in program.args(v) {
            let a = source(program, a);
            after[a.0 as usize].push(v);
            if let Op::Param(p) = program.op(a)
                && let Some(update) = update[*p as usize].filter(|&u| u != v)
            {
                after[v.0 as usize].push(update);
            }
        }
    }
    after
}

// ---- memory

/// What to do with a value that another kernel needs.
#[derive(Clone, Debug)]
enum Choice {
    /// It is in memory.
    Store,
    /// It is computed again, from these values in memory, by this many ops.
    Again { leaves: Vec<Value>, ops: usize },
}

struct Memory<'a> {
    prepared: &'a Prepared,
    ability: Ability,
    /// Parameters that only the kernels of their own users may read.
    pinned: HashSet<u32>,
    list: Vec<Cluster>,
    of: &'a [Option<ClusterId>],
    choice: Vec<Option<Choice>>,
    stored: Vec<bool>,
}

impl Memory<'_> {
    /// Decides which values are stored, and with that what each cluster computes.
    fn run(&mut self) {
        let program = &self.prepared.program;
        let mut forced = vec![false; program.nodes.len()];
        for v in program.values() {
            // Operands of renamings and calls.
            let forces = match program.op(v) {
                Op::Contract(_) | Op::Normal(_) => !self.ability.fuses,
                Op::Rename(_) => true,
                _ => false,
            };
            if forces {
                program.args(v).iter().for_each(|&a| forced[source(program, a).0 as usize] = true);
            }
        }
        self.choose_all(&forced);
        if self.ability.fuses {
            for v in program.values().filter(|&v| matches!(program.op(v), Op::Contract(_))) {
                for (i, &a) in program.args(v).iter().enumerate() {
                    if !self.is_computed_while_loaded(v, i) {
                        forced[source(program, a).0 as usize] = true;
                    }
                }
            }
            self.choose_all(&forced);
        }
        self.assign();
        // What is computed again may be made of more tensors than it is itself: where a kernel cannot be bound to so many, it is stored.
        while self.ability.most_args < usize::MAX {
            let crowded = (0..self.list.len()).filter(|&c| self.arguments(c) > self.ability.most_args);
            let again: Vec<Value> = crowded.filter_map(|c| self.widest_again(c)).collect();
            if again.is_empty() {
                break;
            }
            again.into_iter().for_each(|v| forced[v.0 as usize] = true);
            self.choose_all(&forced);
            self.assign();
        }
    }

    /// From the results down: what is needed outside of its cluster, and is not computed again, is stored.
    fn assign(&mut self) {
        let program = &self.prepared.program;
        self.list.iter_mut().for_each(|c| c.roots.clear());
        self.stored.fill(false);
        let mut open: Vec<ClusterId> = Vec::new();
        for out in &program.outputs {
            let c = self.of[out.value.0 as usize].expect("outputs are values of kernels");
            self.list[c].roots.push(out.value);
            open.push(c);
        }
        let mut computes: Vec<BTreeSet<Value>> = vec![BTreeSet::new(); self.list.len()];
        while let Some(c) = open.pop() {
            let mut stack: Vec<Value> = self.list[c].roots.clone();
            while let Some(v) = stack.pop() {
                if !computes[c].insert(v) {
                    continue;
                }
                for &a in program.args(v) {
                    let s = source(program, a);
                    let Some(home) = self.of[s.0 as usize] else { continue };
                    let own = home == c;
                    if s == a && (own || matches!(self.choice[s.0 as usize], Some(Choice::Again { .. }))) {
                        stack.push(a);
                    } else if !self.stored[s.0 as usize] {
                        self.stored[s.0 as usize] = true;
                        self.list[home].roots.push(s);
                        open.push(home);
                    }
                }
            }
        }
        for (cluster, computes) in self.list.iter_mut().zip(computes) {
            cluster.computes = computes.into_iter().collect();
            cluster.roots.sort_unstable();
            cluster.roots.dedup();
        }
    }

    /// How many tensors a kernel is bound to, at most.
    fn arguments(&self, c: ClusterId) -> usize {
        let program = &self.prepared.program;
        let Cluster { computes, roots, .. } = &self.list[c];
        let read = computes.iter().flat_map(|&v| program.args(v)).map(|&a| (a, source(program, a)));
        let read = read.filter(|&(a, s)| !(a == s && computes.contains(&s)) && is_bound(program, s));
        let read: BTreeSet<Value> = read.map(|r| r.1).collect();
        let outputs = |v: Value| program.outputs.iter().filter(|o| o.value == v).count();
        read.len() + roots.iter().map(|&v| outputs(v) + self.stored[v.0 as usize] as usize).sum::<usize>()
    }

    /// Of the values that a kernel computes again, the first with the most leaves, if it has several.
    fn widest_again(&self, c: ClusterId) -> Option<Value> {
        let leaves = |v: &Value| match &self.choice[v.0 as usize] {
            Some(Choice::Again { leaves, .. }) => leaves.len(),
            Some(Choice::Store) | None => 0,
        };
        let again = self.list[c].computes.iter().copied().filter(|v| self.of[v.0 as usize].is_some_and(|home| home != c) && leaves(v) > 1);
        again.max_by_key(|v| (leaves(v), std::cmp::Reverse(*v)))
    }

    fn choose_all(&mut self, forced: &[bool]) {
        for v in self.prepared.program.values() {
            self.choice[v.0 as usize] = Some(self.choose(v, forced[v.0 as usize]));
        }
    }

    /// Whether the operand number `i` of a product is cheap enough to be computed for each tile that loads it.
    fn is_computed_while_loaded(&self, product: Value, i: usize) -> bool {
        let program = &self.prepared.program;
        let (x, other) = (program.args(product)[i], program.args(product)[1 - i]);
        let Some(Choice::Again { ops, .. }) = &self.choice[x.0 as usize] else { return true };
        let columns = program.axes.count(program.axes_of(other) & (program.axes_of(product) - program.axes_of(x)));
        let (slow, draws) = self.costly(x);
        let loads = columns.div_ceil(TILE);
        !slow && (draws == 0 || loads <= MOST_DRAWN) && ops.saturating_sub(draws * DRAWING) <= MOST_LOADING
    }

    /// Whether computing `x` again takes a slow op, and how many numbers it draws.
    fn costly(&self, x: Value) -> (bool, usize) {
        let program = &self.prepared.program;
        if matches!(self.choice[x.0 as usize], Some(Choice::Store)) {
            return (false, 0);
        }
        let own = (program.op(x).class() == Class::Slow, matches!(program.op(x), Op::Normal(_)) as usize);
        program.args(x).iter().map(|&a| self.costly(a)).fold(own, |all, one| (all.0 || one.0, all.1 + one.1))
    }

    fn choose(&self, v: Value, forced: bool) -> Choice {
        let program = &self.prepared.program;
        let op = program.op(v);
        match op {
            Op::Input(_) => return Choice::Again { leaves: vec![v], ops: 0 },
            // Its numbers are new ones after the update.
            Op::Param(p) if self.pinned.contains(p) => return Choice::Store,
            Op::Param(_) => return Choice::Again { leaves: vec![v], ops: 0 },
            op if is_free(op) => return Choice::Again { leaves: Vec::new(), ops: 0 },
            Op::Normal(_) if self.ability.fuses && !forced => {}
            op if !is_map(op) || forced || *op == COPY => return Choice::Store,
            _ => {}
        }
        let mut leaves: Vec<Value> = Vec::new();
        let mut ops = if matches!(op, Op::Normal(_)) { DRAWING } else { 1 };
        for &a in program.args(v) {
            match self.choice[a.0 as usize].as_ref().expect("operands come first") {
                Choice::Store if matches!(program.op(source(program, a)), Op::Param(_)) => return Choice::Store,
                Choice::Store => leaves.push(a),
                Choice::Again { leaves: l, ops: n } => {
                    leaves.extend(l);
                    ops += n;
                }
            }
        }
        leaves.sort_unstable();
        leaves.dedup();
        let count = |v: Value| program.axes.count(program.axes_of(v)) as f64;
        let read: f64 = leaves.iter().map(|&l| count(l)).sum();
        let slow = op.class() == Class::Slow && read > 0.25 * count(v);
        let most_read = if self.ability.fuses { MOST_READ_FUSED } else { MOST_READ };
        match ops <= MOST_AGAIN && read <= most_read * count(v) && !slow {
            true => Choice::Again { leaves, ops },
            false => Choice::Store,
        }
    }
}
