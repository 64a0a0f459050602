//! Runs plans on the CPU. Loop nests become machine code (Cranelift, at run time), dense contractions call a GEMM library, noise comes from
//! the generator of `pushforward_ir`; threads share out slices and parts whose sizes the plan has fixed, so that results have the same bits
//! for any number of them.
//!
//! It decides neither fusion nor layout nor order: a [`pushforward_plan::Plan`] says all of that. Read [`Executable`] first, then `emit.rs`.
//!
//! | file | is |
//! |---|---|
//! | `exec.rs` | an executable and its runs |
//! | `memory.rs` | borrowed tensors, parameters between runs |
//! | `pool.rs` | threads |
//! | `jit.rs` | all kernels of a plan to machine code |
//! | `emit.rs`, `emit/` | one loop nest to Cranelift IR |
//! | `call.rs` | calls of compiled code, GEMM and noise: the raw pointers |
//! | `peak.rs` | the machine's measured GEMM peak |

mod call;
mod emit;
mod error;
mod exec;
mod jit;
mod memory;
pub mod peak;
mod pool;

pub use error::CpuError;
pub use exec::{Executable, Options};
pub use jit::Compiled;
pub use memory::{Slice, SliceMut, State};
pub use pool::Pool;
