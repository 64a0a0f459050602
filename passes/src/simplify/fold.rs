//! Normal forms by construction, once derivatives are taken. Marks go; a select with equal branches is its branch; a mask made of deltas sinks
//! to the outside of linear ops; a sum under a delta is a renaming; bound axes go by their original's name. The replicated loss, written
//! out as one copy for each patch and group, loses its copies here, because what they share becomes equal and what they do not share stands
//! under a delta. No law knows a loss. While a program still has losses, derivatives may come: then marks stay, and so do the types of
//! marked values.
//!
//! Each law is a row of [`super::rules::RULES`], with its arithmetic. Read [`Laws::make`] first.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use pushforward_ir::axis::AxisId;
use pushforward_ir::op::Class;
use pushforward_ir::program::{Loss, rebuild};
use pushforward_ir::{AxisSet, Builder, DType, Op, Program, Value};

use super::Settings;
use super::rules::{RULES, row};
use crate::util::{Renames, expand, rename_op};

// A law without a row in the table does not compile.
const BOUND_NAME: usize = row("bound-name");
const COMMUTE: usize = row("commute");
const DELTA_SUM: usize = row("delta-sum");
const DROP_MARK: usize = row("drop-mark");
const EQ_DELTA: usize = row("eq-delta");
const MASK_CASES: usize = row("mask-cases");
const MASK_COMPLEMENT: usize = row("mask-complement");
const MASK_FACTOR: usize = row("mask-factor");
const MASK_OUT: usize = row("mask-out");
const MAX_ABSENT: usize = row("max-absent");
const RENAME_JOIN: usize = row("rename-join");
const RENAME_PUSH: usize = row("rename-push");
const SELECT_NESTED: usize = row("select-nested");
const SELECT_SAME: usize = row("select-same");

/// The laws that may be used, and how often each was, by place.
pub struct Laws<'a> {
    settings: &'a Settings,
    fired: RefCell<BTreeMap<(usize, u32), usize>>,
    /// Numbers of the laws used since this was last emptied.
    recent: RefCell<Vec<usize>>,
}

/// What [`run`] made of one value.
#[derive(Clone, Debug)]
pub struct Form {
    pub old: Value,
    /// Its operands' new values.
    pub operands: Vec<Value>,
    pub new: Value,
    /// Laws by which the op on them is the new value.
    pub laws: Vec<&'static str>,
}

