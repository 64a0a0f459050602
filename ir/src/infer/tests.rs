//! What each op accepts and refuses, by label. Types that are right are tested where values are (`eval/tests.rs`); here is what is wrong.

use super::*;
use crate::axis::Axes;
use crate::op::{Affine, Noise, Number};
use crate::program::{Init, ParamDecl, Port};

const A: AxisId = AxisId(0);
const Q: AxisId = AxisId(1);
const B: AxisId = AxisId(2);

/// Axes A and Q of size 2, B of size 3; an input and a parameter over [A].
fn program() -> Program {
    let mut axes = Axes::default();
    for (name, size) in [("A", 2), ("Q", 2), ("B", 3)] {
        axes.add(name, size, None).expect("few axes");
    }
    let port = |name: &str| Port { name: name.into(), dtype: DType::F32, order: vec![A] };
    let params = vec![ParamDecl { port: port("w"), init: Init::Constant(0.0), exact: false, decay: false }];
    Program { axes, inputs: vec![port("x")], params, ..Program::default() }
}

fn set<const N: usize>(axes: [AxisId; N]) -> AxisSet {
    AxisSet::of(axes)
}

fn ty<const N: usize>(dtype: DType, axes: [AxisId; N]) -> Type {
    Type::new(dtype, set(axes))
}

/// Ops with operands that they refuse, and every word of the refusal.
fn refusals() -> Vec<(Op, Vec<Type>, &'static str)> {
    let (f, d, i, b) = (ty(DType::F32, [A]), ty(DType::F64, [A]), ty(DType::I32, [A]), ty(DType::Bool, [A]));
    let scalar = ty(DType::I32, []);
    let (both, wide) = (ty(DType::F32, [A, B]), ty(DType::F32, [A, Q]));
    let noise = |order: &[AxisId], dtype| Op::Normal(Box::new(Noise { stream: 0, order: order.to_vec(), direction: None, dtype }));
    let window = |axis, terms: &[(i64, AxisId)]| Op::Window(Box::new(Affine { axis, terms: terms.to_vec(), offset: 0 }));
    vec![
        (Op::Add, vec![f], "`add` takes 2 operands, got 1 [arity]"),
        (Op::Neg, vec![f, f], "`neg` takes 1 operand, got 2 [arity]"),
        (Op::Iota(A), vec![f], "`iota` takes 0 operands, got 1 [arity]"),
        (Op::Contract(set([])), vec![], "`contract` takes at least 1 operands, got 0 [arity]"),
        (Op::Select, vec![b, f], "`select` takes 3 operands, got 2 [arity]"),
        (Op::Add, vec![b, b], "`add` wants a number, got bool[A] [dtype]"),
        (Op::Exp, vec![i], "`exp` wants a float, got i32[A] [dtype]"),
        (Op::Erf, vec![b], "`erf` wants a float, got bool[A] [dtype]"),
        (Op::Lt, vec![b, b], "`lt` wants a number, got bool[A] [dtype]"),
        (Op::And, vec![b, f], "`and` wants bool, got f32[A] [dtype]"),
        (Op::Not, vec![i], "`not` wants bool, got i32[A] [dtype]"),
        (Op::Select, vec![f, f, f], "`select` wants bool as its condition, got f32[A] [dtype]"),
        (Op::Sum(set([A])), vec![b], "`sum` wants a number, got bool[A] [dtype]"),
        (Op::Contract(set([A])), vec![i, i], "`contract` wants a float, got i32[A] [dtype]"),
        (Op::Gather(A), vec![f, f], "`gather` wants i32 indices as its second operand, got f32[A] [dtype]"),
        (Op::Activity("l".into()), vec![i], "`activity` wants a float, got i32[A] [dtype]"),
        (noise(&[A], DType::F32), vec![scalar, i], "`normal` wants an i32 scalar (seed, step, row), got i32[A] [dtype]"),
        (noise(&[A], DType::F32), vec![f, scalar], "`normal` wants an i32 scalar (seed, step, row), got f32[A] [dtype]"),
        (noise(&[A], DType::I32), vec![scalar, scalar], "`normal` wants a float dtype, got i32 [dtype]"),
        (Op::Mul, vec![f, d], "`mul` wants operands of one dtype, got f32[A] and f64[A] [dtypes]"),
        (Op::Eq, vec![f, i], "`eq` wants operands of one dtype, got f32[A] and i32[A] [dtypes]"),
        (Op::Select, vec![b, f, d], "`select` wants operands of one dtype, got f32[A] and f64[A] [dtypes]"),
        (Op::Contract(set([A])), vec![f, f, d], "`contract` wants operands of one dtype, got f32[A] and f64[A] [dtypes]"),
        (Op::Sum(set([B])), vec![f], "`sum` over B: the value f32[A] does not depend on B [absent-axis]"),
        (Op::Max(set([A, B])), vec![f], "`max` over B: the value f32[A] does not depend on B [absent-axis]"),
        (Op::Contract(set([Q])), vec![f, both], "`contract` over Q: the value f32[A, B] does not depend on Q [absent-axis]"),
        (Op::Rename(vec![(B, Q)]), vec![f], "`rename` over B: the value f32[A] does not depend on B [absent-axis]"),
        (window(B, &[(1, Q)]), vec![f], "`window` over B: the value f32[A] does not depend on B [absent-axis]"),
        (Op::Gather(B), vec![f, scalar], "`gather` over B: the value f32[A] does not depend on B [absent-axis]"),
        (Op::Delta((A, B)), vec![], "`delta[A -> B]`: A has size 2, B has size 3 [sizes]"),
        (Op::Rename(vec![(A, B)]), vec![f], "`rename[A -> B]`: A has size 2, B has size 3 [sizes]"),
        (Op::Rename(vec![(A, Q)]), vec![wide], "`rename[A -> Q]`: the value f32[A, Q] depends on Q already [capture]"),
        (window(A, &[(1, B)]), vec![both], "`window[A -> B]`: the value f32[A, B] depends on B already [capture]"),
        (Op::Delta((A, A)), vec![], "`delta` names axis A twice [twice]"),
        (Op::Rename(vec![(A, Q), (A, Q)]), vec![f], "`rename` names axis A twice [twice]"),
        (Op::Rename(vec![(A, A), (Q, A)]), vec![wide], "`rename` names axis A twice [twice]"),
        (window(A, &[(1, Q), (2, Q)]), vec![f], "`window` names axis Q twice [twice]"),
        (noise(&[A, A], DType::F32), vec![scalar, scalar], "`normal` names axis A twice [twice]"),
    ]
}

