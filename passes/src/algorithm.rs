//! Learning algorithms: what each asks of the passes, and in which order they run.

use pushforward_ir::{DType, Diagnostic, Program};

use crate::{simplify, update};

/// Which losses count, and where stop-gradients stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Losses {
    /// The global loss alone.
    Global,
    /// Local losses; the global loss sees a stop-gradient of what they are losses of, so it trains only what comes after the last of them.
    Local,
    /// The same, and everything after a marked value sees a stop-gradient of it: no loss trains what comes before an earlier one.
    Greedy,
}

/// How a parameter that is not marked exact learns of the losses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// Exact gradients.
    Backward,
    /// Gradients in which the error passes a fixed random tensor in the place of each weight (feedback alignment).
    Feedback,
    /// The error of the prediction goes to every layer at once, through a fixed random tensor of its own (direct feedback alignment).
    Direct,
    /// Noise on weights, times its directional derivative.
    Weights,
    /// Noise on activities, times its directional derivative.
    Activities,
}

/// What an estimate takes for simpler than it is. Only a study wants that: both may bias it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Neglect {
    Nothing,
    /// Reach, with every norm taken for the identity: the narrower rule of the paper's published code.
    NormsInReach,
    /// The way from an activity back to its parameters, with every norm on it taken for the identity.
    NormsInPullBack,
}

/// A learning algorithm: nothing but its answers to three questions. The passes follow from them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Algorithm {
    name: &'static str,
    about: &'static str,
    pub losses: Losses,
    pub signal: Signal,
    pub neglect: Neglect,
}

impl Algorithm {
    pub const BP: Algorithm = row("bp", "backpropagation of the global loss", Losses::Global, Signal::Backward);
    pub const L_BP: Algorithm = row("l-bp", "backpropagation of local losses", Losses::Local, Signal::Backward);
    pub const LG_BP: Algorithm =
        row("lg-bp", "backpropagation of local losses, with a stop-gradient after each of them", Losses::Greedy, Signal::Backward);
    pub const FA: Algorithm = row("fa", "feedback alignment: bp through fixed random weights", Losses::Global, Signal::Feedback);
    pub const L_FA: Algorithm = row("l-fa", "feedback alignment of local losses", Losses::Local, Signal::Feedback);
    pub const LG_FA: Algorithm =
        row("lg-fa", "feedback alignment of local losses, with a stop-gradient after each of them", Losses::Greedy, Signal::Feedback);
    pub const DFA: Algorithm =
        row("dfa", "direct feedback alignment: the prediction's error goes to every layer at once", Losses::Global, Signal::Direct);
    pub const FG_W: Algorithm = row("fg-w", "forward gradient of the global loss, weights perturbed", Losses::Global, Signal::Weights);
    pub const FG_A: Algorithm =
        row("fg-a", "forward gradient of the global loss, activities perturbed", Losses::Global, Signal::Activities);
    pub const LG_FG_W: Algorithm = row("lg-fg-w", "forward gradient of local losses, weights perturbed", Losses::Greedy, Signal::Weights);
    pub const LG_FG_A: Algorithm =
        row("lg-fg-a", "forward gradient of local losses, activities perturbed", Losses::Greedy, Signal::Activities);

    /// All of the paper.
    pub const ALL: [Algorithm; 11] = [
        Algorithm::BP,
        Algorithm::L_BP,
        Algorithm::LG_BP,
        Algorithm::FA,
        Algorithm::L_FA,
        Algorithm::LG_FA,
        Algorithm::DFA,
        Algorithm::FG_W,
        Algorithm::FG_A,
        Algorithm::LG_FG_W,
        Algorithm::LG_FG_A,
    ];

    /// What some of them neglect, to study what it costs.
    pub const VARIANTS: [Algorithm; 5] = [
        ng("fg-a/ng", Algorithm::FG_A),
        own("fg-a/own", Algorithm::FG_A),
        own("lg-fg-w/own", Algorithm::LG_FG_W),
        ng("lg-fg-a/ng", Algorithm::LG_FG_A),
        own("lg-fg-a/own", Algorithm::LG_FG_A),
    ];

