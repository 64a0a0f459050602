//! Every rule of the e-graph, on numbers: each equality that it gave on models and replicated losses is evaluated on both sides. Rules that are
//! wrong, planted here, are caught.

use std::collections::BTreeMap;

use pushforward_ir::eval::run;
use pushforward_ir::{DType, LIBRARY, Program, parse};

use super::*;
use crate::alone::{self, Mode};
use crate::inline::{self, Bindings};
use crate::simplify::rules::{Equality, RULES, Rule, combine, product, rule};
use crate::simplify::term::{Coefficient, Graph, Term};
use crate::simplify::{Settings, Stage, fold, region, run_watched, solve};
use crate::validate::inputs::{Kind, inputs};
use crate::{Algorithm, Options, algorithm};

const CROSS_ENTROPY: &str = include_str!("../../../../models/cross_entropy.pf");
const LOCALMIXER: &str = include_str!("../../../../models/localmixer.pf");
const INFONCE: &str = include_str!("../../../../tests/fusion/infonce.pf");
const INFONCE_VIEWS: &str = include_str!("../../../../tests/fusion/infonce_views.pf");
const RESIDUAL: &str = include_str!("../../../../tests/fusion/xent_residual.pf");

fn inlined(text: &str, sets: &[(&str, &str)]) -> Program {
    let sets = sets.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let bindings = Bindings { sets, batch: Some(3), float: DType::F64, ..Bindings::default() };
    let [library, module] = [parse::parse(LIBRARY, 1), parse::parse(text, 0)].map(|m| m.expect("the text parses"));
    inline::run(&[&library], &module, &bindings).expect("the text has a program").program
}

/// Programs as simplify gets them.
fn programs() -> Vec<Program> {
    let small = [("patches", "2"), ("groups", "2"), ("channels", "6")];
    let mixer = [
        ("height", "4"),
        ("width", "4"),
        ("colours", "1"),
        ("grid", "2"),
        ("channels", "8"),
        ("groups", "2"),
        ("blocks", "2"),
        ("classes", "3"),
    ];
    let mut all = Vec::new();
    for (text, more) in [
        (CROSS_ENTROPY, ("classes", "3")),
        (INFONCE, ("similarity", "dot")),
        (INFONCE, ("similarity", "cos")),
        (INFONCE_VIEWS, ("width", "3")),
    ] {
        for mode in Mode::ALL {
            let program = inlined(text, &[&small[..], &[more]].concat());
            let replicated =
                algorithm::run(program, &["replicate"], &Options::new(Algorithm::LG_BP), &mut |_, _| {}).expect("it is replicated");
            all.push(alone::run(&replicated, mode).expect("it has derivatives"));
        }
    }
    all.push(inlined(RESIDUAL, &[&small[..], &[("classes", "3")]].concat()));
    for algorithm in Algorithm::ALL {
        let passes: Vec<&str> = algorithm.passes().iter().copied().take_while(|&p| p != "simplify").collect();
        all.push(algorithm::run(inlined(LOCALMIXER, &mixer), &passes, &Options::new(algorithm), &mut |_, _| {}).expect("the passes run"));
    }
    all
}

/// How far apart the sides are, beside the larger one: more than rounding means that they differ.
fn departure(program: &Program, kind: Kind, seed: u64) -> f64 {
    let numbers = inputs(program, program, kind, seed);
    let evaluated = run(program, &numbers).expect("both sides can be evaluated");
    let [left, right] = SIDES.map(|side| evaluated.get(side).expect("both sides are outputs"));
    let scale = left.max_abs().max(right.max_abs());
    let apart = left.data.iter().zip(&right.data).map(|(l, r)| (l - r).abs()).fold(0.0, f64::max);
    // Numbers of the order of 1 go in: what is below is rounding of terms that cancel.
    if apart == 0.0 { 0.0 } else { apart / scale.max(1.0) }
}

const ROUNDING: f64 = 1e-11;

