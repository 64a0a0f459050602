//! Puts solved parts back: a program in which every part is its chosen terms and all else is as it was, in the order in which it was. Nothing
//! is chosen here.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use pushforward_ir::{AxisSet, Builder, DType, Op, Program, Value};

use super::fold;
use super::region::{Region, is_everywhere};
use super::solve::{Chosen, Solution};
use super::term::{Head, present};
use crate::util::expand;

/// Where a value comes from.
#[derive(Clone, Copy)]
enum Source {
    /// Its own op.
    Op,
    /// Term `1` of part `0`.
    Term(usize, usize),
    /// It is inside a part, and nobody asks for it.
    Inside,
}

pub fn emit(program: &Program, laws: &fold::Laws, parts: &[(Region, &Solution)]) -> Program {
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    loop {
        match attempt(program, laws, parts, &kept) {
            Ok(program) => return program,
            // Parts that would need each other's results stay as they are written.
            Err(parts) => kept.extend(parts),
        }
    }
}

fn attempt(program: &Program, laws: &fold::Laws, parts: &[(Region, &Solution)], kept: &BTreeSet<usize>) -> Result<Program, Vec<usize>> {
    let mut source = vec![Source::Op; program.nodes.len()];
    let mut leaves: HashMap<(usize, usize), Vec<Value>> = HashMap::new();
    for (p, (region, solution)) in parts.iter().enumerate().filter(|(p, _)| !kept.contains(p)) {
        for &v in region.nodes.iter().filter(|v| !is_everywhere(program, **v)) {
            source[v.0 as usize] = Source::Inside;
        }
        for (&node, &term) in region.key.outputs.iter().zip(&solution.outputs) {
            source[region.nodes[node].0 as usize] = Source::Term(p, term);
            leaves.insert((p, term), leaves_of(&solution.terms, term).into_iter().map(|l| region.leaves[l]).collect());
        }
    }
    let live = program.live();
    let needs = |v: Value| match source[v.0 as usize] {
        Source::Op => program.args(v),
        Source::Term(p, term) => &leaves[&(p, term)],
        Source::Inside => &[],
    };
    let asked = |v: &Value| live[v.0 as usize] && !matches!(source[v.0 as usize], Source::Inside);

    // In the old order, as far as operands come first.
    let mut waiting: Vec<usize> = vec![0; program.nodes.len()];
    let mut users: Vec<Vec<Value>> = vec![Vec::new(); program.nodes.len()];
    let mut ready = BinaryHeap::new();
    for v in program.values().filter(asked) {
        waiting[v.0 as usize] = needs(v).len();
        needs(v).iter().for_each(|a| users[a.0 as usize].push(v));
        if needs(v).is_empty() {
            ready.push(Reverse(v));
        }
    }
    let mut b = Builder::like(program);
    let mut new: Vec<Option<Value>> = vec![None; program.nodes.len()];
    let mut made: Vec<HashMap<usize, Value>> = vec![HashMap::new(); parts.len()];
    let term_users: Vec<Vec<usize>> = parts.iter().map(|(_, solution)| solution.users()).collect();
    while let Some(Reverse(v)) = ready.pop() {
        b.origin = program.node(v).origin;
        new[v.0 as usize] = Some(match source[v.0 as usize] {
            Source::Term(p, term) => {
                let (region, solution) = &parts[p];
                Terms { program, region, solution, users: &term_users[p], new: &new, made: &mut made[p] }.value(&mut b, term)
            }
            Source::Op | Source::Inside => {
                let args: Vec<Value> = program.args(v).iter().map(|a| new[a.0 as usize].expect("operands are ready")).collect();
                laws.make(&mut b, program.op(v), &args)
            }
        });
        for &u in &users[v.0 as usize] {
            waiting[u.0 as usize] -= 1;
            if waiting[u.0 as usize] == 0 {
                ready.push(Reverse(u));
            }
        }
    }
    let stuck: Vec<usize> = program
        .values()
        .filter(|v| asked(v) && new[v.0 as usize].is_none())
        .filter_map(|v| match source[v.0 as usize] {
            Source::Term(p, _) => Some(p),
            Source::Op | Source::Inside => None,
        })
        .collect();
    if !stuck.is_empty() {
        return Err(stuck);
    }
    let mut outputs = program.outputs.clone();
    for output in &mut outputs {
        let value = new[output.value.0 as usize].expect("outputs are asked for");
        output.value = expand(&mut b, value, output.port.ty().axes);
    }
    b.program_mut().outputs = outputs;
    Ok(crate::dce::run(&b.finish()))
}

