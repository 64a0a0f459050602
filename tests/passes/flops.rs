//! What fused losses and a training step cost, against counts by hand, and how far the e-graph's caps are. That results are right is for
//! `fusion.rs` and `validate.rs`. Read [`Hand`] first: a count derived from sizes, as someone would write the fused loss who knew what it is.

use pushforward_ir::op::Class;
use pushforward_ir::{AxisSet, DType, Program};
use pushforward_models::presets::{Preset, preset};
use pushforward_passes::algorithm::Signal;
use pushforward_passes::alone::Mode;
use pushforward_passes::cost::{self, Flops};
use pushforward_passes::simplify::saturate::{MOST_ITERATIONS, MOST_NODES};
use pushforward_passes::simplify::{Report, run_reported};
use pushforward_passes::{Algorithm, Options};

use crate::fusion::{CROSS_ENTROPY, INFONCE, INFONCE_BANK, INFONCE_VIEWS, SPELLED, WORST, derived};
use crate::support::{LOCALMIXER, inlined, passed};

/// Examples, patches, channels, classes and width of a projection; groups unless a test says how many.
const N: u64 = 128;
const P: u64 = 64;
const C: u64 = 512;
const K: u64 = 10;
const J: u64 = 64;
const G: u64 = 16;

/// The count of a loss that is fused by hand.
struct Hand {
    contraction: u64,
    other: u64,
}

impl Hand {
    fn total(&self) -> u64 {
        self.contraction + self.other
    }
}

/// The loss is the same number for each patch and group: `q` examples' are written out along P, then along G, under the comparisons that say
/// for which (a value that lacks an axis is written along it by a select).
fn copies(q: u64, g: u64) -> u64 {
    P + g + q * P + q * P * g
}

/// With z = mean(x) w + b, m = max z, e = softmax(z) - onehot: loss = log sum exp(z - m) + m - z[label], v = w e / P.
///
/// * The mean reads x once: NPC. The logits are 2NCK.
/// * Maps over [N, K]: label = k, z / P, + b, z - m, exp, z where it is the label's, onehot as a number, softmax, minus onehot: 9; reductions of
///   [N, K]: max, sum of exp, z[label]: 3. Of [N]: log, +, -: 3. And the copies.
/// * Forwards: v is 2NCK and one map over [N, K] for 1/P; the result is dx . v: 2NPC.
/// * In reverse, with c = sum of the cotangent over P and G (reads it once, NPG): g.x is the cotangent times v, NPC; v as above. g.w = s^T e c / P is
///   2NCK, with maps c / P over [N] and e times that over [N, K]; g.b = sum over N of e c is 2NK.
fn cross_entropy(g: u64, mode: Mode) -> Hand {
    let (logits, v) = (2 * N * C * K, 2 * N * C * K);
    let value = N * P * C + (9 + 3) * N * K + 3 * N + copies(N, g);
    match mode {
        Mode::Forward => Hand { contraction: logits + v + 2 * N * P * C, other: value + N * K },
        Mode::Reverse => {
            let parameters = 2 * N * C * K + 2 * N * K;
            Hand { contraction: logits + v + parameters, other: value + N * K + N * P * g + N * P * C + N + N * K }
        }
    }
}

/// What distinguishes the contrastive losses.
struct Contrast {
    /// Examples that ask, and candidates.
    q: u64,
    m: u64,
    /// Views whose features are read: a query's and the bank's, or those of the one that is both.
    read: u64,
    unit: bool,
    two_sided: bool,
}

const DOT: Contrast = Contrast { q: N, m: N, read: 2 * N, unit: false, two_sided: false };
const COS: Contrast = Contrast { unit: true, ..DOT };
/// A bank of two other views.
const BANK_DOT: Contrast = Contrast { m: 2 * N, read: 3 * N, ..DOT };
const BANK_COS: Contrast = Contrast { m: 2 * N, read: 3 * N, ..COS };
const VIEWS: Contrast = Contrast { q: 2 * N, m: 2 * N, read: 2 * N, unit: true, two_sided: true };