#[test]
fn every_rule_of_the_e_graph_holds_on_numbers() {
    let mut checked: BTreeMap<&str, usize> = BTreeMap::new();
    for before in programs() {
        let axes = before.axes.clone();
        run_watched(&before, &Options::new(Algorithm::LG_FG_A), &mut |stage| {
            let Stage::Search { before, parts } = stage else { return };
            let axes = if before.axes.len() > axes.len() { before.axes.clone() } else { axes.clone() };
            for (region, solution) in parts {
                for step in &solution.steps {
                    let sides = program(&axes, &solution.known, region.key.float, &step.left, &step.right);
                    for kind in [Kind::Ordinary, Kind::Positive, Kind::Ties, Kind::Zeros] {
                        let apart = departure(&sides, kind, 7);
                        assert!(apart <= ROUNDING, "`{}` on {} numbers, {apart:.1e} apart:\n{}", step.rule, kind.name(), sides.to_text());
                    }
                    *checked.entry(step.rule).or_default() += 1;
                }
            }
        });
    }
    for rule in RULES.iter().filter(|r| r.is_searched()) {
        assert!(checked.get(rule.name).is_some_and(|&n| n >= 1), "no equality of `{}` was seen: {checked:?}", rule.name);
    }
}

/// Distributes and forgets the first term's coefficient.
fn forgets(graph: &Graph, node: &Term) -> Vec<Equality> {
    let Head::Product(over) = node.head else { return Vec::new() };
    let mut found = Vec::new();
    for (i, &f) in node.args.iter().enumerate() {
        for inner in &graph[f].nodes {
            let Head::Combine(coefficients) = &inner.head else { continue };
            let mut args: Vec<Tree> = node.args.iter().map(|&a| Tree::Class(a)).collect();
            args[i] = Tree::Node(inner.head.clone(), inner.args.iter().map(|&a| Tree::Class(a)).collect());
            let part = |&t: &Id| {
                let mut args = args.clone();
                args[i] = Tree::Class(t);
                product(over, args)
            };
            let forgotten = coefficients.iter().enumerate().map(|(n, c): (usize, &Coefficient)| if n == 0 { 3.0 } else { c.0 });
            let right = combine(forgotten.zip(inner.args.iter().map(part)).collect());
            found.push(Equality { left: Tree::Node(node.head.clone(), args.clone()), right });
        }
    }
    found
}

/// Takes any two factors that are equal for one.
fn squares(_: &Graph, node: &Term) -> Vec<Equality> {
    let (Head::Product(over), [x, y]) = (&node.head, &node.args[..]) else { return Vec::new() };
    if x != y {
        return Vec::new();
    }
    let left = Tree::Node(node.head.clone(), vec![Tree::Class(*x), Tree::Class(*y)]);
    vec![Equality { left, right: Tree::Node(Head::Product(*over), vec![Tree::Class(*x)]) }]
}

static FORGETS: Rule =
    rule("forgets", "planted", ["sum[A](x * (c * y + z))", "3 * sum[A](x * y) + sum[A](x * z)"], "", forgets, "It is wrong.");
static SQUARES: Rule = rule("squares", "planted", ["x * x", "x"], "", squares, "It is wrong.");

#[test]
fn a_wrong_rule_is_seen_to_be_wrong() {
    let settings = Settings::default();
    for wrong in [&FORGETS, &SQUARES] {
        let mut caught = 0;
        for before in programs() {
            let folded = fold::run(&before, &fold::Laws::new(&settings));
            for region in region::regions(&folded) {
                let solution = solve::solve(&region.key, &folded.axes, &[wrong]);
                for step in &solution.steps {
                    let sides = program(&folded.axes, &solution.known, region.key.float, &step.left, &step.right);
                    caught += usize::from(departure(&sides, Kind::Ordinary, 7) > ROUNDING);
                }
            }
        }
        assert!(caught > 0, "`{}` went through", wrong.name);
    }
}
