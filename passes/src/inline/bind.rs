//! Binding: sizes, options and axes of the whole module, axes local to a function, arithmetic on sizes, and the rule that a name is defined
//! once. No values here.

use std::collections::{BTreeSet, HashMap};

use pushforward_ir::ast::{AxisDef, Block, Item, Name, Scalar, ScalarFn, ScalarKind, ScalarOp, Stmt, StmtKind};
use pushforward_ir::axis::{AxisId, MAX_AXES};
use pushforward_ir::{AxisSet, Diagnostic, Span, ast};

use super::{Elaborator, Failed, Result, closest};

/// The largest size of one axis.
const LARGEST: f64 = 1e9;

impl<'a> Elaborator<'a> {
    /// Binds sizes and options (the caller's settings first), then axes, in the order of the text.
    pub(super) fn bind(&mut self, items: &[&'a Item]) {
        for item in items {
            match item {
                Item::Sizes(sizes) => sizes.iter().for_each(|(name, _)| self.declared(name)),
                Item::Axes(axes) => axes.iter().for_each(|axis| self.declared(&axis.name)),
                Item::Option { name, .. } => self.declared(name),
                Item::Fn(_) | Item::Model(_) => {}
            }
        }
        let mut given: HashMap<&str, &str> = self.bindings.sets.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        for item in items {
            match item {
                Item::Sizes(sizes) => {
                    for (name, default) in sizes {
                        self.bind_size(name, default.as_ref(), given.remove(name.text.as_str()));
                    }
                }
                Item::Option { name, choices } => self.bind_option(name, choices, given.remove(name.text.as_str())),
                Item::Axes(_) | Item::Fn(_) | Item::Model(_) => {}
            }
        }
        let mut unknown: Vec<(&str, &str)> = given.into_iter().collect();
        unknown.sort_unstable();
        for (name, value) in unknown {
            let known: Vec<&str> = self.sizes.keys().chain(self.options.keys()).map(String::as_str).collect();
            let hint = match closest(name, known.iter().copied()) {
                Some(c) => format!("did you mean `{c}`?"),
                None if known.is_empty() => "it has none: leave the flag out".to_string(),
                None => format!("it has {}", known.join(", ")),
            };
            self.errors
                .push(Diagnostic::error(format!("`--set {name}={value}`: the model has no size and no option called `{name}`")).hint(hint));
        }
        for item in items {
            match item {
                Item::Axes(axes) => {
                    for axis in axes {
                        let atoms = self.define_axis(axis, None);
                        if self.axes.contains_key(&axis.name.text) {
                            self.second(&axis.name, "axis", self.ahead.get(axis.name.text.as_str()).copied());
                        } else if self.sizes.contains_key(&axis.name.text) {
                            let message = format!("`{}` is a size already; an axis cannot have its name", axis.name.text);
                            self.error(axis.name.at.0, message).hint("choose another name for one of the two");
                        }
                        // A failed axis is known by name so that its uses are not reported again.
                        self.axes.insert(axis.name.text.clone(), atoms.ok());
                    }
                }
                Item::Fn(f) => {
                    for (i, axis) in f.axes.iter().enumerate() {
                        if let Some(first) = f.axes[..i].iter().find(|a| a.text == axis.text) {
                            self.second(axis, "axis", Some(first.at.0));
                        }
                    }
                    self.defined_once(&f.body, "argument", &f.params);
                }
                Item::Model(m) => self.defined_once(&m.body, "input", &m.inputs.iter().map(|i| i.0.clone()).collect::<Vec<_>>()),
                Item::Sizes(_) | Item::Option { .. } => {}
            }
        }
    }

    fn declared(&mut self, name: &'a Name) {
        self.ahead.entry(&name.text).or_insert(name.at.0);
    }

    fn bind_size(&mut self, name: &Name, default: Option<&Scalar>, given: Option<&str>) {
        if self.sizes.contains_key(&name.text) || self.options.contains_key(&name.text) {
            return self.second(name, "size", self.ahead.get(name.text.as_str()).copied());
        }
        let value = match (given, default) {
            (Some(text), _) => text.parse::<f64>().map_err(|_| {
                let message = format!("`--set {}={text}`: `{text}` is no number", name.text);
                self.errors.push(Diagnostic::error(message).at(name.at.0).hint("sizes are whole numbers"));
                Failed
            }),
            (None, Some(default)) => self.scalar(default),
            (None, None) => {
                self.error(name.at.0, format!("the size `{}` is not bound", name.text)).hint(&format!("give it: `--set {}=8`", name.text));
                Err(Failed)
            }
        };
        // An error is recorded; 1 lets the search for others go on.
        self.sizes.insert(name.text.clone(), value.unwrap_or(1.0));
    }

    fn bind_option(&mut self, name: &Name, choices: &[Name], given: Option<&str>) {
        if self.sizes.contains_key(&name.text) || self.options.contains_key(&name.text) {
            return self.second(name, "option", self.ahead.get(name.text.as_str()).copied());
        }
        for (i, choice) in choices.iter().enumerate() {
            if let Some(first) = choices[..i].iter().find(|c| c.text == choice.text) {
                self.second(choice, "choice", Some(first.at.0));
            }
        }
        let all: Vec<String> = choices.iter().map(|c| c.text.clone()).collect();
        let chosen = given.map_or(all[0].clone(), str::to_string);
        if !all.contains(&chosen) {
            let message = format!("`--set {}={chosen}`: the choices of `{}` are {}", name.text, name.text, all.join(", "));
            let hint = match closest(&chosen, all.iter().map(String::as_str)) {
                Some(c) => format!("did you mean `{c}`?"),
                None => format!("without the flag it is `{}`", all[0]),
            };
            self.errors.push(Diagnostic::error(message).at(name.at.0).hint(hint));
        }
        self.options.insert(name.text.clone(), (chosen, all));
    }

    /// Axes declared inside a function: atoms are fresh for the frame, and the same for equal calls.
    pub(super) fn local_axes(&mut self, axes: &'a [ast::Axis]) -> Result<()> {
        for axis in axes {
            if self.frame().axes.contains_key(&axis.name.text) {
                self.second(&axis.name, "axis", None);
                return Err(Failed);
            }
            let busy = self.frames.iter().fold(AxisSet::EMPTY, |b, f| b | f.busy);
            let atoms = self.define_axis(axis, Some(busy))?;
            let frame = self.frame_mut();
            frame.busy = frame.busy | AxisSet::of(atoms.iter().copied());
            frame.axes.insert(axis.name.text.clone(), atoms);
        }
        Ok(())
    }

    /// The atoms of a declared axis. `busy`: inside a function, atoms that the new ones must differ from.
    fn define_axis(&mut self, axis: &ast::Axis, busy: Option<AxisSet>) -> Result<Vec<AxisId>> {
        self.axis_by(axis, &axis.def, busy)
    }

    fn axis_by(&mut self, axis: &ast::Axis, def: &AxisDef, busy: Option<AxisSet>) -> Result<Vec<AxisId>> {
        let at = axis.name.at.0;
        match def {
            AxisDef::Batch => {
                let Some(size) = self.bindings.batch else {
                    self.error(at, format!("the batch axis `{}` has no size", axis.name.text)).hint("give the batch: `--batch 128`");
                    return Err(Failed);
                };
                self.batch_axis(axis, size)
            }
            AxisDef::BatchOf(size) => {
                let size = self.whole_at_least(size, 0)?;
                let size = self.bindings.batch.unwrap_or(size);
                self.batch_axis(axis, size)
            }
            AxisDef::Size(size) => {
                let value = self.scalar(size)?;
                let size = self.axis_size(&axis.name, size, value)?;
                let name = axis.name.text.clone();
                Ok(vec![self.atom(at, &name, size, None, busy)?])
            }
            AxisDef::Tuple(parts) => {
                let atoms = self.axis_list(parts)?;
                let twice = atoms.iter().enumerate().find(|(i, a)| atoms[..*i].contains(a));
                if let Some((_, &a)) = twice {
                    let message = format!("axis `{}` holds {} twice", axis.name.text, self.builder.program().axes[a].name);
                    self.error(at, message).hint("declare a second axis with `like`");
                    return Err(Failed);
                }
                Ok(atoms)
            }
            AxisDef::Like(other) => {
                let originals = self.axis(other)?;
                let at_top = busy.is_none();
                let mut atoms = Vec::new();
                for &a in &originals {
                    let (name, size) = match (at_top, &originals[..]) {
                        (true, [_]) => (axis.name.text.clone(), self.builder.program().axes.size(a)),
                        _ => (format!("{}'", self.builder.program().axes[a].name), self.builder.program().axes.size(a)),
                    };
                    atoms.push(self.atom(at, &name, size, Some(a), busy.map(|b| b | AxisSet::of(atoms.iter().copied())))?);
                }
                Ok(atoms)
            }
            AxisDef::Match { option, arms } => {
                let chosen = self.chosen(option, arms)?;
                self.axis_by(axis, chosen, busy)
            }
        }
    }

    fn batch_axis(&mut self, axis: &ast::Axis, size: usize) -> Result<Vec<AxisId>> {
        if self.builder.program().batch.is_some() {
            self.error(axis.name.at.0, format!("`{}` would be a second batch axis", axis.name.text)).hint("give it a size: `axis M = 4;`");
            return Err(Failed);
        }
        let name = axis.name.text.clone();
        let atom = self.atom(axis.name.at.0, &name, size, None, None)?;
        self.builder.program_mut().batch = Some(atom);
        Ok(vec![atom])
    }

    /// An atom: at the top a new one; inside a function one that may serve equal calls too, primed until it is not `busy`.
    fn atom(&mut self, at: Span, name: &str, size: usize, like: Option<AxisId>, busy: Option<AxisSet>) -> Result<AxisId> {
        let mut name = name.to_string();
        let axes = &mut self.builder.program_mut().axes;
        if let Some(busy) = busy {
            while let Some(a) = axes.find(&name) {
                if axes[a].size == size && axes[a].like == like && !busy.contains(a) {
                    return Ok(a);
                }
                name.push('\'');
            }
        }
        match axes.add(name, size, like) {
            Some(a) => Ok(a),
            None => {
                self.error(at, format!("the program has more than {MAX_AXES} axes")).hint("axes that are equal can be declared once");
                Err(Failed)
            }
        }
    }

    /// A hint on a name that is not known at its use, and is declared elsewhere in the text.
    fn ahead(&self, name: &str, used: Span) -> Option<&'static str> {
        let declared = self.ahead.get(name)?;
        Some(match declared.start < used.start {
            true => "a declaration cannot use its own name: write a number, or other names",
            false => "it is declared further on: move the declaration before its use",
        })
    }