#[test]
fn what_does_not_fit_is_refused() {
    for (op, args, wants) in refusals() {
        let got = infer(&program(), &op, &args).expect_err(wants).to_string();
        assert_eq!(got, wants);
    }
}

/// Each label of [`TypeError`] has a refusal above: read from this crate's own text, so that a new one cannot be forgotten.
#[test]
fn every_label_has_a_refusal() {
    let refusals = refusals();
    let labels: Vec<&str> =
        include_str!("../infer.rs").lines().filter(|l| l.contains("#[error(")).map(|l| &l[l.rfind('[').expect("a label")..]).collect();
    assert_eq!(labels.len(), 7, "{labels:?}");
    for label in labels {
        let label = &label[..=label.find(']').expect("it ends")];
        assert!(refusals.iter().any(|(.., message)| message.ends_with(label)), "no test of {label}");
    }
}

#[test]
fn what_fits_has_the_type_of_its_class() {
    let (f, i, both) = (ty(DType::F32, [A]), ty(DType::I32, [Q]), ty(DType::F32, [A, B]));
    let swap = Op::Rename(vec![(A, Q), (Q, A)]);
    for (op, args, wants) in [
        (Op::Input(0), vec![], f),
        (Op::Param(0), vec![], f),
        (Op::Const(Number::new(1.0, DType::F64)), vec![], ty(DType::F64, [])),
        (Op::Add, vec![f, both], both),
        (Op::Lt, vec![f, ty(DType::F32, [B])], ty(DType::Bool, [A, B])),
        (Op::Select, vec![ty(DType::Bool, [Q]), i, ty(DType::I32, [B])], ty(DType::I32, [Q, B])),
        (Op::Cast(DType::Bool), vec![f], ty(DType::Bool, [A])),
        (Op::Contract(set([A])), vec![f, both], ty(DType::F32, [B])),
        (swap, vec![ty(DType::F32, [A, Q])], ty(DType::F32, [A, Q])),
        (Op::Gather(A), vec![both, i], ty(DType::F32, [Q, B])),
        (Op::StopGradient, vec![i], i),
    ] {
        assert_eq!(infer(&program(), &op, &args), Ok(wants), "{op:?}");
    }
}
