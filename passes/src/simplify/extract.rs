//! Chooses one node for every class that the roots need: the cheapest graph that was found, shared work counted once. Starts from the
//! program as it was written and from the cheapest trees, and improves both by single and by joint changes. Every tie has one answer. It
//! never gives more than the program's own cost.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use egg::Id;

use super::cost::{self, Cost};
use super::term::{Graph, Term};

/// Rounds of improvement; each ends when nothing gets cheaper.
const MOST_ROUNDS: usize = 30;

/// Users that may change together.
const MOST_TOGETHER: usize = 8;

/// One node of a class.
struct Node {
    term: Term,
    args: Vec<usize>,
    cost: Cost,
}

struct Classes {
    nodes: Vec<Vec<Node>>,
    roots: Vec<usize>,
    ids: Vec<Id>,
    walk: RefCell<Walk>,
}

/// Memory of walks, used again: there are many.
#[derive(Default)]
struct Walk {
    /// For each class twice the number of the walk that last entered it, and one more when it left it.
    marks: Vec<u64>,
    number: u64,
    stack: Vec<(usize, usize)>,
    order: Vec<usize>,
}

/// The chosen nodes, arguments before users, with their classes.
pub fn extract(graph: &Graph, roots: &[Id], written: &[(Id, Term)]) -> Vec<(Id, Term)> {
    [false, true].into_iter().find_map(|last_resort| choose(graph, roots, written, last_resort)).expect("what is written can be chosen")
}

/// `None` if everything that was found goes in circles.
fn choose(graph: &Graph, roots: &[Id], written: &[(Id, Term)], last_resort: bool) -> Option<Vec<(Id, Term)>> {
    let classes = Classes::of(graph, roots, last_resort);
    let trees = classes.cheapest_trees();
    let mut own = trees.clone();
    for (id, term) in written {
        let Some(class) = classes.ids.iter().position(|c| *c == graph.find(*id)) else { continue };
        let term = Term::new(term.head.clone(), term.args.iter().map(|&a| graph.find(a)).collect());
        if let Some(i) = classes.nodes[class].iter().position(|n| n.term == term) {
            own[class] = i;
        }
    }
    let improved = [own, trees].map(|start| classes.improve(start));
    let [(own, own_cost), (trees, trees_cost)] = improved;
    let best = match (own_cost, trees_cost) {
        (Some(a), Some(b)) if b.less(a) => trees,
        (None, _) => trees,
        (Some(_), _) => own,
    };
    let order = classes.order(&best)?;
    Some(order.into_iter().map(|c| (classes.ids[c], classes.nodes[c][best[c]].term.clone())).collect())
}

impl Classes {
    /// Every class that a root may need.
    fn of(graph: &Graph, roots: &[Id], last_resort: bool) -> Classes {
        let mut index: HashMap<Id, usize> = HashMap::new();
        let mut ids: Vec<Id> = Vec::new();
        let mut place = |id: Id, ids: &mut Vec<Id>| {
            *index.entry(id).or_insert_with(|| {
                ids.push(id);
                ids.len() - 1
            })
        };
        let roots: Vec<usize> = roots.iter().map(|&r| place(graph.find(r), &mut ids)).collect();
        let mut nodes = Vec::new();
        while nodes.len() < ids.len() {
            let id = ids[nodes.len()];
            let mut terms: Vec<&Term> = graph[id].nodes.iter().collect();
            terms.sort();
            let all = terms.into_iter().filter(|t| last_resort || !cost::is_last_resort(t)).map(|term| {
                let args = term.args.iter().map(|&a| place(graph.find(a), &mut ids)).collect();
                Node { term: term.clone(), args, cost: cost::of(graph, id, term) }
            });
            let all = all.collect();
            nodes.push(all);
        }
        Classes { nodes, roots, ids, walk: RefCell::default() }
    }