/// Leaves on which a term depends.
fn leaves_of(terms: &[Chosen], term: usize) -> BTreeSet<usize> {
    let mut needed = vec![false; term + 1];
    needed[term] = true;
    let mut leaves = BTreeSet::new();
    for i in (0..=term).rev() {
        if !needed[i] {
            continue;
        }
        terms[i].args.iter().for_each(|&a| needed[a] = true);
        if let Head::Leaf(l) = terms[i].head {
            leaves.insert(l as usize);
        }
    }
    leaves
}

/// The terms of one part, written as ops.
struct Terms<'a> {
    program: &'a Program,
    region: &'a Region,
    solution: &'a Solution,
    /// How many terms take each as an argument.
    users: &'a [usize],
    new: &'a [Option<Value>],
    made: &'a mut HashMap<usize, Value>,
}

impl Terms<'_> {
    fn value(&mut self, b: &mut Builder, term: usize) -> Value {
        let mut needed = vec![false; term + 1];
        needed[term] = true;
        for i in (0..=term).rev() {
            if needed[i] && !self.made.contains_key(&i) {
                self.solution.terms[i].args.iter().for_each(|&a| needed[a] = true);
            }
        }
        for i in (0..=term).filter(|&i| needed[i]) {
            if !self.made.contains_key(&i) {
                if let Some(node) = self.solution.node(i) {
                    b.origin = self.program.node(self.region.nodes[node]).origin;
                }
                let value = self.write(b, i);
                self.made.insert(i, value);
            }
        }
        self.made[&term]
    }

    fn write(&self, b: &mut Builder, term: usize) -> Value {
        let chosen = &self.solution.terms[term];
        let args: Vec<Value> = chosen.args.iter().map(|a| self.made[a]).collect();
        match &chosen.head {
            Head::Leaf(l) => self.new[self.region.leaves[*l as usize].0 as usize].expect("leaves are ready"),
            Head::Product(over) => product(b, &args, *over),
            Head::Combine(coefficients) => {
                let terms: Vec<(f64, usize)> = coefficients.iter().map(|c| c.0).zip(chosen.args.iter().copied()).collect();
                self.combine(b, &terms)
            }
            Head::Op(op) => {
                let mut args = args;
                match op {
                    Op::Window(affine) => args[0] = expand(b, args[0], AxisSet::of([affine.axis])),
                    Op::Gather(axis) => args[0] = expand(b, args[0], AxisSet::of([*axis])),
                    _ => {}
                }
                match present(op, args.first().map_or(AxisSet::EMPTY, |&x| b.axes_of(x))) {
                    Some(op) => b.op(op, &args),
                    None => args[0],
                }
            }
        }
    }

    /// Small terms first; the first one is not subtracted if any is added.
    fn combine(&self, b: &mut Builder, terms: &[(f64, usize)]) -> Value {
        let elements = |b: &Builder, t: usize| b.program().axes.count(b.axes_of(self.made[&t]));
        let mut terms = terms.to_vec();
        if terms.is_empty() {
            return b.constant(0.0, self.region.key.float);
        }
        terms.sort_by_key(|&(_, t)| elements(b, t));
        let first = terms.iter().position(|t| t.0 > 0.0).unwrap_or(0);
        let (c, t) = terms.remove(first);
        let mut sum = self.scaled(b, c.abs(), t);
        if c < 0.0 {
            sum = b.op(Op::Neg, &[sum]);
        }
        for (c, t) in terms {
            let term = self.scaled(b, c.abs(), t);
            sum = b.op(if c < 0.0 { Op::Sub } else { Op::Add }, &[sum, term]);
        }
        sum
    }

    /// `c * term`. A product that only this needs is scaled in a factor, and so on inwards, to where the least is scaled.
    fn scaled(&self, b: &mut Builder, c: f64, term: usize) -> Value {
        match (&self.solution.terms[term].head, self.inwards(b, term)) {
            (Head::Product(over), Some((i, _))) if c != 1.0 => {
                let args = &self.solution.terms[term].args;
                let mut factors: Vec<Value> = args.iter().map(|a| self.made[a]).collect();
                factors[i] = self.scaled(b, c, args[i]);
                product(b, &factors, *over)
            }
            _ => scale(b, self.made[&term], c),
        }
    }

    /// The factor of a product in which scaling it costs less than scaling its result, and how many numbers it then scales.
    fn inwards(&self, b: &Builder, term: usize) -> Option<(usize, usize)> {
        let elements = |t: usize| b.program().axes.count(b.axes_of(self.made[&t]));
        let chosen = &self.solution.terms[term];
        if !matches!(chosen.head, Head::Product(_)) || self.users[term] != 1 || self.solution.outputs.contains(&term) {
            return None;
        }
        let least = |a: usize| self.inwards(b, a).map_or(elements(a), |(_, least)| least);
        // A mask that is scaled would be none.
        let factors = chosen.args.iter().enumerate().filter(|(_, a)| mask(b, self.made[a]).is_none()).map(|(i, &a)| (i, least(a)));
        factors.min_by_key(|&(i, least)| (least, i)).filter(|&(_, least)| least < elements(term))
    }
}

