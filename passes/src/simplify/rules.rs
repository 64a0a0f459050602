//! The table of rules. A rule is a row: what it says, when, in which arithmetic, and why it is there. Those with a function are searched for in
//! the e-graph; those without hold by construction, in [`super::fold`]. No rule knows a loss, a layer or a model, and none looks at costs.

use egg::Id;
use pushforward_ir::op::Number;
use pushforward_ir::{AxisSet, Op};

use super::Rules;
use super::term::{Coefficient, Graph, Head, Term};

/// A row of [`RULES`].
pub struct Rule {
    pub name: &'static str,
    /// Rules that are of use together only.
    pub family: &'static str,
    pub left: &'static str,
    pub right: &'static str,
    pub condition: &'static str,
    pub arithmetic: Rules,
    pub why: &'static str,
    /// It waits for the second stage, when contractions have found their order.
    pub late: bool,
    /// It makes a difference of what was a sum of differences: zeros become what is beside zero, so it keeps away from what decides a comparison.
    pub cancels: bool,
    /// Equalities that it gives for a node.
    search: Option<Search>,
}

/// What a rule finds at a node.
type Search = fn(&Graph, &Term) -> Vec<Equality>;

/// A term over classes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Tree {
    Class(Id),
    Node(Head, Vec<Tree>),
}

/// Two terms of one value.
pub struct Equality {
    pub left: Tree,
    pub right: Tree,
}

impl Rule {
    /// Whether the e-graph looks for it.
    pub fn is_searched(&self) -> bool {
        self.search.is_some()
    }

    pub fn matches(&self, graph: &Graph, node: &Term) -> Vec<Equality> {
        self.search.map_or(Vec::new(), |search| search(graph, node))
    }
}

/// The number of the rule `name`, looked up when this is compiled.
pub(super) const fn row(name: &str) -> usize {
    let mut i = 0;
    while i < RULES.len() {
        let (a, b) = (RULES[i].name.as_bytes(), name.as_bytes());
        let mut at = 0;
        while at < a.len() && at < b.len() && a[at] == b[at] {
            at += 1;
        }
        if at == a.len() && at == b.len() {
            return i;
        }
        i += 1;
    }
    panic!("no rule has this name")
}

