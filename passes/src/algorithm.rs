//! Learning algorithms: what each asks of the passes, and in which order they run.

use pushforward_ir::{DType, Diagnostic, Program};

use crate::{simplify, update};

/// The algorithms that this compiler knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// Backpropagation of the global loss.
    Bp,
    /// Backpropagation of local losses, greedy: a stop-gradient stands after every marked value.
    LgBp,
    /// Forward gradient of local losses, greedy, activities perturbed.
    LgFgA,
}

impl Algorithm {
    pub const ALL: [Algorithm; 3] = [Algorithm::Bp, Algorithm::LgBp, Algorithm::LgFgA];

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Bp => "bp",
            Algorithm::LgBp => "lg-bp",
            Algorithm::LgFgA => "lg-fg-a",
        }
    }

    /// By name, whatever the case.
    pub fn parse(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(name))
    }

    /// Whether local losses count.
    pub fn is_local(self) -> bool {
        match self {
            Algorithm::Bp => false,
            Algorithm::LgBp | Algorithm::LgFgA => true,
        }
    }

    /// Names of the passes that make a training step, in order.
    pub fn passes(self) -> &'static [&'static str] {
        match self {
            Algorithm::Bp => &["gradient", "simplify", "update", "dce"],
            Algorithm::LgBp => &["cut", "gradient", "simplify", "update", "dce"],
            Algorithm::LgFgA => &["cut", "replicate", "perturb", "simplify", "update", "dce"],
        }
    }
}

/// Where noise comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoiseSource {
    /// `normal` ops; the program gets the inputs `seed` and `step`.
    Generated,
    /// Inputs `anoise.<activity>`, in canonical axis order.
    Given,
}

/// What the passes are told.
#[derive(Clone, Debug)]
pub struct Options {
    pub algorithm: Algorithm,
    /// Tangent directions; estimates are means over them.
    pub directions: usize,
    pub noise: NoiseSource,
    /// Mask noise at ReLU zeros.
    pub prune: bool,
    /// Let that mask be the one that the ReLU's derivative has. Without, noise has an equal one of its own, for what sharing is worth.
    pub share_masks: bool,
    /// Add every local loss, weighted as in the objective, and its directional derivative as outputs.
    pub report_local: bool,
    pub update: update::Settings,
    pub simplify: simplify::Settings,
}

impl Options {
    pub fn new(algorithm: Algorithm) -> Options {
        Options {
            algorithm,
            directions: 1,
            noise: NoiseSource::Generated,
            prune: true,
            share_masks: true,
            report_local: false,
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
