//! The table of passes: name, purpose, arithmetic, function. Name, flag, file and corpus folder share one word.

use pushforward_ir::{Diagnostic, Program};

use crate::algorithm::{Options, Signal};
use crate::gradient::GRADIENT;
use crate::simplify::Rules;
use crate::{accumulate, cut, dce, differentiate, direct, gradient, perturb, replicate, simplify, update};

/// What a pass may change in the numbers. [`crate::validate`] holds it to that on outputs and marked losses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arithmetic {
    /// All are still there and keep their bits: NaN (whatever its payload), infinities and signs of zeros included.
    Exact,
    /// All are still there, equal in real numbers: rounding, signs of zeros, and what infinities and NaN do, may differ.
    Real,
    /// What was there keeps its bits, and more comes. A loss that is no longer marked leaves as an output of its name, its mean, unless it is
    /// local; what the pass uses up is gone.
    Adds,
}

impl Arithmetic {
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::Exact => "exact",
            Arithmetic::Real => "real",
            Arithmetic::Adds => "adds",
        }
    }
}

/// Derivatives among the outputs that a pass adds, which difference quotients can check. Estimates are derivatives only in the mean, and are
/// none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Derivative {
    /// `d.<output>`, given `d.<input>`.
    Tangents,
    /// `g.<input>`, given `ct.<output>`.
    Cotangents,
    /// `grad.<parameter>`, of all that is minimised.
    Gradients,
    /// The same of parameters that are marked exact; the others' are estimates.
    ExactGradients,
}

type Run = fn(&Program, &Options) -> Result<Program, Vec<Diagnostic>>;

pub struct Pass {
    pub name: &'static str,
    pub about: &'static str,
    pub arithmetic: fn(&Options) -> Arithmetic,
    /// What of the outputs that it adds can be checked.
    pub derivative: fn(&Options) -> Option<Derivative>,
    /// Outputs whose names start so are used up: others stand in their place.
    pub uses_up: Option<&'static str>,
    pub run: Run,
}

const EXACT: fn(&Options) -> Arithmetic = |_| Arithmetic::Exact;
const ADDS: fn(&Options) -> Arithmetic = |_| Arithmetic::Adds;

/// `inline` (module to program) comes before all of these. `prune` has no row: it is a part of `perturb`, which asks it for the mask of each
/// activity's noise, and changes no program by itself.
pub const PASSES: &[Pass] = &[
    Pass {
        name: "cut",
        about: "stop-gradients at the marked values of local losses",
        arithmetic: EXACT,
        derivative: |_| None,
        uses_up: None,
        run: |p, o| Ok(cut::run(p, o.algorithm.losses)),
    },
    Pass {
        name: "replicate",
        about: "write replicated losses out; after cut, to clone uncut slices",
        arithmetic: ADDS,
        derivative: |_| None,
        uses_up: None,
        run: |p, _| replicate::run(p),
    },
    Pass {
        name: "perturb",
        about: "noise, jvp, multipliers by reach, pull-back; after replicate",
        arithmetic: ADDS,
        derivative: |_| Some(Derivative::ExactGradients),
        uses_up: None,
        run: perturb::run,
    },
    Pass {
        name: "gradient",
        about: "gradients of the marked losses, exact or by feedback alignment",
        arithmetic: ADDS,
        derivative: |o| match o.algorithm.signal {
            // Even below a head of two layers that is marked exact, the error has passed a random one.
            Signal::Feedback => None,
            Signal::Backward | Signal::Direct | Signal::Weights | Signal::Activities => Some(Derivative::Gradients),
        },
        uses_up: None,
        run: gradient::run,
    },
    Pass {
        name: "direct",
        about: "direct feedback alignment, and exact gradients of what is marked exact",
        arithmetic: ADDS,
        derivative: |_| Some(Derivative::ExactGradients),
        uses_up: None,
        run: direct::run,
    },
    Pass {
        name: "jvp",
        about: "append the tangents of all outputs",
        arithmetic: ADDS,
        derivative: |_| Some(Derivative::Tangents),
        uses_up: None,
        run: |p, _| differentiate::jvp(p),
    },
    Pass {
        name: "transpose",
        about: "append vector-Jacobian products of all outputs",
        arithmetic: ADDS,
        derivative: |_| Some(Derivative::Cotangents),
        uses_up: None,
        run: |p, _| differentiate::transpose(p),
    },
    Pass {
        name: "simplify",
        about: "rewrite into a cheaper program; once derivatives are taken",
        arithmetic: |o| match o.simplify.rules {
            _ if o.simplify.off => Arithmetic::Exact,
            Rules::Exact => Arithmetic::Exact,
            Rules::Relaxed => Arithmetic::Real,
        },
        derivative: |_| None,
        uses_up: None,
        run: |p, o| Ok(simplify::run(p, o)),
    },
    Pass {
        name: "update",
        about: "stochastic gradient descent on the gradients",
        arithmetic: ADDS,
        derivative: |_| None,
        uses_up: Some(GRADIENT),
        run: update::run,
    },
    Pass {
        name: "accumulate",
        about: "in the place of update, for a piece of a batch: add up its gradients",
        arithmetic: ADDS,
        derivative: |_| None,
        uses_up: Some(GRADIENT),
        run: accumulate::run,
    },
    Pass {
        name: "dce",
        about: "drop values nobody needs",
        arithmetic: EXACT,
        derivative: |_| None,
        uses_up: None,
        run: |p, _| Ok(dce::run(p)),
    },
];

pub fn find(name: &str) -> Option<&'static Pass> {
    PASSES.iter().find(|p| p.name == name)
}
