//! validate: translation validation. The reference evaluator runs a program before and after a pass, on the same numbers, and what comes out is
//! compared within the arithmetic that the pass states in [`crate::table`]. It computes no program, mends none, and never looks at how a pass
//! works. Read [`validate`] first; which numbers are tried is in [`inputs`], how far rounding goes in [`rounding`].
//!
//! All is in f64. What is compared:
//!
//! * *Results* are outputs, marked losses and the replicated copies of such, by name. A pass may drop or replace only what
//!   [`Arithmetic`] and its row say.
//! * *exact*, *adds*: the same bits, any NaN for any other, on every kind of numbers, infinities and NaN among them.
//! * *real*: equal but for rounding, on kinds of finite numbers. How much that is, is measured on both programs ([`rounding`]): they run again
//!   with every rounding moved at random, and a difference may be a few times what that does to the result. One that rounding changes wholly
//!   (a comparison on its edge) is not judged, but counted. A program is at fault that loses its digits where the one before had them, on tame
//!   numbers (beside zeros and such, others may cancel), or that gives infinities or NaN for numbers. Where such went into the result before,
//!   the algebra of real numbers says nothing: not judged, counted.
//! * Derivatives among the results that a pass adds are compared with difference quotients of the program before ([`derivative`]).
//!
//! What else a pass adds has nothing to be compared with: that it is right is for tests that know what it means.

pub mod derivative;
pub mod inputs;
pub mod rounding;

use std::fmt;

use pushforward_ir::eval::{self, EvalError, Inputs, Tensor};
use pushforward_ir::program::{Output, Port};
use pushforward_ir::{Builder, DType, Diagnostic, Program, Value, verify};

use crate::algorithm::Options;
use crate::table::{Arithmetic, Pass};
use crate::util::mean;
use inputs::{Kind, inputs};
use rounding::{Runs, noise};

/// What validation is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Of the numbers that are drawn.
    pub seed: u64,
    /// The most operations on elements that validating a pass may take: the evaluator is slow, and this stops what would take hours.
    pub most: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { seed: 1, most: 20_000_000_000 }
    }
}

/// A pass that kept to its arithmetic, as far as was seen.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    pub arithmetic: Arithmetic,
    /// Kinds of numbers on which something was compared.
    pub kinds: Vec<Kind>,
    /// Results that were compared, on all kinds together.
    pub compared: usize,
    /// Results that were not because rounding alone changes them wholly.
    pub edges: usize,
    /// Results that were not because infinities or NaN went into them.
    pub infinite: usize,
    /// Derivatives that were compared with difference quotients.
    pub derivatives: usize,
    /// The largest departure of a result, relative to its largest entry. Of difference quotients, nothing is in here.
    pub worst: f64,
}

/// Why a pass was not found good.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// It broke its word.
    Broken(Box<Broken>),
    /// It could not be checked.
    Refused(Diagnostic),
}

/// A result that is not what the pass states.
#[derive(Clone, PartialEq, Debug)]
pub struct Broken {
    /// `the output logits`
    pub result: String,
    pub kind: Kind,
    /// The element: index along each axis, as `[N 0, K 2]`.
    pub at: String,
    /// What the program before says, or a difference quotient of it.
    pub before: f64,
    pub after: f64,
    /// Both sides, the place in the source, a hint.
    pub diagnostic: Diagnostic,
}

impl Fault {
    pub fn diagnostic(&self) -> &Diagnostic {
        match self {
            Fault::Broken(broken) => &broken.diagnostic,
            Fault::Refused(diagnostic) => diagnostic,
        }
    }
}

