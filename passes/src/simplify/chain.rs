//! Why chosen terms are what was written: for each the shortest chain of equalities, each one application of one rule, and the same for every
//! term that such a rule looked into. Read [`lemmas`].

use std::collections::{BTreeSet, HashMap, VecDeque};

use egg::Id;

use super::rules::Tree;
use super::saturate::Step;
use super::term::{Graph, Term};

/// Two terms of one class are equal.
#[derive(Clone, Debug)]
pub struct Lemma {
    pub class: Id,
    /// Numbers of the steps that lead from the term that was there first, as written if any was, to the other.
    pub steps: Vec<usize>,
}

/// All that the chosen terms rest on, what comes first first.
pub fn lemmas(graph: &Graph, written: &[(Id, Term)], steps: &[Step], chosen: &[(Id, Term)]) -> Vec<Lemma> {
    let mut history = History { graph, vertices: HashMap::new(), edges: Vec::new(), owner: HashMap::new(), members: HashMap::new() };
    for (id, term) in written {
        history.member(*id, term);
    }
    let first = history.edges.len();
    for (i, step) in steps.iter().enumerate() {
        history.record(i, step);
    }
    let starts = history.starts(first);
    let mut asked: BTreeSet<(Id, Term)> = BTreeSet::new();
    let mut open: Vec<(Id, Term)> = chosen.to_vec();
    let mut found = Vec::new();
    while let Some((class, term)) = open.pop() {
        if !asked.insert((class, term.clone())) {
            continue;
        }
        let path = history.path(class, &term, &starts);
        // A rule that looks into an argument takes it for one of its class's terms.
        for tree in path.iter().map(|&s| &steps[s].left) {
            let Tree::Node(_, args) = tree else { continue };
            for arg in args.iter().filter(|a| matches!(a, Tree::Node(..))) {
                if let Some(term) = history.root(arg)
                    && let Some(class) = graph.lookup(term.clone())
                {
                    open.push((class, term));
                }
            }
        }
        if !path.is_empty() {
            found.push(Lemma { class, steps: path });
        }
    }
    found.sort_by_key(|l| (l.steps.iter().max().copied(), l.class));
    found
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

    /// Of each class the terms that were written, else the one that came first.
    fn starts(&self, written: usize) -> HashMap<Id, Vec<usize>> {
        let mut starts: HashMap<Id, Vec<usize>> = HashMap::new();
        let mut all: Vec<(usize, &Term)> = self.vertices.iter().map(|(t, &v)| (v, t)).collect();
        all.sort_unstable();
        for (v, term) in all {
            let Some(class) = self.graph.lookup(term.clone()) else { continue };
            let of = starts.entry(class).or_default();
            if v < written || of.is_empty() {
                of.push(v);
            }
        }
        starts
    }

    fn path(&self, class: Id, to: &Term, starts: &HashMap<Id, Vec<usize>>) -> Vec<usize> {
        let Some(&goal) = self.vertices.get(to) else { return Vec::new() };
        let from = starts.get(&class).cloned().unwrap_or_default();
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