/// `c * x`. What was divided by a count stays divided by it: the mean of equal numbers is then that number, and not one beside it, on which a
/// norm of nothing would hang.
fn scale(b: &mut Builder, x: Value, c: f64) -> Value {
    let count = (1.0 / c).round();
    if c.abs() < 1.0 && count.abs() < 1e7 && (count * c - 1.0).abs() < 1e-12 {
        let count = b.constant(count, b.ty(x).dtype);
        return b.op(Op::Div, &[x, count]);
    }
    b.scale(x, c)
}

/// Of what `v` is the inverse.
fn inverse(b: &Builder, v: Value) -> Option<Value> {
    match (b.program().op(v), b.program().args(v)) {
        (Op::Div, &[one, y]) => matches!(b.program().op(one), Op::Const(n) if n.value() == 1.0).then_some(y),
        _ => None,
    }
}

/// The condition of which `v` is 1 where it holds, and 0 elsewhere.
fn mask(b: &Builder, v: Value) -> Option<Value> {
    match (b.program().op(v), b.program().args(v)) {
        (Op::Cast(_), &[condition]) => (b.ty(condition).dtype == DType::Bool).then_some(condition),
        _ => None,
    }
}

/// A product; with a mask for a factor it is a selection.
fn product(b: &mut Builder, args: &[Value], over: AxisSet) -> Value {
    // A quotient stays one: the inverse of a small number may have no number.
    if let ([x, y], true) = (args, over.is_empty()) {
        for (&x, &y) in [(x, y), (y, x)] {
            if let Some(divisor) = inverse(b, y).filter(|_| inverse(b, x).is_none()) {
                return b.op(Op::Div, &[x, divisor]);
            }
        }
    }
    let masked = args.iter().position(|&v| mask(b, v).is_some()).filter(|_| args.len() > 1);
    let Some(at) = masked else { return b.contract(args, over) };
    let condition = mask(b, args[at]).expect("it is a mask");
    let rest: Vec<Value> = args.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, &v)| v).collect();
    // What only the other factors are summed over is summed first.
    let early = over - b.axes_of(condition);
    let inner = b.contract(&rest, early);
    let zero = b.constant(0.0, b.ty(inner).dtype);
    let kept = b.op(Op::Select, &[condition, inner, zero]);
    b.sum(kept, over & b.axes_of(condition))
}