/// A rule without a function: `fold` applies it wherever it can.
const fn construction(
    name: &'static str,
    family: &'static str,
    sides: [&'static str; 2],
    condition: &'static str,
    arithmetic: Rules,
    why: &'static str,
) -> Rule {
    Rule { name, family, left: sides[0], right: sides[1], condition, arithmetic, why, late: false, cancels: false, search: None }
}

/// A rule of the e-graph: real-number algebra.
pub(super) const fn rule(
    name: &'static str,
    family: &'static str,
    sides: [&'static str; 2],
    condition: &'static str,
    search: Search,
    why: &'static str,
) -> Rule {
    Rule {
        name,
        family,
        left: sides[0],
        right: sides[1],
        condition,
        arithmetic: Rules::Relaxed,
        why,
        late: false,
        cancels: false,
        search: Some(search),
    }
}

/// Factors that one product may have: more are not flattened into it, so that finding their order stays cheap.
const MOST_FACTORS: usize = 8;

/// Factors of a product that takes part in distribution: larger ones are made of such.
const MOST_DISTRIBUTED: usize = 3;

/// Terms that one sum may have.
const MOST_TERMS: usize = 8;

pub const RULES: &[Rule] = &[
    construction(
        "drop-mark",
        "marks",
        ["stop_gradient(x)", "x"],
        "no derivative is taken any more",
        Rules::Exact,
        "Marks speak to differentiation; behind them the same value has two names.",
    ),
    construction(
        "select-same",
        "masks",
        ["select(m, x, x)", "x"],
        "",
        Rules::Exact,
        "The primal of a copy is the value itself: its dependence on the copy's number ends here.",
    ),
    construction(
        "select-nested",
        "masks",
        ["select(m, select(m, x, y), z)", "select(m, x, z)"],
        "",
        Rules::Exact,
        "The mask of a ReLU and that of the noise before it are one.",
    ),
    construction(
        "max-absent",
        "names",
        ["max[A](x)", "x"],
        "x does not depend on A",
        Rules::Exact,
        "What is constant along an axis is its own maximum there.",
    ),
    construction(
        "rename-push",
        "names",
        ["rename[A -> B](op(x))", "op(rename[A -> B](x))"],
        "B is not bound in op",
        Rules::Exact,
        "Renamings meet at the leaves, where they cancel or agree.",
    ),
    construction(
        "rename-join",
        "names",
        ["rename[B -> C](rename[A -> B](x))", "rename[A -> C](x)"],
        "",
        Rules::Exact,
        "A round trip of names is no trip.",
    ),
    construction(
        "bound-name",
        "names",
        ["sum[A'](x(A'))", "sum[A](x(A))"],
        "A' mirrors A, and A is free; it is the only axis, or rules are relaxed",
        Rules::Exact,
        "A sum does not depend on the name of its axis: equal sums meet.",
    ),
    construction(
        "commute",
        "names",
        ["x * y", "y * x"],
        "y was computed before x; there are two factors, or rules are relaxed",
        Rules::Exact,
        "One order of factors lets equal products meet.",
    ),
    construction(
        "eq-delta",
        "masks",
        ["iota[A]() == iota[B]()", "delta(A, B)"],
        "A and B have one size",
        Rules::Exact,
        "A comparison of two axes has one form.",
    ),
    construction(
        "mask-factor",
        "masks",
        ["x * cast(m)", "select(m, x, 0)"],
        "m is a comparison of axes",
        Rules::Relaxed,
        "A mask written as a factor is a mask.",
    ),
    construction(
        "mask-cases",
        "masks",
        ["select(m, x, 0) + select(m, 0, y)", "select(m, x, y)"],
        "m is a comparison of axes",
        Rules::Relaxed,
        "Two halves of a value that never overlap are one value with two cases.",
    ),
    construction(
        "mask-out",
        "masks",
        ["op(select(m, x, 0))", "select(m, op(x), 0)"],
        "op is linear, m a comparison of axes that op does not reduce",
        Rules::Relaxed,
        "The mask that says whose copy this is moves outwards, to the sum that it makes small.",
    ),
    construction(
        "delta-sum",
        "masks",
        ["sum[B](select(delta(A, B), x(B), 0))", "x(A)"],
        "x does not depend on A",
        Rules::Relaxed,
        "A sum with one term that is not zero is that term.",
    ),
    construction(
        "mask-complement",
        "masks",
        ["sum[B](select(delta(A, B), 0, x(B)))", "sum[B](x(B)) - x(A)"],
        "x does not depend on A",
        Rules::Relaxed,
        "All but one are all less one.",
    ),
    rule(
        "unit",
        "products",
        ["sum[A](1 * c * x)", "c * size(A) * x"],
        "c is a number, x does not depend on A",
        unit,
        "Numbers and sizes leave products.",
    ),
    rule(
        "scale-out",
        "products",
        ["sum[A]((c * x) * y)", "c * sum[A](x * y)"],
        "c is a number",
        scale_out,
        "Scaled copies of one value would hide that they are one.",
    ),
    rule(
        "flatten",
        "products",
        ["sum[A](x * sum[B](y * z))", "sum[A, B](x * y * z)"],
        "x does not depend on B; if B is not empty, the inner sum depends on A, or x on no axis that it has not",
        flatten,
        "Only the product of all factors at once shows which order is cheap.",
    ),
    rule(
        "merge",
        "sums",
        ["a * (b * x + y) + c * x", "(a * b + c) * x + a * y"],
        "a, b, c are numbers",
        merge,
        "Equal terms of a sum are one; those that cancel are none.",
    ),
    rule(
        "coefficient",
        "sums",
        ["c * x + c * y", "c * (x + y)"],
        "c is a number",
        coefficient,
        "Multiples of one sum are multiples of one value.",
    ),
    rule(
        "distribute",
        "sums",
        ["sum[A](x * (y + z))", "sum[A](x * y) + sum[A](x * z)"],
        "y or z is a contraction, and one of them or a factor lacks an axis of A",
        distribute,
        "A contraction that stands in a sum can join the one around it, and take another order.",
    ),
    Rule {
        late: true,
        cancels: true,
        ..rule(
            "affine",
            "sums",
            ["sum[A]((x - m) * w)", "sum[A](x * w) - m * sum[A](w)"],
            "the result is smaller than x, m or a factor of it lacks an axis of A; in the second stage, where no comparison depends on it",
            affine,
            "The affine part of a norm goes behind a contraction that narrows: the norm itself is not written.",
        )
    },
    rule("factor", "sums", ["sum[A](x * y) + sum[A](x * z)", "sum[A](x * (y + z))"], "", factor, "A common factor is used once."),
    rule(
        "mask-product",
        "products",
        ["select(m, x, 0)", "cast(m) * x"],
        "likewise select(m, 0, x) is cast(!m) * x",
        mask_product,
        "As a factor a mask takes part in the order of a contraction.",
    ),
    rule(
        "order",
        "order",
        ["sum[A](x * y * z)", "sum[B](x * sum[C](y * z))"],
        "the cheapest order of all",
        |_, _| Vec::new(),
        "A product of many factors costs what its order costs.",
    ),
];

// ---- trees

fn leaf(id: Id) -> Tree {
    Tree::Class(id)
}

fn leaves(ids: &[Id]) -> Vec<Tree> {
    ids.iter().copied().map(leaf).collect()
}

fn whole(node: &Term) -> Tree {
    Tree::Node(node.head.clone(), leaves(&node.args))
}

/// `node` with argument `i` written out.
fn opened(node: &Term, i: usize, inner: &Term) -> Tree {
    let mut args = leaves(&node.args);
    args[i] = whole(inner);
    Tree::Node(node.head.clone(), args)
}

fn number(value: f64, like: &Graph, of: Id) -> Tree {
    Tree::Node(Head::Op(Op::Const(Number::new(value, like[of].data.dtype))), Vec::new())
}

/// Sum over `over` of the product; the factor itself where there is nothing else to do.
pub fn product(over: AxisSet, factors: Vec<Tree>) -> Tree {
    match <[Tree; 1]>::try_from(factors) {
        Ok([one]) if over.is_empty() => one,
        Ok(one) => Tree::Node(Head::Product(over), one.into()),
        Err(factors) => Tree::Node(Head::Product(over), factors),
    }
}

pub fn combine(terms: Vec<(f64, Tree)>) -> Tree {
    match &terms[..] {
        [(1.0, one)] => one.clone(),
        _ => {
            let (coefficients, args): (Vec<_>, Vec<_>) = terms.into_iter().map(|(c, t)| (Coefficient(c), t)).unzip();
            Tree::Node(Head::Combine(coefficients), args)
        }
    }
}

fn terms(node: &Term) -> Option<Vec<(f64, Id)>> {
    match &node.head {
        Head::Combine(coefficients) => Some(coefficients.iter().map(|c| c.0).zip(node.args.iter().copied()).collect()),
        Head::Leaf(_) | Head::Product(_) | Head::Op(_) => None,
    }
}

fn over(node: &Term) -> Option<AxisSet> {
    match node.head {
        Head::Product(over) => Some(over),
        Head::Leaf(_) | Head::Combine(_) | Head::Op(_) => None,
    }
}

pub fn axes(graph: &Graph, id: Id) -> AxisSet {
    graph[id].data.axes
}

pub fn join(graph: &Graph, ids: &[Id]) -> AxisSet {
    ids.iter().fold(AxisSet::EMPTY, |all, &id| all | axes(graph, id))
}

/// Whether no argument is a number or a multiple: `unit`, `scale-out` and `merge` give every node such a form, and only that takes part in
/// other rules, or scaled copies would multiply what there is to try.
fn is_normal(graph: &Graph, node: &Term) -> bool {
    let multiple = |n: &Term| matches!(&n.head, Head::Combine(c) if c.len() == 1);
    node.args.iter().all(|&id| graph[id].data.constant.is_none() && !graph[id].nodes.iter().any(multiple))
}

fn without(args: &[Id], i: usize) -> Vec<Id> {
    args.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, &id)| id).collect()
}

