//! The verifier of flat programs. It collects every error and repairs none; nothing here knows where a program came from. Labels in brackets
//! stand at the end of messages and in the tests.
//!
//! | label | what holds |
//! |---|---|
//! | `axis` | axes named by types, ops, ports, marks and `batch` exist; a mirror stands behind its original |
//! | `operand` | operands, results, marks and names are values of the program; operands come before users |
//! | `index` | inputs and parameters that ops name exist |
//! | `type` | a value's type is what `infer` says of its operands; `infer`'s own labels otherwise |
//! | `const` | a constant's dtype can hold it |
//! | `direction` | the axis of directions is among those of its `normal` |
//! | `seed` | no `seed` is left, unless [`Seeds::Allowed`] |
//! | `name` | unique names: inputs and parameters together, outputs, losses, activities that something needs |
//! | `order` | a port's order names no axis twice |
//! | `output` | an output's dtype and axes are its value's |
//! | `loss` | a loss is a float |
//! | `along` | a local loss is copied along axes of the value that it is a loss of |
//! | `reach` | a local loss whose copies are not yet written depends on the value that it is a loss of |
//! | `copies` | a replicated loss has the loss's dtype, and its axes and those of the copies |
//!
//! Read [`verify`] first. Passes that find fault with a value say so through [`origin_diagnostic`].

use std::collections::HashSet;

use crate::axis::{AxisId, AxisSet};
use crate::diag::Diagnostic;
use crate::infer::infer;
use crate::op::{Number, Op};
use crate::program::{Local, Loss, Port, Program, Value};
use crate::types::{DType, Type};

/// Whether `transpose`'s placeholders may stand in the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seeds {
    Refused,
    Allowed,
}

/// Every error of a program, in the order of its values, then of its border and marks; empty if it is sound.
pub fn verify(program: &Program) -> Vec<Diagnostic> {
    verify_with(program, Seeds::Refused)
}

/// [`verify`], also for programs in the middle of `transpose`.
pub fn verify_with(program: &Program, seeds: Seeds) -> Vec<Diagnostic> {
    let mut cx = Cx { program, errors: Vec::new() };
    if !cx.mirrors() {
        return cx.errors; // printing a type would not end
    }
    let mut sound = true;
    for v in program.values() {
        sound &= cx.operands(v);
        cx.node(v, seeds);
    }
    cx.border();
    let marked =
        program.losses.iter().flat_map(|l| [Some(l.value), l.local.as_ref().map(|l| l.at), l.local.as_ref().and_then(|l| l.copies)]);
    for v in program.outputs.iter().map(|o| o.value).chain(marked.flatten()).chain(program.names.values().copied()) {
        sound &= cx.exists(v);
    }
    if sound {
        cx.outputs();
        cx.losses();
        cx.activities();
    }
    cx.errors
}

/// An error about value `v`: at the place that it came from, with its type and the calls that led there.
pub fn origin_diagnostic(program: &Program, v: Value, message: impl Into<String>) -> Diagnostic {
    let message = message.into();
    let Some(node) = program.nodes.get(v.0 as usize) else { return Diagnostic::error(message) };
    let ty = show(program, node.ty);
    let Some(mut origin) = program.origins.get(node.origin as usize) else { return Diagnostic::error(format!("{message} ({v:?}: {ty})")) };
    let mut diagnostic = Diagnostic::error(message).label(origin.span, ty);
    // A broken chain of parents may be a ring: it is followed no further than there are origins.
    for _ in 0..program.origins.len() {
        let Some(parent) = origin.parent.and_then(|p| program.origins.get(p as usize)) else { break };
        let inside = if origin.scope == parent.scope { "called here".into() } else { format!("in `{}`, called here", origin.scope) };
        diagnostic.calls.push((parent.span, inside));
        origin = parent;
    }
    diagnostic
}

struct Cx<'a> {
    program: &'a Program,
    errors: Vec<Diagnostic>,
}

