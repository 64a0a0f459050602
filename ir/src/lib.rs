//! The intermediate representation: values over named axes.
//!
//! A value is a function of named axes; its type lists a dtype and the axes that it may depend on, `f32[N, P, G, D]`. Elementwise ops join
//! their operands by axis name, so there is no broadcast, no reshape and no transpose. Two forms share one text language:
//!
//! * [`ast::Module`] is what a person writes: sizes, options, axes, functions over values and axes, calls, repetition, nested expressions.
//!   [`parse`] reads it, [`print`] writes it back.
//! * [`program::Program`] is what passes work on: one flat list of SSA values with bound sizes. `passes::inline` makes it from a module;
//!   [`program::Program::to_module`] turns it back into text.
//!
//! Types come from [`infer`], which is the only place that knows them: the builder, the elaborator and the verifier all call it.
//! [`eval`] is the oracle: slow, obvious, right.
//!
//! This crate knows no passes, no files and no devices.

pub mod ast;
pub mod axis;
pub mod diag;
pub mod eval;
pub mod flat;
pub mod infer;
pub mod op;
pub mod parse;
pub mod philox;
pub mod print;
pub mod program;
pub mod types;
pub mod verify;

pub use axis::{Axes, AxisId, AxisSet};
pub use diag::{Diagnostic, Sources, Span};
pub use op::Op;
pub use program::{Builder, Program, Value};
pub use types::{DType, Type};

/// The library file of the language: norms, losses, means. Every model may call its functions.
pub const LIBRARY: &str = include_str!("../lib.pf");