fn is_zero(graph: &Graph, id: Id) -> bool {
    graph[id].data.constant.is_some_and(|n| n.value() == 0.0)
}

// ---- products

fn unit(graph: &Graph, node: &Term) -> Vec<Equality> {
    let Some(over) = over(node) else { return Vec::new() };
    let absent = over - join(graph, &node.args);
    let (numbers, factors): (Vec<Id>, Vec<Id>) = node.args.iter().partition(|id| graph[**id].data.constant.is_some());
    if numbers.is_empty() && absent.is_empty() && !(over.is_empty() && factors.len() == 1) {
        return Vec::new();
    }
    let scale: f64 = numbers.iter().filter_map(|id| graph[*id].data.constant).map(Number::value).product();
    let scale = scale * graph.analysis.program.axes.count(absent) as f64;
    let right = match factors.is_empty() || scale == 0.0 {
        true => number(scale, graph, node.args[0]),
        false => combine(vec![(scale, product(over - absent, leaves(&factors)))]),
    };
    vec![Equality { left: whole(node), right }]
}

fn scale_out(graph: &Graph, node: &Term) -> Vec<Equality> {
    let Some(over) = over(node) else { return Vec::new() };
    let mut found = Vec::new();
    for (i, &f) in node.args.iter().enumerate() {
        for inner in &graph[f].nodes {
            let Some(&[(c, x)]) = terms(inner).as_deref() else { continue };
            let mut factors = without(&node.args, i);
            factors.push(x);
            found.push(Equality { left: opened(node, i, inner), right: combine(vec![(c, product(over, leaves(&factors)))]) });
        }
    }
    found
}