/// Holds `pass` to the arithmetic that it states: it made `after` of `before`, both of them verified and in f64.
pub fn validate(before: &Program, after: &Program, pass: &Pass, options: &Options, settings: &Settings) -> Result<Checked, Fault> {
    let arithmetic = (pass.arithmetic)(options);
    in_f64(before)?;
    in_f64(after)?;
    let mut before = before.clone();
    let common = common(&mut before, after, pass, arithmetic)?;
    let programs = Pair { pass, before: &before, after };
    let kinds = kinds(arithmetic);
    let runs = kinds.len() as u64 * rounding::runs(arithmetic);
    let work = operations(&before).saturating_add(operations(after)).saturating_mul(runs);
    if work > settings.most {
        return Err(Fault::Refused(too_large(pass, after, work, settings)));
    }
    let mut checked = Checked { arithmetic, kinds: Vec::new(), compared: 0, edges: 0, infinite: 0, derivatives: 0, worst: 0.0 };
    for &kind in kinds {
        let inputs = inputs(&before, after, kind, settings.seed);
        let compared = checked.compared;
        match arithmetic {
            Arithmetic::Exact | Arithmetic::Adds => programs.same_bits(&common, kind, &inputs, &mut checked)?,
            Arithmetic::Real => programs.same_numbers(&common, kind, &inputs, settings.seed, &mut checked)?,
        }
        if checked.compared > compared {
            checked.kinds.push(kind);
        }
    }
    if let Some(derivative) = (pass.derivative)(options) {
        derivative::check(&programs, derivative, options, settings.seed, &mut checked)?;
    }
    Ok(checked)
}

/// The most and hardest numbers that an arithmetic has something to say of.
fn kinds(arithmetic: Arithmetic) -> &'static [Kind] {
    match arithmetic {
        Arithmetic::Exact | Arithmetic::Adds => &Kind::ALL,
        Arithmetic::Real => &Kind::FINITE,
    }
}

/// How often a run of the evaluator does something to an element.
pub fn operations(program: &Program) -> u64 {
    let live = program.live();
    let cost = |v: Value| {
        let axes = program.args(v).iter().fold(program.axes_of(v), |axes, &a| axes | program.axes_of(a));
        (program.axes.count(axes) as u64).saturating_mul(program.args(v).len().max(1) as u64)
    };
    program.values().filter(|v| live[v.0 as usize]).fold(0, |sum, v| sum.saturating_add(cost(v)))
}

fn too_large(pass: &Pass, program: &Program, work: u64, settings: &Settings) -> Diagnostic {
    let mut axes: Vec<_> = program.axes.ids().map(|a| &program.axes[a]).filter(|a| a.like.is_none()).collect();
    axes.sort_by_key(|a| std::cmp::Reverse(a.size));
    let largest: Vec<String> = axes.iter().take(4).map(|a| format!("{} {}", a.name, a.size)).collect();
    let message = format!(
        "to validate `{}`, the evaluator would do {:.1e} operations on elements; the most that it may is {:.0e}",
        pass.name, work as f64, settings.most as f64
    );
    Diagnostic::error(message)
        .hint(format!("smaller sizes show the same (--batch 3, --set NAME=VALUE); the largest axes are {}", largest.join(", ")))
}

fn in_f64(program: &Program) -> Result<(), Fault> {
    match program.values().find(|&v| program.ty(v).dtype == DType::F32) {
        None => Ok(()),
        Some(v) => {
            let error = verify::origin_diagnostic(program, v, "programs are validated in f64, and this is f32");
            Err(Fault::Refused(error.hint("let f64 stand for the f32 of the text: `Bindings::float`")))
        }
    }
}

// ---- what is compared

/// What of a program is a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Subject {
    Output(String),
    Loss(String),
    /// The replicated copies of a loss.
    Copies(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Output(name) => write!(f, "the output `{name}`"),
            Subject::Loss(name) => write!(f, "the loss `{name}`"),
            Subject::Copies(name) => write!(f, "the copies of the loss `{name}`"),
        }
    }
}

/// A result that both programs have.
struct Common {
    subject: Subject,
    before: Value,
    after: Value,
}

fn results(program: &Program) -> Vec<(Subject, Value)> {
    let mut all: Vec<(Subject, Value)> = program.outputs.iter().map(|o| (Subject::Output(o.port.name.clone()), o.value)).collect();
    for loss in &program.losses {
        all.push((Subject::Loss(loss.name.clone()), loss.value));
        let copies = loss.local.as_ref().and_then(|m| m.copies);
        all.extend(copies.map(|c| (Subject::Copies(loss.name.clone()), c)));
    }
    all
}

