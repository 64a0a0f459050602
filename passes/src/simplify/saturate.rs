//! Runs the rules until they give nothing new, and then adds the cheapest order of every product. Caps count nodes and iterations, never
//! time. Every union is written down with its two sides: proofs and counts are read from there.

use std::collections::HashSet;

use egg::Id;

use super::order;
use super::rules::{Rule, Tree};
use super::term::{Graph, Head, Term};

/// No region of a model comes near: the report says how far away they are.
pub const MOST_NODES: usize = 4_000;
pub const MOST_ITERATIONS: usize = 40;

/// An equality that joined two classes.
#[derive(Clone, Debug)]
pub struct Step {
    pub rule: &'static str,
    pub left: Tree,
    pub right: Tree,
    /// The classes of both sides, as they were before.
    pub classes: [Id; 2],
    /// Terms that the right side brought along, with their classes.
    pub added: Vec<(Id, Term)>,
}

pub struct Outcome {
    pub steps: Vec<Step>,
    pub iterations: usize,
    /// The cap that ended it, if one did.
    pub capped: Option<&'static str>,
}

/// `written`: the classes of the program's own values.
pub fn saturate(graph: &mut Graph, rules: &[&'static Rule], written: &[Id]) -> Outcome {
    let mut outcome = Outcome { steps: Vec::new(), iterations: 0, capped: None };
    let mut seen: HashSet<(usize, Id, Tree)> = HashSet::new();
    let mut changed = true;
    while changed && outcome.capped.is_none() {
        if outcome.iterations == MOST_ITERATIONS {
            outcome.capped = Some("iterations");
            break;
        }
        outcome.iterations += 1;
        changed = false;
        let mut found = Vec::new();
        for (class, node) in nodes(graph) {
            for (i, rule) in rules.iter().enumerate() {
                for equality in rule.matches(graph, &node) {
                    if seen.insert((i, class, equality.left.clone())) {
                        found.push((class, *rule, equality));
                    }
                }
            }
        }
        for (class, rule, equality) in found {
            if graph.total_size() > MOST_NODES {
                outcome.capped = Some("nodes");
                break;
            }
            changed |= unite(graph, class, rule.name, equality.left, equality.right, &mut outcome.steps);
        }
        graph.rebuild();
    }
    if rules.iter().any(|r| r.name == order::RULE) {
        let orders: Vec<(Id, Tree, Tree)> =
            nodes(graph).into_iter().flat_map(|(class, node)| order::orders(graph, class, &node, written)).collect();
        for (class, left, right) in orders {
            unite(graph, class, order::RULE, left, right, &mut outcome.steps);
        }
        graph.rebuild();
        // Where an order shows that two terms of a sum are one, they may have cancelled: what has no term left is a number, which has no
        // axis, and not any value that vanishes as well.
        for (class, node) in nodes(graph).into_iter().filter(|(_, n)| n.head == Head::Combine(Vec::new())) {
            for (rule, equality) in rules.iter().flat_map(|r| r.matches(graph, &node).into_iter().map(|e| (r.name, e))).collect::<Vec<_>>()
            {
                unite(graph, class, rule, equality.left, equality.right, &mut outcome.steps);
            }
        }
        graph.rebuild();
    }
    outcome
}

/// All nodes with their classes, in order of classes.
fn nodes(graph: &Graph) -> Vec<(Id, Term)> {
    let mut all: Vec<(Id, Term)> = graph.classes().flat_map(|c| c.nodes.iter().map(|n| (c.id, n.clone()))).collect();
    all.sort();
    all
}

fn unite(graph: &mut Graph, class: Id, rule: &'static str, left: Tree, right: Tree, steps: &mut Vec<Step>) -> bool {
    let mut added = Vec::new();
    let other = add(graph, &right, &mut added);
    let classes = [graph.find(class), other];
    let joined = graph.union(class, other);
    if joined {
        steps.push(Step { rule, left, right, classes, added });
    }
    joined
}

/// The class of a term that is in the graph.
pub fn find(graph: &Graph, tree: &Tree) -> Option<Id> {
    match tree {
        Tree::Class(id) => Some(graph.find(*id)),
        Tree::Node(head, args) => {
            let args: Option<Vec<Id>> = args.iter().map(|a| find(graph, a)).collect();
            graph.lookup(Term::new(head.clone(), args?))
        }
    }
}

fn add(graph: &mut Graph, tree: &Tree, added: &mut Vec<(Id, Term)>) -> Id {
    match tree {
        Tree::Class(id) => graph.find(*id),
        Tree::Node(head, args) => {
            let args: Vec<Id> = args.iter().map(|a| add(graph, a, added)).collect();
            let term = Term::new(head.clone(), args);
            let id = graph.add(term.clone());
            added.push((id, term));
            id
        }
    }
}