fn flatten(graph: &Graph, node: &Term) -> Vec<Equality> {
    let Some(outer) = over(node).filter(|_| is_normal(graph, node)) else { return Vec::new() };
    let mut found = Vec::new();
    for (i, &f) in node.args.iter().enumerate() {
        for inner in &graph[f].nodes {
            let Some(bound) = over(inner).filter(|_| is_normal(graph, inner)) else { continue };
            let rest = without(&node.args, i);
            // A plain product takes a contraction in if its other factors only scale it.
            let scales = outer.is_empty() && join(graph, &rest).is_subset(axes(graph, f));
            let depends = bound.is_empty() || scales || !(outer & axes(graph, f)).is_empty();
            let captured = !(bound & (outer | join(graph, &rest))).is_empty();
            if !depends
                || captured
                || rest.len() + inner.args.len() > MOST_FACTORS
                || inner.args.contains(&f)
                || pinned(graph, f, bound, &rest)
            {
                continue;
            }
            let factors: Vec<Id> = rest.into_iter().chain(inner.args.iter().copied()).collect();
            found.push(Equality { left: opened(node, i, inner), right: product(outer | bound, leaves(&factors)) });
        }
    }
    found
}

/// Whether another factor has all axes of the contraction `f`: then no order is cheaper than contracting first.
fn pinned(graph: &Graph, f: Id, bound: AxisSet, rest: &[Id]) -> bool {
    !bound.is_empty() && rest.iter().any(|&r| axes(graph, f).is_subset(axes(graph, r)))
}

fn mask_product(graph: &Graph, node: &Term) -> Vec<Equality> {
    let (Head::Op(Op::Select), &[mask, yes, no]) = (&node.head, &node.args[..]) else { return Vec::new() };
    if !graph[yes].data.dtype.is_float() {
        return Vec::new();
    }
    let (condition, x) = match (is_zero(graph, yes), is_zero(graph, no)) {
        (false, true) => (leaf(mask), yes),
        (true, false) => (Tree::Node(Head::Op(Op::Not), vec![leaf(mask)]), no),
        (true, true) | (false, false) => return Vec::new(),
    };
    let indicator = Tree::Node(Head::Op(Op::Cast(graph[x].data.dtype)), vec![condition]);
    vec![Equality { left: whole(node), right: product(AxisSet::EMPTY, vec![indicator, leaf(x)]) }]
}

/// Whether `id` is 0 or 1 everywhere.
pub fn is_indicator(graph: &Graph, id: Id) -> bool {
    let indicator =
        |n: &Term| matches!((&n.head, &n.args[..]), (Head::Op(Op::Cast(_)), &[c]) if graph[c].data.dtype == pushforward_ir::DType::Bool);
    graph[id].nodes.iter().any(indicator)
}

// ---- sums

