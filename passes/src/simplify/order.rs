//! The cheapest order of a product of several factors: dynamic programming over their subsets. What the program computes anyway costs
//! nothing a second time, so there may be two answers: with and without such values.

use egg::Id;
use pushforward_ir::AxisSet;

use super::cost::{Cost, elements};
use super::rules::{Tree, axes, join, product};
use super::term::{Graph, Head, Term};

/// Name of the rule.
pub const RULE: &str = "order";

/// Products of more factors stay as they are.
pub const MOST_FACTORS: usize = 8;

/// `node` in its cheapest orders: class, node, nested products.
pub fn orders(graph: &Graph, class: Id, node: &Term, written: &[Id]) -> Vec<(Id, Tree, Tree)> {
    let Head::Product(over) = node.head else { return Vec::new() };
    // Sizes of absent axes leave a product first, by the rule `unit`.
    if !(2..=MOST_FACTORS).contains(&node.args.len()) || !over.is_subset(join(graph, &node.args)) {
        return Vec::new();
    }
    let known =
        |over, factors: &[Id]| graph.lookup(Term::new(Head::Product(over), factors.to_vec())).is_some_and(|id| written.contains(&id));
    let left = Tree::Node(node.head.clone(), node.args.iter().copied().map(Tree::Class).collect());
    let mut trees = vec![best(graph, over, &node.args, &|_, _| false)];
    let sharing = best(graph, over, &node.args, &known);
    if sharing != trees[0] {
        trees.push(sharing);
    }
    trees.into_iter().filter(|t| *t != left).map(|t| (class, left.clone(), t)).collect()
}

struct Best {
    cost: Cost,
    kept: AxisSet,
    tree: Tree,
}

fn best(graph: &Graph, over: AxisSet, factors: &[Id], known: &dyn Fn(AxisSet, &[Id]) -> bool) -> Tree {
    let all = (1usize << factors.len()) - 1;
    let members = |set: usize| -> Vec<Id> { factors.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1).map(|(_, &id)| id).collect() };
    let mut joins = vec![AxisSet::EMPTY; all + 1];
    for set in 1..=all {
        let rest = set & (set - 1);
        joins[set] = joins[rest] | axes(graph, factors[set.trailing_zeros() as usize]);
    }
    // Of each set of factors; the empty one is never looked at.
    let mut table: Vec<Best> = Vec::with_capacity(all + 1);
    table.push(Best { cost: Cost::ZERO, kept: AxisSet::EMPTY, tree: product(AxisSet::EMPTY, Vec::new()) });
    for set in 1..=all {
        let inner = joins[set];
        let private = (over & inner) - joins[all ^ set];
        let kept = inner - private;
        let written = Cost::written(elements(graph, kept));
        let entry = if set.is_power_of_two() {
            let one = factors[set.trailing_zeros() as usize];
            let cost = if private.is_empty() { Cost::ZERO } else { written.plus_flops(elements(graph, axes(graph, one))) };
            Best { cost, kept, tree: product(private, vec![Tree::Class(one)]) }
        } else if set != all && known(private, &members(set)) {
            let tree = product(private, members(set).into_iter().map(Tree::Class).collect());
            Best { cost: Cost::ZERO, kept, tree }
        } else {
            let mut chosen: Option<Best> = None;
            // Each split once: the part with the lowest factor first.
            let lowest = set & set.wrapping_neg();
            let mut part = (set - 1) & set;
            while part > 0 {
                if part & lowest != 0 {
                    let (l, r) = (&table[part], &table[set ^ part]);
                    let points = elements(graph, l.kept | r.kept);
                    let summed = !((l.kept | r.kept) - kept).is_empty();
                    let flops = if summed { 2.0 * points } else { points };
                    let cost = l.cost.plus(r.cost).plus(written.plus_flops(flops));
                    if chosen.as_ref().is_none_or(|c| cost.less(c.cost)) {
                        let tree = product((l.kept | r.kept) - kept, vec![l.tree.clone(), r.tree.clone()]);
                        chosen = Some(Best { cost, kept, tree });
                    }
                }
                part = (part - 1) & set;
            }
            chosen.expect("a set of two factors has a split")
        };
        table.push(entry);
    }
    table.swap_remove(all).tree
}
