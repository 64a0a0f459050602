//! The table of passes: name, purpose, arithmetic, function. Name, flag, file and corpus folder share one word.

use pushforward_ir::{Diagnostic, Program};

use crate::algorithm::Options;
use crate::{cut, dce, differentiate, gradient, perturb, replicate, simplify, update};

/// What a pass may change in the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arithmetic {
    /// Values that live on keep their bits.
    Exact,
    /// Equal in real numbers; masked-out infinities and NaN, and signs of zeros, may differ.
    Masked,
    /// It adds values and changes none.
    Adds,
}

type Run = fn(&Program, &Options) -> Result<Program, Vec<Diagnostic>>;

pub struct Pass {
    pub name: &'static str,
    pub about: &'static str,
    pub arithmetic: Arithmetic,
    pub run: Run,
}

/// `inline` (module to program) comes before all of these. `prune` has no row: it is a part of `perturb`, which asks it for the mask of each
/// activity's noise, and changes no program by itself.
pub const PASSES: &[Pass] = &[
    Pass {
        name: "cut",
        about: "greedy stop-gradient after every marked value",
        arithmetic: Arithmetic::Exact,
        run: |p, _| Ok(cut::run(p)),
    },
    Pass {
        name: "replicate",
        about: "write replicated losses out; after cut, to clone uncut slices",
        arithmetic: Arithmetic::Adds,
        run: |p, _| replicate::run(p),
    },
    Pass {
        name: "perturb",
        about: "noise, jvp, multipliers by reach, pull-back; after replicate",
        arithmetic: Arithmetic::Adds,
        run: perturb::run,
    },
    Pass { name: "gradient", about: "exact gradients of the marked losses", arithmetic: Arithmetic::Adds, run: gradient::run },
    Pass { name: "jvp", about: "append the tangents of all outputs", arithmetic: Arithmetic::Adds, run: |p, _| differentiate::jvp(p) },
    Pass {
        name: "transpose",
        about: "append vector-Jacobian products of all outputs",
        arithmetic: Arithmetic::Adds,
        run: |p, _| differentiate::transpose(p),
    },
    Pass {
        name: "simplify",
        about: "rewrite into a cheaper program; once derivatives are taken",
        arithmetic: Arithmetic::Masked,
        run: |p, o| Ok(simplify::run(p, o)),
    },
    Pass { name: "update", about: "stochastic gradient descent on the gradients", arithmetic: Arithmetic::Adds, run: update::run },
    Pass { name: "dce", about: "drop values nobody needs", arithmetic: Arithmetic::Exact, run: |p, _| Ok(dce::run(p)) },
];

pub fn find(name: &str) -> Option<&'static Pass> {
    PASSES.iter().find(|p| p.name == name)
}