impl<'a> Laws<'a> {
    pub fn new(settings: &'a Settings) -> Laws<'a> {
        Laws { settings, fired: RefCell::default(), recent: RefCell::default() }
    }

    /// By number of the rule in the table, and origin.
    pub fn fired(self) -> BTreeMap<(usize, u32), usize> {
        self.fired.into_inner()
    }

    /// Whether the rule of that number may be used; if so it is counted.
    fn may(&self, b: &Builder, law: usize) -> bool {
        let may = self.settings.allows(&RULES[law]);
        if may {
            *self.fired.borrow_mut().entry((law, b.origin)).or_default() += 1;
            let mut recent = self.recent.borrow_mut();
            if !recent.contains(&law) {
                recent.push(law);
            }
        }
        may
    }

    /// Results keep their bits.
    fn is_exact(&self) -> bool {
        self.settings.rules == super::Rules::Exact
    }
}

pub fn run(program: &Program, laws: &Laws) -> Program {
    traced(program, laws).0
}

/// [`run`]; and before what is not needed was dropped, the new program with every value's form.
pub fn traced(program: &Program, laws: &Laws) -> (Program, Program, Vec<Form>) {
    let mut forms = Vec::new();
    let marks = |l: &Loss| [Some(l.value), l.local.as_ref().map(|m| m.at), l.local.as_ref().and_then(|m| m.copies)];
    let marked: Vec<Value> = program.losses.iter().flat_map(marks).flatten().collect();
    let folded = rebuild(program, |b, v, args| {
        laws.recent.borrow_mut().clear();
        let y = match program.op(v) {
            Op::StopGradient | Op::Activity(_) if program.losses.is_empty() && laws.may(b, DROP_MARK) => args[0],
            op => {
                let y = laws.make(b, op, args);
                if marked.contains(&v) { expand(b, y, program.axes_of(v)) } else { y }
            }
        };
        let used = laws.recent.borrow().iter().map(|&i| RULES[i].name).collect();
        forms.push(Form { old: v, operands: args.to_vec(), new: y, laws: used });
        y
    });
    let whole = folded.clone();
    // A value that turns out constant along an axis loses it; at the border it is written out again.
    let mut outputs = folded.outputs.clone();
    let mut b = Builder::new(folded);
    for output in &mut outputs {
        output.value = expand(&mut b, output.value, output.port.ty().axes);
    }
    b.program_mut().outputs = outputs;
    (crate::dce::run(&b.finish()), whole, forms)
}

impl Laws<'_> {
    /// `op(x..)` in normal form; operands are in normal form, and may have lost axes along which they are constant.
    pub fn make(&self, b: &mut Builder, op: &Op, x: &[Value]) -> Value {
        match op {
            Op::Select => self.select(b, x),
            Op::Neg | Op::Cast(_) => match masked(b, x[0]) {
                Some((mask, inner)) if self.may(b, MASK_OUT) => {
                    let y = b.op(op.clone(), &[inner]);
                    under(b, mask, y)
                }
                Some(_) | None => b.op(op.clone(), x),
            },
            Op::Div => match masked(b, x[0]) {
                Some((mask, inner)) if self.may(b, MASK_OUT) => {
                    let y = b.op(Op::Div, &[inner, x[1]]);
                    under(b, mask, y)
                }
                Some(_) | None => b.op(Op::Div, x),
            },
            Op::Add | Op::Sub => self.sum_of_two(b, op, x),
            Op::Mul => self.product(b, x),
            Op::Sum(over) | Op::Contract(over) => self.reduce(b, x, *over),
            Op::Max(over) => {
                let present = *over & b.axes_of(x[0]);
                if present != *over && !self.may(b, MAX_ABSENT) {
                    let x = expand(b, x[0], *over);
                    return b.op(op.clone(), &[x]);
                }
                let (x, over) = self.canonical_bound(b, x.to_vec(), present);
                if over.is_empty() { x[0] } else { b.op(Op::Max(over), &x) }
            }
            Op::Rename(pairs) => match masked(b, x[0]) {
                Some((mask, inner))
                    if pairs.iter().all(|(from, to)| !b.axes_of(mask).contains(*from) && !b.axes_of(mask).contains(*to))
                        && self.may(b, MASK_OUT) =>
                {
                    let y = self.renamed(b, inner, pairs);
                    under(b, mask, y)
                }
                Some(_) | None => self.renamed(b, x[0], pairs),
            },
            Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => b.op(op.clone(), x),
            // Outside of its axis a read gives 0, so it is not constant along it even if its operand is.
            Op::Window(affine) => {
                let table = expand(b, x[0], AxisSet::of([affine.axis]));
                b.op(op.clone(), &[table])
            }
            Op::Gather(axis) => {
                let table = expand(b, x[0], AxisSet::of([*axis]));
                b.op(op.clone(), &[table, x[1]])
            }
            Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt | Op::Relu => b.op(op.clone(), x),
            Op::Eq => match (b.program().op(x[0]), b.program().op(x[1])) {
                (&Op::Iota(l), &Op::Iota(r)) if l != r && b.program().axes.size(l) == b.program().axes.size(r) && self.may(b, EQ_DELTA) => {
                    b.op(Op::Delta((l, r)), &[])
                }
                _ => b.op(Op::Eq, x),
            },
            Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Ne | Op::And | Op::Or | Op::Not => b.op(op.clone(), x),
            Op::StopGradient | Op::Activity(_) => b.op(op.clone(), x),
        }
    }