/// What both have. What only the program before has must be something that the pass may take away; the mean of a loss that is marked no more
/// is added to the program before, to be compared.
fn common(before: &mut Program, after: &Program, pass: &Pass, arithmetic: Arithmetic) -> Result<Vec<Common>, Fault> {
    let stays = |name: &str| arithmetic != Arithmetic::Adds || after.losses.iter().any(|l| l.name == name);
    let mut b = Builder::new(before.clone());
    for loss in before.losses.iter().filter(|l| l.local.is_none() && !stays(&l.name)) {
        let value = mean(&mut b, loss.value);
        let port = Port { name: loss.name.clone(), dtype: b.ty(value).dtype, order: Vec::new() };
        b.program_mut().outputs.push(Output { port, value });
    }
    *before = b.finish();
    let may_go = |subject: &Subject| match subject {
        Subject::Output(name) => pass.uses_up.is_some_and(|prefix| name.starts_with(prefix)),
        Subject::Loss(name) | Subject::Copies(name) => !stays(name),
    };
    let there = results(after);
    let mut common = Vec::new();
    for (subject, value) in results(before) {
        match there.iter().find(|r| r.0 == subject).map(|r| r.1) {
            Some(new) if after.ty(new) == before.ty(value) => common.push(Common { subject, before: value, after: new }),
            Some(new) => {
                let (was, is) = (before.ty(value).show(&before.axes), after.ty(new).show(&after.axes));
                return Err(refused(before, value, format!("`{}` makes {is} of {subject}, which was {was}", pass.name)));
            }
            None if may_go(&subject) => {}
            None => return Err(refused(before, value, format!("{subject} is gone after `{}`", pass.name))),
        }
    }
    Ok(common)
}

const NOT_THE_MODEL: &str =
    "the fault is the compiler's, not the model's: `opt --print-after-all` shows the programs before and after the pass";

fn refused(program: &Program, v: Value, message: String) -> Fault {
    Fault::Refused(verify::origin_diagnostic(program, v, message).hint(NOT_THE_MODEL))
}

/// Two programs, and the pass between them.
pub(crate) struct Pair<'a> {
    pub pass: &'a Pass,
    pub before: &'a Program,
    pub after: &'a Program,
}

