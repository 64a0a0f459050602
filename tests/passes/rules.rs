//! Each rule alone keeps to the arithmetic that its row states, with all others left out, on graphs that no one wrote, on replicated losses and on
//! steps of LocalMixer; the laws of `fold` are all used there. And the table itself: its rows can be read, and told apart.

use std::collections::BTreeSet;

use pushforward_ir::{DType, Program};
use pushforward_passes::alone::Mode;
use pushforward_passes::simplify::{RULES, Rule, Rules, Settings as Simplify, run_reported};
use pushforward_passes::table::find;
use pushforward_passes::validate::{Settings, validate};
use pushforward_passes::{Algorithm, NoiseSource, Options};

use crate::fusion::{CROSS_ENTROPY, INFONCE, INFONCE_VIEWS, SPELLED, WORST, derived};
use crate::graphs::graph;
use crate::support::{LOCALMIXER, Random, SMALL_MIXER, inlined, passed};

/// Laws that only have something to do behind another.
const BEHIND: &[(&str, &str)] = &[
    // A maximum along an axis that a value has no more: something took it away.
    ("max-absent", "select-same"),
    // What stands in a sum under a mask has it outside of its own ops.
    ("delta-sum", "mask-out"),
];

/// As many programs as a law is tried on where it is used, at least and at most.
const FEWEST: usize = 3;
const MOST: usize = 40;

fn simplify(rules: Rules, only: &Rule) -> Options {
    let used = |name: &str| name == only.name || BEHIND.contains(&(only.name, name));
    let without = RULES.iter().map(|r| r.name).filter(|name| !used(name)).collect();
    Options { simplify: Simplify { rules, without, ..Simplify::default() }, ..Options::new(Algorithm::LG_BP) }
}

/// Programs without losses, all in f64.
fn programs() -> Vec<(String, Program)> {
    let mut all = Vec::new();
    for (i, text) in WRITTEN.iter().enumerate() {
        all.push((format!("text {i}"), inlined(text, &[], 3, DType::F64)));
    }
    let sets = [("patches", "2"), ("groups", "2"), ("channels", "4")];
    let texts = [CROSS_ENTROPY, INFONCE, INFONCE_VIEWS].into_iter().chain(WORST.iter().map(|w| w.1)).chain(SPELLED.iter().map(|s| s.text));
    for (i, text) in texts.enumerate() {
        for mode in Mode::ALL {
            let width = if text.contains("width") { "width" } else { "classes" };
            let program = derived(text, &[&sets[..], &[(width, "3")]].concat(), 3, DType::F64, mode);
            all.push((format!("loss {i} {}", mode.name()), program));
        }
    }
    let options = Options::new(Algorithm::BP);
    for seed in 0..1500 {
        let program = graph(&mut Random::new(90_000 + seed));
        let pass = [&[][..], &["jvp"], &["transpose"]][seed as usize % 3];
        all.push((format!("graph {seed}"), passed(program, pass, &options)));
    }
    for algorithm in Algorithm::ALL {
        let options = Options { noise: NoiseSource::Given, ..Options::new(algorithm) };
        let before = algorithm.passes().split(|p| *p == "simplify").next().expect("passes come before");
        all.push((algorithm.name().to_string(), passed(inlined(LOCALMIXER, SMALL_MIXER, 2, DType::F64), before, &options)));
    }
    all
}

