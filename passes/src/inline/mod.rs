//! inline: module -> flat program. Binds sizes, options and axes; expands calls and repetitions. Types are checked here, where they first
//! exist, by the one `infer` of the IR; an error inside a called function carries the calls that led to it. It changes no arithmetic.
//!
//! Read [`run`], then `expr.rs` for expressions. Errors are collected: a failed value is remembered as failed and not reported again.

mod bind;
mod expr;

use std::collections::{BTreeMap, HashMap};

use pushforward_ir::ast::{self, Block, Function, Item, Model, Module, Name, Stmt, StmtKind};
use pushforward_ir::axis::AxisId;
use pushforward_ir::diag::Severity;
use pushforward_ir::program::{Init, Local, Loss, Origin, Output, ParamDecl, Port};
use pushforward_ir::verify::{origin_diagnostic, verify};
use pushforward_ir::{AxisSet, Builder, DType, Diagnostic, Program, Span, Value};

use crate::norms::{Norm, norms};

/// What the caller fixes.
#[derive(Clone, Debug)]
pub struct Bindings {
    /// Sizes and options by name, as text: `--set groups=16`.
    pub sets: Vec<(String, String)>,
    /// The size of the batch axis.
    pub batch: Option<usize>,
    /// What `f32` in the text stands for: `F64` evaluates a model in double precision.
    pub float: DType,
    /// Scoped names of values to add as outputs, in canonical axis order.
    pub results: Vec<String>,
}

impl Default for Bindings {
    fn default() -> Self {
        Bindings { sets: Vec::new(), batch: None, float: DType::F32, results: Vec::new() }
    }
}

/// A program and what a person should be warned of.
pub struct Inlined {
    pub program: Program,
    pub warnings: Vec<Diagnostic>,
}

/// Expands the model of `module`, which may call functions of `libraries`.
pub fn run(libraries: &[&Module], module: &Module, bindings: &Bindings) -> Result<Inlined, Vec<Diagnostic>> {
    let mut e = Elaborator::new(bindings);
    for library in libraries {
        e.functions(library, false);
    }
    e.functions(module, true);
    let items = libraries.iter().flat_map(|l| &l.items).chain(&module.items);
    e.bind(&items.collect::<Vec<_>>());
    let model = e.the_model(module);
    if let Some(model) = model.filter(|_| e.errors.is_empty()) {
        e.model(model);
    }
    if e.errors.is_empty() {
        e.results();
        e.unused_parameters();
        e.norms_of_one();
    }
    if !e.errors.is_empty() {
        // A warning may say what led to an error: an outer product gives a value axes that nobody expects.
        let elsewhere = |w: &Diagnostic| !e.errors.iter().any(|error| error.place == w.place);
        let warnings: Vec<Diagnostic> = e.warnings.into_iter().filter(elsewhere).collect();
        e.errors.extend(warnings);
        return Err(e.errors);
    }
    let program = e.builder.finish();
    match verify(&program) {
        sound if sound.is_empty() => Ok(Inlined { program, warnings: e.warnings }),
        broken => Err(broken),
    }
}

/// The error is recorded already; go on to find others.
#[derive(Clone, Copy)]
struct Failed;

type Result<T, E = Failed> = std::result::Result<T, E>;

/// One activation of a function: its axes and values by name.
struct Frame {
    function: String,
    axes: HashMap<String, Vec<AxisId>>,
    values: HashMap<String, Option<Value>>,
    counters: HashMap<String, i64>,
    /// Scoped name of the innermost labelled call.
    scope: String,
    /// Whether values bound here are visible by scoped name: in the model, and in labelled calls.
    named: bool,
    /// Atoms that a local axis must not be confused with.
    busy: AxisSet,
    origin: Option<u32>,
}

