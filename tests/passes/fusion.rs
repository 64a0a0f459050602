//! Replicated losses in two forms: marked, for `replicate` to write out, and written out by hand, in other orders and words, in `tests/fusion`.
//! Both have the same value and the same derivatives of either mode, written out and simplified. Read [`SPELLED`] for what there is, then
//! [`derived`], which makes the same program of either form.

use std::collections::HashMap;

use pushforward_ir::eval::{Inputs, Tensor};
use pushforward_ir::program::{Local, Loss, Port};
use pushforward_ir::{DType, Op, Program};
use pushforward_passes::alone::{self, Mode};
use pushforward_passes::{Algorithm, Options};

use crate::support::{Random, assert_near, evaluated, inlined, passed, tensors};

pub const CROSS_ENTROPY: &str = include_str!("../../models/cross_entropy.pf");
pub const INFONCE: &str = include_str!("../fusion/infonce.pf");
pub const INFONCE_BANK: &str = include_str!("../fusion/infonce_bank.pf");
pub const INFONCE_VIEWS: &str = include_str!("../fusion/infonce_views.pf");

/// Losses that are none of an aggregate. They are marked alone.
pub const WORST: &[(&str, &str)] =
    &[("worst_group", include_str!("../fusion/worst_group.pf")), ("worst_patch", include_str!("../fusion/worst_patch.pf"))];

/// A loss that is written out.
pub struct Spelled {
    pub file: &'static str,
    pub text: &'static str,
    /// The marked one that it is.
    pub like: &'static str,
    pub sets: &'static [(&'static str, &'static str)],
}

/// What the names in every text stand for: there and in the marked ones.
const NAMES: [(&str, &str); 6] = [("features", "x"), ("view", "y"), ("targets", "labels"), ("head", "w"), ("weight", "w"), ("shift", "b")];

const DOT: &[(&str, &str)] = &[("similarity", "dot")];
const COS: &[(&str, &str)] = &[("similarity", "cos")];

macro_rules! spelled {
    ($file:literal, $like:expr, $sets:expr) => {
        Spelled { file: $file, text: include_str!(concat!("../fusion/", $file, ".pf")), like: $like, sets: $sets }
    };
}

pub const SPELLED: &[Spelled] = &[
    spelled!("xent_masks", CROSS_ENTROPY, &[]),
    spelled!("xent_residual", CROSS_ENTROPY, &[]),
    spelled!("xent_head_first", CROSS_ENTROPY, &[]),
    spelled!("infonce_masks", INFONCE, DOT),
    spelled!("infonce_masks", INFONCE, COS),
    spelled!("infonce_residual", INFONCE, DOT),
    spelled!("infonce_residual", INFONCE, COS),
    spelled!("infonce_views_masks", INFONCE_VIEWS, &[]),
];

/// Value and derivatives of a loss, along its features forwards, with respect to them and to the parameters in reverse, as they are written
/// out: of a marked loss, or of one that is spelled, whose result is the output `loss`. Both programs have the same inputs and outputs, up to
/// [`NAMES`].
pub fn derived(text: &str, sets: &[(&str, &str)], batch: usize, float: DType, mode: Mode) -> Program {
    let mut program = inlined(text, sets, batch, float);
    if program.losses.is_empty() {
        let loss = program.outputs.iter().find(|o| o.port.name == "loss").expect("the text says what its loss is").value;
        let index = program.input("features").expect("the text has features");
        let features = program.values().find(|&v| *program.op(v) == Op::Input(index)).expect("it uses them");
        let local = Local { at: features, along: Default::default(), copies: Some(loss) };
        program.losses.push(Loss { name: "loss".into(), value: loss, local: Some(local) });
    } else {
        program = passed(program, &["replicate"], &Options::new(Algorithm::LG_BP));
    }
    alone::run(&program, mode).expect("the loss has derivatives")
}

fn simplified(program: &Program) -> Program {
    passed(program.clone(), &["simplify", "dce"], &Options::new(Algorithm::LG_BP))
}