/// Of r features that are read, z = mean(x) w + b; u = z, or z with length 1, of q queries and m candidates; l = u . u / t over [Q, M];
/// loss = log sum exp(l - max) + max - l[own]. With e = softmax(l) - onehot, the error is f = e u (of the candidates) / t, and v = w f / P.
///
/// * Features: the means are rPC; z is 2rCJ, and two maps over [r, J], 1/P and b.
/// * Length: z . z is 2rJ; compared with the least, chosen, rsqrt: 3r; u is rJ; and l / t is QM, l[own] / t is Q.
/// * l is 2QMJ; maps over [Q, M]: l - max, exp, softmax, onehot as a number, minus onehot: 5; reductions: max, sum of exp: 2. l[own] reads one
///   term of each row: 2Q, and log, +, -: 3Q. And the copies. Two-sided, a candidate may be the query itself: maps over [Q, M] that say who
///   is itself, who is the other side, who is not itself, that leave it out before and after exp: 5.
/// * Error: e u is 2QMJ and one map over [Q, J] for the factors. Through the length of z: f - u (u . f), 2QJ and two maps over [Q, J], three over [Q].
/// * Forwards: v is 2QCJ, the result dx . v is 2QPC.
/// * In reverse, with c = sum of the cotangent over P and G (QPG, as it is read once): g.x is the cotangent times v, QPC; v as above. g.w = s^T f c / P
///   is 2QCJ and a map over [Q, J], g.b = sum over Q of f c is 2QJ.
fn infonce(loss: &Contrast, mode: Mode) -> Hand {
    let Contrast { q, m, read, unit, two_sided } = *loss;
    let mut contraction = 2 * read * C * J + 2 * q * m * J + 2 * q * m * J + 2 * q * C * J;
    let mut other = read * P * C + 2 * read * J + (5 + 2) * q * m + (2 + 3) * q + q * J + copies(q, G);
    if unit {
        contraction += 2 * read * J + 2 * q * J;
        other += 3 * read + read * J + q * m + q + 2 * q * J + 3 * q;
    }
    if two_sided {
        other += 5 * q * m;
    }
    match mode {
        Mode::Forward => Hand { contraction: contraction + 2 * q * P * C, other },
        Mode::Reverse => {
            let parameters = 2 * q * C * J + 2 * q * J;
            Hand { contraction: contraction + parameters, other: other + q * P * G + q * P * C + q * J }
        }
    }
}

fn fused(program: &Program) -> (Program, Flops, Report) {
    let options = Options::new(Algorithm::LG_BP);
    let (program, report) = run_reported(program, &options);
    let program = passed(program, &["dce"], &options);
    let flops = cost::flops(&program);
    (program, flops, report)
}

/// Elements of the largest value that is computed.
pub fn largest(program: &Program) -> u64 {
    let live = program.live();
    let computed = program.values().filter(|&v| live[v.0 as usize] && program.op(v).class() != Class::Leaf);
    computed.map(|v| program.axes.count(program.axes_of(v)) as u64).max().expect("something is computed")
}

/// Elements of the features and so of their tangents.
fn features(program: &Program) -> u64 {
    let x = program.input("x").expect("every marked loss has features");
    program.shape(&program.inputs[x as usize]).iter().product::<usize>() as u64
}

/// Values that are printed after the declarations, where sizes stand.
fn body(program: &Program) -> String {
    let text = program.to_text();
    text[text.find("%0").expect("it has values")..].to_string()
}

fn assert_within_a_percent(what: &str, flops: Flops, hand: &Hand) {
    let (got, expected) = (flops.total() as f64, hand.total() as f64);
    assert!((got / expected - 1.0).abs() <= 0.01, "{what}: {got} FLOPs, {expected} by hand");
    let (got, expected) = (flops.contraction as f64, hand.contraction as f64);
    assert!((got / expected - 1.0).abs() <= 0.01, "{what}: {got} FLOPs of contractions, {expected} by hand");
}

#[test]
fn replicated_cross_entropy_costs_what_it_costs_by_hand() {
    for mode in Mode::ALL {
        let mut first: Option<String> = None;
        for g in [1, 4, 16, 64, 256] {
            let what = format!("{}, {g} groups", mode.name());
            let naive = derived(CROSS_ENTROPY, &[("groups", &g.to_string())], N as usize, DType::F32, mode);
            let (program, flops, report) = fused(&naive);
            let hand = cross_entropy(g, mode);
            assert!(flops.contraction <= hand.contraction, "{what}: {flops:?}, by hand {}", hand.contraction);
            assert!(flops.other <= hand.other, "{what}: {flops:?}, by hand {}", hand.other);
            // A count by hand that is too generous would show nothing.
            assert_within_a_percent(&what, flops, &hand);
            assert!(largest(&program) <= features(&program), "{what}: a value of {} elements", largest(&program));
            assert_eq!(report.notes, [""; 0], "{what}");
            let form = first.get_or_insert_with(|| body(&program));
            assert_eq!(body(&program), *form, "{what}: another form than for one group");
        }
    }
    // The bound that the paper's authors' own rule meets.
    assert_eq!(cross_entropy(G, Mode::Forward).contraction, 2 * N * C * K + 2 * N * C * K + 2 * N * P * C);
}

