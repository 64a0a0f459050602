//! Device plans as source text, CUDA C++ and WGSL, and what runs them. It decides nothing about kernels: that is `pushforward_plan`'s.

pub mod driver;
pub mod source;