    /// The atoms that a name stands for.
    pub(super) fn axis(&mut self, name: &Name) -> Result<Vec<AxisId>> {
        if let Some(atoms) = self.frames.last().and_then(|f| f.axes.get(&name.text)) {
            return Ok(atoms.clone());
        }
        if let Some(atoms) = self.axes.get(&name.text) {
            // Of a declaration that has failed there are none, and it is not reported again.
            return atoms.clone().ok_or(Failed);
        }
        let known: BTreeSet<&str> =
            self.axes.keys().chain(self.frames.last().into_iter().flat_map(|f| f.axes.keys())).map(String::as_str).collect();
        let near = || closest(&name.text, known.iter().copied()).map(|c| format!("did you mean `{c}`?"));
        let ahead = self.ahead(&name.text, name.at.0).map(str::to_string);
        let hint = ahead.or_else(near).unwrap_or_else(|| format!("declare it: `axis {} = 4;`", name.text));
        self.error(name.at.0, format!("no axis is called `{}`", name.text)).hint(&hint);
        Err(Failed)
    }

    /// The atoms of several names, in order.
    pub(super) fn axis_list(&mut self, names: &[Name]) -> Result<Vec<AxisId>> {
        let lists: Vec<Result<Vec<AxisId>>> = names.iter().map(|n| self.axis(n)).collect();
        Ok(lists.into_iter().collect::<Result<Vec<_>>>()?.concat())
    }

