//! simplify: rewrites a program into a cheaper one that computes the same. Read [`run_reported`], then [`fold`].
//!
//! It knows no loss, layer, model or algorithm by name: only the algebra of values over named axes. What a rewrite may do to the numbers is
//! decided by [`Rules`]. Budgets count nodes and iterations, never time, so the same program gives the same bytes.

pub mod fold;

use pushforward_ir::Program;

use crate::algorithm::Options;

/// Which arithmetic rewrites must keep to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rules {
    /// Results keep their bits: NaN, infinities and signed zeros included.
    Exact,
    /// Equal in real numbers; rounding, signs of zeros, and what infinities and NaN do behind a mask, may differ.
    Relaxed,
}

impl Rules {
    pub const ALL: [Rules; 2] = [Rules::Exact, Rules::Relaxed];

    pub fn name(self) -> &'static str {
        match self {
            Rules::Exact => "exact",
            Rules::Relaxed => "relaxed",
        }
    }
}

/// What simplify is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Nothing is rewritten: what a step costs as it was derived.
    pub off: bool,
    pub rules: Rules,
    /// Names of rules that are left out.
    pub without: Vec<&'static str>,
}

/// A rewrite, as the flags name it.
pub struct Rule {
    pub name: &'static str,
    /// Rules that are left out together, to see what they are worth.
    pub family: &'static str,
}

pub const RULES: &[Rule] = &[];

impl Default for Settings {
    fn default() -> Settings {
        Settings { off: false, rules: Rules::Relaxed, without: Vec::new() }
    }
}

/// How often a rule made a part of the result, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fired {
    /// Name of the rule.
    pub rule: &'static str,
    /// Index into the program's origins: the place in the source.
    pub origin: u32,
    pub count: usize,
}

/// What simplify did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// By rule in the order of the table, then by place.
    pub fired: Vec<Fired>,
    /// E-nodes of all e-graphs together; equal regions count once.
    pub nodes: usize,
    /// Most iterations that an e-graph took.
    pub iterations: usize,
    /// Parts of the program that went through an e-graph, and how many of them differ.
    pub regions: usize,
    pub distinct: usize,
    /// The largest e-graph.
    pub largest: usize,
    /// A line for each cap that was hit, and for each part that could not be made cheaper, why.
    pub notes: Vec<String>,
}

pub fn run(program: &Program, options: &Options) -> Program {
    run_reported(program, options).0
}

pub fn run_reported(program: &Program, options: &Options) -> (Program, Report) {
    if options.simplify.off {
        return (program.clone(), Report::default());
    }
    (fold::run(program), Report::default())
}