    /// The node of the cheapest tree of every class; there is always one, as the program is. It sweeps over the classes again and again, and in
    /// a sweep looks at those alone of which an argument has become cheaper since.
    fn cheapest_trees(&self) -> Vec<usize> {
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (class, nodes) in self.nodes.iter().enumerate() {
            nodes.iter().flat_map(|n| &n.args).for_each(|&a| users[a].push(class));
        }
        let mut best: Vec<Option<(f64, usize)>> = vec![None; self.nodes.len()];
        let (mut now, mut next): (BTreeSet<usize>, BTreeSet<usize>) = ((0..self.nodes.len()).collect(), BTreeSet::new());
        while !now.is_empty() {
            while let Some(class) = now.pop_first() {
                let before = best[class];
                for (i, node) in self.nodes[class].iter().enumerate() {
                    let args: Option<f64> = node.args.iter().map(|&a| best[a].map(|b| b.0)).sum();
                    let Some(args) = args else { continue };
                    // A little for the node itself, so that no cycle of free ones is cheapest.
                    let cost = args + node.cost.work + 1e-3;
                    if best[class].is_none_or(|b| cost < b.0) {
                        best[class] = Some((cost, i));
                    }
                }
                if best[class] != before {
                    users[class].iter().for_each(|&u| _ = if u > class { now.insert(u) } else { next.insert(u) });
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        best.into_iter().map(|b| b.map_or(0, |b| b.1)).collect()
    }

    /// Classes that `choice` needs, arguments first; `None` if it goes in a circle.
    fn order(&self, choice: &[usize]) -> Option<Vec<usize>> {
        self.walked(choice, |order| order.to_vec())
    }

    fn price(&self, choice: &[usize]) -> Option<Cost> {
        self.walked(choice, |order| order.iter().fold(Cost::ZERO, |sum, &c| sum.plus(self.nodes[c][choice[c]].cost)))
    }

    fn walked<T>(&self, choice: &[usize], then: impl FnOnce(&[usize]) -> T) -> Option<T> {
        let Walk { marks, number, stack, order } = &mut *self.walk.borrow_mut();
        marks.resize(self.nodes.len(), 0);
        *number += 1;
        let (entered, left) = (2 * *number, 2 * *number + 1);
        order.clear();
        stack.clear();
        for &root in &self.roots {
            if marks[root] < entered {
                marks[root] = entered;
                stack.push((root, 0));
            }
            while let Some((class, next)) = stack.last_mut() {
                let node = self.nodes[*class].get(choice[*class])?;
                match node.args.get(*next) {
                    Some(&arg) => {
                        *next += 1;
                        if marks[arg] < entered {
                            marks[arg] = entered;
                            stack.push((arg, 0));
                        } else if marks[arg] == entered {
                            return None;
                        }
                    }
                    None => {
                        marks[*class] = left;
                        order.push(*class);
                        stack.pop();
                    }
                }
            }
        }
        Some(then(order))
    }

    fn improve(&self, start: Vec<usize>) -> (Vec<usize>, Option<Cost>) {
        let mut choice = start;
        let Some(mut cost) = self.price(&choice) else { return (choice, None) };
        for _ in 0..MOST_ROUNDS {
            let before = cost;
            self.change_one(&mut choice, &mut cost);
            self.change_together(&mut choice, &mut cost);
            if cost == before {
                break;
            }
        }
        (choice, Some(cost))
    }

    /// Another node for one class at a time.
    fn change_one(&self, choice: &mut [usize], cost: &mut Cost) {
        for class in self.order(choice).unwrap_or_default() {
            for i in 0..self.nodes[class].len() {
                self.accept(&[(class, i)], choice, cost);
            }
        }
    }

    /// Several users change to one argument at once: what it costs is worth it for all of them only.
    fn change_together(&self, choice: &mut [usize], cost: &mut Cost) {
        let needed = self.order(choice).unwrap_or_default();
        let mut candidates: Vec<Vec<(usize, usize)>> = vec![Vec::new(); self.nodes.len()];
        for &class in &needed {
            for (i, node) in self.nodes[class].iter().enumerate() {
                for &arg in &node.args {
                    candidates[arg].push((class, i));
                }
            }
        }
        for (target, candidates) in candidates.iter().enumerate() {
            let uses = |class: usize| self.nodes[class][choice[class]].args.contains(&target);
            let mut users: Vec<(usize, usize)> = Vec::new();
            for &(class, i) in candidates.iter().filter(|c| !uses(c.0)) {
                match users.last_mut() {
                    Some(last) if last.0 == class => {
                        if self.cheaper(class, i, last.1).is_lt() {
                            last.1 = i;
                        }
                    }
                    Some(_) | None => users.push((class, i)),
                }
            }
            users.truncate(MOST_TOGETHER);
            if users.len() < 2 {
                continue;
            }
            self.accept(&users, choice, cost);
            for (i, &a) in users.iter().enumerate() {
                for &b in &users[i + 1..] {
                    self.accept(&[a, b], choice, cost);
                }
            }
        }
    }

    fn cheaper(&self, class: usize, a: usize, b: usize) -> std::cmp::Ordering {
        self.nodes[class][a].cost.work.total_cmp(&self.nodes[class][b].cost.work)
    }

    fn accept(&self, changes: &[(usize, usize)], choice: &mut [usize], cost: &mut Cost) {
        let before: Vec<(usize, usize)> = changes.iter().map(|&(c, _)| (c, choice[c])).collect();
        if before == changes {
            return;
        }
        changes.iter().for_each(|&(c, i)| choice[c] = i);
        match self.price(choice) {
            Some(new) if new.less(*cost) => *cost = new,
            Some(_) | None => before.iter().for_each(|&(c, i)| choice[c] = i),
        }
    }
}
