//! Reach against brute force: on random graphs every element of `x` is moved, and each element of the loss that moves with it must be in reach.
//! Stop-gradients are frozen, so nothing here relies on derivatives. The same test must catch rules that are wrong in one arm. For LocalMixer
//! the rule is not only sound but no wider than the table of the fixtures' README.

use pushforward_ir::axis::AxisId;
use pushforward_ir::eval::{self, Inputs, Tensor};
use pushforward_ir::program::{Port, rebuild};
use pushforward_ir::{AxisSet, DType, Op, Program, Value};
use pushforward_passes::reach::{Held, Names, Rule, held, reach};
use pushforward_passes::util::activities;
use pushforward_passes::{Algorithm, Options};

use crate::graphs::graph;
use crate::support::{LOCALMIXER, Random, SMALL_MIXER, evaluated, inlined, passed, tensors};

const GRAPHS: u64 = 10_000;

/// A moved element of `x` and an element of the loss that moved: indices along all axes of the program, where they have one.
type Moved = Vec<(Vec<usize>, Vec<usize>)>;

struct Case {
    seed: u64,
    program: Program,
    source: Vec<AxisId>,
    loss: Vec<AxisId>,
    moved: Moved,
}

#[test]
fn what_moves_a_loss_is_in_reach() {
    let cases = cases();
    let moved: usize = cases.iter().map(|c| c.moved.len()).sum();
    assert!(moved > 10_000, "{moved} pairs of elements: the graphs are too poor to tell");
    let unsound: Vec<String> = cases.iter().filter_map(|c| fault(c, &held)).collect();
    assert!(unsound.is_empty(), "{} unsound, the first: {}", unsound.len(), unsound[0]);
    // Sound and empty would be no use: often enough something is held, and it is what does not move.
    let telling = cases.iter().filter(|c| reached(c, &held).is_some_and(|h| h.values().any(|names| !names.is_empty())));
    assert!(telling.count() * 3 > cases.len(), "the rule seldom holds anything");
}

/// A rule, as data.
pub type Wrong = fn(&Program, Value, &[Option<Names>]) -> Option<Names>;

/// Each arm, wrong in the way in which one might get it wrong.
pub const WRONG: [(&str, Wrong); 8] = [
    ("a sum keeps what it sums", |p, v, s| match p.op(v) {
        Op::Sum(_) => s[p.args(v)[0].0 as usize].clone(),
        _ => held(p, v, s),
    }),
    ("a contraction keeps what it sums", |p, v, s| match p.op(v) {
        Op::Contract(_) => join(p, v, s, |l, r| l & r),
        _ => held(p, v, s),
    }),
    ("a join holds what one of its operands holds", |p, v, s| match p.op(v) {
        Op::Add | Op::Sub | Op::Mul | Op::Div => join(p, v, s, |l, r| l | r),
        _ => held(p, v, s),
    }),
    ("a contraction holds what one of its factors holds", |p, v, s| match p.op(v) {
        Op::Contract(over) => join(p, v, s, |l, r| l | r).map(|n| n.into_iter().map(|h| h - *over).collect()),
        _ => held(p, v, s),
    }),
    ("a renaming is none", |p, v, s| match p.op(v) {
        Op::Rename(_) => s[p.args(v)[0].0 as usize].clone(),
        _ => held(p, v, s),
    }),
    ("the branch not taken under a delta is closed, too", |p, v, s| match p.op(v) {
        Op::Select => {
            let pairs = pushforward_passes::reach::deltas(p, p.args(v)[0]);
            let both = pairs.iter().fold(AxisSet::EMPTY, |set, &(a, b)| set.with(a).with(b));
            let close = |n: Names| n.into_iter().map(|h| if (h & both).is_empty() { h } else { h | both }).collect();
            join(p, v, s, |l, r| l & r).map(close)
        }
        _ => held(p, v, s),
    }),
    ("a window keeps its place", |p, v, s| match p.op(v) {
        Op::Window(_) => s[p.args(v)[0].0 as usize].clone(),
        _ => held(p, v, s),
    }),
    ("a gather keeps its place", |p, v, s| match p.op(v) {
        Op::Gather(_) => s[p.args(v)[0].0 as usize].clone(),
        _ => held(p, v, s),
    }),
];

#[test]
fn wrong_rules_are_caught() {
    let cases: Vec<Case> = (0..GRAPHS / 5).map(case).collect();
    for (what, rule) in WRONG {
        let caught = cases.iter().filter(|c| fault(c, &rule).is_some()).count();
        assert!(caught > 0, "nothing catches this: {what}");
    }
}

/// The states of the dependent operands, joined.
fn join(program: &Program, v: Value, state: &[Option<Names>], how: fn(AxisSet, AxisSet) -> AxisSet) -> Option<Names> {
    let operands = program.args(v).iter().filter_map(|a| state[a.0 as usize].clone());
    operands.reduce(|l, r| l.into_iter().zip(r).map(|(l, r)| how(l, r)).collect())
}

fn reached(case: &Case, rule: &Rule) -> Option<Held> {
    reach(&case.program, Value(0), case.program.axes_of(Value(0)), &[case.program.outputs[0].value], rule).remove(0)
}

/// A pair of elements that moved together and should not have.
fn fault(case: &Case, rule: &Rule) -> Option<String> {
    let reached = reached(case, rule);
    let outside = |(i, j): &&(Vec<usize>, Vec<usize>)| match &reached {
        None => true,
        Some(held) => case.source.iter().zip(i).any(|(s, i)| case.loss.iter().zip(j).any(|(t, j)| held[s].contains(*t) && i != j)),
    };
    let (i, j) = case.moved.iter().find(outside)?;
    Some(format!(
        "graph {}: x at {i:?} of {:?} moves the loss at {j:?} of {:?}, reach {reached:?}\n{}",
        case.seed,
        case.source,
        case.loss,
        case.program.to_text()
    ))
}

