//! Random models: a parameter perturbed at once, more activities behind it, a loss, and a local loss of some value on the way, replicated along
//! random axes. In expectation LG-FG-A is LG-BP on all of them, pruned or not, folded or not: what one pass takes for granted of another holds
//! on graphs that no one wrote.

use pushforward_ir::program::{Init, Local, Loss, ParamDecl, Port, rebuild};
use pushforward_ir::{AxisSet, Builder, DType, Op, Program, Value};
use pushforward_passes::{Algorithm, dce, reach, util};

use crate::graphs::graph;
use crate::support::{Random, assert_near, evaluated, inlined, passed, tensors};
use crate::unbiased::{exact, expectation, gradients};

const MODELS: usize = 300;
/// Elements of all activities. One direction has no axis; estimates in very many take long and show nothing new.
const ELEMENTS: std::ops::RangeInclusive<usize> = 2..=120;

#[test]
fn random_models_are_estimated_without_bias() {
    let (mut tried, mut trained, mut replicated) = (0, 0, 0);
    for seed in 0.. {
        let mut random = Random::new(seed);
        let program = model(&mut random);
        let elements: usize = util::activities(&program).into_iter().map(|v| program.axes.count(program.axes_of(v))).sum();
        if !ELEMENTS.contains(&elements) {
            continue;
        }
        let inputs = tensors(&program, &mut random);
        let exact = gradients(&exact(&program, Algorithm::LG_BP), &inputs);
        for prune in [true, false] {
            let expectation = expectation(&program, &inputs, prune, &reach::held);
            assert_near(&format!("seed {seed}, prune {prune}\n{}", program.to_text()), &expectation, &exact, 1e-8, 1e-10);
        }
        tried += 1;
        trained += exact.values().any(|g| g.max_abs() > 1e-6) as usize;
        replicated += program.losses.iter().any(|l| l.local.as_ref().is_some_and(|m| !m.along.is_empty())) as usize;
        if tried == MODELS {
            break;
        }
    }
    assert!(
        trained * 2 > MODELS && replicated * 4 > MODELS,
        "{trained} models have a gradient, {replicated} a replicated loss: too few to tell"
    );
}

/// The names of copies' axes differ even where an axis and its mirror are both replicated.
#[test]
fn an_axis_and_its_mirror_are_replicated_apart() {
    let text = "pf 1
        axis N;
        axis Y = 2, X = 3;
        axis P = (Y, X);
        axis Q like P;
        model m(x: f32[N, P], y: f32[N, Q]) {
            z = add(x, y);
            local z along P, Q { sum[P, Q](z * z) }
        }";
    let program = inlined(text, &[], 2, DType::F64);
    let replicated = passed(program.clone(), &["replicate"], &pushforward_passes::Options::new(Algorithm::LG_FG_A));
    let mark = |p: &Program| p.losses[0].local.clone().expect("the loss is local");
    let copies = mark(&replicated).copies.expect("it was replicated");
    assert_eq!(replicated.axes_of(copies), program.axes_of(program.losses[0].value) | mark(&program).along);

    // All copies have the conventional loss's value.
    let with_output = |p: &Program, value: Value| {
        let mut p = p.clone();
        let order = p.axes.in_order(p.axes_of(value));
        p.outputs.push(pushforward_ir::program::Output { port: Port { name: "loss".into(), dtype: DType::F64, order }, value });
        p
    };
    let inputs = tensors(&program, &mut Random::new(7));
    let loss = evaluated(&with_output(&program, program.losses[0].value), &inputs).remove("loss").expect("an output");
    let all = evaluated(&with_output(&replicated, copies), &inputs).remove("loss").expect("an output");
    let each = all.data.len() / loss.data.len();
    assert_eq!(each, 36);
    for (i, x) in all.data.iter().enumerate() {
        assert!((x - loss.data[i / each]).abs() < 1e-12, "copy {i}: {x} for {}", loss.data[i / each]);
    }
}

/// A random graph whose input `x` is an activity of a parameter, its output a loss.
pub fn model(random: &mut Random) -> Program {
    let graph = graph(random);
    let mut program = rebuild(&graph, |b, v, args| match graph.op(v) {
        Op::Input(0) => {
            let w = Port { name: "w".into(), ..graph.inputs[0].clone() };
            b.program_mut().params.push(ParamDecl { port: w, init: Init::Constant(0.0), exact: false, decay: false });
            let w = b.op(Op::Param(0), &[]);
            b.op(Op::Activity("first".into()), &[w])
        }
        _ => b.copy(&graph, v, args),
    });
    program.losses = vec![Loss { name: "loss".into(), value: program.outputs[0].value, local: None }];
    program.outputs.clear();
    local(random, program)
}

/// With a local loss of some float value; what comes after a cut parameter could not be perturbed for it.
fn local(random: &mut Random, program: Program) -> Program {
    let fits = |v: &Value| program.ty(*v).dtype == DType::F64 && !matches!(program.op(*v), Op::Param(_) | Op::Max(_));
    let values: Vec<Value> = program.values().filter(fits).collect();
    let at = random.of(&values);
    let along: AxisSet = program.axes_of(at).iter().filter(|_| random.chance(60)).collect();
    let mut b = Builder::new(program);
    let curved = b.op(Op::Tanh, &[at]);
    let value = b.contract(&[curved, at], along);
    b.program_mut().losses.push(Loss { name: "local".into(), value, local: Some(Local { at, along, copies: None }) });
    dce::run(&b.finish())
}
