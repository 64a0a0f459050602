//! What plans promise, on the models of the repository: nothing of the naive replicated loss reaches memory, parameters are updated in place
//! after their last reader, work that is independent from example to example runs slice by slice, equal blocks share their kernels, and the
//! same program has the same plan. Numbers are not looked at here.

use std::collections::BTreeSet;

use pushforward::{Algorithm, Model, Settings};
use pushforward_models::presets::PRESETS;
use pushforward_passes::alone::{self, Mode};
use pushforward_plan::kernel::{Access, Body, Role};
use pushforward_plan::{Options, Plan, lower, print, verify};

fn plan(model: &str, sets: &[(&str, impl ToString)], algorithm: Algorithm, batch: usize) -> Plan {
    let model = Model::built_in(model).expect("a built-in model").expect("it parses");
    let sets = sets.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let settings = Settings { sets, ..Settings::new(algorithm, batch) };
    lower(&model.training(&settings).expect("it passes"), &Options::default()).expect("it has a plan")
}

const NONE: &[(&str, &str)] = &[];

fn temporaries(plan: &Plan) -> impl Iterator<Item = (&str, usize)> {
    plan.buffers.iter().filter(|b| matches!(b.role, Role::Temp(_))).map(|b| (b.name.as_str(), b.len()))
}

#[test]
fn every_preset_has_a_sound_plan() {
    for preset in PRESETS {
        for algorithm in Algorithm::ALL {
            let plan = plan("localmixer", &preset.sets, algorithm, 8);
            assert_eq!(verify::verify(&plan), Vec::<String>::new(), "{} {}", preset.name, algorithm.name());
        }
    }
}

/// Equations 4 and 5 say one loss for each patch and group, over copies of all features: N*P*G*C and N*P*P*G*G numbers. None of that is stored,
/// whatever the number of groups: the largest temporary of the loss has K numbers for each of the N*P*G losses, or is as large as the features.
#[test]
fn the_naive_replicated_loss_never_reaches_memory() {
    let (batch, patches, channels, classes) = (4, 16, 64, 10);
    for groups in [1, 4, 16, 32] {
        let sets = [("height", 8), ("width", 8), ("colours", 1), ("grid", 4), ("channels", 64), ("groups", groups), ("blocks", 2)];
        let plan = plan("localmixer", &sets, Algorithm::LG_FG_A, batch);
        let losses: usize = groups * batch * patches;
        let most = (batch * patches * channels).max(losses * classes);
        for (name, elements) in temporaries(&plan) {
            assert!(elements <= most, "{groups} groups: {name} has {elements} elements, the features have {}", batch * patches * channels);
        }
    }
}

/// Without `simplify` there is an aggregate of C channels for each of the N*P*G losses, and that is all: nothing runs over a replicated axis
/// beside its copy, but for the groups of an aggregate.
#[test]
fn the_written_out_loss_costs_no_more_than_its_aggregates() {
    let model = Model::built_in("cross_entropy").expect("a built-in model").expect("it parses");
    let sets = [("patches", "4"), ("channels", "16"), ("groups", "8"), ("classes", "3")].map(|(n, v)| (n.to_string(), v.to_string()));
    let settings = Settings { sets: sets.into(), ..Settings::new(Algorithm::LG_FG_A, 5) };
    for mode in Mode::ALL {
        let program = model.inline(&settings.sets, settings.batch).expect("it is sound").program;
        let program = model.passes(program, &["replicate"], &settings.passes, &mut |_, _| {}).expect("it passes");
        let plan = lower(&alone::run(&program, mode).expect("it has derivatives"), &Options::default()).expect("it has a plan");
        let mut aggregates = 0;
        for kernel in &plan.kernels {
            let Body::Loops(loops) = &kernel.body else { continue };
            let along = |name: &str| loops.outer.iter().chain(&loops.row).any(|l| l.axis == name);
            assert!(!(along("P") && along("P'")), "{}: {}", kernel.name, kernel.about);
            aggregates += usize::from(along("G") && along("G'"));
        }
        assert!(aggregates > 0, "the loss is written out");
        let most = temporaries(&plan).map(|t| t.1).max();
        assert_eq!(most, Some(5 * 4 * 8 * 16), "N*P*G*C, {}", mode.name());
    }
}