    fn select(&self, b: &mut Builder, x: &[Value]) -> Value {
        let (mask, mut yes, mut no) = (x[0], x[1], x[2]);
        if yes == no && self.may(b, SELECT_SAME) {
            return yes;
        }
        // Inside a branch the same mask is decided.
        let branch = |b: &Builder, v: Value, which: usize| match (b.program().op(v), b.program().args(v)) {
            (Op::Select, args) if args[0] == mask => Some(args[which]),
            _ => None,
        };
        if let Some(inner) = branch(b, yes, 1).filter(|_| self.may(b, SELECT_NESTED)) {
            yes = inner;
        }
        if let Some(inner) = branch(b, no, 2).filter(|_| self.may(b, SELECT_NESTED)) {
            no = inner;
        }
        // A mask under another select goes outside.
        match masked(b, yes) {
            Some((outer, inner)) if is_zero(b, no) && self.may(b, MASK_OUT) => {
                let kept = b.op(Op::Select, &[mask, inner, no]);
                under(b, outer, kept)
            }
            Some(_) | None => b.op(Op::Select, &[mask, yes, no]),
        }
    }

    fn sum_of_two(&self, b: &mut Builder, op: &Op, x: &[Value]) -> Value {
        if let (Some((m, l)), Some((n, r))) = (masked(b, x[0]), masked(b, x[1]))
            && m == n
            && self.may(b, MASK_OUT)
        {
            let y = b.op(op.clone(), &[l, r]);
            return under(b, m, y);
        }
        // 1 - cast(m) is 0 where m holds.
        let cases = |b: &Builder, v: Value| cases(b, v).or_else(|| indicator(b, v));
        let (l, r) = (cases(b, x[0]), cases(b, x[1]));
        let one_mask = match (&l, &r) {
            (Some(l), Some(r)) => l.mask == r.mask,
            (Some(l), None) | (None, Some(l)) => l.is_constant(b) && (constant(b, x[0]).is_some() || constant(b, x[1]).is_some()),
            (None, None) => false,
        };
        if !one_mask || !self.may(b, MASK_CASES) {
            return b.op(op.clone(), x);
        }
        let mask = l.as_ref().or(r.as_ref()).expect("one of them has cases").mask;
        let dtype = b.ty(x[0]).dtype;
        let side = |b: &mut Builder, c: &Option<Cases>, v: Value, yes: bool| match c {
            Some(c) => c.branch(b, dtype, yes),
            None => v,
        };
        let [yes, no] = [true, false].map(|yes| {
            let (left, right) = (side(b, &l, x[0], yes), side(b, &r, x[1], yes));
            add(b, op, left, right)
        });
        self.select(b, &[mask, yes, no])
    }

    fn product(&self, b: &mut Builder, x: &[Value]) -> Value {
        if let (Some(l), Some(r)) = (indicator(b, x[0]), indicator(b, x[1]))
            && self.may(b, MASK_FACTOR)
        {
            let both = if l.mask == r.mask { l.mask } else { b.op(Op::And, &[l.mask.min(r.mask), l.mask.max(r.mask)]) };
            return b.op(b.program().op(x[0]).clone(), &[both]);
        }
        for (i, &f) in x.iter().enumerate() {
            let other = x[1 - i];
            let Some(cases) = indicator(b, f).or_else(|| cases(b, f).filter(|c| c.is_constant(b))) else { continue };
            if constant(b, other).is_some() || !self.may(b, MASK_FACTOR) {
                continue;
            }
            let dtype = b.ty(f).dtype;
            let [yes, no] = [true, false].map(|yes| {
                let c = cases.branch(b, dtype, yes);
                match constant(b, c) {
                    Some(0.0) => c,
                    Some(1.0) => other,
                    Some(_) | None => b.op(Op::Mul, &[other, c]),
                }
            });
            return self.select(b, &[cases.mask, yes, no]);
        }
        match self.unmask(b, x) {
            Some((mask, factors)) => {
                let y = self.product(b, &factors);
                under(b, mask, y)
            }
            None => {
                let factors = self.sorted(b, x.to_vec());
                b.op(Op::Mul, &factors)
            }
        }
    }
}

/// A value that is one of two by a comparison of axes.
struct Cases {
    mask: Value,
    /// `None`: the number.
    yes: Result<Value, f64>,
    no: Result<Value, f64>,
}

impl Cases {
    fn branch(&self, b: &mut Builder, dtype: DType, yes: bool) -> Value {
        match if yes { self.yes } else { self.no } {
            Ok(v) => v,
            Err(n) => b.constant(n, dtype),
        }
    }

