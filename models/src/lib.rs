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

/// Every model in this folder.
pub const MODELS: &[BuiltIn] = &[
    BuiltIn {
        name: "localmixer",
        file: "models/localmixer.pf",
        about: "LocalMixer (Ren et al. 2023, Algorithm 2), with a local loss after every block",
        text: include_str!("../localmixer.pf"),
    },
    BuiltIn {
        name: "tanh_mlp",
        file: "models/tanh_mlp.pf",
        about: "two linear layers with tanh and squared error (the 4-4-1 network of Figure 8)",
        text: include_str!("../tanh_mlp.pf"),
    },
    BuiltIn {
        name: "mlp",
        file: "models/mlp.pf",
        about: "linear layers with ReLU, a local loss behind each, replicated over groups of channels",
        text: include_str!("../mlp.pf"),
    },
    BuiltIn {
        name: "residual_mlp",
        file: "models/residual_mlp.pf",
        about: "residual blocks of a linear map and tanh, a local loss behind each",
        text: include_str!("../residual_mlp.pf"),
    },
    BuiltIn {
        name: "mixer",
        file: "models/mixer.pf",
        about: "MLP-Mixer: layer norm with gains, GELU; local losses replicated over patches",
        text: include_str!("../mixer.pf"),
    },
    BuiltIn {
        name: "convnet",
        file: "models/convnet.pf",
        about: "two convolutions with ReLU and pooling, local losses replicated over places",
        text: include_str!("../convnet.pf"),
    },
    BuiltIn {
        name: "attention",
        file: "models/attention.pf",
        about: "self-attention and a perceptron on patches; local losses replicated over patches",
        text: include_str!("../attention.pf"),
    },
    BuiltIn {
        name: "cross_entropy",
        file: "models/cross_entropy.pf",
        about: "the replicated cross entropy of a linear head, without layers: what `bench --loss` times",
        text: include_str!("../cross_entropy.pf"),
    },
    BuiltIn {
        name: "linear",
        file: "models/linear.pf",
        about: "softmax regression: the linear probe on frozen features, which ends contrastive runs",
        text: include_str!("../linear.pf"),
    },
];

/// The model of this name.
pub fn model(name: &str) -> Option<&'static BuiltIn> {
    MODELS.iter().find(|m| m.name == name)
}