struct Elaborator<'a> {
    bindings: &'a Bindings,
    functions: HashMap<&'a str, &'a Function>,
    sizes: BTreeMap<String, f64>,
    /// option -> (chosen, all)
    options: BTreeMap<String, (String, Vec<String>)>,
    /// `None`: its declaration has failed.
    axes: HashMap<String, Option<Vec<AxisId>>>,
    builder: Builder,
    frames: Vec<Frame>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    activities: u32,
    /// Sizes, options and axes of the text, and where each is declared first: a use before that gets a hint of its own.
    ahead: BTreeMap<&'a str, Span>,
    /// Expressions and rounds of repetitions so far.
    work: usize,
    /// Expressions around the present one, through all calls.
    depth: usize,
}

/// Expressions nest no deeper than this, counted through all calls: the stack bounds it.
const MAX_DEPTH: usize = 400;
/// More expressions than this, each round and each call counted, is a slip: a size, or calls that double at every level.
const MAX_WORK: usize = 1_000_000;
/// No tensor at the border has more elements: four terabytes of f32.
const MAX_ELEMENTS: f64 = (1u64 << 40) as f64;

impl<'a> Elaborator<'a> {
    fn new(bindings: &'a Bindings) -> Self {
        Elaborator {
            bindings,
            functions: HashMap::new(),
            sizes: BTreeMap::new(),
            options: BTreeMap::new(),
            axes: HashMap::new(),
            builder: Builder::new(Program::default()),
            frames: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            activities: 0,
            ahead: BTreeMap::new(),
            work: 0,
            depth: 0,
        }
    }

    fn functions(&mut self, module: &'a Module, own: bool) {
        let mut here: HashMap<&str, Span> = HashMap::new();
        for item in &module.items {
            let Item::Fn(f) = item else { continue };
            let name = f.name.text.as_str();
            if pushforward_ir::Op::ALL.iter().any(|op| op.name == name) {
                self.errors.push(
                    Diagnostic::error(format!("`{name}` is an op; a function cannot have its name"))
                        .at(f.name.at.0)
                        .hint("choose another name for the function"),
                );
            }
            if let Some(first) = here.insert(name, f.name.at.0).filter(|_| own) {
                self.second(&f.name, "function", Some(first));
            }
            self.functions.insert(name, f);
        }
    }

    fn second(&mut self, name: &Name, what: &str, first: Option<Span>) {
        let mut error =
            Diagnostic::error(format!("a second definition of {what} `{}`", name.text)).at(name.at.0).hint("rename one of the two");
        error.calls.extend(first.map(|first| (first, "first defined here".to_string())));
        self.errors.push(error);
    }