    fn is_constant(&self, b: &Builder) -> bool {
        let number = |side: Result<Value, f64>| side.map_or(true, |v| constant(b, v).is_some());
        number(self.yes) && number(self.no)
    }
}

/// `select(mask, x, y)` by a mask that compares axes, x or y a number.
fn cases(b: &Builder, v: Value) -> Option<Cases> {
    match (b.program().op(v), b.program().args(v)) {
        (Op::Select, &[mask, yes, no]) if pairs(b.program(), mask).is_some() => Some(Cases { mask, yes: Ok(yes), no: Ok(no) }),
        _ => None,
    }
}

/// `cast(mask)`: 1 or 0.
fn indicator(b: &Builder, v: Value) -> Option<Cases> {
    match (b.program().op(v), b.program().args(v)) {
        (Op::Cast(to), &[mask]) if to.is_float() && pairs(b.program(), mask).is_some() => Some(Cases { mask, yes: Err(1.0), no: Err(0.0) }),
        _ => None,
    }
}

fn constant(b: &Builder, v: Value) -> Option<f64> {
    match b.program().op(v) {
        Op::Const(n) => Some(n.value()),
        _ => None,
    }
}

/// `l + r` or `l - r`, numbers added and zeros left out.
fn add(b: &mut Builder, op: &Op, l: Value, r: Value) -> Value {
    let dtype = b.ty(l).dtype;
    let minus = *op == Op::Sub;
    match (constant(b, l), constant(b, r)) {
        (Some(x), Some(y)) => b.constant(if minus { x - y } else { x + y }, dtype),
        (_, Some(0.0)) => l,
        (Some(0.0), _) if !minus => r,
        _ => b.op(op.clone(), &[l, r]),
    }
}

// ---- masks made of deltas

/// `select(mask, inner, 0)` where the mask is nothing but comparisons of axes.
fn masked(b: &Builder, v: Value) -> Option<(Value, Value)> {
    let program = b.program();
    match (program.op(v), program.args(v)) {
        (Op::Select, &[mask, inner, zero]) if is_zero(b, zero) && pairs(program, mask).is_some() => Some((mask, inner)),
        _ => None,
    }
}

fn is_zero(b: &Builder, v: Value) -> bool {
    matches!(b.program().op(v), Op::Const(n) if n.value() == 0.0)
}

/// The pairs of axes that a mask compares, if it does nothing else.
fn pairs(program: &Program, mask: Value) -> Option<Vec<(AxisId, AxisId)>> {
    match (program.op(mask), program.args(mask)) {
        (Op::Delta(pair), _) => Some(vec![*pair]),
        (Op::And, &[l, r]) => Some([pairs(program, l)?, pairs(program, r)?].concat()),
        _ => None,
    }
}

fn under(b: &mut Builder, mask: Value, inner: Value) -> Value {
    let (mask, inner) = match masked(b, inner) {
        Some((other, inner)) if other != mask => (b.op(Op::And, &[mask.min(other), mask.max(other)]), inner),
        Some((_, inner)) => (mask, inner),
        None => (mask, inner),
    };
    let zero = b.constant(0.0, b.ty(inner).dtype);
    b.op(Op::Select, &[mask, inner, zero])
}

fn conjunction(b: &mut Builder, pairs: &[(AxisId, AxisId)]) -> Option<Value> {
    let mut all = None;
    for &pair in pairs {
        let d = b.op(Op::Delta(pair), &[]);
        all = Some(match all {
            Some(a) => b.op(Op::And, &[a, d]),
            None => d,
        });
    }
    all
}

/// A summed axis of `pair` and the one that can stand for it.
fn removable(b: &Builder, factors: &[Value], over: AxisSet, (l, r): (AxisId, AxisId)) -> Option<(AxisId, AxisId)> {
    let apart = factors.iter().all(|&f| !(b.axes_of(f).contains(l) && b.axes_of(f).contains(r)));
    let (bound, free) = if over.contains(r) { (r, l) } else { (l, r) };
    (apart && over.contains(bound)).then_some((bound, free))
}