/// What random graphs seldom come to: comparisons of axes, masks under masks, names there and back, maxima of what is constant.
const WRITTEN: [&str; 3] = [
    "pf 1
    axis N, C = 3;
    axis C' like C;
    model sums_of_masked(x: f32[N, C], y: f32[N, C]) {
        same = eq(iota[C](), iota[C']());
        output picked: f32[N, C] = sum[C'](select(same, rename[C -> C'](x), 0));
        output others: f32[N, C] = sum[C'](select(same, 0, rename[C -> C'](exp(x))));
        output cases: f32[N, C, C'] = x * cast[f32](same) + rename[C -> C'](y) * (1 - cast[f32](same));
        back = rename[C' -> C](tanh(rename[C -> C'](x)));
        output there: f32[N, C] = select(lt(x, y), select(lt(x, y), back, y), select(lt(x, y), x, back));
        output top: f32[N] = max[C](select(lt(x, y), sum[C](x), sum[C](x)));
    }",
    "pf 1
    axis N, C = 4;
    axis C' like C;
    model masks_of_numbers(x: f32[N, C], w: f32[C]) {
        mine = cast[f32](eq(iota[C'](), iota[C]()));
        copies = rename[C -> C'](x) * mine + stop_gradient(rename[C -> C'](x) * (1 - mine));
        output back: f32[N, C] = rename[C' -> C](rename[C -> C'](x));
        output mean: f32[N, C] = sum[C'](copies * rename[C -> C'](w));
        output left: f32[N, C] = sum[C'](select(delta[C, C'](), 0, rename[C -> C'](x * w)));
        output nested: f32[N, C] = select(x > 0, exp(select(x > 0, x, 1)), select(x > 0, 1, select(x > 0, x, 2)));
        total = sum[C](x * w);
        output high: f32[N] = max[C](select(x > 0, total, total));
    }",
    "pf 1
    axis N, C = 2, D = 3;
    axis C' like C, D' like D;
    model two_axes(x: f32[N, C, D], b: f32[D]) {
        same = and(eq(iota[C](), iota[C']()), eq(iota[D](), iota[D']()));
        output picked: f32[N, C, D] = sum[C', D'](select(same, rename[C -> C', D -> D'](x * b), 0));
        output others: f32[N, C, D] = sum[C', D'](select(same, 0, rename[C -> C', D -> D'](x)));
        kept = select(x < b, select(x < b, x, b), 0);
        output back: f32[N, C, D] = rename[D' -> D](rename[D -> D'](rename[C' -> C](rename[C -> C'](kept))));
        output top: f32[N, D] = max[C](select(x < b, b, b));
    }",
];

fn assert_kept(rule: &Rule, name: &str, before: &Program, after: &Program, options: &Options) {
    if let Err(fault) = validate(before, after, find("simplify").expect("a pass"), options, &Settings::default()) {
        let (before, after) = (before.to_text(), after.to_text());
        panic!("{} with {} rules, {name}: {}\n{before}\n{after}", rule.name, options.simplify.rules.name(), fault.diagnostic());
    }
}

#[test]
fn every_rule_alone_keeps_to_its_arithmetic() {
    let programs = programs();
    for rule in RULES {
        for rules in Rules::ALL {
            let options = simplify(rules, rule);
            if !options.simplify.allows(rule) {
                continue;
            }
            let mut used = 0;
            for (name, before) in &programs {
                let (after, report) = run_reported(before, &options);
                assert!(report.fired.iter().all(|f| !options.simplify.without.contains(&f.rule)), "{}: {:?}", rule.name, report.fired);
                if report.fired.iter().any(|f| f.rule == rule.name) {
                    assert_kept(rule, name, before, &after, &options);
                    used += 1;
                }
                if used == MOST {
                    break;
                }
            }
            assert!(
                used >= FEWEST || rule.is_searched(),
                "`{}` with {} rules is used on {used} programs of {}",
                rule.name,
                rules.name(),
                programs.len()
            );
        }
    }
}

#[test]
fn the_table_can_be_read() {
    let names: BTreeSet<&str> = RULES.iter().map(|r| r.name).collect();
    assert_eq!(names.len(), RULES.len(), "two rules have one name");
    for rule in RULES {
        for (what, text) in [("name", rule.name), ("family", rule.family), ("left", rule.left), ("right", rule.right), ("why", rule.why)] {
            assert!(!text.trim().is_empty(), "`{}` has no {what}", rule.name);
        }
        assert_ne!(rule.left, rule.right, "`{}` changes nothing", rule.name);
        assert!(rule.why.ends_with('.'), "`{}`: its reason is no sentence", rule.name);
        let own = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(rule.name.chars().all(own), "`{}` is no name for a flag", rule.name);
        // What the e-graph finds is algebra of real numbers.
        assert!(!rule.is_searched() || rule.arithmetic == Rules::Relaxed, "`{}` is searched for, and exact", rule.name);
    }
}
