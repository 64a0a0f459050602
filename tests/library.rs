//! The library as a program embeds it: steps agree with the reference evaluator, tensors that do not fit are refused before anything is
//! computed, parameters serve every step of their model.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use ndarray::{Array, Array2, Array4, ArrayD, s};
use pushforward::engine;
use pushforward::{Algorithm, Engine, Error, Input, Model, NoiseSource, Parameters, Pool, Settings, Step, View};
use pushforward_ir::eval::{self, Tensor};
use pushforward_ir::{DType, Program};
use pushforward_plan::device::run::Memory;
use pushforward_plan::device::{self, Precision, Target};

fn localmixer() -> Model {
    Model::built_in("localmixer").expect("it is compiled in").expect("it is right")
}

/// A LocalMixer of two blocks with four patches, small enough for the evaluator.
fn tiny(algorithm: Algorithm, batch: usize) -> Settings {
    let sets = [("height", 4), ("width", 4), ("colours", 2), ("grid", 2), ("channels", 12), ("groups", 3), ("blocks", 2), ("classes", 5)];
    let mut settings = Settings::new(algorithm, batch);
    settings.sets = sets.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    settings
}

fn pool() -> Pool {
    Pool::new(2).expect("threads")
}

fn images(batch: usize) -> Array4<f32> {
    Array::from_shape_fn((batch, 4, 4, 2), |(n, y, x, c)| ((n * 37 + y * 11 + x * 5 + c) as f32 * 0.7).sin())
}

fn labels(batch: usize) -> Vec<i32> {
    (0..batch as i32).map(|n| (n * 3 + 1) % 5).collect()
}

fn numbers(view: View<'_>) -> Vec<f64> {
    view.f32().expect("f32").iter().map(|&x| f64::from(x)).collect()
}

fn names(parameters: &Parameters) -> Vec<String> {
    parameters.iter().map(|(name, _)| name.to_string()).collect()
}

/// What the evaluator makes of a step's program, given the step's own parameters and inputs.
fn evaluate(program: &Program, parameters: &Parameters, inputs: &[(&str, Vec<f64>)]) -> eval::Evaluated {
    let mut all = eval::Inputs::new();
    for param in &program.params {
        if let Some(view) = parameters.get(&param.port.name) {
            all.insert(param.port.name.clone(), Tensor::from_data(&program.axes, param.port.dtype, &param.port.order, numbers(view)));
        }
    }
    let given: HashMap<&str, &Vec<f64>> = inputs.iter().map(|(name, data)| (*name, data)).collect();
    for port in &program.inputs {
        let data = given[port.name.as_str()].clone();
        all.insert(port.name.clone(), Tensor::from_data(&program.axes, port.dtype, &port.order, data));
    }
    eval::run(program, &all).expect("the evaluator takes what the step takes")
}

