//! Passes: module to program, program to program. They know no targets, no files and no model.
//!
//! Read [`table::PASSES`] for the list and [`algorithm`] for their order. The derivative of an op is in [`jvp`]; its transpose in
//! [`transpose`]; which losses a perturbation reaches, and so the multiplier of its noise, in [`reach`]. That a pass keeps to the arithmetic
//! which it states, [`validate`] checks on numbers.

pub mod accumulate;
pub mod algorithm;
pub mod alone;
pub mod border;
pub mod cost;
pub mod cut;
pub mod dce;
pub mod differentiate;
pub mod direct;
pub mod feedback;
pub mod finite;
pub mod gradient;
pub mod inline;
pub mod jvp;
pub mod needless;
pub mod norms;
pub mod perturb;
pub mod prune;
pub mod reach;
pub mod replicate;
pub mod requirements;
pub mod show;
pub mod simplify;
pub mod table;
pub mod transpose;
pub mod update;
pub mod util;
pub mod validate;

pub use algorithm::{Algorithm, NoiseSource, Options};

/// The reserved name of the axis of tangent directions.
pub const DIRECTION: &str = "direction";
