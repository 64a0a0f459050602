//! The linear probe: how much of the labels one linear layer finds in features that a network has learnt without them. The features stay as
//! they are; the layer is a model like any other (`models/linear.pf`), trained by the same engine. Read [`errors`].

use pushforward::{Algorithm, Engine, Model, Settings};
use pushforward_models::data::epoch_order;
use pushforward_models::{Recipe, Schedule};

use crate::classifier::{At, Classifier, ClassifierError, Examples, Features, plain};

/// How the probe is trained.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Probe {
    pub epochs: usize,
    pub seed: u32,
}

/// Of the SGD with momentum that trains it, from here to 0 along a cosine; momentum and decay are the usual ones.
const LEARNING_RATE: f64 = 0.02;
const BATCH: usize = 128;

/// Errors in percent, on test and on training images; none if `stop` says so before the last step. Each feature is shifted and scaled to mean 0 and deviation 1 on the training images:
/// what a linear layer can tell apart does not change by it, and one rate suits every network.
pub fn errors(
    probe: Probe,
    [mut train, mut test]: [Features; 2],
    classes: usize,
    engine: &Engine,
    stop: impl Fn() -> bool,
) -> Result<Option<[f64; 2]>, ClassifierError> {
    let scales = scales(&train);
    for features in [&mut train, &mut test] {
        for row in features.numbers.chunks_exact_mut(features.width.max(1)) {
            row.iter_mut().zip(&scales).for_each(|(x, (mean, scale))| *x = (*x - mean) * scale);
        }
    }
    let recipe = Recipe { epochs: probe.epochs, lr: LEARNING_RATE, schedule: Schedule::Cosine, ..Recipe::default() };
    let batch = BATCH.min(train.count());
    let rates = recipe.rates(train.count().div_ceil(batch)).map_err(ClassifierError::Probe)?;
    let mut settings = Settings::new(Algorithm::BP, batch);
    settings.sets = vec![("inputs".into(), train.width.to_string()), ("classes".into(), classes.to_string())];
    let model = Model::built_in("linear").expect("it is one of the built-in models")?;
    let mut layer = Classifier::new(model, settings, engine.clone(), probe.seed, None)?;
    let mut step = 0;
    for epoch in 0..probe.epochs {
        for indices in epoch_order(probe.seed, epoch as u32, train.count()).chunks(batch) {
            if stop() {
                return Ok(None);
            }
            let at = At { lr: rates.at(step), seed: probe.seed, step };
            layer.step(&plain(indices.iter().map(|&i| i as usize), &train), at)?;
            step += 1;
        }
    }
    Ok(Some([layer.error(&test, usize::MAX)?, layer.error(&train, usize::MAX)?]))
}

/// Mean and 1 / deviation of each feature; a feature that is the same everywhere is not scaled.
fn scales(features: &Features) -> Vec<(f32, f32)> {
    let count = features.count().max(1) as f64;
    let mut sums = vec![(0.0, 0.0); features.width];
    for row in features.numbers.chunks_exact(features.width.max(1)) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum = (sum.0 + f64::from(x), sum.1 + f64::from(x) * f64::from(x));
        }
    }
    let scale = |(sum, squares): (f64, f64)| {
        let mean = sum / count;
        let deviation = (squares / count - mean * mean).max(0.0).sqrt();
        (mean as f32, if deviation > 1e-6 { (1.0 / deviation) as f32 } else { 1.0 })
    };
    sums.into_iter().map(scale).collect()
}

#[cfg(test)]
mod tests {
    use pushforward::Pool;

    use super::*;

    /// Three classes in two numbers, one of them a thousand times the other's size and far from 0: an impossible task at one rate without
    /// scaling, an easy one with it.
    #[test]
    fn a_linear_layer_finds_what_is_there() {
        let features = |count: usize| {
            let labels: Vec<u8> = (0..count).map(|i| (i % 3) as u8).collect();
            let centres = [(0.0, 5000.0), (1.0, 5000.0), (0.5, 6000.0)];
            let jitter = |i: usize, scale: f32| ((i * 7919 % 101) as f32 / 101.0 - 0.5) * scale;
            let numbers = labels.iter().enumerate().flat_map(|(i, &label)| {
                let (x, y) = centres[usize::from(label)];
                [x + jitter(i, 0.3), y + jitter(i + 50, 300.0)]
            });
            Features { width: 2, numbers: numbers.collect(), labels: labels.clone() }
        };
        let engine = Engine::from(&Pool::new(1).unwrap());
        let stopped = |epochs, stop: bool| errors(Probe { epochs, seed: 0 }, [features(300), features(99)], 3, &engine, || stop).unwrap();
        let probe = |epochs| stopped(epochs, false).unwrap();
        assert_eq!(stopped(20, true), None);
        let [test, train] = probe(20);
        assert!(test < 2.0 && train < 2.0, "{test} {train}");
        // Zero at the start: every score is equal, and the first class is taken.
        let [test, train] = probe(0);
        assert!((test - 200.0 / 3.0).abs() < 0.1 && (train - 200.0 / 3.0).abs() < 0.1, "{test} {train}");
    }

    #[test]
    fn features_that_never_change_are_left_alone() {
        let features = Features { width: 2, numbers: vec![3.0, 1.0, 3.0, -1.0], labels: vec![0, 1] };
        assert_eq!(scales(&features), [(3.0, 1.0), (0.0, 1.0)]);
    }
}
