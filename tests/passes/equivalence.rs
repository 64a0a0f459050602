//! What passes keep and what they add, where that is more than `validate.rs` can ask: the copies of a loss, simplify where derivatives are still
//! to come, SGD by hand.

use std::collections::HashMap;

use pushforward_ir::eval::{Tensor, run_values};
use pushforward_ir::{DType, Program};
use pushforward_passes::update::MOMENTUM;
use pushforward_passes::{Algorithm, NoiseSource, Options};

use crate::support::{LOCALMIXER, Random, SMALL_MIXER, assert_near, evaluated, inlined, passed, tensors};

fn mixer(norm: &str) -> Program {
    let sets: Vec<(&str, &str)> = SMALL_MIXER.iter().copied().chain([("norm", norm)]).collect();
    inlined(LOCALMIXER, &sets, 3, DType::F64)
}

fn assert_same_bits(what: &str, got: &HashMap<String, Tensor>, expected: &HashMap<String, Tensor>) {
    assert!(expected.len() > 1, "{what}: nothing is compared");
    for (name, tensor) in expected {
        assert!(got.get(name).is_some_and(|t| t.same_bits(tensor)), "{what}: `{name}` has other bits");
    }
}

/// Equations 4 and 5: every copy of a loss is the loss.
#[test]
fn the_copies_of_a_loss_are_the_loss() {
    let program = passed(mixer("local"), &["cut", "replicate"], &Options::new(Algorithm::LG_FG_A));
    let inputs = tensors(&program, &mut Random::new(22));
    let mut count = 0;
    for loss in &program.losses {
        let Some(copies) = loss.local.as_ref().and_then(|m| m.copies) else { continue };
        let values = run_values(&program, &inputs, &[loss.value, copies]).expect("the losses can be evaluated");
        let (one, all) = (&values[0], &values[1]);
        assert!(all.data.len() == one.data.len() * 8, "four patches, two groups");
        let strides = all.data.len() / one.data.len();
        for (i, x) in all.data.iter().enumerate() {
            assert_eq!(*x, one.data[i / strides], "{}", loss.name);
        }
        count += 1;
    }
    assert_eq!(count, 2);
}

/// While losses stand, derivatives may come: fold then leaves marks and what they mark.
#[test]
fn simplify_before_derivatives_changes_none() {
    for algorithm in Algorithm::ALL {
        let options = Options { noise: NoiseSource::Given, ..Options::new(algorithm) };
        let names: Vec<&str> = algorithm.passes().iter().copied().filter(|&n| n != "update").collect();
        let usual = passed(mixer("ln"), &names, &options);
        let early = passed(mixer("ln"), &[&["simplify"], &names[..]].concat(), &options);
        let inputs = tensors(&usual, &mut Random::new(25));
        assert_near(algorithm.name(), &evaluated(&early, &inputs), &evaluated(&usual, &inputs), 1e-11, 1e-13);
    }
}

/// A maximum and a window of what turns out constant along their axis.
#[test]
fn simplify_of_what_is_constant_after_all() {
    let text = "pf 1\naxis N, C = 4, D = 3;\nmodel m(x: f32[N], c: f32[C]) {\n    same = select(lt(c, 0), x, x);\n    \
                output high: f32[N] = max[C](same);\n    output seen: f32[N, D] = window[C = 2 * D - 1](same);\n}\n";
    let before = inlined(text, &[], 3, DType::F64);
    let after = passed(before.clone(), &["simplify"], &Options::new(Algorithm::BP));
    let inputs = tensors(&before, &mut Random::new(26));
    assert_same_bits("simplify", &evaluated(&after, &inputs), &evaluated(&before, &inputs));
    assert!(after.nodes.len() < before.nodes.len() + 4);
}

/// `v = 0.9 v + (g + 1e-4 w); w = w - lr v`, decay on weights only; what is no gradient stays.
#[test]
fn update_is_stochastic_gradient_descent() {
    let options = Options::new(Algorithm::BP);
    let before = passed(mixer("local"), &["gradient"], &options);
    let after = passed(before.clone(), &["update"], &options);
    let inputs = tensors(&after, &mut Random::new(24));
    let (gradients, updated) = (evaluated(&before, &inputs), evaluated(&after, &inputs));
    let mut expected = HashMap::new();
    for param in &before.params {
        let name = &param.port.name;
        let (w, v, g) = (&inputs[name], &inputs[&format!("{MOMENTUM}{name}")], &gradients[&format!("grad.{name}")]);
        let decay = if param.decay { 1e-4 } else { 0.0 };
        assert_eq!(param.decay, name.ends_with(".w"), "LocalMixer decays its weights alone");
        let mut new = (v.clone(), w.clone());
        for i in 0..w.data.len() {
            new.0.data[i] = 0.9 * v.data[i] + (g.data[i] + decay * w.data[i]);
            new.1.data[i] = w.data[i] - 0.1 * new.0.data[i];
        }
        expected.insert(format!("{MOMENTUM}{name}"), new.0);
        expected.insert(name.clone(), new.1);
    }
    expected.extend(gradients.into_iter().filter(|(n, _)| !n.starts_with("grad.")));
    assert!(expected.contains_key("logits") && expected.contains_key("loss"));
    assert_near("update", &updated, &expected, 1e-15, 1e-18);
    assert_eq!(updated.len(), expected.len(), "nothing else comes out");
}

/// Patches of one colour: their norm is nothing, to the last bit, and so is its sign, on which a ReLU's mask hangs. A mean that multiplies by
/// 1 / n in place of dividing by n is not the number of which it is the mean.
#[test]
fn the_norm_of_equal_numbers_stays_zero() {
    for size in ["3", "192", "1000"] {
        let text = "pf 1\nsize n = 3;\naxis N, C = n, K = 2;\nmodel flat(x: f32[N, C], w: f32[C, K]) {\n    y = norm[C](x);\n    \
                    output y: f32[N, C] = y;\n    output z: f32[N, K] = sum[C](y * w);\n    output v: f32[N, K] = sum[C](norm[C](relu(x)) * w);\n}\n";
        let before = inlined(text, &[("n", size)], 3, DType::F32);
        let after = passed(before.clone(), &["simplify", "dce"], &Options::new(Algorithm::BP));
        let mut inputs = tensors(&before, &mut Random::new(27));
        inputs.get_mut("x").expect("an input").data.fill(1.0);
        for (what, program) in [("before", &before), ("after", &after)] {
            let results = evaluated(program, &inputs);
            assert_eq!(results.len(), 3);
            for (name, y) in results {
                assert!(y.data.iter().all(|y| *y == 0.0), "{what}, {size} numbers, {name}: {:?}", &y.data[..2]);
            }
        }
    }
}
