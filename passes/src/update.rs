//! update: the optimiser, as part of the program. Every output `grad.w` becomes the new values of `w` and of what the rule keeps of `w` from
//! step to step. Which rule, what decays and how fast each parameter learns is [`Settings`]; the formulas are in `update/rules.rs`. The rate
//! itself is an input, `lr`: schedules are the caller's. It knows no parameter by name, but for the patterns that it is given.

use pushforward_ir::program::{Init, Output, ParamDecl, Port};
use pushforward_ir::{Builder, Diagnostic, Op, Program, Value};

use crate::accumulate::ACCUMULATED;
use crate::algorithm::Options;
use crate::border::number_input;
use crate::gradient::GRADIENT;

mod rules;

pub use glob::Pattern;

/// How gradients move parameters.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    pub rule: Rule,
    /// Times the parameter; each rule says where it is added.
    pub weight_decay: f64,
    pub decay: Decay,
    /// The rates of parameters by name, as factors of `lr`: the first pattern that matches holds, 1 where none does. A parameter of factor 0
    /// is frozen: it is neither updated nor decayed, and nothing is kept of it.
    pub factors: Vec<Factor>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { rule: Rule::Sgd { momentum: 0.9, nesterov: false }, weight_decay: 1e-4, decay: Decay::Weights, factors: Vec::new() }
    }
}

/// With `g` the gradient, `w` the parameter, `d` its weight decay (0 where it does not decay) and `lr` its rate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rule {
    /// Stochastic gradient descent: `v = momentum * v + (g + d * w)`, `w = w - lr * v`; Nesterov's looks ahead: `w = w - lr * (g + d * w +
    /// momentum * v)` (Sutskever, Martens, Dahl, Hinton: "On the importance of initialization and momentum in deep learning", 2013, written
    /// for the point that it looks from, as is usual). Without momentum nothing is kept.
    Sgd { momentum: f64, nesterov: bool },
    /// Layer-wise rates (You, Gitman, Ginsburg: "Large batch training of convolutional networks", 2017, algorithm 1; `|x|` is the root of the
    /// sum of squares of a whole tensor): `rate = lr * trust * |w| / (|g| + d * |w|)`, `v = momentum * v + rate * (g + d * w)`, `w = w - v`.
    /// Where `|w|` or `|g|` is 0 the paper's formula would never leave 0 again: `rate = lr` there, and for parameters that are no weights,
    /// unless all decay ([`Decay::All`]); both as in SimCLR (Chen, Kornblith, Norouzi, Hinton, 2020).
    Lars { momentum: f64, trust: f64 },
    /// Adam with decoupled weight decay (Loshchilov, Hutter: "Decoupled weight decay regularization", 2019, algorithm 2, its step size within
    /// `lr`): `m = beta1 * m + (1 - beta1) * g`, `s = beta2 * s + (1 - beta2) * g * g`, `w = w - lr * ((m / c1) / (sqrt(s / c2) + eps) +
    /// d * w)`. The corrections of bias, `c = 1 - beta^t` at step `t`, are kept as averages of ones, `c = beta * c + (1 - beta)` from 0: one
    /// sum and one product, the same on every back end, where a power would lose half of its digits in `1 - power`.
    AdamW { beta1: f64, beta2: f64, eps: f64 },
}

/// Which parameters decay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decay {
    /// Those that say `decay` in the model's text: its weights.
    Weights,
    All,
    None,
}

impl Decay {
    pub const ALL: [Decay; 3] = [Decay::Weights, Decay::All, Decay::None];

    pub fn name(self) -> &'static str {
        match self {
            Decay::Weights => "weights",
            Decay::All => "all",
            Decay::None => "none",
        }
    }
}

/// A rate for the parameters whose names a pattern matches: `*` stands for any run of characters, `?` for one.
#[derive(Clone, PartialEq, Debug)]
pub struct Factor {
    pub pattern: Pattern,
    pub factor: f64,
}