/// Sets, text and count of each contrastive loss.
const CONTRASTIVE: [(&str, &str, &[(&str, &str)], Contrast); 5] = [
    ("dot", INFONCE, &[("similarity", "dot")], DOT),
    ("cos", INFONCE, &[("similarity", "cos")], COS),
    ("dot of 2N candidates", INFONCE_BANK, &[("similarity", "dot")], BANK_DOT),
    ("cos of 2N candidates", INFONCE_BANK, &[("similarity", "cos")], BANK_COS),
    ("views", INFONCE_VIEWS, &[], VIEWS),
];

#[test]
fn replicated_contrastive_losses_cost_what_they_cost_by_hand() {
    for (name, text, sets, loss) in &CONTRASTIVE {
        for mode in Mode::ALL {
            let what = format!("infonce {name} {}", mode.name());
            let (program, flops, report) = fused(&derived(text, sets, N as usize, DType::F32, mode));
            assert_within_a_percent(&what, flops, &infonce(loss, mode));
            assert!(largest(&program) <= features(&program), "{what}: a value of {} elements", largest(&program));
            // Each patch's and group's own projections, or likenesses to candidates, are larger than that.
            assert!(loss.q * P * G * J.min(loss.m) > features(&program), "{what}");
            let axis = |name: &str| program.axes.find(name).expect("the text names it");
            let replicated: AxisSet = ["P", "G"].map(axis).into_iter().collect();
            for candidates in ["J", "N'", "M"].into_iter().filter_map(|a| program.axes.find(a)) {
                let there = program.values().find(|&v| replicated.with(candidates).is_subset(program.axes_of(v)));
                assert_eq!(there, None, "{what}:\n{}", program.to_text());
            }
            assert_eq!(report.notes, [""; 0], "{what}");
        }
    }
}

/// Of two forms of one loss, the fused ones cost the same: cross entropy to the FLOP, contrastive losses but for orders of products of vectors.
#[test]
fn how_a_loss_is_spelled_costs_nothing() {
    for spelled in SPELLED {
        for mode in Mode::ALL {
            let what = format!("{} {:?} {}", spelled.file, spelled.sets, mode.name());
            let (marked, ..) = fused(&derived(spelled.like, spelled.sets, N as usize, DType::F32, mode));
            let (program, ours, report) = fused(&derived(spelled.text, spelled.sets, N as usize, DType::F32, mode));
            let theirs = cost::flops(&marked);
            if spelled.like == CROSS_ENTROPY {
                assert_eq!(ours, theirs, "{what}");
            }
            let apart = |x: u64, y: u64| (x as f64 / y as f64 - 1.0).abs();
            assert!(apart(ours.contraction, theirs.contraction) <= 0.0005, "{what}: {ours:?}, marked {theirs:?}");
            assert!(apart(ours.total(), theirs.total()) <= 0.005, "{what}: {ours:?}, marked {theirs:?}");
            assert_eq!(largest(&program), largest(&marked), "{what}");
            assert_eq!(report.notes, [""; 0], "{what}");
        }
    }
}

/// Each patch has logits of its own, 2NPCK of them, and no sum of patches has the same loss.
#[test]
fn what_is_no_function_of_an_aggregate_is_not_fused() {
    let (_, text) = WORST.iter().find(|w| w.0 == "worst_patch").expect("the text is there");
    for mode in Mode::ALL {
        let (_, flops, _) = fused(&derived(text, &[], N as usize, DType::F32, mode));
        let fused = cross_entropy(G, mode);
        assert!(flops.contraction >= 10 * fused.contraction, "{}: {flops:?}", mode.name());
        assert!(flops.contraction >= 2 * N * P * C * K, "{}: {flops:?}", mode.name());
    }
}

// ---- training steps

