//! The larger presets on real CIFAR-10: they compile and step, and the loss of M/8/16 falls under LG-FG-A. Needs the full data
//! (`PUSHFORWARD_DATA`); says that it skips where there is none.

use pushforward::{Algorithm, Input, Model, Parameters, Pool, Settings, Step, View};
use pushforward_models::data::{self, DataSet, Source, full_set_for_test};
use pushforward_models::{presets, recipe};

/// A training step of a preset, its parameters, and CIFAR-10's training images.
fn ready(preset: &str) -> Option<(Step, Parameters, DataSet, usize)> {
    let folder = full_set_for_test("cifar-10")?;
    let preset = presets::preset(preset).expect("a preset");
    let model = Model::built_in(preset.model).expect("a built-in model").expect("it parses");
    let sets = preset.sets.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let settings = Settings { sets, ..Settings::new(Algorithm::LG_FG_A, preset.batch) };
    let step = Step::training(&model, &settings, &Pool::new(0).expect("threads")).expect("it compiles");
    let parameters = Parameters::new(&step, 0).expect("memory");
    let set = data::load(&Source::Dir(folder)).expect("the data can be read").train;
    Some((step, parameters, set, preset.batch))
}

/// The losses of `steps` steps on consecutive batches.
fn losses(preset: &str, steps: usize) -> Option<Vec<f64>> {
    let (mut step, mut parameters, set, batch) = ready(preset)?;
    let mut losses = Vec::new();
    for s in 0..steps {
        let examples = s * batch..(s + 1) * batch;
        let pixels: Vec<f32> = examples.clone().flat_map(|i| set.image(i).iter().map(|&byte| recipe::pixel(byte))).collect();
        let labels: Vec<i32> = examples.map(|i| i32::from(set.labels[i])).collect();
        let inputs = [
            ("images", Input::from(&pixels[..])),
            ("labels", Input::from(&labels[..])),
            ("lr", Input::from(0.01f32)),
            ("seed", Input::from(0i32)),
            ("step", Input::from(s as i32)),
        ];
        step.run(&mut parameters, &inputs).expect("it steps");
        losses.push(step.output("loss").and_then(|v: View| v.item()).expect("a loss"));
    }
    Some(losses)
}

#[test]
fn the_loss_of_m_8_16_falls_over_50_steps() {
    let Some(losses) = losses("M/8/16", 50) else { return };
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[45..]));
    assert!((losses[0] - 10f64.ln()).abs() < 1e-4, "the classifier starts at zero, its loss at ln 10: {}", losses[0]);
    assert!(last < first - 0.1, "from {first} to {last}: {losses:?}");
}

#[test]
fn l_8_64_compiles_and_steps() {
    let Some(losses) = losses("L/8/64", 2) else { return };
    assert!(losses.iter().all(|l| l.is_finite()), "{losses:?}");
    assert!(losses[1] != losses[0]);
}