impl Laws<'_> {
    /// Factors with their one common mask taken off; `None` if there is none, or several.
    fn unmask(&self, b: &Builder, x: &[Value]) -> Option<(Value, Vec<Value>)> {
        let mut mask = None;
        let mut factors = Vec::new();
        for &f in x {
            match masked(b, f) {
                Some((m, _)) if mask.is_some_and(|n| n != m) => return None,
                Some((m, inner)) => {
                    mask = Some(m);
                    factors.push(inner);
                }
                None => factors.push(f),
            }
        }
        mask.filter(|_| self.may(b, MASK_OUT)).map(|m| (m, factors))
    }

    /// Products commute; one order lets equal ones meet.
    fn sorted(&self, b: &Builder, factors: Vec<Value>) -> Vec<Value> {
        let mut sorted = factors.clone();
        sorted.sort_unstable();
        // Three factors are rounded twice, in their order.
        if self.is_exact() && factors.len() > 2 {
            return factors;
        }
        if sorted == factors || self.may(b, COMMUTE) { sorted } else { factors }
    }

    /// Sum over `over` of the product of `x`.
    fn reduce(&self, b: &mut Builder, x: &[Value], over: AxisSet) -> Value {
        let join = x.iter().fold(AxisSet::EMPTY, |all, &f| all | b.axes_of(f));
        // A sum of equal numbers has other bits than their multiple.
        let mut x = x.to_vec();
        if self.is_exact() && over.is_empty() && b.ty(x[0]).dtype.is_float() {
            // A sum begins with 0: it has no -0.
            return b.op(Op::Contract(over), &x);
        }
        if self.is_exact() && !over.is_subset(join) {
            x[0] = expand(b, x[0], over - join);
        }
        if let Some(y) = self.complement(b, &x, over) {
            return y;
        }
        let Some((mask, factors)) = self.unmask(b, &x) else {
            let (x, over) = self.canonical_bound(b, x, over);
            let x = self.sorted(b, x);
            return b.contract(&x, over);
        };
        let (mut factors, mut over) = (factors, over);
        let mut equal = pairs(b.program(), mask).expect("a mask is made of deltas");
        // sum over `bound` of delta(free, bound) f = f with `free` for `bound`, unless a factor depends on both.
        while let Some((bound, free)) = equal.iter().find_map(|&pair| removable(b, &factors, over, pair)) {
            if !self.may(b, DELTA_SUM) {
                break;
            }
            factors = factors.iter().map(|&f| self.substitute(b, f, bound, free)).collect();
            over = over.without(bound);
            let now = |a: AxisId| if a == bound { free } else { a };
            equal = equal.iter().map(|&(l, r)| (now(l), now(r))).filter(|(l, r)| l != r).collect();
        }
        let (inside, outside): (Vec<_>, Vec<_>) = equal.into_iter().partition(|&(l, r)| over.contains(l) || over.contains(r));
        if let Some(mask) = conjunction(b, &inside) {
            factors[0] = under(b, mask, factors[0]);
        }
        let (factors, over) = self.canonical_bound(b, factors, over);
        let factors = self.sorted(b, factors);
        let y = b.contract(&factors, over);
        match conjunction(b, &outside) {
            Some(mask) => under(b, mask, y),
            None => y,
        }
    }

    /// The sum of all but what a factor's mask leaves out: of all, less that.
    fn complement(&self, b: &mut Builder, x: &[Value], over: AxisSet) -> Option<Value> {
        let left_out = |b: &Builder, v: Value| match (b.program().op(v), b.program().args(v)) {
            (Op::Select, &[mask, zero, y]) if is_zero(b, zero) => Some((mask, y, pairs(b.program(), mask)?)),
            _ => None,
        };
        let (i, (mask, y, pairs)) = x.iter().enumerate().find_map(|(i, &f)| Some((i, left_out(b, f)?)))?;
        let mut all = x.to_vec();
        all[i] = y;
        let one = pairs.iter().all(|&pair| removable(b, &all, over, pair).is_some());
        if !one || !self.may(b, MASK_COMPLEMENT) {
            return None;
        }
        let mut some = all.clone();
        some[i] = under(b, mask, y);
        let (all, some) = (self.reduce(b, &all, over), self.reduce(b, &some, over));
        Some(b.op(Op::Sub, &[all, some]))
    }

    /// A summed axis that mirrors another goes by that one's name, where it is free: equal sums meet.
    fn canonical_bound(&self, b: &mut Builder, x: Vec<Value>, over: AxisSet) -> (Vec<Value>, AxisSet) {
        let mut x = x;
        let mut over = over;
        // The order of axes is the order of a sum.
        if self.is_exact() && over.len() > 1 {
            return (x, over);
        }
        for bound in over.iter() {
            let Some(original) = b.program().axes[bound].like else { continue };
            let taken = over.contains(original) || x.iter().any(|&f| b.axes_of(f).contains(original));
            if !taken && self.may(b, BOUND_NAME) {
                x = x.iter().map(|&f| self.substitute(b, f, bound, original)).collect();
                over = over.without(bound).with(original);
            }
        }
        (x, over)
    }

    // ---- renaming

    /// `v` with `to` for `from`, pushed down to the leaves so that renamings meet and cancel. `v` does not depend on `to`.
    fn substitute(&self, b: &mut Builder, v: Value, from: AxisId, to: AxisId) -> Value {
        let mut done = HashMap::new();
        self.push_down(b, v, from, to, &mut done)
    }

    fn push_down(&self, b: &mut Builder, v: Value, from: AxisId, to: AxisId, done: &mut HashMap<Value, Value>) -> Value {
        if !b.axes_of(v).contains(from) {
            return v;
        }
        if let Some(&y) = done.get(&v) {
            return y;
        }
        let node = b.program().node(v).clone();
        let stop = match &node.op {
            Op::Rename(_) | Op::Input(_) | Op::Param(_) | Op::Normal(_) | Op::Seed(_) => true,
            // `to` is bound inside: stop here rather than capture it.
            Op::Sum(over) | Op::Max(over) | Op::Contract(over) => over.contains(to),
            Op::Window(_) | Op::Gather(_) | Op::StopGradient | Op::Activity(_) => true,
            Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Select | Op::Cast(_) => false,
            Op::Add | Op::Sub | Op::Mul | Op::Neg | Op::Div => false,
            Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt | Op::Relu => false,
            Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => false,
        };
        let y = if stop || !self.may(b, RENAME_PUSH) {
            self.joined(b, v, &[(from, to)])
        } else {
            // The operands go by the new name, and so does the op.
            let args: Vec<Value> = node.args.iter().map(|&a| self.push_down(b, a, from, to, done)).collect();
            b.op(rename_op(&node.op, &Renames::from([(from, to)])), &args)
        };
        done.insert(v, y);
        y
    }

    /// `rename[pairs](x)`. What goes by a mirror's name and is given the original's could have had it from the start.
    fn renamed(&self, b: &mut Builder, x: Value, pairs: &[(AxisId, AxisId)]) -> Value {
        let named: Vec<_> = pairs.iter().copied().filter(|(from, _)| b.axes_of(x).contains(*from)).collect();
        let back = |&(from, to): &(AxisId, AxisId)| b.program().axes[from].like == Some(to) && !b.axes_of(x).contains(to);
        let computed = !matches!(b.program().op(x).class(), Class::Leaf | Class::Rename);
        if computed && !named.is_empty() && named.iter().all(back) && self.may(b, RENAME_PUSH) {
            return named.iter().fold(x, |x, &(from, to)| self.substitute(b, x, from, to));
        }
        self.joined(b, x, pairs)
    }

    /// `rename[pairs](x)`, joined with a renaming that `x` is itself.
    fn joined(&self, b: &mut Builder, x: Value, pairs: &[(AxisId, AxisId)]) -> Value {
        let Op::Rename(inner) = b.program().op(x).clone() else { return b.rename(x, pairs) };
        let source = b.program().args(x)[0];
        if !self.may(b, RENAME_JOIN) {
            return b.rename(x, pairs);
        }
        let step = |pairs: &[(AxisId, AxisId)], a: AxisId| pairs.iter().find(|p| p.0 == a).map_or(a, |p| p.1);
        let joined: Vec<(AxisId, AxisId)> =
            b.axes_of(source).iter().map(|a| (a, step(pairs, step(&inner, a)))).filter(|(a, c)| a != c).collect();
        b.rename(source, &joined)
    }
}
