//! What passes, and the plan and back end after them, are held to, beyond what a golden file can say: derivatives against differences, estimates
//! against gradients, reach against brute force, every pass on models that no one had in mind, whole programs against the evaluator.
//!
//! | file | shows that |
//! |---|---|
//! | `derivatives.rs` | every op's jvp is its difference quotient, and its transpose is the jvp's |
//! | `accumulate.rs` | a step in pieces of its batch is the step, noise included |
//! | `unbiased.rs` | the mean of LG-FG-A over all noise is the gradient, exactly; several directions are a mean |
//! | `random_models.rs` | the same holds for models that no one wrote |
//! | `reach.rs` | what moves a loss is in reach, on random graphs; mutated rules are caught; LocalMixer's table |
//! | `generality.rs` | every algorithm on models unlike LocalMixer, evaluator and CPU alike |
//! | `needless.rs` | what masks make needless is what a count by hand says, and really influences nothing |
//! | `options.rs` | every option of localmixer.pf makes a step that back ends agree on and an estimate without bias |
//! | `equivalence.rs` | copies of a loss are the loss; simplify before derivatives; an update is SGD |
//! | `update.rs` | every optimiser is the published one, on every back end |
//! | `validate.rs` | every pass keeps to the arithmetic that it states, on hard numbers too, and one that does not is caught |
//! | `fusion.rs` | replicated losses that are written out by hand are the marked ones |
//! | `devices.rs` | random programs: evaluator against CUDA C++ on an emulator and WGSL on a software device |
//! | `flops.rs` | fused losses and a training step cost what they cost by hand, and the e-graph is far from its caps |
//! | `lowering.rs` | random programs: evaluator against plan and CPU, any threads, slices or none |
//! | `naive.rs` | the replicated loss as it is written out runs, and is the simplified one |
//! | `rules.rs` | each rule alone keeps to the arithmetic of its row |
//! | `snapshots.rs` | the program after every pass is the one that was looked at |
//! | `shapes.rs` | every way to share out a nest or a product among threads |
//! | `texts.rs` | every emitted text gets past the judges of its language; no contraction of M/8/16 spills |
//! | `without.rs` | without a rule something gets worse, as the docs say |

mod accumulate;
mod derivatives;
mod devices;
mod equivalence;
mod flops;
mod fusion;
mod generality;
mod graphs;
#[path = "../../backends/gpu/tests/support/mod.rs"]
mod judges;
mod lowering;
mod naive;
mod needless;
mod options;
mod random_models;
mod reach;
mod rules;
mod shapes;
mod snapshots;
mod support;
mod texts;
mod unbiased;
mod update;
mod validate;
mod without;
