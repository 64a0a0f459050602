//! Plans for machines that run blocks of threads. Read `kernel.rs` first: it says what such a plan is.

pub mod kernel;