/// Every parameter is written, by one launch, and no later launch reads it.
#[test]
fn parameters_are_updated_in_place_after_their_last_reader() {
    for (model, algorithm) in [("localmixer", Algorithm::LG_FG_A), ("localmixer", Algorithm::BP), ("tanh_mlp", Algorithm::FG_A)] {
        let plan = plan(model, NONE, algorithm, 8);
        let mut updated: BTreeSet<usize> = BTreeSet::new();
        for launch in plan.stages.iter().flat_map(|s| &s.launches) {
            for (&b, arg) in launch.args.iter().zip(&plan.kernels[launch.kernel].args) {
                assert!(!updated.contains(&b), "{model}: {} is used after its update", plan.buffers[b].name);
                if arg.access != Access::Read && matches!(plan.buffers[b].role, Role::State(_)) {
                    updated.insert(b);
                }
            }
        }
        let states = plan.buffers.iter().filter(|b| matches!(b.role, Role::State(_))).count();
        assert_eq!(updated.len(), states, "{model}: every parameter and its momentum is updated");
    }
}

/// Under greedy local losses everything up to the directional derivatives is a map over the batch: one stage of slices. What reads parameters
/// alone comes before it, and what mixes examples (weight gradients) after.
#[test]
fn what_is_independent_from_example_to_example_is_sliced() {
    let plan = plan("localmixer", &[("blocks", "3")], Algorithm::LG_FG_A, 128);
    let first = |plan: &Plan| plan.stages.iter().position(|s| s.slice.is_some());
    let slices = first(&plan).expect("a stage is sliced");
    let sliced = plan.stages[slices].slice.as_ref().expect("it is that one");
    assert_eq!((sliced.axis.as_str(), sliced.size), ("N", 128));
    let noise = |s: usize| plan.stages[s].launches.iter().filter(|l| matches!(plan.kernels[l.kernel].body, Body::Normals(_))).count();
    assert_eq!(noise(slices), 8, "all noise of 2 + 3 + 3 layers is drawn in the stage of slices");
    assert!(plan.stages[slices].launches.len() > 60, "the run of slices is cut: {} launches", plan.stages[slices].launches.len());
    let read = |s: usize| plan.stages[s].launches.iter().flat_map(|l| &l.args).any(|&b| matches!(plan.buffers[b].role, Role::Input(_)));
    assert!(!(0..slices).any(read), "what comes before reads an input");
    let later: usize = (slices + 1..plan.stages.len()).map(noise).sum();
    assert_eq!(later, 0);
    // A batch norm mixes examples: then there is no such stage.
    let mixed = self::plan("localmixer", &[("blocks", "3"), ("norm", "bn")], Algorithm::LG_FG_A, 128);
    assert!(first(&mixed).is_none_or(|s| mixed.stages[s].launches.len() < plan.stages[slices].launches.len()));
}

/// Blocks after the first and before the last are alike; with more of them there are more launches and not one more kernel.
#[test]
fn equal_blocks_share_their_kernels() {
    let of = |blocks: &str| {
        let plan = plan("localmixer", &[("blocks", blocks)], Algorithm::LG_FG_A, 8);
        (plan.kernels.len(), plan.stages.iter().map(|s| s.launches.len()).sum::<usize>())
    };
    let ((four, few), (seven, many)) = (of("4"), of("7"));
    assert_eq!(four, seven);
    assert!(many > few);
}

#[test]
fn the_same_program_has_the_same_plan_and_text() {
    let text = || print::plan(&plan("localmixer", &[("norm", "ln")], Algorithm::LG_FG_A, 16));
    let first = text();
    assert!(first.starts_with("plan localmixer: "));
    for _ in 0..5 {
        assert!(first == text(), "two plans of one program differ");
    }
}

/// Temporaries that are alive at the same time do not overlap; the arena is smaller than all of them together.
#[test]
fn memory_is_used_again() {
    let plan = plan("localmixer", NONE, Algorithm::LG_FG_A, 16);
    let all: usize = plan.buffers.iter().filter(|b| matches!(b.role, Role::Temp(_))).map(|b| b.bytes()).sum();
    assert!(plan.arena_bytes * 10 < all * 6, "{} of {all} bytes", plan.arena_bytes);
    let mut moved = plan.clone();
    // A test of the test: one temporary on top of another that is still needed is found.
    for b in &mut moved.buffers {
        if let Role::Temp(at) = &mut b.role {
            *at = 0;
        }
    }
    assert!(!verify::verify(&moved).is_empty());
}

/// A product of three long axes is refused before anything counts its points.
#[test]
fn what_cannot_be_counted_has_no_plan() {
    let text = "pf 1\naxis N, A = 1000000, B = 1000000, K = 1000000;\n\
                model m(x: f32[A], y: f32[B], z: f32[K], u: f32[N]) {\n\
                output s: f32[] = contract[A, B, K](x, y, z);\n\
                output t: f32[N] = u;\n}\n";
    let model = Model::parse("m.pf", text).expect("it parses");
    let program = model.evaluation(&Settings::new(Algorithm::BP, 2)).expect("it passes");
    let refused = lower(&program, &Options::default()).expect_err("it cannot be counted").to_string();
    assert!(refused.contains("more than can be counted") && refused.contains("hint: "), "{refused}");
}