fn cases() -> Vec<Case> {
    (0..GRAPHS).map(case).collect()
}

fn case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let program = graph(&mut random);
    let inputs = tensors(&program, &mut random);
    let (frozen, inputs) = freeze(&program, inputs);
    let before = &evaluated(&frozen, &inputs)["loss"];
    let (source, loss) = (program.inputs[0].order.clone(), program.outputs[0].port.order.clone());
    let sizes = |order: &[AxisId]| order.iter().map(|&a| program.axes.size(a)).collect::<Vec<usize>>();
    let mut moved = Vec::new();
    for (at, i) in indices(&sizes(&source)).into_iter().enumerate() {
        // Two amounts: one alone may land where a wave comes back.
        for amount in [0.37, -0.81] {
            let mut inputs = inputs.clone();
            inputs.get_mut("x").expect("an input").data[at] += amount;
            let after = &evaluated(&frozen, &inputs)["loss"];
            for (n, j) in indices(&sizes(&loss)).into_iter().enumerate() {
                let change = (after.data[n] - before.data[n]).abs();
                // A sum over what does not move rounds to the same bits; anything else is a change.
                if change > 0.0 || after.data[n].is_nan() != before.data[n].is_nan() {
                    moved.push((i.clone(), j));
                }
            }
        }
    }
    Case { seed, program, source, loss, moved }
}

fn indices(sizes: &[usize]) -> Vec<Vec<usize>> {
    sizes
        .iter()
        .fold(vec![Vec::new()], |all, &size| all.into_iter().flat_map(|i| (0..size).map(move |n| [i.clone(), vec![n]].concat())).collect())
}

/// Every stop-gradient an input of its own that holds what stands there now.
pub fn freeze(program: &Program, mut inputs: Inputs) -> (Program, Inputs) {
    let stops: Vec<Value> = program.values().filter(|&v| *program.op(v) == Op::StopGradient).collect();
    let now = eval::run_values(program, &inputs, &stops).expect("the graph runs");
    let mut with = program.clone();
    let mut numbers = Vec::new();
    for (n, (&v, tensor)) in stops.iter().zip(now).enumerate() {
        let (name, order) = (format!("stopped{n}"), program.axes.in_order(program.axes_of(v)));
        numbers.push((v, with.inputs.len() as u32));
        with.inputs.push(Port { name: name.clone(), dtype: DType::F64, order: order.clone() });
        inputs.insert(name, Tensor::from_data(&program.axes, DType::F64, &order, tensor.data));
    }
    let frozen = rebuild(&with, |b, v, args| match numbers.iter().find(|n| n.0 == v) {
        Some(&(_, input)) => b.op(Op::Input(input), &[]),
        None => b.copy(&with, v, args),
    });
    (frozen, inputs)
}

/// The table "Reach" of the fixtures' README, for LG-FG-A: which axes of an activity are held at its block's losses.
#[test]
fn localmixer_reaches_what_the_table_says() {
    // N, P, G as far as they are held; the channels of a group never are, as its loss sums over them.
    let table: [(&str, [(&str, &str); 3]); 3] = [
        ("local", [("token", "N Y X"), ("fc", "N Y X G"), ("group", "N Y X G")]),
        ("ln", [("token", "N"), ("fc", "N"), ("group", "N Y X G")]),
        ("bn", [("token", "Y X"), ("fc", "Y X G"), ("group", "N Y X G")]),
    ];
    for (norm, layers) in table {
        let sets: Vec<(&str, &str)> = SMALL_MIXER.iter().copied().chain([("norm", norm)]).collect();
        let program = inlined(LOCALMIXER, &sets, 3, DType::F64);
        let program = passed(program, &["cut", "replicate"], &Options::new(Algorithm::LG_FG_A));
        let losses: Vec<(String, Value)> =
            program.losses.iter().map(|l| (l.name.clone(), l.local.as_ref().and_then(|m| m.copies).unwrap_or(l.value))).collect();
        let roots: Vec<Value> = losses.iter().map(|l| l.1).collect();
        let mut seen = 0;
        for a in activities(&program) {
            let Op::Activity(layer) = program.op(a) else { panic!("not an activity") };
            let (block, kind) = layer.split_once('.').expect("block and layer");
            let expected = layers.iter().find(|l| l.0 == kind).unwrap_or_else(|| panic!("no row for {kind}")).1;
            for ((loss, root), held) in losses.iter().zip(reach(&program, a, program.axes_of(a), &roots, &held)) {
                if *loss != format!("{block}.loss") {
                    assert!(held.is_none(), "{norm}: {layer} reaches {loss}");
                    continue;
                }
                let held = held.unwrap_or_else(|| panic!("{norm}: {layer} does not reach {loss}"));
                let axes = program.axes.in_order(program.axes_of(a));
                // An axis is held if the loss has it, and under its own name.
                let kept: Vec<&str> = axes
                    .into_iter()
                    .filter(|s| (held[s] & program.axes_of(*root)).contains(*s))
                    .map(|s| program.axes[s].name.as_str())
                    .collect();
                assert_eq!(kept.join(" "), expected, "{norm}: {layer}");
                seen += 1;
            }
        }
        assert_eq!(seen, 5, "{norm}: two layers of the first block, three of the second");
    }
}