/// A step of LocalMixer, up to `simplify`, through it, and what follows.
fn step(preset: &Preset, blocks: usize, algorithm: Algorithm) -> (Program, Report) {
    let options = Options::new(algorithm);
    let sets: Vec<(&str, String)> =
        preset.sets.iter().map(|&(name, size)| (name, if name == "blocks" { blocks } else { size }.to_string())).collect();
    let sets: Vec<(&str, &str)> = sets.iter().map(|(name, size)| (*name, size.as_str())).collect();
    let program = inlined(LOCALMIXER, &sets, preset.batch, DType::F32);
    let at = algorithm.passes().iter().position(|&p| p == "simplify").expect("every algorithm simplifies");
    let (before, after) = algorithm.passes().split_at(at);
    let (program, report) = run_reported(&passed(program, before, &options), &options);
    (passed(program, &after[1..], &options), report)
}

fn medium() -> &'static Preset {
    preset("M/8/16").expect("it is a preset")
}

/// Contractions of an LG-FG-A step as the method is described. A linear layer from A to B numbers for each of R rows is 2RAB.
///
/// * Layers of blocks: the first block's, from patches (I = 48 numbers each) to channels, then in groups of D; every other block's, over patches,
///   over channels, in groups.
/// * Each is done forwards, and its weights' gradient, the input's outer product with the activity's gradient, costs the same.
/// * Its tangent is computed in all but the first of a block: there, the noise is the first tangent that there is.
/// * A head: logits, the error through the head's weights, their gradient: 6NCK, and its tangent with the block's last one: 2NPC. The classifier has
///   logits and gradient: 4NCK.
#[test]
fn a_training_step_contracts_little_more_than_the_method_says() {
    let (rows, inputs, d, blocks) = (N * P, (32 / P.isqrt()) * (32 / P.isqrt()) * 3, C / G, 4);
    let grouped = 2 * rows * C * d;
    let (first, token, fc) = (2 * rows * inputs * C, 2 * N * C * P * P, 2 * rows * C * C);
    let forward = first + grouped + (blocks - 1) * (token + fc + grouped);
    let tangents = grouped + (blocks - 1) * (fc + grouped);
    let heads = blocks * (6 * N * C * K + 2 * N * P * C) + 4 * N * C * K;
    let hand = 2 * forward + tangents + heads;
    assert!((45.5e9..46.5e9).contains(&(hand as f64)), "{hand}");

    assert_eq!((medium().batch as u64, medium().sets.map(|s| s.1 as u64)), (N, [32, 32, 3, P.isqrt(), C, G, blocks, K]));
    let (program, _) = step(medium(), blocks as usize, Algorithm::LG_FG_A);
    let flops = cost::flops(&program);
    assert!(flops.contraction as f64 <= 1.02 * hand as f64, "{flops:?}, by hand {hand}");
    // Less would mean that something is not computed.
    assert!(flops.contraction >= hand, "{flops:?}, by hand {hand}");
}

/// Equal blocks are one part for the e-graph, however many there are and however large, and no part comes near the caps.
#[test]
fn the_e_graph_is_far_from_its_caps_and_knows_no_number_of_blocks() {
    for preset in [medium(), preset("L/32/64").expect("it is a preset")] {
        for algorithm in Algorithm::ALL {
            let what = format!("{}, {}", preset.name, algorithm.name());
            let (_, few) = step(preset, 3, algorithm);
            let (_, many) = step(preset, 6, algorithm);
            if !algorithm.is_local() && !matches!(algorithm.signal, Signal::Backward | Signal::Feedback) {
                // One error, or one derivative, goes to all layers at once, so what it meets in each of them is one part.
                assert!(many.largest <= 2 * few.largest, "{what}: {} nodes for 3 blocks, {} for 6", few.largest, many.largest);
            } else {
                assert_eq!(few.distinct, many.distinct, "{what}: {} parts for 3 blocks, {} for 6", few.distinct, many.distinct);
                assert_eq!(few.largest, many.largest, "{what}: the largest part knows how many blocks there are");
            }
            assert!(many.regions > few.regions, "{what}: {} and {} parts", few.regions, many.regions);
            assert!(many.largest * 2 < MOST_NODES, "{what}: {} nodes of {MOST_NODES}", many.largest);
            assert!(many.iterations * 2 < MOST_ITERATIONS, "{what}: {} iterations of {MOST_ITERATIONS}", many.iterations);
            assert_eq!(many.notes, [""; 0], "{what}");
        }
    }
}