    fn the_model(&mut self, module: &'a Module) -> Option<&'a Model> {
        let models: Vec<&Model> = module.items.iter().filter_map(|i| if let Item::Model(m) = i { Some(m) } else { None }).collect();
        match models[..] {
            [one] => Some(one),
            [] => {
                self.errors.push(Diagnostic::error("this file has no `model`").hint("add `model name(inputs: f32[N, ..]) { .. }`"));
                None
            }
            [_, second, ..] => {
                self.errors.push(
                    Diagnostic::error(format!("`{}` is a second model; a file has one", second.name.text))
                        .at(second.name.at.0)
                        .hint("move it to a file of its own"),
                );
                None
            }
        }
    }

    fn model(&mut self, model: &'a Model) {
        self.builder.program_mut().name = model.name.text.clone();
        self.frames.push(Frame {
            function: model.name.text.clone(),
            axes: HashMap::new(),
            values: HashMap::new(),
            counters: HashMap::new(),
            scope: String::new(),
            named: true,
            busy: AxisSet::EMPTY,
            origin: None,
        });
        for (name, ty) in &model.inputs {
            let port = self.port(&name.text, ty);
            let value = port.ok().map(|port| {
                let program = self.builder.program_mut();
                program.inputs.push(port);
                let index = program.inputs.len() as u32 - 1;
                self.set_origin(name.at.0);
                self.builder.op(pushforward_ir::Op::Input(index), &[])
            });
            self.frame_mut().values.insert(name.text.clone(), value);
        }
        match self.block(&model.body) {
            Ok(Some(_)) => {
                let at = model.body.result.as_ref().map_or(model.at.0, |e| e.at.0);
                self.error(at, "a model has no result").hint("give it a name: `output y: f32[N] = ..;`, or mark it: `loss ..;`");
            }
            // Better than a program that lacks a statement without a word.
            Err(Failed) if self.errors.is_empty() => {
                self.error(model.at.0, "a statement of this model cannot be expanded, and the reason was lost")
                    .hint("this is a fault of the compiler, please report it");
            }
            Ok(None) | Err(Failed) => {}
        }
        self.frames.pop();
    }

    /// Adds the outputs that the caller asked for by scoped name, but for those that the model declares itself.
    fn results(&mut self) {
        for name in self.bindings.results.clone() {
            if self.builder.program().output(&name).is_some() {
                continue;
            }
            let Some(&value) = self.builder.program().names.get(&name) else {
                let known: Vec<String> = self.builder.program().names.keys().cloned().collect();
                let hint = closest(&name, known.iter().map(String::as_str));
                let error = Diagnostic::error(format!("no value is called `{name}`"));
                self.errors.push(if let Some(c) = hint { error.hint(format!("did you mean `{c}`?")) } else { error });
                continue;
            };
            let program = self.builder.program_mut();
            let order = program.axes.in_order(program.axes_of(value));
            program.outputs.push(Output { port: Port { name, dtype: program.ty(value).dtype, order }, value });
        }
    }

    /// Warns of parameters that no loss and no output needs.
    fn unused_parameters(&mut self) {
        let program = self.builder.program();
        let live = program.live();
        for v in program.values().filter(|v| !live[v.0 as usize]) {
            let pushforward_ir::Op::Param(i) = program.op(v) else { continue };
            let name = &program.params[*i as usize].port.name;
            let warning = origin_diagnostic(program, v, format!("no loss and no output depends on the parameter `{name}`"));
            self.warnings.push(Diagnostic { severity: Severity::Warning, ..warning.hint("use it, or take it out") });
        }
    }

    /// Warns of norms that give nothing but 0, at these sizes. That of a batch of one example is for algorithms to refuse.
    fn norms_of_one(&mut self) {
        let program = self.builder.program();
        let mut found: Vec<(Value, Norm)> = norms(program).into_iter().filter(|(_, norm)| norm.vanishes(program)).collect();
        found.retain(|(_, norm)| !program.batch.is_some_and(|batch| norm.over.contains(batch)));
        found.sort_unstable_by_key(|f| f.0);
        for (v, norm) in found {
            let message = format!("a norm over {}, which is a single element here: all that it gives is 0", program.axes.show(norm.over));
            let warning = origin_diagnostic(program, v, message).hint("choose other sizes, or another norm");
            // However often one function is called.
            if !self.warnings.iter().any(|w| w.message == warning.message && w.place == warning.place) {
                self.warnings.push(Diagnostic { severity: Severity::Warning, ..warning });
            }
        }
    }

    /// Counts one expression or round, and refuses what never ends.
    fn count(&mut self, at: Span) -> Result<()> {
        self.work += 1;
        if self.work == MAX_WORK {
            let message = format!("the model expands to more than {MAX_WORK} expressions");
            self.error(at, message)
                .hint("look for a large count in `repeat`, or for functions that call others several times, level after level");
        }
        if self.work < MAX_WORK { Ok(()) } else { Err(Failed) }
    }

    // ---- statements

    fn block(&mut self, block: &'a Block) -> Result<Option<Value>> {
        let mut failed = false;
        for stmt in &block.stmts {
            failed |= self.stmt(stmt).is_err();
        }
        let result = match &block.result {
            Some(e) => self.expr(e, None).map(Some),
            None => Ok(None),
        };
        if failed { Err(Failed) } else { result }
    }

    fn stmt(&mut self, stmt: &'a Stmt) -> Result<()> {
        let at = stmt.at.0;
        match &stmt.kind {
            StmtKind::Axes(axes) => self.local_axes(axes),
            StmtKind::Param { name, ty, init, exact, decay } => self.param(name, ty, init, *exact, *decay),
            StmtKind::Let { name, ty, value } => {
                let result = self.expr(value, ty.as_ref().map(|t| self.dtype(t.dtype)));
                let result = match (result, ty) {
                    (Ok(v), Some(ty)) => self.check_type(v, ty).map(|()| v),
                    (r, _) => r,
                };
                self.frame_mut().values.insert(name.text.clone(), result.ok());
                if let Ok(v) = result {
                    self.name_value(&name.text, v);
                }
                result.map(|_| ())
            }
            StmtKind::Local { label, at: x, along, loss, copies } => {
                let marked = self.expr(x, None);
                let along = self.axis_list(along);
                let value = self.block(loss)?;
                // Those that stand in the block have their numbers already.
                let default = self.builder.program().losses.len();
                let name = self.label(label.as_ref(), &format!("local{default}"))?;
                let (marked, along) = (marked?, AxisSet::of(along?));
                let copies = copies.as_ref().map(|e| self.expr(e, None)).transpose()?;
                let Some(value) = value else {
                    self.error(at, "a local loss has no value").hint("end the block with the loss, without `;`");
                    return Err(Failed);
                };
                let lacks = along - self.builder.axes_of(marked);
                if !lacks.is_empty() {
                    let axes = &self.builder.program().axes;
                    let message = format!(
                        "the local loss `{name}` is replicated along {}, which its value {} lacks",
                        axes.show(lacks),
                        self.builder.ty(marked).show(axes)
                    );
                    self.error(at, message).hint("replicate along axes of the value that stands before `along`");
                    return Err(Failed);
                }
                let place = loss.result.as_ref().map_or(at, |e| e.at.0);
                if copies.is_none() && !self.builder.program().depends(&[marked], |_| false)[value.0 as usize] {
                    let message = format!("the local loss `{name}` does not depend on the value that it is a loss of");
                    self.error(place, message).hint("compute it from the value between `local` and `along`");
                    return Err(Failed);
                }
                self.mark_loss(place, Loss { name, value, local: Some(Local { at: marked, along, copies }) })
            }
            StmtKind::Loss { label, value } => {
                let name = self.label(label.as_ref(), "loss")?;
                let (place, value) = (value.at.0, self.expr(value, None)?);
                self.mark_loss(place, Loss { name, value, local: None })
            }
            StmtKind::Repeat { counter, from, to, body } => {
                let (from, to) = (self.whole(from)?, self.whole(to)?);
                let mut outcome = Ok(());
                for i in from..to {
                    self.count(at)?;
                    self.frame_mut().counters.insert(counter.text.clone(), i);
                    match self.block(body) {
                        Ok(None) => {}
                        Ok(Some(_)) => {
                            self.error(at, "the body of a repetition has no result").hint("rebind a name instead: `x = ..;`");
                            outcome = Err(Failed);
                        }
                        Err(Failed) => outcome = Err(Failed),
                    }
                    if outcome.is_err() {
                        break; // the next round would say the same again
                    }
                }
                self.frame_mut().counters.remove(&counter.text);
                outcome
            }
            StmtKind::Match { option, arms } => {
                let chosen = self.chosen(option, arms)?;
                self.arm(at, chosen)
            }
            StmtKind::Warn(text) => {
                self.warn(Diagnostic::warning(text).at(at).hint("choose otherwise by `--set`; what is meant so may stay so"));
                Ok(())
            }
            StmtKind::Output { name, ty, value } => {
                let dtype = self.dtype(ty.dtype);
                let value = self.expr(value, Some(dtype))?;
                let port = self.port(&name.text, ty)?;
                self.check_type(value, ty)?;
                if self.builder.program().output(&name.text).is_some() {
                    self.second(name, "output", None);
                    return Err(Failed);
                }
                self.builder.program_mut().outputs.push(Output { port, value });
                Ok(())
            }
        }
    }

    /// The statements of an arm; what they name is forgotten behind it.
    fn arm(&mut self, at: Span, body: &'a Block) -> Result<()> {
        let (values, axes) = (self.frame().values.clone(), self.frame().axes.clone());
        let result = self.block(body);
        let frame = self.frame_mut();
        (frame.values, frame.axes) = (values, axes);
        match result? {
            None => Ok(()),
            Some(_) => {
                let place = body.result.as_ref().map_or(at, |e| e.at.0);
                self.error(place, "an arm that is a block has no result")
                    .hint("a value is chosen by `y = match option { choice => value, .. };`");
                Err(Failed)
            }
        }
    }

    /// Warns of one place once, however often it is expanded.
    fn warn(&mut self, mut warning: Diagnostic) {
        warning.calls = self.calls();
        if !self.warnings.iter().any(|w| w.place == warning.place) {
            self.warnings.push(warning);
        }
    }

    fn mark_loss(&mut self, at: Span, loss: Loss) -> Result<()> {
        if self.builder.program().losses.iter().any(|l| l.name == loss.name) {
            self.error(at, format!("a second loss called `{}`", loss.name)).hint("give it a label: `loss other: ..;`");
            return Err(Failed);
        }
        let ty = self.builder.ty(loss.value);
        if !ty.dtype.is_float() {
            let message = format!("the loss `{}` is {}, and a loss is a float", loss.name, ty.show(&self.builder.program().axes));
            self.error(at, message).hint("convert it: `cast[f32](x)`");
            return Err(Failed);
        }
        let program = self.builder.program_mut();
        program.names.entry(loss.name.clone()).or_insert(loss.value);
        program.losses.push(loss);
        Ok(())
    }

    fn param(&mut self, name: &Name, ty: &ast::TypeExpr, init: &ast::Init, exact: bool, decay: bool) -> Result<()> {
        let scoped = self.scoped(&name.text);
        // Whatever fails below, its uses are not reported again.
        self.frame_mut().values.insert(name.text.clone(), None);
        let port = self.port(&scoped, ty)?;
        let program = self.builder.program();
        if let Some(batch) = program.batch.filter(|batch| port.order.contains(batch)) {
            let message = format!("the parameter `{scoped}` depends on the batch axis {}", program.axes[batch].name);
            self.error(ty.at.0, message).hint("leave it out: every example shares the parameters, and the last batch may be smaller");
            return Err(Failed);
        }
        let init = match init {
            ast::Init::Constant(s) => Init::Constant(self.first_value(s, f64::NEG_INFINITY, "expected a finite number")?),
            ast::Init::Normal(s) => Init::Normal(self.first_value(s, 0.0, "a standard deviation is a finite number of at least 0")?),
        };
        if self.builder.program().param(&scoped).is_some() {
            self.error(name.at.0, format!("a second definition of parameter `{scoped}`"))
                .hint("label the calls that declare it, so that each has a name of its own: `first: layer(x)`");
            return Err(Failed);
        }
        let program = self.builder.program_mut();
        program.params.push(ParamDecl { port, init, exact, decay });
        let index = program.params.len() as u32 - 1;
        self.set_origin(name.at.0);
        let value = self.builder.op(pushforward_ir::Op::Param(index), &[]);
        self.frame_mut().values.insert(name.text.clone(), Some(value));
        Ok(())
    }

    /// A number that says what a parameter is at first.
    fn first_value(&mut self, s: &ast::Scalar, least: f64, wanted: &str) -> Result<f64> {
        let value = self.scalar(s)?;
        if value.is_finite() && value >= least {
            return Ok(value);
        }
        self.error(s.at.0, format!("the first values would be made with {value}")).hint(wanted);
        Err(Failed)
    }

    // ---- types and names

    fn dtype(&self, written: DType) -> DType {
        if written == DType::F32 { self.bindings.float } else { written }
    }

    fn port(&mut self, name: &str, ty: &ast::TypeExpr) -> Result<Port> {
        let order = self.axis_list(&ty.axes)?;
        let axes = &self.builder.program().axes;
        if let Some((_, &twice)) = order.iter().enumerate().find(|(i, a)| order[..*i].contains(a)) {
            let message = format!("`{name}` has the axis {} twice", axes[twice].name);
            self.error(ty.at.0, message).hint("declare a second axis with `like`: `axis Q like P;`");
            return Err(Failed);
        }
        let elements: f64 = order.iter().map(|&a| axes.size(a) as f64).product();
        if elements > MAX_ELEMENTS {
            let sizes: Vec<String> = order.iter().map(|&a| format!("{} = {}", axes[a].name, axes.size(a))).collect();
            self.error(ty.at.0, format!("`{name}` would have {elements:e} elements"))
                .hint(&format!("choose smaller sizes; now {}", sizes.join(", ")));
            return Err(Failed);
        }
        Ok(Port { name: name.to_string(), dtype: self.dtype(ty.dtype), order })
    }

    fn check_type(&mut self, v: Value, ty: &ast::TypeExpr) -> Result<()> {
        let wants = pushforward_ir::Type::new(self.dtype(ty.dtype), AxisSet::of(self.axis_list(&ty.axes)?));
        let got = self.builder.ty(v);
        if wants == got {
            return Ok(());
        }
        let axes = &self.builder.program().axes;
        let message = format!("the value has type {}, but {} is written", got.show(axes), wants.show(axes));
        self.error(ty.at.0, message).hint("correct the type, or leave it out");
        Err(Failed)
    }

    fn name_value(&mut self, name: &str, v: Value) {
        if self.frame().named && !name.starts_with('%') {
            let scoped = self.scoped(name);
            self.builder.program_mut().names.insert(scoped, v);
        }
    }

    fn scoped(&self, name: &str) -> String {
        let scope = &self.frame().scope;
        if scope.is_empty() { name.to_string() } else { format!("{scope}.{name}") }
    }

    /// A label under the present scope, its counters filled in.
    fn label(&mut self, label: Option<&Name>, default: &str) -> Result<String> {
        let Some(label) = label else { return Ok(self.scoped(default)) };
        let mut text = label.text.clone();
        while let (Some(open), Some(close)) = (text.find('{'), text.find('}')) {
            let counter = &text[open + 1..close];
            let Some(i) = self.frame().counters.get(counter) else {
                let message = format!("`{counter}` in the label `{}` counts no repetition", label.text);
                self.error(label.at.0, message).hint("labels may hold the counter of an enclosing `repeat` of the same function");
                return Err(Failed);
            };
            text = format!("{}{i}{}", &text[..open], &text[close + 1..]);
        }
        Ok(self.scoped(&text))
    }

    fn frame(&self) -> &Frame {
        self.frames.last().expect("elaboration happens inside a frame")
    }

    fn frame_mut(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("elaboration happens inside a frame")
    }

    // ---- places

    fn set_origin(&mut self, span: Span) -> u32 {
        let (parent, scope) = self.frames.last().map_or((None, String::new()), |f| (f.origin, f.scope.clone()));
        let origins = &mut self.builder.program_mut().origins;
        origins.push(Origin { span, parent, scope });
        let origin = origins.len() as u32 - 1;
        self.builder.origin = origin;
        origin
    }

    /// The calls that led to the present frame, innermost first.
    fn calls(&self) -> Vec<(Span, String)> {
        let origins = &self.builder.program().origins;
        let frames = self.frames.iter().rev();
        frames.filter_map(|f| Some((origins[f.origin? as usize].span, format!("in `{}`, called here", f.function)))).collect()
    }

    fn error(&mut self, at: Span, message: impl Into<String>) -> &mut dyn Hint {
        let calls = self.calls();
        let mut d = Diagnostic::error(message).at(at);
        d.calls = calls;
        self.errors.push(d);
        self.errors.last_mut().expect("just pushed")
    }
}

/// Adds a hint to an error that is recorded already.
trait Hint {
    fn hint(&mut self, hint: &str);
}

impl Hint for Diagnostic {
    fn hint(&mut self, hint: &str) {
        self.hint = Some(hint.to_string());
    }
}

/// The candidate most like `name`, if any is like it.
pub fn closest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .map(|c| (strsim::jaro_winkler(&name.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, c)| c)
}
