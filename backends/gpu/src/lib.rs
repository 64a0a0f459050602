//! Device plans as source text, CUDA C++ and WGSL, and what runs them. It decides nothing about kernels: that is `pushforward_plan`'s.
//!
//! Read [`emit::kernels`], then [`driver`] and [`session`].

mod cuda;
pub mod driver;
pub mod emit;
pub mod emu;
pub mod launch;
mod names;
pub mod package;
pub mod session;
pub mod source;
mod wgsl;
mod wgsl_library;

pub use cuda::prelude;