fn merge(graph: &Graph, node: &Term) -> Vec<Equality> {
    let Some(outer) = terms(node) else { return Vec::new() };
    if outer.is_empty() {
        let zero = Number::new(0.0, graph.analysis.float);
        return vec![Equality { left: whole(node), right: Tree::Node(Head::Op(Op::Const(zero)), Vec::new()) }];
    }
    if let [(c, x)] = outer[..] {
        if c == 1.0 {
            return vec![Equality { left: whole(node), right: leaf(x) }];
        }
        if let Some(n) = graph[x].data.constant {
            return vec![Equality { left: whole(node), right: number(c * n.value(), graph, x) }];
        }
    }
    let mut found = Vec::new();
    for (i, &(a, x)) in outer.iter().enumerate() {
        for inner in &graph[x].nodes {
            let Some(inner_terms) = terms(inner).filter(|t| t.len() == 1 || is_normal(graph, node) && is_normal(graph, inner)) else {
                continue;
            };
            // Sums in sums stay apart unless something meets.
            let meets = inner_terms.len() == 1 || inner.args.iter().any(|y| *y != x && node.args.contains(y));
            if inner.args.contains(&x) || !meets || outer.len() - 1 + inner_terms.len() > MOST_TERMS {
                continue;
            }
            let mut all: Vec<(f64, Id)> = outer.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, &t)| t).collect();
            all.extend(inner_terms.iter().map(|&(b, y)| (a * b, y)));
            let right = sum(graph, all, x);
            found.push(Equality { left: opened(node, i, inner), right });
        }
    }
    found
}

fn coefficient(_: &Graph, node: &Term) -> Vec<Equality> {
    let Some(all) = terms(node).filter(|t| t.len() > 1) else { return Vec::new() };
    // All minus signs come out with it, some do not.
    let c = if all.iter().all(|t| t.0 < 0.0) { all[0].0 } else { all[0].0.abs() };
    if c == 1.0 || all.iter().any(|t| t.0.abs() != c.abs()) {
        return Vec::new();
    }
    let inner = combine(all.iter().map(|&(d, x)| (d / c, leaf(x))).collect());
    vec![Equality { left: whole(node), right: Tree::Node(Head::Combine(vec![Coefficient(c)]), vec![inner]) }]
}

/// The sum of `terms`, equal ones merged; a number if nothing is left.
fn sum(graph: &Graph, terms: Vec<(f64, Id)>, like: Id) -> Tree {
    let (coefficients, args): (Vec<_>, Vec<_>) = terms.into_iter().map(|(c, id)| (Coefficient(c), graph.find(id))).unzip();
    let term = Term::new(Head::Combine(coefficients), args);
    let merged = self::terms(&term).expect("it is a sum");
    match merged.is_empty() {
        true => number(0.0, graph, like),
        false => combine(merged.into_iter().map(|(c, id)| (c, leaf(id))).collect()),
    }
}

/// Where a term is itself a contraction, which then joins this one.
fn distribute(graph: &Graph, node: &Term) -> Vec<Equality> {
    distributed(graph, node, |inner, rest| inner.args.iter().any(|&t| contracts(graph, t, rest)))
}

/// Where the sum is larger than the result: its terms need not be written.
fn affine(graph: &Graph, node: &Term) -> Vec<Equality> {
    let Some(over) = over(node).filter(|_| !contains_all(graph, node)) else { return Vec::new() };
    let result = size(graph, join(graph, &node.args) - over);
    distributed(graph, node, |inner, _| result < size(graph, join(graph, &inner.args)))
}

fn distributed(graph: &Graph, node: &Term, useful: impl Fn(&Term, &[Id]) -> bool) -> Vec<Equality> {
    let takes_part = |o: &AxisSet| !o.is_empty() && node.args.len() <= MOST_DISTRIBUTED && is_normal(graph, node);
    let Some(over) = over(node).filter(takes_part) else { return Vec::new() };
    let mut found = Vec::new();
    for (i, &f) in node.args.iter().enumerate() {
        let summed = over & axes(graph, f);
        let rest = without(&node.args, i);
        for inner in &graph[f].nodes {
            let Some(inner_terms) = terms(inner).filter(|_| is_normal(graph, inner)) else { continue };
            let varied = inner.args.iter().any(|&t| lacks(graph, t, summed));
            if inner_terms.len() < 2 || inner.args.contains(&f) || !varied || !useful(inner, &rest) {
                continue;
            }
            let part = |t: Id| product(over, leaves(&[&rest[..], &[t]].concat()));
            let right = combine(inner_terms.iter().map(|&(c, t)| (c, part(t))).collect());
            found.push(Equality { left: opened(node, i, inner), right });
        }
    }
    found
}

/// Whether one factor has the axes of all: a reduction, and no contraction.
fn contains_all(graph: &Graph, node: &Term) -> bool {
    let join = join(graph, &node.args);
    node.args.iter().any(|&f| join.is_subset(axes(graph, f)))
}