    /// The number of elements along an axis: as a float it cannot overflow.
    pub(super) fn extent(&mut self, name: &Name) -> Result<f64> {
        let atoms = self.axis(name)?;
        Ok(atoms.into_iter().map(|a| self.builder.program().axes.size(a) as f64).product())
    }

    // ---- arithmetic on sizes

    pub(super) fn scalar(&mut self, s: &Scalar) -> Result<f64> {
        match &s.kind {
            ScalarKind::Number(v) => Ok(*v),
            ScalarKind::Name(name) => {
                let counter = self.frames.last().and_then(|f| f.counters.get(name)).map(|&i| i as f64);
                if let Some(v) = counter.or_else(|| self.sizes.get(name).copied()) {
                    return Ok(v);
                }
                let near = || closest(name, self.sizes.keys().map(String::as_str)).map(|c| format!("did you mean `{c}`?"));
                let ahead = self.ahead(name, s.at.0).map(str::to_string);
                let hint = ahead.or_else(near).unwrap_or_else(|| format!("declare it: `size {name} = 4;`"));
                self.error(s.at.0, format!("no size is called `{name}`")).hint(&hint);
                Err(Failed)
            }
            ScalarKind::Size(axis) => self.extent(axis),
            ScalarKind::Neg(x) => Ok(-self.scalar(x)?),
            ScalarKind::Binary(op, l, r) => {
                let (l, r) = (self.scalar(l), self.scalar(r));
                let (l, r) = (l?, r?);
                Ok(match op {
                    ScalarOp::Add => l + r,
                    ScalarOp::Sub => l - r,
                    ScalarOp::Mul => l * r,
                    ScalarOp::Div => l / r,
                })
            }
            ScalarKind::Call(f, args) => {
                let args = args.iter().map(|a| self.scalar(a)).collect::<Result<Vec<_>>>()?;
                Ok(match f {
                    ScalarFn::Sqrt => args[0].sqrt(),
                    ScalarFn::Min => args.into_iter().fold(f64::INFINITY, f64::min),
                    ScalarFn::Max => args.into_iter().fold(f64::NEG_INFINITY, f64::max),
                })
            }
        }
    }

