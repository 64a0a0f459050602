//! What masks make needless, against counts by hand; why there is no mask, in words; and that masked elements really are zero, or influence
//! nothing, in whole training steps.

use std::collections::HashMap;

use pushforward_ir::eval::{Tensor, run_values};
use pushforward_ir::{Builder, DType, Op, Program, Value};
use pushforward_passes::cost::Flops;
use pushforward_passes::needless::{Layer, Needless, Work, behind, layers, needless};
use pushforward_passes::{Algorithm, Options, prune};

use crate::support::{LOCALMIXER, Random, SMALL_MIXER, assert_near, evaluated, inlined, passed, tensors};

fn options() -> Options {
    Options::new(Algorithm::LG_FG_A)
}

/// A model as `perturb` gets it, and its layers.
fn before(text: &str, sets: &[(&str, &str)], batch: usize) -> (Program, Vec<Layer>) {
    let program = passed(inlined(text, sets, batch, DType::F64), &["cut", "replicate", "dce"], &options());
    let layers = layers(&program);
    (program, layers)
}

fn counted(text: &str, batch: usize, options: &Options) -> Needless {
    let (program, layers) = before(text, &[], batch);
    needless(&program, &layers, &["perturb"], options).expect("the model can be perturbed")
}

const LINEAR: &str = "pf 1\naxis N, D = 3, C = 4;\nmodel m(x: f32[N, D], y: f32[N]) {\n    param w: f32[D, C] = 1;\n    exact param v: f32[C] = 1;\n    \
                      h = relu(activity(sum[D](x * w)));\n    loss squared_error[](sum[C](h * v), y);\n}\n";

/// N = 2, C = 4, D = 3. Behind the mask: 8 draws; the masked noise and its way through the ReLU, a select each, and the product with `v`; the
/// noise times the loss's derivative, and from there the product with `x`. Beside it, [N] of the loss's own: two products, their sum, and the
/// weight 1 / N.
#[test]
fn a_linear_layer_by_hand() {
    let needless = counted(LINEAR, 2, &options());
    let expected = Work {
        draws: 8,
        tangents: Flops { contraction: 2 * 2 * 4, other: 8 + 8 },
        estimates: Flops { contraction: 2 * 2 * 3 * 4, other: 8 },
    };
    assert_eq!(needless.behind, [expected]);
    let total = needless.total;
    assert_eq!((total.draws, total.tangents.contraction, total.estimates), (8, 16, expected.estimates));
    assert_eq!(total.tangents.other, 16 + 4 * 2, "{total:?}");

    // Every direction draws and computes its own.
    let three = counted(LINEAR, 2, &Options { directions: 3, ..options() });
    assert_eq!((three.behind[0].draws, three.behind[0].tangents.contraction), (24, 48));

    // Unmasked noise is still unseen behind the ReLU, but its product with the loss's derivative is not.
    let open = counted(LINEAR, 2, &Options { prune: false, ..options() });
    assert_eq!(open.behind[0].draws, 0, "the estimate uses all of it");
    assert_eq!((open.behind[0].tangents, open.behind[0].estimates), (Flops { contraction: 16, other: 8 }, Flops::default()));
}

/// What of the layers before a ReLU is needless: the last step of the tangent, not the sums that other elements need as well.
#[test]
fn tangents_of_earlier_layers_count_up_to_the_mask() {
    let text = "pf 1\naxis N, C = 4, E like C;\nmodel m(x: f32[N, C]) {\n    param w: f32[C] = 1;\n    exact param v: f32[C, E] = 1;\n    \
                h = activity(x * w);\n    k = relu(rename[E -> C](sum[C](h * v)));\n    loss sum[C](k);\n}\n";
    let (program, layers) = before(text, &[], 2);
    assert_eq!(layers.iter().map(|l| (l.activity.is_some(), l.relu.is_some())).collect::<Vec<_>>(), [(true, false), (false, true)]);
    let counts = needless(&program, &layers, &["perturb"], &options()).expect("the model can be perturbed");
    assert_eq!(counts.behind[0], Work::default(), "no ReLU, nothing behind it");
    // Of [N, E] elements: each is a product with a column of `v`; then the select, and the sum of what it lets pass.
    let expected = Work { draws: 0, tangents: Flops { contraction: 2 * 2 * 4 * 4, other: 8 + 8 }, estimates: Flops::default() };
    assert_eq!(counts.behind[1], expected);
}

