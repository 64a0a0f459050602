//! What the emitters give: texts by name. This file spells nothing.

/// A language of kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    Cuda,
    Wgsl,
}

/// One kernel's text, whole: it is compiled by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The kernel's name in its plan.
    pub name: String,
    pub text: String,
}
