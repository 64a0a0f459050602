//! What ReLUs make needless, as a program that embeds the compiler sees it: shares of what is shut by hand, and against the evaluator.

use ndarray::{Array, Array2, Array4};
use pushforward::pruning::{Masks, Pruning, Shut};
use pushforward::{Algorithm, Input, Model, Parameters, Pool, Settings};
use pushforward_ir::eval::{self, Tensor};
use pushforward_ir::{Op, Value};

fn pool() -> Pool {
    Pool::new(2).expect("threads")
}

const GATE: &str = "pf 1\naxis N, C = 8, K = 3;\nmodel gate(x: f32[N, C], labels: i32[N]) {\n    param w: f32[C] = 1;\n    \
                    exact param v: f32[C, K] = 1;\n    h = first: layer(x, w);\n    loss cross_entropy[K](sum[C](h * v), labels);\n}\n\
                    fn layer(x, w) { relu(activity(x * w)) }\n";

/// Of two rows of two tiles, one is half shut and one whole; the first four units are shut in both.
#[test]
fn shares_by_hand() {
    let model = Model::parse("gate.pf", GATE).unwrap();
    let settings = Settings::new(Algorithm::LG_FG_A, 2);
    let mut pruning = Pruning::of(&model, &settings).unwrap().expect("it draws noise");
    assert_eq!((pruning.share_masked(), pruning.needless()), (1.0, None), "counted, not measured");
    let [layer] = &pruning.layers[..] else { panic!("{pruning:?}") };
    assert_eq!((layer.name.as_str(), layer.place.as_str(), layer.masked, layer.elements), ("first", "gate.pf:9:18", true, 16));

    let mut masks = Masks::new(&model, &settings, &pool()).unwrap().expect("it draws noise");
    let mut parameters = Parameters::new(&masks.step, 0).unwrap();
    let half = [-1.0, -2.0, 0.0, -0.5, 1.0, 0.1, 2.0, 3.0];
    let x: Array2<f32> = Array::from_shape_fn((2, 8), |(n, c)| if n == 0 { half[c] } else { -1.0 });
    let open: Array2<f32> = Array::ones((2, 8));
    masks.step.run(&mut parameters, &[("x", x.view().into())]).unwrap();
    masks.count();
    masks.measured(&mut pruning);
    assert_eq!(pruning.layers[0].shut, Some(Shut { elements: 0.75, tiles: 0.75, rows: 0.5, units: 0.5 }));
    let spared = pruning.needless().expect("measured");
    assert_eq!(spared.draws, 0.75, "all noise stands before the one ReLU");
    let behind = pruning.layers[0].behind.tangent_flops() as f64 / pruning.total.tangent_flops() as f64;
    assert!(behind > 0.3 && behind < 1.0 && (spared.tangents - 0.75 * behind).abs() < 1e-12, "{spared:?} of {behind}");
    assert_eq!(pruning.spared(|s| s.rows).map(|s| s.draws), Some(0.5));

    // A second batch, all open: shares are those of both together.
    masks.step.run(&mut parameters, &[("x", open.view().into())]).unwrap();
    masks.count();
    masks.measured(&mut pruning);
    assert_eq!(pruning.layers[0].shut, Some(Shut { elements: 0.375, tiles: 0.375, rows: 0.25, units: 0.25 }));
}

#[test]
fn shares_are_what_the_evaluator_sees() {
    let model = Model::built_in("localmixer").unwrap().unwrap();
    let sets = [("height", 4), ("width", 4), ("colours", 2), ("grid", 2), ("channels", 12), ("groups", 3), ("blocks", 2), ("classes", 5)];
    let mut settings = Settings::new(Algorithm::LG_FG_A, 3);
    settings.sets = sets.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let mut pruning = Pruning::of(&model, &settings).unwrap().expect("it draws noise");
    let mut masks = Masks::new(&model, &settings, &pool()).unwrap().expect("it draws noise");
    let mut parameters = Parameters::new(&masks.step, 5).unwrap();
    let images: Array4<f32> = Array::from_shape_fn((3, 4, 4, 2), |(n, y, x, c)| ((n * 37 + y * 11 + x * 5 + c) as f32 * 0.7).sin());
    masks.step.run(&mut parameters, &[("images", Input::from(&images))]).unwrap();
    masks.count();
    masks.measured(&mut pruning);

    // The model itself, no pass having seen it: a ReLU is shut where its result is 0.
    let program = model.inline(&settings.sets, settings.batch).unwrap().program;
    let relus: Vec<Value> = program.values().filter(|&v| *program.op(v) == Op::Relu).collect();
    let mut given = eval::Inputs::new();
    for port in program.inputs.iter().filter(|p| p.name == "images") {
        let pixels = images.iter().map(|&x| f64::from(x)).collect();
        given.insert(port.name.clone(), Tensor::from_data(&program.axes, port.dtype, &port.order, pixels));
    }
    for param in program.params.iter().filter(|p| parameters.get(&p.port.name).is_some()) {
        let view = parameters.get(&param.port.name).and_then(|view| view.f32()).expect("f32");
        let numbers = view.iter().map(|&x| f64::from(x)).collect();
        given.insert(param.port.name.clone(), Tensor::from_data(&program.axes, param.port.dtype, &param.port.order, numbers));
    }
    let results = eval::run_values(&program, &given, &relus).expect("the evaluator takes what the masks take");
    assert_eq!((results.len(), pruning.layers.len()), (5, 5));
    for (layer, result) in pruning.layers.iter().zip(results) {
        let zeros = result.data.iter().filter(|x| **x == 0.0).count() as f64 / result.data.len() as f64;
        let shut = layer.shut.expect("measured");
        assert!(shut.elements > 0.2 && shut.elements < 0.8, "{layer:?}");
        assert_eq!(shut.elements, zeros, "{}", layer.name);
        assert!(shut.rows <= shut.tiles && shut.tiles <= shut.elements && shut.units <= shut.elements, "{shut:?}");
    }
}

#[test]
fn what_is_not_pruned_says_why() {
    let model = Model::parse("gate.pf", GATE).unwrap();
    for algorithm in [Algorithm::BP, Algorithm::LG_BP] {
        let settings = Settings::new(algorithm, 2);
        assert_eq!(Pruning::of(&model, &settings).unwrap(), None);
        assert!(Masks::new(&model, &settings, &pool()).unwrap().is_none());
    }
    let mut settings = Settings::new(Algorithm::LG_FG_A, 2);
    settings.passes.prune = false;
    let open = Pruning::of(&model, &settings).unwrap().expect("it draws noise");
    assert_eq!((open.pruned, open.share_masked(), open.total.draws), (false, 0.0, 16));
    assert_eq!(open.layers[0].why.as_deref(), Some("pruning is switched off"));

    let tanh = Model::built_in("tanh_mlp").unwrap().unwrap();
    let mut pruning = Pruning::of(&tanh, &Settings::new(Algorithm::LG_FG_A, 2)).unwrap().expect("it draws noise");
    assert!(pruning.total.draws > 0 && pruning.share_masked() == 0.0);
    assert!(pruning.layers.iter().all(|l| l.why.as_deref() == Some("`tanh` comes before any ReLU")), "{pruning:?}");
    let masks = Masks::new(&tanh, &Settings::new(Algorithm::LG_FG_A, 2), &pool()).unwrap().expect("it draws noise");
    masks.measured(&mut pruning);
    assert_eq!(pruning.needless().map(|s| s.draws), Some(0.0), "no ReLU, nothing needless, whatever the data");
}
