//! Types of results from types of operands: the one function that builder, elaborator and verifier share, so that they cannot disagree.
//! It never looks at values or at text.

use crate::axis::{AxisId, AxisSet};
use crate::op::{Arity, Class, Op};
use crate::program::Program;
use crate::types::{DType, Type};

/// Why an op does not accept its operands. Labels in brackets recur in tests.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TypeError {
    #[error("`{op}` takes {wants} operand{}, got {got} [arity]", if *.wants == "1" { "" } else { "s" })]
    Arity { op: &'static str, wants: String, got: usize },
    #[error("`{op}` wants {wants}, got {got} [dtype]")]
    DType { op: &'static str, wants: &'static str, got: String },
    #[error("`{op}` wants operands of one dtype, got {left} and {right} [dtypes]")]
    Mixed { op: &'static str, left: String, right: String },
    #[error("`{op}` over {axis}: the value {value} does not depend on {axis} [absent-axis]")]
    AbsentAxis { op: &'static str, axis: String, value: String },
    #[error("`{op}[{from} -> {to}]`: {from} has size {from_size}, {to} has size {to_size} [sizes]")]
    Sizes { op: &'static str, from: String, to: String, from_size: usize, to_size: usize },
    #[error("`{op}[{from} -> {to}]`: the value {value} depends on {to} already [capture]")]
    Capture { op: &'static str, from: String, to: String, value: String },
    #[error("`{op}` names axis {axis} twice [twice]")]
    Twice { op: &'static str, axis: String },
}

/// The type of `op` applied to operands of types `args` in `program` (which supplies axes, inputs and parameters).
pub fn infer(program: &Program, op: &Op, args: &[Type]) -> Result<Type, TypeError> {
    let info = op.info();
    let fits = match info.arity {
        Arity::Exactly(n) => args.len() == n,
        Arity::AtLeast(n) => args.len() >= n,
        Arity::Between(least, most) => (least..=most).contains(&args.len()),
    };
    if !fits {
        let wants = match info.arity {
            Arity::Exactly(n) => n.to_string(),
            Arity::AtLeast(n) => format!("at least {n}"),
            Arity::Between(least, most) => format!("{least} to {most}"),
        };
        return Err(TypeError::Arity { op: info.name, wants, got: args.len() });
    }
    let cx = Cx { program, op: info.name };
    let join = args.iter().fold(AxisSet::EMPTY, |axes, t| axes | t.axes);
    match info.class {
        Class::Leaf => leaf(&cx, op, args),
        Class::Arith => {
            cx.wants(args, "a number", |d| d != DType::Bool)?;
            Ok(Type::new(cx.one_dtype(args)?, join))
        }
        Class::Float | Class::Slow | Class::Contract => {
            cx.wants(args, "a float", DType::is_float)?;
            let dtype = cx.one_dtype(args)?;
            match op {
                Op::Contract(over) => {
                    cx.present(*over, Type::new(dtype, join))?;
                    Ok(Type::new(dtype, join - *over))
                }
                _ => Ok(Type::new(dtype, join)),
            }
        }
        Class::Compare => {
            cx.wants(args, "a number", |d| d != DType::Bool)?;
            cx.one_dtype(args)?;
            Ok(Type::new(DType::Bool, join))
        }
        Class::Logic => {
            cx.wants(args, "bool", |d| d == DType::Bool)?;
            Ok(Type::new(DType::Bool, join))
        }
        Class::Select => {
            cx.wants(&args[..1], "bool as its condition", |d| d == DType::Bool)?;
            Ok(Type::new(cx.one_dtype(&args[1..])?, join))
        }
        Class::Cast => match op {
            Op::Cast(to) => Ok(Type::new(*to, join)),
            _ => unreachable!("the table gives this class to cast alone"),
        },
        Class::Reduce => {
            cx.wants(args, "a number", |d| d != DType::Bool)?;
            let (Op::Sum(over) | Op::Max(over)) = op else { unreachable!("the table gives this class to sum and max alone") };
            cx.present(*over, args[0])?;
            Ok(Type::new(args[0].dtype, args[0].axes - *over))
        }
        Class::Rename => {
            let Op::Rename(pairs) = op else { unreachable!("the table gives this class to rename alone") };
            rename(&cx, pairs, args[0])
        }
        Class::Index => index(&cx, op, args),
        Class::Mark => {
            if matches!(op, Op::Activity(_)) {
                cx.wants(args, "a float", DType::is_float)?;
            }
            Ok(args[0])
        }
    }
}

fn leaf(cx: &Cx, op: &Op, args: &[Type]) -> Result<Type, TypeError> {
    match op {
        Op::Input(i) => Ok(cx.program.inputs[*i as usize].ty()),
        Op::Param(i) => Ok(cx.program.params[*i as usize].port.ty()),
        Op::Const(number) => Ok(Type::new(number.dtype, AxisSet::EMPTY)),
        Op::Iota(axis) => Ok(Type::new(DType::I32, AxisSet::of([*axis]))),
        Op::Delta((a, b)) => {
            if a == b {
                return Err(TypeError::Twice { op: cx.op, axis: cx.name(*a) });
            }
            cx.same_size(*a, *b)?;
            Ok(Type::new(DType::Bool, AxisSet::of([*a, *b])))
        }
        Op::Normal(noise) => {
            cx.wants(args, "an i32 scalar (seed, step, row)", |d| d == DType::I32)?;
            if let Some(t) = args.iter().find(|t| !t.axes.is_empty()) {
                return Err(TypeError::DType { op: cx.op, wants: "an i32 scalar (seed, step, row)", got: cx.show(*t) });
            }
            let axes = AxisSet::of(noise.order.iter().copied());
            if axes.len() != noise.order.len() {
                let twice = noise.order.iter().enumerate().find(|(i, a)| noise.order[..*i].contains(a)).expect("lengths differ");
                return Err(TypeError::Twice { op: cx.op, axis: cx.name(*twice.1) });
            }
            if !noise.dtype.is_float() {
                return Err(TypeError::DType { op: cx.op, wants: "a float dtype", got: noise.dtype.name().into() });
            }
            Ok(Type::new(noise.dtype, axes))
        }
        Op::Seed(seed) => Ok(seed.1),
        _ => unreachable!("not a leaf"),
    }
}

fn rename(cx: &Cx, pairs: &[(AxisId, AxisId)], x: Type) -> Result<Type, TypeError> {
    let mut axes = x.axes;
    let (mut seen_from, mut seen_to) = (AxisSet::EMPTY, AxisSet::EMPTY);
    for &(from, to) in pairs {
        if seen_from.contains(from) || seen_to.contains(to) {
            let axis = cx.name(if seen_from.contains(from) { from } else { to });
            return Err(TypeError::Twice { op: cx.op, axis });
        }
        seen_from = seen_from.with(from);
        seen_to = seen_to.with(to);
        cx.present(AxisSet::of([from]), x)?;
        cx.same_size(from, to)?;
        axes = axes.without(from);
    }
    for &(from, to) in pairs {
        if axes.contains(to) {
            return Err(TypeError::Capture { op: cx.op, from: cx.name(from), to: cx.name(to), value: cx.show(x) });
        }
    }
    Ok(Type::new(x.dtype, axes | seen_to))
}

fn index(cx: &Cx, op: &Op, args: &[Type]) -> Result<Type, TypeError> {
    match op {
        Op::Window(affine) => {
            cx.present(AxisSet::of([affine.axis]), args[0])?;
            let rest = args[0].axes.without(affine.axis);
            let mut axes = rest;
            for &(_, a) in &affine.terms {
                if rest.contains(a) {
                    return Err(TypeError::Capture { op: cx.op, from: cx.name(affine.axis), to: cx.name(a), value: cx.show(args[0]) });
                }
                if axes.contains(a) {
                    return Err(TypeError::Twice { op: cx.op, axis: cx.name(a) });
                }
                axes = axes.with(a);
            }
            Ok(Type::new(args[0].dtype, axes))
        }
        Op::Gather(axis) => {
            cx.wants(&args[1..], "i32 indices as its second operand", |d| d == DType::I32)?;
            cx.present(AxisSet::of([*axis]), args[0])?;
            Ok(Type::new(args[0].dtype, args[0].axes.without(*axis) | args[1].axes))
        }
        _ => unreachable!("the table gives this class to window and gather alone"),
    }
}

struct Cx<'a> {
    program: &'a Program,
    op: &'static str,
}

impl Cx<'_> {
    fn name(&self, a: AxisId) -> String {
        self.program.axes[a].name.clone()
    }

    fn show(&self, t: Type) -> String {
        t.show(&self.program.axes)
    }

    fn wants(&self, args: &[Type], wants: &'static str, ok: impl Fn(DType) -> bool) -> Result<(), TypeError> {
        match args.iter().find(|t| !ok(t.dtype)) {
            Some(t) => Err(TypeError::DType { op: self.op, wants, got: self.show(*t) }),
            None => Ok(()),
        }
    }

    fn one_dtype(&self, args: &[Type]) -> Result<DType, TypeError> {
        match args.iter().find(|t| t.dtype != args[0].dtype) {
            Some(t) => Err(TypeError::Mixed { op: self.op, left: self.show(args[0]), right: self.show(*t) }),
            None => Ok(args[0].dtype),
        }
    }

    fn present(&self, over: AxisSet, x: Type) -> Result<(), TypeError> {
        match (over - x.axes).iter().next() {
            Some(a) => Err(TypeError::AbsentAxis { op: self.op, axis: self.name(a), value: self.show(x) }),
            None => Ok(()),
        }
    }

    fn same_size(&self, a: AxisId, b: AxisId) -> Result<(), TypeError> {
        let (from_size, to_size) = (self.program.axes.size(a), self.program.axes.size(b));
        if from_size == to_size {
            return Ok(());
        }
        Err(TypeError::Sizes { op: self.op, from: self.name(a), to: self.name(b), from_size, to_size })
    }
}

#[cfg(test)]
mod tests;
