//! Plans for machines that run blocks of threads, GPUs above all. What one kernel computes is decided as for the CPU, in `lower/`; here it is
//! shared out among threads. Nothing here knows a model, or a target but by its limits.
//!
//! | file | is |
//! |---|---|
//! | `kernel.rs` | what such a plan is: read it first |
//! | `limits.rs` | what a device can do |
//! | `lower.rs` | from a program to a plan |
//! | `init.rs` | the plan of parameters' first values |
//! | `nest.rs`, `tile.rs` | loop nests and matrix products, shared out among threads |
//! | `verify.rs` | what holds of every plan |
//! | `print.rs` | the plan as text |
//! | `write.rs`, `tidy.rs` | the writing of a thread's program |
//! | `run.rs` | a slow machine that runs plans and finds races: the oracle of those who spell them |

mod init;
pub mod kernel;
pub mod limits;
mod lower;
mod nest;
pub mod print;
pub mod run;
mod tidy;
mod tile;
pub mod verify;
mod write;

pub use init::init;
pub use limits::{Limits, Precision, Target};
pub use lower::lower;