impl Pair<'_> {
    fn same_bits(&self, common: &[Common], kind: Kind, inputs: &Inputs, checked: &mut Checked) -> Result<(), Fault> {
        let (before, after) = self.both(common);
        let before = self.evaluated(eval::run_values(self.before, inputs, &before))?;
        let after = self.evaluated(eval::run_values(self.after, inputs, &after))?;
        for (c, (x, y)) in common.iter().zip(before.iter().zip(&after)) {
            let y = self.evaluated(y.reorder(&x.order))?;
            let differ = |(x, y): (&f64, &f64)| x.to_bits() != y.to_bits() && !(x.is_nan() && y.is_nan());
            if let Some(at) = x.data.iter().zip(&y.data).position(differ) {
                return Err(self.broken(&c.subject, c.before, kind, x, at, y.data[at], "every bit should be the same"));
            }
            checked.compared += 1;
        }
        Ok(())
    }

    fn same_numbers(&self, common: &[Common], kind: Kind, inputs: &Inputs, seed: u64, checked: &mut Checked) -> Result<(), Fault> {
        let (before, after) = self.both(common);
        let before = self.evaluated(rounding::run(self.before, inputs, &before, seed))?;
        let after = self.evaluated(rounding::run(self.after, inputs, &after, seed))?;
        let Runs { results: x, .. } = &before;
        let largest = x.iter().map(finite_max).fold(0.0, f64::max);
        for (i, c) in common.iter().enumerate() {
            let x = &x[i];
            if before.infinite[i] {
                checked.infinite += 1;
                continue;
            }
            let y = self.evaluated(after.results[i].reorder(&x.order))?;
            // What is nothing beside all else need not have digits of its own.
            let scale = finite_max(x).max(NOTHING * largest);
            let lost = |noise: f64| noise > LOST * scale + UNDERFLOW;
            let worse = after.noise[i] > MUCH_WORSE * before.noise[i] && kind.is_tame();
            if lost(before.noise[i]) || lost(after.noise[i]) && !worse {
                checked.edges += 1;
                continue;
            }
            let tolerance =
                ULPS * f64::EPSILON * finite_max(x) + SPREADS * (before.noise[i] + after.noise[i].min(LOST * scale)) + UNDERFLOW;
            let (at, departure) = worst(x, &y);
            if departure > tolerance {
                let why = format!("{:.1e} apart, where rounding accounts for {tolerance:.1e}", departure);
                return Err(self.broken(&c.subject, c.before, kind, x, at, y.data[at], &why));
            }
            if lost(after.noise[i]) {
                let why = format!("rounding now moves it by {:.1e}, where it moved it by {:.1e} before", after.noise[i], before.noise[i]);
                return Err(self.broken(&c.subject, c.before, kind, x, at, y.data[at], &why));
            }
            checked.compared += 1;
            if departure > UNDERFLOW {
                checked.worst = checked.worst.max(departure / scale);
            }
        }
        Ok(())
    }

    fn both(&self, common: &[Common]) -> (Vec<Value>, Vec<Value>) {
        common.iter().map(|c| (c.before, c.after)).unzip()
    }

    pub(crate) fn evaluated<T>(&self, result: Result<T, EvalError>) -> Result<T, Fault> {
        result.map_err(|e| Fault::Refused(Diagnostic::error(format!("`{}` cannot be validated: {e}", self.pass.name)).hint(NOT_THE_MODEL)))
    }

    /// `at` counts elements of `x`, a value of the program before.
    #[expect(clippy::too_many_arguments, reason = "all of it is said in one message")]
    pub(crate) fn broken(&self, result: &dyn fmt::Display, v: Value, kind: Kind, x: &Tensor, at: usize, after: f64, why: &str) -> Fault {
        let (before, place) = (x.data[at], place(self.before, x, at));
        let message = format!(
            "after `{}`, {result} is {after:?} at {place}, and was {before:?} before, on {} numbers: {why}",
            self.pass.name,
            kind.name()
        );
        let diagnostic = verify::origin_diagnostic(self.before, v, message).hint(NOT_THE_MODEL);
        Fault::Broken(Box::new(Broken { result: result.to_string(), kind, at: place, before, after, diagnostic }))
    }
}

/// `[N 0, K 2]`
fn place(program: &Program, x: &Tensor, at: usize) -> String {
    let mut rest = at;
    let mut index: Vec<String> = Vec::new();
    for (&axis, &size) in x.order.iter().zip(&x.shape).rev() {
        index.push(format!("{} {}", program.axes[axis].name, rest % size.max(1)));
        rest /= size.max(1);
    }
    index.reverse();
    format!("[{}]", index.join(", "))
}

// ---- how near is near enough

/// A result is nothing beside the largest of its program if it is less than this share of it.
const NOTHING: f64 = 1e-6;
/// A result that rounding moves by more than this share of it has lost its digits.
const LOST: f64 = 1e-6;
/// A program whose roundings matter this many times as much as before is another one.
const MUCH_WORSE: f64 = 1e3;
/// The least that a departure may be, in units of the last place of the largest entry: the last operation of either program.
const ULPS: f64 = 16.0;
/// A departure may be this many times what moved roundings did in the few runs that were made.
pub(crate) const SPREADS: f64 = 20.0;
/// Products of tiny numbers lose digits where f64 ends: below this, nothing is told apart.
const UNDERFLOW: f64 = 1e-280;

pub(crate) fn finite_max(x: &Tensor) -> f64 {
    x.data.iter().filter(|x| x.is_finite()).fold(0.0, |max: f64, x| max.max(x.abs()))
}

/// The largest departure, and the element where it is; infinite where one is a number and the other is none.
fn worst(x: &Tensor, y: &Tensor) -> (usize, f64) {
    let apart = x.data.iter().zip(&y.data).map(|(&x, &y)| noise(x, y)).enumerate();
    apart.fold((0, 0.0), |worst, (i, d)| if d > worst.1 { (i, d) } else { worst })
}