    /// All of both.
    pub fn every() -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().chain(Algorithm::VARIANTS)
    }

    /// As the command line spells it: `lg-fg-a`, `lg-fg-a/own`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// In a few words.
    pub fn about(self) -> &'static str {
        self.about
    }

    /// By name, whatever the case.
    pub fn parse(name: &str) -> Option<Algorithm> {
        Algorithm::every().find(|a| a.name.eq_ignore_ascii_case(name))
    }

    /// This algorithm, but for what is neglected. `None`: there is no such variant.
    pub fn neglecting(self, neglect: Neglect) -> Option<Algorithm> {
        Algorithm::every().find(|a| (a.losses, a.signal, a.neglect) == (self.losses, self.signal, neglect))
    }

    /// Whether local losses count.
    pub fn is_local(self) -> bool {
        match self.losses {
            Losses::Global => false,
            Losses::Local | Losses::Greedy => true,
        }
    }

    /// Whether it draws noise, and its gradients are right in the mean only.
    pub fn is_estimate(self) -> bool {
        match self.signal {
            Signal::Backward | Signal::Feedback | Signal::Direct => false,
            Signal::Weights | Signal::Activities => true,
        }
    }

    /// Names of the passes that make a training step, in order.
    pub fn passes(self) -> &'static [&'static str] {
        match (self.is_local(), self.signal) {
            (false, Signal::Backward | Signal::Feedback) => &["gradient", "simplify", "update", "dce"],
            (true, Signal::Backward | Signal::Feedback) => &["cut", "gradient", "simplify", "update", "dce"],
            (false, Signal::Direct) => &["direct", "simplify", "update", "dce"],
            (true, Signal::Direct) => &["cut", "direct", "simplify", "update", "dce"],
            (false, Signal::Weights | Signal::Activities) => &["perturb", "simplify", "update", "dce"],
            (true, Signal::Weights | Signal::Activities) => &["cut", "replicate", "perturb", "simplify", "update", "dce"],
        }
    }
}

const fn row(name: &'static str, about: &'static str, losses: Losses, signal: Signal) -> Algorithm {
    Algorithm { name, about, losses, signal, neglect: Neglect::Nothing }
}

const fn own(name: &'static str, of: Algorithm) -> Algorithm {
    Algorithm {
        name,
        about: "the same, with norms taken for the identity in reach: biased where they spread noise",
        neglect: Neglect::NormsInReach,
        ..of
    }
}

const fn ng(name: &'static str, of: Algorithm) -> Algorithm {
    Algorithm {
        name,
        about: "the same, without the Jacobian of the norm before each activity: biased",
        neglect: Neglect::NormsInPullBack,
        ..of
    }
}

/// Where noise comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoiseSource {
    /// `normal` ops; the program gets the inputs `seed` and `step`.
    Generated,
    /// Inputs `anoise.<activity>` or `wnoise.<parameter>`, in canonical axis order, directions first.
    Given,
}

/// What the passes are told.
#[derive(Clone, Debug)]
pub struct Options {
    pub algorithm: Algorithm,
    /// Tangent directions; estimates are means over them.
    pub directions: usize,
    pub noise: NoiseSource,
    /// Draw noise on weights for every example apart, where one draw would serve the whole batch.
    pub noise_per_example: bool,
    /// Mask noise at ReLU zeros.
    pub prune: bool,
    /// Let that mask be the one that the ReLU's derivative has. Without, noise has an equal one of its own, for what sharing is worth.
    pub share_masks: bool,
    /// Add every loss that counts, weighted as in the objective, and its directional derivative as outputs.
    pub report: bool,
    pub update: update::Settings,
    pub simplify: simplify::Settings,
}

impl Options {
    pub fn new(algorithm: Algorithm) -> Options {
        Options {
            algorithm,
            directions: 1,
            noise: NoiseSource::Generated,
            noise_per_example: false,
            prune: true,
            share_masks: true,
            report: false,
            update: update::Settings::default(),
            simplify: simplify::Settings::default(),
        }
    }
}

/// Runs passes by name; after each, the verifier, then `seen` with the pass's name and result.
pub fn run(program: Program, names: &[&str], options: &Options, seen: &mut dyn FnMut(&str, &Program)) -> Result<Program, Vec<Diagnostic>> {
    let mut program = program;
    for name in names {
        let pass = crate::table::find(name).ok_or_else(|| vec![Diagnostic::error(format!("no pass is called `{name}`"))])?;
        program = (pass.run)(&program, options)?;
        let broken = pushforward_ir::verify::verify(&program);
        if !broken.is_empty() {
            return Err(broken
                .into_iter()
                .map(|d| Diagnostic { message: format!("after the pass `{name}`: {}", d.message), ..d })
                .collect());
        }
        seen(name, &program);
    }
    Ok(program)
}

/// The dtype that a program's floats have: the first found among its inputs and parameters.
pub fn float_of(program: &Program) -> DType {
    let ports = program.inputs.iter().chain(program.params.iter().map(|p| &p.port));
    ports.map(|p| p.dtype).find(|d| d.is_float()).unwrap_or(DType::F32)
}