    /// A whole number, as bounds of repetitions are.
    pub(super) fn whole(&mut self, s: &Scalar) -> Result<i64> {
        let v = self.scalar(s)?;
        if v.fract() == 0.0 && v.abs() <= LARGEST {
            return Ok(v as i64);
        }
        if v.fract() == 0.0 {
            self.error(s.at.0, format!("{v} is more than sizes and counts can be")).hint(&format!("they are at most {LARGEST}"));
        } else {
            self.error(s.at.0, format!("{v} is no whole number")).hint("sizes and counts are whole numbers");
        }
        Err(Failed)
    }

    fn whole_at_least(&mut self, s: &Scalar, least: i64) -> Result<usize> {
        let v = self.whole(s)?;
        if v < least {
            self.error(s.at.0, format!("{v} is less than {least}")).hint("a size cannot be that small");
            return Err(Failed);
        }
        Ok(v as usize)
    }

    fn axis_size(&mut self, name: &Name, s: &Scalar, value: f64) -> Result<usize> {
        if value.fract() == 0.0 && (1.0..=LARGEST).contains(&value) {
            return Ok(value as usize);
        }
        let shown = pushforward_ir::print::scalar(s);
        let mut named = Vec::new();
        self.names_in(s, &mut named);
        let problem =
            if value.is_finite() && value > LARGEST { format!("more than {LARGEST}") } else { "no whole number of at least 1".to_string() };
        let message = format!("axis `{}` = {shown} would have the size {value}, which is {problem}", name.text);
        let advice = match &s.kind {
            ScalarKind::Binary(ScalarOp::Div, ..) if value.is_finite() => "choose sizes so that the division leaves no remainder",
            _ => "choose other sizes",
        };
        let hint = if named.is_empty() { advice.to_string() } else { format!("{advice}; now {}", named.join(", ")) };
        self.error(s.at.0, message).hint(&hint);
        Err(Failed)
    }