/// Whether a term is a contraction, and no factor of `rest` keeps it from joining theirs.
fn contracts(graph: &Graph, term: Id, rest: &[Id]) -> bool {
    let contraction = |n: &Term| n.args.len() > 1 && over(n).is_some_and(|o| !o.is_empty() && !pinned(graph, term, o, rest));
    graph[term].nodes.iter().any(contraction)
}

fn size(graph: &Graph, axes: AxisSet) -> f64 {
    super::cost::elements(graph, axes)
}

/// Whether a term, or a factor of it, does not depend on all of `summed`.
fn lacks(graph: &Graph, term: Id, summed: AxisSet) -> bool {
    let misses = |id: Id| !summed.is_subset(axes(graph, id));
    misses(term) || graph[term].nodes.iter().any(|n| over(n).is_some() && n.args.len() > 1 && n.args.iter().any(|&f| misses(f)))
}

fn factor(graph: &Graph, node: &Term) -> Vec<Equality> {
    let Some(all) = terms(node).filter(|_| is_normal(graph, node)) else { return Vec::new() };
    let mut found = Vec::new();
    for (i, &(a, x)) in all.iter().enumerate() {
        for (j, &(b, y)) in all.iter().enumerate().skip(i + 1) {
            for (over, common, l, r) in shared(graph, x, y) {
                let rest = |all: &[Id]| match remove(all, &common) {
                    rest if rest.is_empty() => number(1.0, graph, x),
                    rest => product(AxisSet::EMPTY, leaves(&rest)),
                };
                let inner = combine(vec![(a, rest(&l.0)), (b, rest(&r.0))]);
                let together = product(over, [leaves(&common), vec![inner]].concat());
                let mut terms: Vec<(f64, Tree)> =
                    all.iter().enumerate().filter(|(k, _)| *k != i && *k != j).map(|(_, &(c, t))| (c, leaf(t))).collect();
                terms.push((1.0, together));
                let mut args = leaves(&node.args);
                (args[i], args[j]) = (l.1, r.1);
                found.push(Equality { left: Tree::Node(node.head.clone(), args), right: combine(terms) });
            }
        }
    }
    found
}

/// Factors and the term that they are of.
type Factors = (Vec<Id>, Tree);

/// For every set of summed axes, the two products for `x` and `y` that share most: axes, common factors, both sides.
fn shared(graph: &Graph, x: Id, y: Id) -> Vec<(AxisSet, Vec<Id>, Factors, Factors)> {
    let mut best: Vec<(AxisSet, Vec<Id>, Factors, Factors)> = Vec::new();
    for (over, left, l) in products(graph, x) {
        for (other, right, r) in products(graph, y) {
            let common = common(&left, &right);
            if over != other || common.is_empty() || common.iter().any(|id| graph[*id].data.constant.is_some()) {
                continue;
            }
            // The fewest factors are left to the sum; the first found where that is equal.
            let left_over = |common: &[Id], l: &Factors, r: &Factors| l.0.len() + r.0.len() - 2 * common.len();
            let (l, r) = ((left.clone(), l.clone()), (right, r));
            let this = left_over(&common, &l, &r);
            match best.iter_mut().find(|b| b.0 == over) {
                Some(b) if this < left_over(&b.1, &b.2, &b.3) => *b = (over, common, l, r),
                Some(_) => {}
                None => best.push((over, common, l, r)),
            }
        }
    }
    best
}

/// All ways in which `id` is a product: axes, factors, and the term.
fn products(graph: &Graph, id: Id) -> Vec<(AxisSet, Vec<Id>, Tree)> {
    let alone = (AxisSet::EMPTY, vec![id], leaf(id));
    let written = graph[id].nodes.iter().filter(|n| is_normal(graph, n)).filter_map(|n| Some((over(n)?, n.args.clone(), whole(n))));
    std::iter::once(alone).chain(written).collect()
}

/// What two sorted lists share.
fn common(left: &[Id], right: &[Id]) -> Vec<Id> {
    let mut right = right.to_vec();
    left.iter().filter(|id| right.iter().position(|r| r == *id).map(|at| right.remove(at)).is_some()).copied().collect()
}

fn remove(all: &[Id], some: &[Id]) -> Vec<Id> {
    let mut all = all.to_vec();
    for id in some {
        all.iter().position(|a| a == id).map(|at| all.remove(at));
    }
    all
}
