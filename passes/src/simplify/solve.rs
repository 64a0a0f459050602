//! One part of a program through one e-graph: loads it, runs the rules, chooses, and gives the chosen terms. It sees types and ops, no program.

use std::collections::HashMap;

use egg::Id;
use pushforward_ir::op::Number;
use pushforward_ir::{Axes, Op, Program, Type};

use super::chain::{self, Lemma};
use super::extract;
use super::region::{Key, Operand};
use super::rules::{Rule, Tree, is_indicator};
use super::saturate::{Step, saturate};
use super::term::{Coefficient, Graph, Head, Term, Typing};

/// The cheapest form of a part that was found.
#[derive(Clone)]
pub struct Solution {
    /// Arguments come first; they are positions in this list.
    pub terms: Vec<Chosen>,
    /// For each output of the part, its term.
    pub outputs: Vec<usize>,
    pub steps: Vec<Step>,
    /// Why the terms are what was written.
    pub lemmas: Vec<Lemma>,
    /// The node that a class holds, by class.
    pub named: HashMap<Id, usize>,
    /// For each term its class, by which steps call it.
    pub classes: Vec<Id>,
    /// What is known of the classes that steps speak of.
    pub known: HashMap<Id, Known>,
    pub nodes: usize,
    pub iterations: usize,
    pub capped: Option<&'static str>,
}

/// What rules may take for granted of a class.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub ty: Type,
    pub constant: Option<Number>,
    /// It is 0 or 1 everywhere.
    pub indicator: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Chosen {
    pub head: Head,
    pub args: Vec<usize>,
}

impl Solution {
    /// The node of the part that a term is, if it is one.
    pub fn node(&self, term: usize) -> Option<usize> {
        self.named.get(&self.classes[term]).copied()
    }

    /// For each term, how often others take it as an argument.
    pub fn users(&self) -> Vec<usize> {
        let mut users = vec![0; self.terms.len()];
        self.terms.iter().flat_map(|t| &t.args).for_each(|&a| users[a] += 1);
        users
    }
}

pub fn solve(key: &Key, axes: &Axes, rules: &[&'static Rule]) -> Solution {
    let program = Program { axes: axes.clone(), ..Program::default() };
    let mut graph = Graph::new(Typing { program, leaves: key.leaves.clone(), float: key.float });
    let mut written = Vec::new();
    let mut add = |graph: &mut Graph, head: Head, args: Vec<Id>| {
        let term = Term::new(head, args);
        let id = graph.add(term.clone());
        written.push((id, term));
        id
    };
    let leaves: Vec<Id> = (0..key.leaves.len() as u32).map(|i| add(&mut graph, Head::Leaf(i), Vec::new())).collect();
    let mut ids: Vec<Id> = Vec::new();
    for (op, operands) in &key.nodes {
        let args: Vec<Id> = operands
            .iter()
            .map(|o| match *o {
                Operand::Node(i) => ids[i],
                Operand::Leaf(i) => leaves[i],
            })
            .collect();
        let id = load(&mut graph, op, args, &mut add);
        ids.push(id);
    }
    graph.rebuild();
    let outcome = saturate(&mut graph, rules, &ids);
    let roots: Vec<Id> = key.outputs.iter().map(|&i| ids[i]).collect();
    let chosen = extract::extract(&graph, &roots, &written);
    let lemmas = chain::lemmas(&graph, &written, &outcome.steps, &chosen);
    let steps: Vec<Step> =
        outcome.steps.into_iter().map(|s| Step { left: last(&graph, s.left), right: last(&graph, s.right), ..s }).collect();
    let known = |id: Id| {
        let facts = graph[id].data;
        Known { ty: Type::new(facts.dtype, facts.axes), constant: facts.constant, indicator: is_indicator(&graph, id) }
    };
    let known = graph.classes().map(|c| (c.id, known(c.id))).collect();
    let positions: HashMap<Id, usize> = chosen.iter().enumerate().map(|(i, (class, _))| (*class, i)).collect();
    let position = |id: &Id| positions[&graph.find(*id)];
    let terms = chosen.iter().map(|(_, term)| Chosen { head: term.head.clone(), args: term.args.iter().map(position).collect() }).collect();
    Solution {
        terms,
        outputs: roots.iter().map(position).collect(),
        steps,
        lemmas,
        named: ids.iter().enumerate().rev().map(|(i, &id)| (graph.find(id), i)).collect(),
        classes: chosen.iter().map(|c| c.0).collect(),
        known,
        nodes: graph.total_size(),
        iterations: outcome.iterations,
        capped: outcome.capped,
    }
}

/// A term with the last names of its classes.
fn last(graph: &Graph, tree: Tree) -> Tree {
    match tree {
        Tree::Class(id) => Tree::Class(graph.find(id)),
        Tree::Node(head, args) => Tree::Node(head, args.into_iter().map(|a| last(graph, a)).collect()),
    }
}

/// An op of the IR as a term: sums and products are n-ary, numbers are coefficients.
fn load(graph: &mut Graph, op: &Op, args: Vec<Id>, add: &mut dyn FnMut(&mut Graph, Head, Vec<Id>) -> Id) -> Id {
    let number = |graph: &Graph, id: Id| graph[id].data.constant.map(Number::value);
    let combine = |c: &[f64]| Head::Combine(c.iter().copied().map(Coefficient).collect());
    match op {
        Op::Add => add(graph, combine(&[1.0, 1.0]), args),
        Op::Sub => add(graph, combine(&[1.0, -1.0]), args),
        Op::Neg => add(graph, combine(&[-1.0]), args),
        Op::Mul => match (number(graph, args[0]), number(graph, args[1])) {
            (Some(c), _) => add(graph, combine(&[c]), vec![args[1]]),
            (_, Some(c)) => add(graph, combine(&[c]), vec![args[0]]),
            (None, None) => add(graph, Head::Product(pushforward_ir::AxisSet::EMPTY), args),
        },
        Op::Div => match number(graph, args[1]) {
            Some(c) => add(graph, combine(&[1.0 / c]), vec![args[0]]),
            None => {
                let one = add(graph, Head::Op(Op::Const(Number::new(1.0, graph[args[1]].data.dtype))), Vec::new());
                let inverse = add(graph, Head::Op(Op::Div), vec![one, args[1]]);
                add(graph, Head::Product(pushforward_ir::AxisSet::EMPTY), vec![args[0], inverse])
            }
        },
        Op::Sum(over) | Op::Contract(over) => add(graph, Head::Product(*over), args),
        _ => add(graph, Head::Op(op.clone()), args),
    }
}