/// `d.features` is `d.x`.
fn marked_name(name: &str) -> String {
    let (prefix, own) = ["d.", "ct.", "g."].into_iter().find_map(|p| Some((p, name.strip_prefix(p)?))).unwrap_or(("", name));
    format!("{prefix}{}", NAMES.iter().find(|n| n.0 == own).map_or(own, |n| n.1))
}

/// The tensors of a marked loss for one that is spelled: the same numbers, row by row.
fn given(spelled: &Program, marked: &Inputs) -> Inputs {
    let ports = spelled.inputs.iter().chain(spelled.params.iter().map(|p| &p.port));
    let tensor = |p: &Port| Tensor::from_data(&spelled.axes, p.dtype, &p.order, marked[&marked_name(&p.name)].data.clone());
    ports.map(|p| (p.name.clone(), tensor(p))).collect()
}

/// Results under the marked loss's names, with its axes.
fn translated(results: HashMap<String, Tensor>, expected: &HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let renamed = results.into_iter().map(|(name, t)| {
        let name = marked_name(&name);
        let like = expected.get(&name).unwrap_or_else(|| panic!("`{name}` is no result of the marked loss"));
        assert_eq!(t.shape.iter().product::<usize>(), like.data.len(), "{name}");
        (name, Tensor { data: t.data, ..like.clone() })
    });
    renamed.collect()
}

#[test]
fn what_is_written_out_by_hand_is_the_marked_loss() {
    for (patches, groups, channels) in [("3", "2", "6"), ("1", "3", "6"), ("2", "1", "3"), ("2", "4", "4")] {
        for spelled in SPELLED {
            for mode in Mode::ALL {
                let outputs: &[&str] = match mode {
                    Mode::Forward => &["loss", "d.loss"],
                    Mode::Reverse => &["loss", "g.x", "g.w", "g.b"],
                };
                let what = format!("{} {:?}, {} patches, {} groups, {}", spelled.file, spelled.sets, patches, groups, mode.name());
                let width = if spelled.like == CROSS_ENTROPY { "classes" } else { "width" };
                let sets = [&[("patches", patches), ("groups", groups), ("channels", channels), (width, "3")], spelled.sets].concat();
                let marked = derived(spelled.like, &sets, 4, DType::F64, mode);
                assert_eq!(marked.outputs.iter().map(|o| o.port.name.as_str()).collect::<Vec<_>>(), outputs, "{what}");
                let inputs = tensors(&marked, &mut Random::new(51));
                let expected = evaluated(&marked, &inputs);
                assert!(expected.values().all(|t| t.data.iter().any(|x| x.abs() > 1e-6)), "{what}: zeros are compared");
                assert_near(&format!("{what}, marked and simplified"), &evaluated(&simplified(&marked), &inputs), &expected, 1e-11, 1e-13);

                let ours = derived(spelled.text, &sets, 4, DType::F64, mode);
                let inputs = given(&ours, &inputs);
                for (form, program) in [("as written", ours.clone()), ("simplified", simplified(&ours))] {
                    let got = translated(evaluated(&program, &inputs), &expected);
                    assert_near(&format!("{what}, {form}"), &got, &expected, 1e-11, 1e-13);
                }
            }
        }
    }
}

/// The loss of the worst group is no function of the mean of all: each group's own logits decide. It stays right.
#[test]
fn what_cannot_be_fused_stays_right() {
    for (name, text) in WORST {
        let sets = [("patches", "3"), ("groups", "2"), ("channels", "6"), ("classes", "3")];
        for mode in Mode::ALL {
            let naive = derived(text, &sets, 4, DType::F64, mode);
            let inputs = tensors(&naive, &mut Random::new(52));
            let expected = evaluated(&naive, &inputs);
            assert_near(name, &evaluated(&simplified(&naive), &inputs), &expected, 1e-11, 1e-13);
            // One patch or group alone moves the loss: to the others it is flat.
            if mode == Mode::Reverse {
                let flat = expected["g.x"].data.iter().filter(|x| **x == 0.0).count();
                assert!(flat > 0 && flat < expected["g.x"].data.len(), "{name}: {flat} flat");
            }
        }
    }
}