#[test]
fn steps_agree_with_the_evaluator() {
    for algorithm in Algorithm::ALL {
        let mut step = Step::training(&localmixer(), &tiny(algorithm, 3), &pool()).unwrap();
        let mut parameters = Parameters::new(&step, 7).unwrap();
        let (x, y) = (images(3), labels(3));
        for at in 0..3 {
            let mut given: Vec<(&str, Vec<f64>)> =
                vec![("images", x.iter().map(|&x| f64::from(x)).collect()), ("labels", y.iter().map(|&y| f64::from(y)).collect())];
            let mut inputs: Vec<(&str, Input<'_>)> = vec![("images", x.view().into()), ("labels", y.as_slice().into())];
            for (name, number, input) in [("lr", 0.5, Input::from(0.5f32)), ("seed", 3.0, 3.into()), ("step", f64::from(at), at.into())] {
                if step.program().input(name).is_some() {
                    given.push((name, vec![number]));
                    inputs.push((name, input));
                }
            }
            let expected = evaluate(step.program(), &parameters, &given);
            step.run(&mut parameters, &inputs).unwrap();
            // Some gradients are 0 but for rounding: of numbers as large as the others'.
            let most = expected.outputs.iter().fold(1.0f64, |m, (_, t)| m.max(t.max_abs()));
            for (name, tensor) in &expected.outputs {
                let got = step.output(name).or_else(|| parameters.get(name)).unwrap_or_else(|| panic!("{name} came out of nowhere"));
                let largest = tensor.max_abs();
                for (got, expected) in numbers(got).into_iter().zip(&tensor.data) {
                    assert!(
                        (got - expected).abs() <= 2e-4 * largest + 1e-6 * most,
                        "{}, step {at}, {name}: {got} is not {expected}",
                        algorithm.name()
                    );
                }
            }
        }
    }
}

#[test]
fn noise_may_be_handed_in() {
    let mut settings = tiny(Algorithm::LG_FG_A, 2);
    settings.passes.noise = NoiseSource::Given;
    let mut step = Step::training(&localmixer(), &settings, &pool()).unwrap();
    let mut parameters = Parameters::new(&step, 0).unwrap();
    let before = numbers(parameters.get("block1.token.w").unwrap());
    let (x, y) = (images(2), labels(2));
    let noises: Vec<(String, ArrayD<f32>)> = step
        .program()
        .inputs
        .iter()
        .filter(|port| port.name.starts_with("anoise."))
        .map(|port| (port.name.clone(), ArrayD::zeros(step.program().shape(port))))
        .collect();
    assert_eq!(noises.len(), 5, "one for each activity: two in the first block, three in the second");
    let mut inputs: Vec<(&str, Input<'_>)> = vec![("images", x.view().into()), ("labels", y.as_slice().into()), ("lr", 0.5f32.into())];
    let missing = step.run(&mut parameters, &inputs).unwrap_err().to_string();
    assert!(missing.contains("needs the input `anoise."), "{missing}");
    inputs.extend(noises.iter().map(|(name, noise)| (name.as_str(), noise.view().into())));
    step.run(&mut parameters, &inputs).unwrap();
    // Without noise the estimate is 0, and only weight decay moves a weight: v = 1e-4 w, w = w - 0.5 v.
    for (after, before) in numbers(parameters.get("block1.token.w").unwrap()).into_iter().zip(before) {
        assert!((after - before * (1.0 - 0.5e-4)).abs() < 1e-7, "{after} from {before}");
    }
}

#[test]
fn parameters_begin_as_the_model_says() {
    let step = Step::training(&localmixer(), &tiny(Algorithm::LG_FG_A, 2), &pool()).unwrap();
    let parameters = Parameters::new(&step, 0).unwrap();
    let all = names(&parameters);
    let momentum = all.iter().filter(|name| name.starts_with("momentum.")).count();
    assert_eq!(all.len(), 2 * momentum);
    for (name, view) in parameters.iter() {
        let x = numbers(view);
        let zero = name.starts_with("momentum.") || name.ends_with(".b") || name.starts_with("cls.");
        assert_eq!(zero, x.iter().all(|&x| x == 0.0), "{name}");
    }
    // All weights together: standard normal once divided by their deviation, min(2 / sqrt(fan-in), 0.1) = 0.1 at these sizes.
    let weights =
        || parameters.iter().filter(|(name, _)| name.ends_with(".w") && !name.starts_with("momentum.") && !name.starts_with("cls."));
    let x: Vec<f64> = weights().flat_map(|(_, view)| numbers(view)).map(|x| x / 0.1).collect();
    let (mean, square) = (x.iter().sum::<f64>() / x.len() as f64, x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64);
    let error = 1.0 / (x.len() as f64).sqrt();
    assert!(mean.abs() < 4.0 * error && (square - 1.0).abs() < 4.0 * 2f64.sqrt() * error, "{} weights: {mean} {square}", x.len());

    let again = Parameters::new(&step, 0).unwrap();
    assert!(parameters.iter().zip(again.iter()).all(|((_, x), (_, y))| numbers(x) == numbers(y)));
    let other = Parameters::new(&step, 1).unwrap();
    assert!(weights().all(|(name, x)| numbers(x) != numbers(other.get(name).unwrap())));
    // No two weights share their numbers.
    assert_ne!(numbers(parameters.get("head0.w").unwrap()), numbers(parameters.get("head1.w").unwrap()));
}

/// The plan `init` of a package gives the CPU's bits.
#[test]
fn parameters_begin_the_same_on_a_device() {
    let settings = tiny(Algorithm::LG_FG_A, 2);
    let parameters = Parameters::new(&Step::training(&localmixer(), &settings, &pool()).unwrap(), 7).unwrap();
    let program = localmixer().training(&settings).unwrap();
    let target = Target::cuda(Precision::Fp32);
    let init = device::init(&program, &device::lower(&program, &target).unwrap(), &target);
    let mut memory = Memory { scalars: vec![7.0], buffers: init.buffers.iter().map(|b| vec![f64::NAN; b.len()]).collect() };
    device::run::run(&init, &mut memory).unwrap();
    assert_eq!(init.buffers.len(), names(&parameters).len());
    for (buffer, got) in init.buffers.iter().zip(&memory.buffers) {
        assert_eq!(got, &numbers(parameters.get(&buffer.name).unwrap()), "{}", buffer.name);
    }
}

/// Steps on a device keep parameters there, and fetch them when they are asked for.
#[test]
fn a_step_on_a_device_is_the_step_on_the_cpu() {
    let device = match engine::device("cuda-emu", Precision::Fp32).expect("it is known") {
        Ok(device) => Engine::Device(device),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "in CI no test may be skipped: {why}");
            return eprintln!("skipped: {why}");
        }
    };
    let settings = tiny(Algorithm::LG_FG_A, 3);
    let (x, y) = (images(3), labels(3));
    let mut all = Vec::new();
    for engine in [Engine::from(&pool()), device.clone()] {
        let mut step = Step::training(&localmixer(), &settings, &engine).unwrap();
        let mut parameters = Parameters::new(&step, 7).unwrap();
        parameters.set("head0.b", &[0.5f32; 5]).unwrap();
        // One: at these sizes norms are nearly singular, and rounding grows a hundredfold with each further step, on the CPU as well.
        let inputs =
            [("images", Input::from(&x)), ("labels", Input::from(&y[..])), ("lr", 0.01f32.into()), ("seed", 5.into()), ("step", 0.into())];
        step.run(&mut parameters, &inputs).unwrap();
        let before = numbers(parameters.get("block0.fc.w").unwrap());
        parameters.fetch().unwrap();
        // Not fetched, what is here is what they began with; on the CPU it is the same memory.
        assert_eq!(before == numbers(parameters.get("block0.fc.w").unwrap()), step.executable().is_some());
        let values: Vec<(String, Vec<f64>)> = parameters.iter().map(|(name, view)| (name.to_string(), numbers(view))).collect();
        // What is set after a run is kept, here and for the next.
        let loss = step.output("loss").unwrap().item().unwrap();
        step.run(&mut parameters, &inputs).unwrap();
        parameters.set("cls.b", &[300.0f32; 5]).unwrap();
        parameters.fetch().unwrap();
        assert_eq!(numbers(parameters.get("cls.b").unwrap()), [300.0; 5]);
        step.run(&mut parameters, &inputs).unwrap();
        parameters.fetch().unwrap();
        assert!(numbers(parameters.get("cls.b").unwrap()).iter().all(|x| (x - 300.0).abs() < 10.0));
        all.push((values, loss));
    }
    let [(cpu, cpu_loss), (there, loss)] = &all[..] else { panic!("two engines") };
    assert!((cpu_loss - loss).abs() < 1e-5 * cpu_loss.abs(), "{cpu_loss} {loss}");
    for ((name, x), (_, y)) in cpu.iter().zip(there) {
        let most = x.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        // A gradient that cancels is all rounding.
        assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() <= 2e-4 * most + 1e-6), "{name}");
    }

    // Parameters of one place do not serve steps of another.
    let mut here = Step::training(&localmixer(), &settings, &pool()).unwrap();
    let mut elsewhere = Parameters::new(&Step::training(&localmixer(), &settings, &device).unwrap(), 0).unwrap();
    let inputs =
        [("images", Input::from(&x)), ("labels", Input::from(&y[..])), ("lr", 0.1f32.into()), ("seed", 5.into()), ("step", 0.into())];
    let error = here.run(&mut elsewhere, &inputs).unwrap_err().to_string();
    assert!(error.contains("the parameters") && error.contains("another device"), "{error}");
}

