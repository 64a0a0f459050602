//! From a flat program to kernels: layouts, fusion, loop nests over scalar primitives, contractions as batched matrix products, buffers with
//! lifetimes, launches. It decides everything that targets have in common and spells no language.

pub mod device;
pub mod kernel;
pub mod lower;
pub mod math;
pub mod merge;
pub mod print;
pub mod tensor;
pub mod verify;

pub use kernel::Plan;
pub use lower::{LowerError, Options, lower};
