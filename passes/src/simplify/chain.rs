//! Why a chosen term is the one that was written: the shortest chain of equalities between them, each one application of one rule. Read
//! [`chains`]. Equalities of arguments need no step here: they have chains of their own.

use std::collections::{HashMap, VecDeque};

use egg::Id;

use super::rules::Tree;
use super::saturate::Step;
use super::term::{Graph, Term};

/// For each chosen term, numbers of the steps that lead to it from what was written. Nothing for terms that were written so, and for those that
/// only came along with another step.
pub fn chains(graph: &Graph, written: &[(Id, Term)], steps: &[Step], chosen: &[(Id, Term)]) -> Vec<Vec<usize>> {
    let mut history = History { graph, vertices: HashMap::new(), edges: Vec::new(), owner: HashMap::new(), members: HashMap::new() };
    for (id, term) in written {
        history.member(*id, term);
    }
    let starts = history.vertices.clone();
    for (i, step) in steps.iter().enumerate() {
        history.record(i, step);
    }
    chosen.iter().map(|(class, term)| history.path(*class, term, &starts)).collect()
}

struct History<'a> {
    graph: &'a Graph,
    /// Nodes with their arguments' last classes.
    vertices: HashMap<Term, usize>,
    /// Neighbours of each vertex, with the step between.
    edges: Vec<Vec<(usize, usize)>>,
    /// Classes as they were joined, step by step.
    owner: HashMap<Id, Id>,
    /// Vertices that were in a class, by its owner.
    members: HashMap<Id, Vec<usize>>,
}

impl History<'_> {
    fn vertex(&mut self, term: &Term) -> usize {
        let last = Term::new(term.head.clone(), term.args.iter().map(|&a| self.graph.find(a)).collect());
        let new = self.edges.len();
        let vertex = *self.vertices.entry(last).or_insert(new);
        if vertex == new {
            self.edges.push(Vec::new());
        }
        vertex
    }

    fn owner(&self, id: Id) -> Id {
        let mut at = id;
        while let Some(&next) = self.owner.get(&at) {
            at = next;
        }
        at
    }

    fn member(&mut self, id: Id, term: &Term) -> usize {
        let (vertex, owner) = (self.vertex(term), self.owner(id));
        self.members.entry(owner).or_default().push(vertex);
        vertex
    }

    fn record(&mut self, number: usize, step: &Step) {
        for (id, term) in &step.added {
            self.member(*id, term);
        }
        let [class, other] = step.classes;
        let left = self.root(&step.left).map(|t| self.member(class, &t));
        let right = match self.root(&step.right) {
            Some(term) => Some(self.vertex(&term)),
            None => self.members.get(&self.owner(other)).and_then(|m| m.first().copied()),
        };
        if let (Some(l), Some(r)) = (left, right) {
            self.edges[l].push((r, number));
            self.edges[r].push((l, number));
        }
        let (class, other) = (self.owner(class), self.owner(other));
        if class != other {
            let moved = self.members.remove(&other).unwrap_or_default();
            self.members.entry(class).or_default().extend(moved);
            self.owner.insert(other, class);
        }
    }

    /// The node at a tree's root; `None` for a class.
    fn root(&self, tree: &Tree) -> Option<Term> {
        match tree {
            Tree::Class(_) => None,
            Tree::Node(head, args) => {
                let args: Option<Vec<Id>> = args.iter().map(|a| super::saturate::find(self.graph, a)).collect();
                Some(Term::new(head.clone(), args?))
            }
        }
    }

    fn path(&self, class: Id, to: &Term, starts: &HashMap<Term, usize>) -> Vec<usize> {
        let Some(&goal) = self.vertices.get(to) else { return Vec::new() };
        let mut from: Vec<usize> = starts.iter().filter(|(t, _)| self.graph.lookup((*t).clone()) == Some(class)).map(|(_, &v)| v).collect();
        from.sort_unstable();
        let mut came: HashMap<usize, Option<(usize, usize)>> = from.iter().map(|&v| (v, None)).collect();
        let mut queue: VecDeque<usize> = from.into();
        while let Some(v) = queue.pop_front() {
            if v == goal {
                break;
            }
            for &(next, step) in &self.edges[v] {
                came.entry(next).or_insert_with(|| {
                    queue.push_back(next);
                    Some((v, step))
                });
            }
        }
        let mut steps = Vec::new();
        let mut at = goal;
        while let Some(Some((before, step))) = came.get(&at) {
            steps.push(*step);
            at = *before;
        }
        steps.reverse();
        steps
    }
}