    /// `channels = 512` for every size in `s`.
    fn names_in(&self, s: &Scalar, into: &mut Vec<String>) {
        match &s.kind {
            ScalarKind::Name(n) => into.extend(self.sizes.get(n).map(|v| format!("{n} = {v}"))),
            ScalarKind::Number(_) | ScalarKind::Size(_) => {}
            ScalarKind::Neg(x) => self.names_in(x, into),
            ScalarKind::Binary(_, l, r) => {
                self.names_in(l, into);
                self.names_in(r, into);
            }
            ScalarKind::Call(_, args) => args.iter().for_each(|a| self.names_in(a, into)),
        }
    }

    // ---- names are defined once

    /// A name is bound once in a function, but for values carried by a repetition (bound before it, rebound once in its body), and for those
    /// of the arms of a `match`: they end with the arm, so an arm binds no name that is known before it.
    fn defined_once(&mut self, body: &Block, what: &str, given: &[Name]) {
        let mut names = Names::default();
        for name in given {
            if let Some(first) = names.here.insert(name.text.clone(), name.at.0) {
                self.second(name, what, Some(first));
            }
        }
        self.bound_once(&body.stmts, &mut names);
    }

    fn bound_once(&mut self, stmts: &[Stmt], names: &mut Names) {
        let carried: BTreeSet<String> = stmts.iter().flat_map(repeated_names).collect();
        for stmt in stmts {
            match &stmt.kind {
                StmtKind::Let { name, .. } | StmtKind::Param { name, .. } => {
                    let again = names.here.insert(name.text.clone(), name.at.0).filter(|_| !carried.contains(&name.text));
                    if let Some(first) = again.or_else(|| names.before_arm.get(&name.text).copied()) {
                        self.second(name, "value", Some(first));
                    }
                }
                StmtKind::Local { loss, .. } => self.bound_once(&loss.stmts, &mut names.clone()),
                StmtKind::Repeat { body, .. } => self.bound_once(&body.stmts, &mut names.in_repeat()),
                StmtKind::Match { arms, .. } => {
                    arms.iter().for_each(|arm| self.bound_once(&arm.body.stmts, &mut names.in_arm()));
                }
                StmtKind::Axes(_) | StmtKind::Loss { .. } | StmtKind::Output { .. } | StmtKind::Warn(_) => {}
            }
        }
    }
}

/// Where names are bound that are known at a place.
#[derive(Clone, Default)]
struct Names {
    /// In the present block.
    here: HashMap<String, Span>,
    /// Around the present repetition: its body may bind them again.
    around: HashMap<String, Span>,
    /// Before the innermost arm: nothing in it may.
    before_arm: HashMap<String, Span>,
}

impl Names {
    fn in_repeat(&self) -> Names {
        let around = self.around.iter().chain(&self.here).map(|(n, at)| (n.clone(), *at)).collect();
        Names { here: HashMap::new(), around, before_arm: self.before_arm.clone() }
    }

    fn in_arm(&self) -> Names {
        let before_arm = self.before_arm.iter().chain(&self.around).chain(&self.here).map(|(n, at)| (n.clone(), *at)).collect();
        Names { before_arm, ..Names::default() }
    }
}

/// Names bound in the body of a repetition.
fn repeated_names(stmt: &Stmt) -> Vec<String> {
    let StmtKind::Repeat { body, .. } = &stmt.kind else { return Vec::new() };
    let own = body.stmts.iter().filter_map(|s| if let StmtKind::Let { name, .. } = &s.kind { Some(name.text.clone()) } else { None });
    own.chain(body.stmts.iter().flat_map(repeated_names)).collect()
}