#[test]
fn reasons_are_told() {
    let why = |body: &str| {
        let text = format!(
            "pf 1\naxis N, C = 4, E like C;\nmodel m(x: f32[N, C], y: f32[N, C], z: f32[N, C, E]) {{\n    param w: f32[C] = 1;\n    \
             a = fc: layer(x, w);\n{body}\n}}\nfn layer(x, w) {{ activity(x * w) }}\n"
        );
        let (_, layers) = before(&text, &[], 2);
        let layer = layers.iter().find(|l| l.activity.is_some()).expect("it has an activity");
        assert_eq!(layer.name, "fc");
        layer.ungated.map(|why| why.to_string())
    };
    let cases = [
        ("loss sum[C](relu(a));", None),
        ("loss sum[C](relu(-(y - a)));", None),
        ("loss sum[E](relu(rename[C -> E](a)));", None),
        ("loss sum[C](tanh(a));", Some("`tanh` comes before any ReLU")),
        ("loss sum[C](relu(a) + a);", Some("2 values use it, so a ReLU on one way does not stop it on the others")),
        ("loss sum[C, E](relu(a + z));", Some("`add` spreads it along more axes before any ReLU")),
        ("loss a;", Some("a mark sees it before any ReLU does")),
    ];
    for (body, expected) in cases {
        assert_eq!(why(body).as_deref(), expected, "{body}");
    }
}

/// All layers of LocalMixer end in a ReLU; a residual stands before it in the last layer of later blocks.
#[test]
fn every_layer_of_localmixer_is_masked() {
    for norm in ["local", "ln", "bn", "none"] {
        let sets: Vec<(&str, &str)> = SMALL_MIXER.iter().copied().chain([("norm", norm)]).collect();
        let (program, layers) = before(LOCALMIXER, &sets, 3);
        let names: Vec<&str> = layers.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["block0.fc", "block0.group", "block1.token", "block1.fc", "block1.group"]);
        assert!(layers.iter().all(|l| l.activity.is_some() && l.relu.is_some() && l.ungated.is_none()));
        for passes in [&["perturb"][..], &["perturb", "simplify", "update", "dce"]] {
            let counts = needless(&program, &layers, passes, &options()).expect("the model can be perturbed");
            // 3 examples, 4 patches, 8 channels.
            assert!(counts.behind.iter().all(|w| w.draws == 96), "{counts:?}");
            assert_eq!(counts.total.draws, 5 * 96);
            assert!(counts.behind.iter().all(|w| w.tangents.total() > 0 && w.tangents.total() < counts.total.tangents.total()));
        }
    }
}

/// What is said to influence nothing where a mask is shut may be anything there: noise of NaN behind shut ReLUs changes no result.
#[test]
fn shut_noise_may_be_anything() {
    use pushforward_passes::NoiseSource;
    let options = Options { noise: NoiseSource::Given, ..options() };
    let (program, layers) = before(LOCALMIXER, SMALL_MIXER, 3);
    let mut b = Builder::new(program.clone());
    let masks: Vec<Value> = layers.iter().map(|l| prune::mask(&mut b, &program, l.activity.unwrap()).expect("masked")).collect();
    let masked = b.finish();
    let step = passed(program, &["perturb", "simplify", "update", "dce"], &options);
    let mut inputs = tensors(&step, &mut Random::new(31));
    let open = run_values(&masked, &inputs, &masks).expect("the masks can be evaluated");
    let expected = evaluated(&step, &inputs);
    let mut shut = 0;
    for (layer, open) in layers.iter().zip(open) {
        let noise = inputs.get_mut(&format!("anoise.{}", layer.name)).expect("an input");
        let open = open.reorder(&noise.order).expect("noise has its activity's axes");
        for (x, _) in noise.data.iter_mut().zip(&open.data).filter(|(_, open)| **open == 0.0) {
            *x = f64::NAN;
            shut += 1;
        }
    }
    assert!(shut > 100, "{shut} of 480");
    let got: HashMap<String, Tensor> = evaluated(&step, &inputs);
    assert_near("NaN behind shut ReLUs", &got, &expected, 0.0, 0.0);
}

/// The zeros that `behind` counts on are zeros, and the work grows with none of them left out: a mask under other names of its axes, through
/// casts, products and sums.
#[test]
fn zeros_are_followed_under_other_names() {
    let text = "pf 1\naxis N, C = 4, E like C, D = 3;\nmodel m(x: f32[N, C], w: f32[E, D], seed: i32, step: i32) {\n    \
                u = normal[N, C](seed, step);\n    open = x > 0;\n    \
                output y: f32[N, D] = sum[E](rename[C -> E](u * cast[f32](open)) * w);\n}\n";
    let program = inlined(text, &[], 2, DType::F32);
    let mask = program.values().find(|&v| *program.op(v) == Op::Gt).expect("there is one");
    let work = behind(&program, mask);
    assert_eq!((work.draws, work.tangents), (8, Flops { contraction: 2 * 2 * 4 * 3, other: 8 }));
}
