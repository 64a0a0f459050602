//! What is compiled, and on what it is trained: model texts, presets, recipes, data sets. The compiler needs none of it.
//!
//! | file | is |
//! |---|---|
//! | `../*.pf` | the models |
//! | `presets.rs` | the paper's sizes, as settings of a model's text |
//! | `recipe.rs` | how a classifier is trained |
//! | `data/` | labelled images in memory |
//! | `conform/` | reference values, and whether the compiler meets them |

pub mod conform;
pub mod data;
pub mod presets;
pub mod recipe;

pub use presets::{PRESETS, Preset};
pub use recipe::{Recipe, RecipeError, Schedule};

/// A model that is compiled in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BuiltIn {
    /// The stem of its file.
    pub name: &'static str,
    /// What a message calls the file.
    pub file: &'static str,
    pub about: &'static str,
    pub text: &'static str,
}

macro_rules! built_in {
    ($name:literal, $about:literal) => {
        BuiltIn { name: $name, file: concat!("models/", $name, ".pf"), about: $about, text: include_str!(concat!("../", $name, ".pf")) }
    };
}

/// Every model in this folder.
pub const MODELS: &[BuiltIn] = &[
    built_in!("localmixer", "LocalMixer (Ren et al. 2023, Algorithm 2), with a local loss after every block"),
    built_in!("tanh_mlp", "two linear layers with tanh and squared error (the 4-4-1 network of Figure 8)"),
    built_in!("mlp", "linear layers with ReLU, a local loss behind each, replicated over groups of channels"),
    built_in!("residual_mlp", "residual blocks of a linear map and tanh, a local loss behind each"),
    built_in!("mixer", "MLP-Mixer: layer norm with gains, GELU; local losses replicated over patches"),
    built_in!("convnet", "two convolutions with ReLU and pooling, local losses replicated over places"),
    built_in!("attention", "self-attention and a perceptron on patches; local losses replicated over patches"),
    built_in!("cross_entropy", "the replicated cross entropy of a linear head, without layers: what `bench --loss` times"),
    built_in!("linear", "softmax regression: the linear probe on frozen features, which ends contrastive runs"),
];

/// The model of this name.
pub fn model(name: &str) -> Option<&'static BuiltIn> {
    MODELS.iter().find(|m| m.name == name)
}
