//! Pushforward compiles training steps for forward-gradient learning, and this is its library: text in, a callable out.
//!
//! A [`Model`] is text in the language of `pushforward_ir`. A [`Step`] is one program, compiled: the forward pass, the tangent pass, local
//! losses, weight updates, for a chosen algorithm and batch. [`Parameters`] are what it trains. `examples/embed.rs` is all of it in one page.
//!
//! | file | is |
//! |---|---|
//! | `model.rs` | texts, and the way from text to a flat program |
//! | `step.rs` | from a program to a callable; tensors in and out |
//! | `engine.rs` | what runs steps |
//! | `estimator.rs` | bias and variance of an algorithm's estimates |
//! | `fault.rs` | where a step first computes what is not finite |
//! | `explain.rs` | what `simplify` made of a step, before and after |
//! | `report.rs` | what a step costs, counted from its plan |
//! | `pruning.rs` | what of it ReLUs make needless, counted and, on data, measured |
//! | `error.rs` | what can go wrong, as a person reads it |
//! | `main.rs` and below | the command `pushforward`, which no library needs |
//!
//! The library computes nothing itself and never prints.

pub mod engine;
mod error;
pub mod estimator;
pub mod explain;
pub mod fault;
mod model;
pub mod pruning;
pub mod report;
mod step;

pub use engine::Engine;
pub use error::{Error, Wrong};
pub use model::{Model, Settings};
pub use report::Report;
pub use step::{Input, Parameters, Scalar, Step, View};

pub use pushforward_cpu::Pool;
pub use pushforward_passes::{Algorithm, NoiseSource};