/// Training on one batch size, looking with another, all on the same parameters.
#[test]
fn one_set_of_parameters_serves_all_steps() {
    let (model, pool) = (localmixer(), pool());
    let mut training = Step::training(&model, &tiny(Algorithm::BP, 4), &pool).unwrap();
    let mut looking = Step::evaluation(&model, &tiny(Algorithm::BP, 1), &pool).unwrap();
    let mut parameters = Parameters::new(&training, 0).unwrap();
    let all = names(&parameters);
    let (x, y) = (images(4), labels(4));
    let before = parameters.get("cls.w").map(numbers).unwrap();
    for _ in 0..2 {
        training.run(&mut parameters, &[("images", (&x).into()), ("labels", y.as_slice().into()), ("lr", 0.1f32.into())]).unwrap();
    }
    // The training step says what it saw before it updated: go one further to see the present parameters.
    assert_ne!(parameters.get("cls.w").map(numbers).unwrap(), before);
    let kept = parameters.get("cls.w").map(numbers).unwrap();
    let mut single = Vec::new();
    for n in 0..4 {
        looking.run(&mut parameters, &[("images", x.slice(s![n..n + 1, .., .., ..]).into())]).unwrap();
        assert_eq!(looking.output("logits").unwrap().shape(), [1, 5]);
        single.extend(numbers(looking.output("logits").unwrap()));
    }
    assert_eq!(parameters.get("cls.w").map(numbers).unwrap(), kept, "looking changes nothing");
    assert_eq!(names(&parameters), all);
    training.run(&mut parameters, &[("images", (&x).into()), ("labels", y.as_slice().into()), ("lr", 0f32.into())]).unwrap();
    for (one, together) in single.into_iter().zip(numbers(training.output("logits").unwrap())) {
        assert!((one - together).abs() < 1e-5, "{one} alone, {together} in the batch");
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let mut step = Step::training(&localmixer(), &tiny(Algorithm::BP, 4), &pool()).unwrap();
    let mut parameters = Parameters::new(&step, 0).unwrap();
    let before = parameters.get("block0.fc.w").map(numbers).unwrap();
    let (x, y, lr) = (images(4), labels(4), 0.1f32);
    let transposed = Array4::<f32>::zeros((2, 4, 4, 4)).reversed_axes();
    let three = images(3);
    let flat = Array2::<f32>::zeros((4, 32));
    let doubles = x.mapv(f64::from);
    let mut refused = |inputs: &[(&str, Input<'_>)], parts: &[&str]| {
        let message = step.run(&mut parameters, inputs).expect_err("it does not fit").to_string();
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    };
    refused(&[("images", (&x).into()), ("lr", lr.into())], &["needs the input `labels`", "i32[N=4]"]);
    refused(&[("images", (&x).into()), ("labels", y.as_slice().into()), ("rate", lr.into())], &["no input `rate`", "images, labels, lr"]);
    refused(&[("images", (&three).into()), ("labels", y.as_slice().into()), ("lr", lr.into())], &["`images` is f32[N=4", "[3, 4, 4, 2]"]);
    refused(
        &[("images", transposed.view().into()), ("labels", y.as_slice().into()), ("lr", lr.into())],
        &["`images`", "as_standard_layout"],
    );
    refused(&[("images", (&doubles).into()), ("labels", y.as_slice().into()), ("lr", lr.into())], &["`images` is f32, got f64"]);
    refused(&[("images", (&x).into()), ("labels", y[..3].into()), ("lr", lr.into())], &["`labels`", "4 elements, got 3"]);
    assert_eq!(parameters.get("block0.fc.w").map(numbers).unwrap(), before, "nothing was computed");
    // An axis that the model writes as one may be one, or part of a flat row.
    step.run(&mut parameters, &[("images", (&flat).into()), ("labels", y.as_slice().into()), ("lr", lr.into())]).unwrap();
}

#[test]
fn outputs_are_views_by_name() {
    let step = Step::evaluation(&localmixer(), &tiny(Algorithm::BP, 2), &pool()).unwrap();
    let outputs: Vec<(&str, Vec<usize>, DType)> = step.outputs().map(|(name, view)| (name, view.shape().to_vec(), view.dtype())).collect();
    assert_eq!(outputs, [("logits", vec![2, 5], DType::F32)]);
    assert!(step.output("logit").is_none());
    assert!(step.program().input("labels").is_some(), "declared, whether read or not");
}

#[test]
fn wrong_texts_are_told_with_their_places() {
    let message = |text: &str| match Model::parse("m.pf", text).and_then(|m| m.training(&Settings::new(Algorithm::FG_A, 2))) {
        Err(Error::Text(wrong)) => wrong.render(false),
        other => panic!("{other:?}"),
    };
    assert!(message("pf 1\nmodel m(").contains("m.pf:2:"));
    let untrained = message("pf 1\naxis N, D = 3;\nmodel m(x: f32[N, D]) { param w: f32[D] = 1; loss sum[D](x * w); }\n");
    assert!(
        untrained.contains("m.pf:3:") && untrained.contains("`w` reaches no `activity`") && untrained.contains("hint: "),
        "{untrained}"
    );
    let silent = Model::parse("m.pf", "pf 1\naxis N;\nmodel m(x: f32[N]) { loss x; }\n").unwrap();
    let message = silent.evaluation(&Settings::new(Algorithm::BP, 2)).unwrap_err().to_string();
    assert!(message.contains("declares no output"), "{message}");
}

/// The page that people copy from.
#[test]
fn the_example_runs_and_learns() {
    let test = std::env::current_exe().expect("a path");
    let example = test.ancestors().nth(2).expect("it lies in target/debug/deps").join("examples/embed");
    if !Path::new(&example).exists() {
        return eprintln!("skipped: {} is not built; `cargo test` without --test builds it", example.display());
    }
    let output = Command::new(example).output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let losses: Vec<f64> = text.lines().map(|l| l.rsplit_once(' ').expect(l).1.parse().expect(l)).collect();
    assert!(output.status.success() && losses.len() == 10 && losses[9] < 0.1 * losses[0], "{text}");
}