/// Prefix of the parameters that hold momentum.
pub const MOMENTUM: &str = "momentum.";
/// Prefix of the parameters that hold AdamW's averages.
pub const ADAMW: &str = "adamw.";

/// Whether a parameter of a program is one that this pass, or `accumulate`, added.
pub fn is_kept(name: &str) -> bool {
    [MOMENTUM, ADAMW, ACCUMULATED].iter().any(|prefix| name.starts_with(prefix))
}

pub fn run(program: &Program, options: &Options) -> Result<Program, Vec<Diagnostic>> {
    let settings = &options.update;
    check(program, settings)?;
    let mut b = Builder::new(program.clone());
    let outputs = std::mem::take(&mut b.program_mut().outputs);
    for out in outputs {
        let Some(index) = out.port.name.strip_prefix(GRADIENT).and_then(|n| program.param(n)) else {
            b.program_mut().outputs.push(out);
            continue;
        };
        let decl = program.params[index as usize].clone();
        let factor = settings.factor(&decl.port.name);
        if factor == 0.0 {
            continue;
        }
        let lr = number_input(&mut b, "lr", decl.port.dtype)?;
        let lr = b.scale(lr, factor);
        // What is computed here stands where the parameter is declared.
        let declared = program.values().find(|&v| *program.op(v) == Op::Param(index)).unwrap_or(out.value);
        b.origin = program.node(declared).origin;
        let w = b.op(Op::Param(index), &[]);
        let decays = settings.decays(&decl);
        let decay = if decays { settings.weight_decay } else { 0.0 };
        let moved = rules::Moved { w, g: out.value, lr, decay, is_weight: decl.decay || settings.decay == Decay::All, port: &decl.port };
        let new = moved.by(&mut b, settings.rule);
        b.program_mut().outputs.push(Output { port: decl.port, value: new });
    }
    Ok(crate::dce::run(&b.finish()))
}

impl Settings {
    pub(crate) fn factor(&self, name: &str) -> f64 {
        self.factors.iter().find(|f| f.pattern.matches(name)).map_or(1.0, |f| f.factor)
    }

    fn decays(&self, param: &ParamDecl) -> bool {
        match self.decay {
            Decay::Weights => param.decay,
            Decay::All => true,
            Decay::None => false,
        }
    }
}

/// Every pattern is to mean something, and what is added takes no name that is there.
pub(crate) fn check(program: &Program, settings: &Settings) -> Result<(), Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let names: Vec<&str> = program.params.iter().map(|p| p.port.name.as_str()).collect();
    for Factor { pattern, factor } in &settings.factors {
        if !names.iter().any(|name| pattern.matches(name)) {
            let message = format!("the learning-rate factor `{pattern}={factor}` is for no parameter: there are {}", names.join(", "));
            errors.push(Diagnostic::error(message).hint("`*` stands for any run of characters: `*.w`, `block0.*`"));
        }
    }
    let border = names.iter().copied().chain(program.inputs.iter().map(|p| p.name.as_str()));
    // Sums of gradients are there before the update.
    for name in border.filter(|name| is_kept(name) && !name.starts_with(ACCUMULATED)) {
        let message = format!("the model's `{name}` has a name such as the optimiser gives to what it keeps");
        errors.push(Diagnostic::error(message).hint(format!("give it one that begins with neither `{MOMENTUM}` nor `{ADAMW}`")));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// A tensor that lives from step to step, 0 before the first: the parameter, and its old value. It is there already if it is shared.
pub(crate) fn kept(b: &mut Builder, port: &Port) -> Value {
    let index = b.program().param(&port.name).unwrap_or_else(|| {
        b.program_mut().params.push(ParamDecl { port: port.clone(), init: Init::Constant(0.0), exact: false, decay: false });
        b.program().params.len() as u32 - 1
    });
    b.op(Op::Param(index), &[])
}

/// Its new value, once.
fn keep(b: &mut Builder, port: Port, value: Value) {
    if b.program().output(&port.name).is_none() {
        b.program_mut().outputs.push(Output { port, value });
    }
}
