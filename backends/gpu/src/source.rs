//! What the emitters give: texts by name, or why there is none. This file spells nothing.

use std::fmt;

/// A language of kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    Cuda,
    Wgsl,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::Cuda => "CUDA",
            Language::Wgsl => "WGSL",
        })
    }
}

/// One kernel's text, whole: it is compiled by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The kernel's name in its plan, and in the text.
    pub name: String,
    pub text: String,
}

/// A kernel has what a language cannot say.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("kernel `{kernel}` needs {what}, which {language} does not have")]
pub struct Lacking {
    pub kernel: String,
    pub language: Language,
    pub what: &'static str,
}