impl Cx<'_> {
    fn error(&mut self, message: String) {
        self.errors.push(Diagnostic::error(message));
    }

    fn error_at(&mut self, v: Value, message: String) {
        self.errors.push(origin_diagnostic(self.program, v, message));
    }

    fn mirrors(&mut self) -> bool {
        let axes = &self.program.axes;
        for a in axes.ids() {
            if let Some(like) = axes[a].like.filter(|&like| like >= a) {
                let like = self.axis_name(like);
                self.error(format!("axis {} mirrors {like}, which does not stand before it [axis]", axes[a].name));
            }
        }
        if let Some(batch) = self.program.batch.filter(|&a| !self.known(a)) {
            self.error(format!("the batch runs along axis {}, the program has {} axes [axis]", batch.0, axes.len()));
        }
        axes.ids().all(|a| axes[a].like.is_none_or(|like| like < a))
    }

    /// Whether operands exist and come first; if not, users of the program's order would fail.
    fn operands(&mut self, v: Value) -> bool {
        let mut sound = true;
        for &a in self.program.args(v) {
            if a >= v {
                sound = false;
                let op = self.program.op(v).name();
                self.error_at(v, format!("{v:?}: `{op}` takes {a:?}, which does not come before it [operand]"));
            }
        }
        sound
    }

    fn exists(&mut self, v: Value) -> bool {
        let count = self.program.nodes.len();
        let exists = (v.0 as usize) < count;
        if !exists {
            self.error(format!("{v:?} is named as an output, loss or named value, the program has {count} values [operand]"));
        }
        exists
    }

    /// All that concerns one value alone.
    fn node(&mut self, v: Value, seeds: Seeds) {
        let program = self.program;
        let node = program.node(v);
        let name = node.op.name();
        let mut axes = node.op.axes();
        axes.extend(node.ty.axes.iter());
        if let Some(a) = axes.into_iter().find(|&a| !self.known(a)) {
            return self.error_at(v, format!("{v:?}: `{name}` names axis {}, the program has {} axes [axis]", a.0, program.axes.len()));
        }
        let (index, count, what) = match node.op {
            Op::Input(i) => (i as usize, program.inputs.len(), "inputs"),
            Op::Param(i) => (i as usize, program.params.len(), "parameters"),
            _ => (0, 1, ""),
        };
        if index >= count {
            return self.error_at(v, format!("{v:?}: `{name}` number {index}, the program has {count} {what} [index]"));
        }
        match &node.op {
            Op::Const(number) if !holds(*number) => {
                self.error_at(v, format!("{v:?}: the constant {} is no {} [const]", number.value(), number.dtype.name()));
            }
            Op::Normal(noise) => {
                if let Some(a) = noise.direction.filter(|a| !noise.order.contains(a)) {
                    let order = self.axis_names(&noise.order);
                    self.error_at(
                        v,
                        format!("{v:?}: `normal[{order}]` has directions along {}, which it lacks [direction]", self.axis_name(a)),
                    );
                }
            }
            Op::Seed(seed) if seeds == Seeds::Refused => {
                self.error_at(v, format!("{v:?}: `seed` number {} outlived `transpose` [seed]", seed.0));
            }
            _ => {}
        }
        // Operands in the wrong place have been reported; those that do not exist have no type.
        let Some(args) = node.args.iter().map(|a| Some(program.nodes.get(a.0 as usize)?.ty)).collect::<Option<Vec<Type>>>() else { return };
        if args.iter().any(|t| t.axes.iter().any(|a| !self.known(a))) {
            return;
        }
        match infer(program, &node.op, &args) {
            Ok(ty) if ty == node.ty => {}
            Ok(ty) => {
                let (declared, inferred) = (show(program, node.ty), show(program, ty));
                self.error_at(v, format!("{v:?} is declared as {declared}, `{name}` of its operands is {inferred} [type]"));
            }
            Err(error) => self.error_at(v, format!("{v:?}: {error}")),
        }
    }

    /// Ports and names.
    fn border(&mut self) {
        let program = self.program;
        let given = || program.inputs.iter().chain(program.params.iter().map(|p| &p.port));
        for port in given().chain(program.outputs.iter().map(|o| &o.port)) {
            self.port(port);
        }
        self.unique("inputs or parameters", given().map(|p| p.name.as_str()));
        self.unique("outputs", program.outputs.iter().map(|o| o.port.name.as_str()));
        self.unique("losses", program.losses.iter().map(|l| l.name.as_str()));
    }

    fn port(&mut self, port: &Port) {
        let Port { name, order, .. } = port;
        if let Some(a) = order.iter().find(|&&a| !self.known(a)) {
            return self.error(format!("`{name}` names axis {}, the program has {} axes [axis]", a.0, self.program.axes.len()));
        }
        if let Some((_, &a)) = order.iter().enumerate().find(|(i, a)| order[..*i].contains(a)) {
            let (axis, order) = (self.axis_name(a), self.axis_names(order));
            self.error(format!("`{name}`: the order [{order}] names {axis} twice [order]"));
        }
    }

    fn unique<'n>(&mut self, what: &str, names: impl Iterator<Item = &'n str>) {
        let (mut seen, mut told) = (HashSet::new(), HashSet::new());
        for name in names {
            if !seen.insert(name) && told.insert(name) {
                self.error(format!("several {what} are called `{name}` [name]"));
            }
        }
    }

    fn outputs(&mut self) {
        let program = self.program;
        for output in &program.outputs {
            let (declared, ty) = (output.port.ty(), program.ty(output.value));
            if declared != ty {
                let (name, v) = (&output.port.name, output.value);
                let (declared, ty) = (show(program, declared), show(program, ty));
                self.error_at(v, format!("output `{name}` is declared as {declared}, its value {v:?} is {ty} [output]"));
            }
        }
    }

    fn losses(&mut self) {
        let program = self.program;
        for loss in &program.losses {
            let (name, ty) = (&loss.name, program.ty(loss.value));
            if !ty.dtype.is_float() {
                self.error_at(loss.value, format!("loss `{name}` is {}, a loss is a float [loss]", show(program, ty)));
            }
            if let Some(local) = &loss.local {
                self.local(loss, local);
            }
        }
    }

    fn local(&mut self, loss: &Loss, local: &Local) {
        let program = self.program;
        let (name, at, ty) = (&loss.name, local.at, program.ty(loss.value));
        let absent = local.along - program.axes_of(at);
        if !absent.is_empty() {
            let (absent, value) = (show_axes(program, absent), show(program, program.ty(at)));
            self.error_at(at, format!("local loss `{name}` along {absent}: the value {at:?} that it is a loss of is {value} [along]"));
        }
        match local.copies {
            None => {
                if !program.depends(&[at], |_| false)[loss.value.0 as usize] {
                    let v = loss.value;
                    self.error_at(
                        v,
                        format!("local loss `{name}` ({v:?}) does not depend on {at:?}, the value that it is a loss of [reach]"),
                    );
                }
            }
            Some(copies) => {
                let (wants, got) = (Type::new(ty.dtype, ty.axes | local.along), program.ty(copies));
                if wants != got {
                    let (wants, got) = (show(program, wants), show(program, got));
                    self.error_at(
                        copies,
                        format!("the copies {copies:?} of local loss `{name}` are {got}, they should be {wants} [copies]"),
                    );
                }
            }
        }
    }

    fn activities(&mut self) {
        let program = self.program;
        let live = program.live();
        let (mut seen, mut told) = (HashSet::new(), HashSet::new());
        for v in program.values().filter(|v| live[v.0 as usize]) {
            if let Op::Activity(name) = program.op(v)
                && !seen.insert(name)
                && told.insert(name)
            {
                self.error_at(v, format!("several activities are called `{name}` [name]"));
            }
        }
    }

    fn known(&self, a: AxisId) -> bool {
        (a.0 as usize) < self.program.axes.len()
    }

    fn axis_name(&self, a: AxisId) -> String {
        axis_name(self.program, a)
    }

    fn axis_names(&self, order: &[AxisId]) -> String {
        order.iter().map(|&a| self.axis_name(a)).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a constant is a number of its dtype ([`Number::new`] rounds f32 already).
fn holds(number: Number) -> bool {
    let x = number.value();
    match number.dtype {
        DType::F32 | DType::F64 => true,
        DType::I32 => x as i32 as f64 == x,
        DType::Bool => x == 0.0 || x == 1.0,
    }
}

/// A type in text, even if it names axes that do not exist.
fn show(program: &Program, ty: Type) -> String {
    format!("{}[{}]", ty.dtype.name(), show_axes(program, ty.axes))
}

fn show_axes(program: &Program, axes: AxisSet) -> String {
    if axes.iter().all(|a| (a.0 as usize) < program.axes.len()) {
        return program.axes.show(axes);
    }
    axes.iter().map(|a| axis_name(program, a)).collect::<Vec<_>>().join(", ")
}

fn axis_name(program: &Program, a: AxisId) -> String {
    if (a.0 as usize) < program.axes.len() { program.axes[a].name.clone() } else { format!("axis {}", a.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axis::Axes;
    use crate::diag::Span;
    use crate::op::{Affine, Noise};
    use crate::program::{Builder, Init, Node, Origin, Output, ParamDecl};

    const N: AxisId = AxisId(0);
    const C: AxisId = AxisId(1);
    const E: AxisId = AxisId(2);

    /// `y = activity(x * w)`, loss `sum[C] y`, local loss of `y` along C. Values: %0 x, %1 w, %2 x * w, %3 y, %4 loss.
    fn sound() -> Program {
        let mut axes = Axes::default();
        for (name, size) in [("N", 2), ("C", 3), ("E", 4)] {
            axes.add(name, size, None).unwrap();
        }
        let port = |name: &str, order: &[AxisId]| Port { name: name.into(), dtype: DType::F32, order: order.to_vec() };
        let origin = |start, parent, scope: &str| Origin { span: Span { file: 0, start, end: start + 1 }, parent, scope: scope.into() };
        let mut b = Builder::new(Program {
            axes,
            batch: Some(N),
            inputs: vec![port("x", &[N, C])],
            params: vec![ParamDecl { port: port("w", &[C]), init: Init::Constant(0.0), exact: false, decay: false }],
            origins: vec![origin(10, None, ""), origin(20, Some(0), "fc"), origin(30, Some(1), "fc")],
            ..Program::default()
        });
        let (x, w) = (b.op(Op::Input(0), &[]), b.op(Op::Param(0), &[]));
        b.origin = 2;
        let xw = b.op(Op::Mul, &[x, w]);
        b.origin = 1;
        let y = b.op(Op::Activity("fc".into()), &[xw]);
        b.origin = 0;
        let loss = b.op(Op::Sum(AxisSet::of([C])), &[y]);
        let mut program = b.finish();
        program.outputs.push(Output { port: port("loss", &[N]), value: loss });
        program.losses.push(Loss { name: "loss".into(), value: loss, local: None });
        let local = Local { at: y, along: AxisSet::of([C]), copies: None };
        program.losses.push(Loss { name: "local".into(), value: loss, local: Some(local) });
        program
    }

    /// Breaks the sound program and compares all messages.
    fn check(spoil: impl FnOnce(&mut Program), wants: &[&str]) {
        let mut program = sound();
        spoil(&mut program);
        let got: Vec<String> = verify(&program).iter().map(|d| d.message.clone()).collect();
        assert_eq!(got, wants);
    }

    /// Appends a value that nobody needs.
    fn push(program: &mut Program, op: Op, args: &[u32], dtype: DType, axes: &[AxisId]) -> Value {
        let ty = Type::new(dtype, AxisSet::of(axes.iter().copied()));
        program.nodes.push(Node { op, args: args.iter().map(|&a| Value(a)).collect(), ty, origin: 0 });
        Value(program.nodes.len() as u32 - 1)
    }

    #[test]
    fn a_sound_program_has_no_errors() {
        check(|_| {}, &[]);
        assert!(verify(&Program::default()).is_empty());
    }

    /// Faults in values, ports, names and marks are all told, in that order.
    #[test]
    fn all_errors_are_collected() {
        let spoil = |p: &mut Program| {
            p.nodes[0].op = Op::Input(1);
            p.nodes[2].ty.axes = AxisSet::of([N, C, E]);
            p.nodes[4].op = Op::Sum(AxisSet::of([E]));
            p.params[0].port.name = "x".into();
            p.inputs[0].order.push(C);
            p.losses[1].name = "loss".into();
            p.losses[1].local.as_mut().unwrap().along = AxisSet::of([E]);
            p.outputs[0].port.dtype = DType::F64;
        };
        check(
            spoil,
            &[
                "%0: `input` number 1, the program has 1 inputs [index]",
                "%2 is declared as f32[N, C, E], `mul` of its operands is f32[N, C] [type]",
                "%3 is declared as f32[N, C], `activity` of its operands is f32[N, C, E] [type]",
                "%4: `sum` over E: the value f32[N, C] does not depend on E [absent-axis]",
                "`x`: the order [N, C, C] names C twice [order]",
                "several inputs or parameters are called `x` [name]",
                "several losses are called `loss` [name]",
                "output `loss` is declared as f64[N], its value %4 is f32[N] [output]",
                "local loss `loss` along E: the value %3 that it is a loss of is f32[N, C] [along]",
            ],
        );
    }

    /// The table at the top of the file, its messages and these tests name the same labels.
    #[test]
    fn every_label_of_the_table_has_a_test() {
        let (code, tests) = include_str!("verify.rs").split_once("#[cfg(test)]").expect("tests stand last");
        let labels: Vec<&str> = code.lines().filter_map(|l| l.strip_prefix("//! | `")?.split('`').next()).collect();
        assert_eq!(labels.len(), 14, "{labels:?}");
        for label in labels {
            assert!(code.contains(&format!("[{label}]\"")), "no message ends with [{label}]");
            assert!(tests.contains(&format!("[{label}]\"")), "no test of [{label}]");
        }
    }

    #[test]
    fn axis() {
        let foreign = AxisId(9);
        check(|p| p.batch = Some(foreign), &["the batch runs along axis 9, the program has 3 axes [axis]"]);
        check(|p| p.nodes[1].ty.axes = AxisSet::of([foreign]), &["%1: `param` names axis 9, the program has 3 axes [axis]"]);
        check(
            |p| p.inputs[0].order.push(foreign),
            &[
                "%0 is declared as f32[N, C], `input` of its operands is f32[N, C, axis 9] [type]",
                "`x` names axis 9, the program has 3 axes [axis]",
            ],
        );
        check(
            |p| {
                p.axes.add("M", 2, Some(AxisId(3)));
            },
            &["axis M mirrors M, which does not stand before it [axis]"],
        );
        let affine = Affine { axis: C, terms: vec![(1, foreign)], offset: 0 };
        let noise = Noise { stream: 0, order: vec![foreign], direction: None, dtype: DType::F32 };
        for op in [
            Op::Iota(foreign),
            Op::Delta((N, foreign)),
            Op::Normal(Box::new(noise)),
            Op::Seed(Box::new((0, Type::new(DType::F32, AxisSet::of([foreign]))))),
            Op::Sum(AxisSet::of([foreign])),
            Op::Max(AxisSet::of([foreign])),
            Op::Contract(AxisSet::of([foreign])),
            Op::Rename(vec![(N, foreign)]),
            Op::Window(Box::new(affine)),
            Op::Gather(foreign),
        ] {
            let message = format!("%5: `{}` names axis 9, the program has 3 axes [axis]", op.name());
            check(
                |p| {
                    push(p, op, &[], DType::F32, &[]);
                },
                &[&message],
            );
        }
    }

    #[test]
    fn operand() {
        check(|p| p.nodes[2].args[1] = Value(3), &["%2: `mul` takes %3, which does not come before it [operand]"]);
        check(|p| p.nodes[3].args[0] = Value(3), &["%3: `activity` takes %3, which does not come before it [operand]"]);
        check(|p| p.nodes[3].args[0] = Value(30), &["%3: `activity` takes %30, which does not come before it [operand]"]);
        let lost = "%30 is named as an output, loss or named value, the program has 5 values [operand]";
        check(|p| p.outputs[0].value = Value(30), &[lost]);
        check(|p| p.losses[0].value = Value(30), &[lost]);
        check(|p| p.losses[1].local.as_mut().unwrap().at = Value(30), &[lost]);
        check(|p| p.losses[1].local.as_mut().unwrap().copies = Some(Value(30)), &[lost]);
        check(
            |p| {
                p.names.insert("y".into(), Value(30));
            },
            &[lost],
        );
    }

    #[test]
    fn index() {
        check(|p| p.nodes[0].op = Op::Input(1), &["%0: `input` number 1, the program has 1 inputs [index]"]);
        check(|p| p.nodes[1].op = Op::Param(7), &["%1: `param` number 7, the program has 1 parameters [index]"]);
    }

    #[test]
    fn types() {
        check(
            |p| p.nodes[2].ty.axes = AxisSet::of([N, C, E]),
            &[
                "%2 is declared as f32[N, C, E], `mul` of its operands is f32[N, C] [type]",
                "%3 is declared as f32[N, C], `activity` of its operands is f32[N, C, E] [type]",
            ],
        );
        check(|p| p.nodes[4].op = Op::Sum(AxisSet::of([E])), &["%4: `sum` over E: the value f32[N, C] does not depend on E [absent-axis]"]);
        check(|p| p.nodes[2].args.truncate(1), &["%2: `mul` takes 2 operands, got 1 [arity]"]);
        check(
            |p| {
                push(p, Op::Delta((N, C)), &[], DType::Bool, &[N, C]);
            },
            &["%5: `delta[N -> C]`: N has size 2, C has size 3 [sizes]"],
        );
        check(
            |p| {
                push(p, Op::Rename(vec![(C, E)]), &[0], DType::F32, &[N, E]);
            },
            &["%5: `rename[C -> E]`: C has size 3, E has size 4 [sizes]"],
        );
    }

    #[test]
    fn constants() {
        for (value, dtype, message) in [
            (1.5, DType::I32, "%5: the constant 1.5 is no i32 [const]"),
            (3e9, DType::I32, "%5: the constant 3000000000 is no i32 [const]"),
            (2.0, DType::Bool, "%5: the constant 2 is no bool [const]"),
        ] {
            check(
                |p| {
                    push(p, Op::Const(Number::new(value, dtype)), &[], dtype, &[]);
                },
                &[message],
            );
        }
    }

    #[test]
    fn direction() {
        let noise = Noise { stream: 0, order: vec![N, C], direction: Some(E), dtype: DType::F32 };
        let spoil = |p: &mut Program| {
            let zero = push(p, Op::Const(Number::new(0.0, DType::I32)), &[], DType::I32, &[]).0;
            push(p, Op::Normal(Box::new(noise)), &[zero, zero], DType::F32, &[N, C]);
        };
        check(spoil, &["%6: `normal[N, C]` has directions along E, which it lacks [direction]"]);
    }

    #[test]
    fn seed() {
        let mut program = sound();
        push(&mut program, Op::Seed(Box::new((4, Type::new(DType::F32, AxisSet::EMPTY)))), &[], DType::F32, &[]);
        assert!(verify_with(&program, Seeds::Allowed).is_empty());
        let got: Vec<String> = verify(&program).into_iter().map(|d| d.message).collect();
        assert_eq!(got, ["%5: `seed` number 4 outlived `transpose` [seed]"]);
    }

    #[test]
    fn names() {
        check(|p| p.params[0].port.name = "x".into(), &["several inputs or parameters are called `x` [name]"]);
        check(|p| p.outputs.extend([p.outputs[0].clone(), p.outputs[0].clone()]), &["several outputs are called `loss` [name]"]);
        check(|p| p.losses[1].name = "loss".into(), &["several losses are called `loss` [name]"]);
        let second = |p: &mut Program| push(p, Op::Activity("fc".into()), &[0], DType::F32, &[N, C]);
        check(
            |p| {
                second(p);
            },
            &[],
        ); // nobody needs it
        let output = |p: &mut Program| {
            let value = second(p);
            p.outputs.push(Output { port: Port { name: "y".into(), ..p.inputs[0].clone() }, value });
        };
        check(output, &["several activities are called `fc` [name]"]);
    }

    #[test]
    fn order() {
        check(|p| p.inputs[0].order.push(C), &["`x`: the order [N, C, C] names C twice [order]"]);
        check(|p| p.outputs[0].port.order.push(N), &["`loss`: the order [N, N] names N twice [order]"]);
    }

    #[test]
    fn output() {
        check(|p| p.outputs[0].port.dtype = DType::F64, &["output `loss` is declared as f64[N], its value %4 is f32[N] [output]"]);
        check(|p| p.outputs[0].port.order = vec![], &["output `loss` is declared as f32[], its value %4 is f32[N] [output]"]);
    }

    #[test]
    fn loss() {
        let spoil = |p: &mut Program| p.losses[0].value = push(p, Op::Iota(N), &[], DType::I32, &[N]);
        check(spoil, &["loss `loss` is i32[N], a loss is a float [loss]"]);
    }

    #[test]
    fn along() {
        check(
            |p| p.losses[1].local.as_mut().unwrap().along = AxisSet::of([C, E]),
            &["local loss `local` along E: the value %3 that it is a loss of is f32[N, C] [along]"],
        );
    }

    #[test]
    fn reach() {
        let unrelated = |p: &mut Program| p.losses[1].value = push(p, Op::Neg, &[0], DType::F32, &[N, C]);
        check(unrelated, &["local loss `local` (%5) does not depend on %3, the value that it is a loss of [reach]"]);
        let written = |p: &mut Program| {
            unrelated(p);
            p.losses[1].local.as_mut().unwrap().copies = Some(Value(2));
        };
        check(written, &[]);
    }

    #[test]
    fn copies() {
        check(|p| p.losses[1].local.as_mut().unwrap().copies = Some(Value(2)), &[]);
        check(
            |p| p.losses[1].local.as_mut().unwrap().copies = Some(Value(4)),
            &["the copies %4 of local loss `local` are f32[N], they should be f32[N, C] [copies]"],
        );
    }

    #[test]
    fn diagnostics_carry_type_place_and_calls() {
        let program = sound();
        let d = origin_diagnostic(&program, Value(2), "wrong");
        let span = |start| Span { file: 0, start, end: start + 1 };
        assert_eq!(d.place, Some((span(30), "f32[N, C]".into())));
        assert_eq!(d.calls, [(span(20), "called here".into()), (span(10), "in `fc`, called here".into())]);

        let mut ring = sound();
        ring.origins[0].parent = Some(2);
        assert_eq!(origin_diagnostic(&ring, Value(2), "wrong").calls.len(), 3);
        ring.origins.clear();
        assert_eq!(origin_diagnostic(&ring, Value(2), "wrong").message, "wrong (%2: f32[N, C])");
        assert_eq!(origin_diagnostic(&ring, Value(99), "wrong").message, "wrong");
    }
}
