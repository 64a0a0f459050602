//! Each op against values computed by hand; a meta-test that no op lacks a case; what a caller can get wrong; one order of summation.

use super::*;
use crate::op::Number;
use crate::program::{Builder, Init, Output, ParamDecl};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// Axes of all cases: A and its mirror Q of size 2, B of size 3, Z of size 0.
const A: AxisId = AxisId(0);
const Q: AxisId = AxisId(1);
const B: AxisId = AxisId(2);
const Z: AxisId = AxisId(3);

fn axes() -> Axes {
    let mut axes = Axes::default();
    for (name, size, like) in [("A", 2, None), ("Q", 2, Some(A)), ("B", 3, None), ("Z", 0, None)] {
        axes.add(name, size, like).expect("few axes");
    }
    axes
}

fn f32s<const N: usize>(order: &[AxisId], data: [f64; N]) -> Tensor {
    Tensor::from_data(&axes(), DType::F32, order, data.to_vec())
}

fn f64s<const N: usize>(order: &[AxisId], data: [f64; N]) -> Tensor {
    Tensor::from_data(&axes(), DType::F64, order, data.to_vec())
}

fn i32s<const N: usize>(order: &[AxisId], data: [i32; N]) -> Tensor {
    Tensor::from_data(&axes(), DType::I32, order, data.map(f64::from).to_vec())
}

fn bools<const N: usize>(order: &[AxisId], data: [u8; N]) -> Tensor {
    Tensor::from_data(&axes(), DType::Bool, order, data.map(f64::from).to_vec())
}

fn set<const N: usize>(axes: [AxisId; N]) -> AxisSet {
    AxisSet::of(axes)
}

/// A program with input `x`: i32[B], parameter `w`: f32[A], then one input per operand, and one result: `op` of the operands.
fn program_of(op: &Op, args: &[Tensor]) -> (Program, Inputs, Value) {
    let port = |name: &str, t: &Tensor| Port { name: name.into(), dtype: t.dtype, order: t.order.clone() };
    let mut given = vec![("x".to_string(), i32s(&[B], [7, 8, 9])), ("w".to_string(), f32s(&[A], [0.5, 0.25]))];
    let mut program = Program { axes: axes(), ..Program::default() };
    program.inputs.push(port("x", &given[0].1));
    program.params.push(ParamDecl { port: port("w", &given[1].1), init: Init::Constant(0.0), exact: false, decay: false });
    for (i, arg) in args.iter().enumerate() {
        program.inputs.push(port(&format!("x{i}"), arg));
        given.push((format!("x{i}"), arg.clone()));
    }
    let mut b = Builder::new(program);
    let operands: Vec<Value> = (0..args.len()).map(|i| b.op(Op::Input(i as u32 + 1), &[])).collect();
    let y = b.try_op(op.clone(), &operands).unwrap_or_else(|e| panic!("{op:?}: {e}"));
    let mut program = b.finish();
    let ty = program.ty(y);
    let port = Port { name: "y".into(), dtype: ty.dtype, order: program.axes.in_order(ty.axes) };
    program.outputs.push(Output { port, value: y });
    (program, given.into_iter().collect(), y)
}

struct Case(Op, Vec<Tensor>, Tensor);

/// At least one case per op, values from the op's definition.
fn cases() -> Vec<Case> {
    let affine = |terms: &[(i64, AxisId)], offset| Op::Window(Box::new(Affine { axis: B, terms: terms.to_vec(), offset }));
    let (max, min) = (i32::MAX, i32::MIN);
    let third = 1.0f32 as f64 / 3.0;
    let tiny = 2f64.powi(-30);
    vec![
        Case(Op::Input(0), vec![], i32s(&[B], [7, 8, 9])),
        Case(Op::Param(0), vec![], f32s(&[A], [0.5, 0.25])),
        Case(Op::Const(Number::new(2.5, DType::F32)), vec![], f32s(&[], [2.5])),
        Case(Op::Const(Number::new(0.1, DType::F64)), vec![], f64s(&[], [0.1])),
        Case(Op::Iota(B), vec![], i32s(&[B], [0, 1, 2])),
        Case(Op::Iota(Z), vec![], i32s(&[Z], [])),
        Case(Op::Delta((A, Q)), vec![], bools(&[A, Q], [1, 0, 0, 1])),
        // Joined by name: equal axes, an outer product, a scalar; the second rounds to f32.
        Case(Op::Add, vec![f32s(&[A], [1., 2.]), f32s(&[A], [10., 20.])], f32s(&[A], [11., 22.])),
        Case(Op::Add, vec![f32s(&[], [1.0]), f32s(&[], [tiny])], f32s(&[], [1.0])),
        Case(Op::Add, vec![f64s(&[], [1.0]), f64s(&[], [tiny])], f64s(&[], [1.0 + tiny])),
        Case(Op::Add, vec![i32s(&[], [max]), i32s(&[], [1])], i32s(&[], [min])),
        Case(Op::Add, vec![f32s(&[B, A], [1., 2., 3., 4., 5., 6.]), f32s(&[A], [10., 20.])], f32s(&[A, B], [11., 13., 15., 22., 24., 26.])),
        Case(Op::Add, vec![f32s(&[Z, A], []), f32s(&[A], [1., 2.])], f32s(&[A, Z], [])),
        Case(Op::Sub, vec![f32s(&[A], [1., 2.]), f32s(&[], [5.])], f32s(&[A], [-4., -3.])),
        Case(Op::Sub, vec![i32s(&[], [min]), i32s(&[], [1])], i32s(&[], [max])),
        Case(Op::Mul, vec![f32s(&[A], [1., 2.]), f32s(&[B], [3., 4., 5.])], f32s(&[A, B], [3., 4., 5., 6., 8., 10.])),
        Case(Op::Mul, vec![i32s(&[], [max]), i32s(&[], [max])], i32s(&[], [1])),
        Case(Op::Mul, vec![f32s(&[], [0.0]), f32s(&[], [NAN])], f32s(&[], [NAN])),
        Case(Op::Neg, vec![f32s(&[A], [1., 0.])], f32s(&[A], [-1., -0.])),
        Case(Op::Neg, vec![i32s(&[], [min])], i32s(&[], [min])),
        Case(Op::Div, vec![f32s(&[A], [1., 1.]), f32s(&[A], [3., 0.])], f32s(&[A], [third, INF])),
        Case(Op::Exp, vec![f32s(&[B], [0., 1., -INF])], f32s(&[B], [1., std::f64::consts::E, 0.])),
        Case(Op::Log, vec![f64s(&[B], [1., 0., -1.])], f64s(&[B], [0., -INF, NAN])),
        Case(Op::Tanh, vec![f32s(&[B], [0., INF, 0.54930614])], f32s(&[B], [0., 1., 0.5])),
        Case(Op::Erf, vec![f64s(&[B], [-0.5, 2., INF])], f64s(&[B], [-0.5204998778130465, 0.9953222650189527, 1.])),
        Case(Op::Erf, vec![f32s(&[B], [0.5, -INF, NAN])], f32s(&[B], [0.5204999, -1., NAN])),
        Case(Op::Sqrt, vec![f64s(&[B], [9., 0., -1.])], f64s(&[B], [3., 0., NAN])),
        Case(Op::Rsqrt, vec![f64s(&[B], [4., 0., INF])], f64s(&[B], [0.5, INF, 0.])),
        Case(Op::Relu, vec![f32s(&[B], [-1., 2., NAN])], f32s(&[B], [0., 2., 0.])),
        Case(Op::Lt, vec![f32s(&[B], [1., 2., NAN]), f32s(&[], [2.])], bools(&[B], [1, 0, 0])),
        Case(Op::Le, vec![f32s(&[B], [1., 2., NAN]), f32s(&[], [2.])], bools(&[B], [1, 1, 0])),
        Case(Op::Gt, vec![f32s(&[B], [3., 2., NAN]), f32s(&[], [2.])], bools(&[B], [1, 0, 0])),
        Case(Op::Ge, vec![i32s(&[B], [3, 2, 1]), i32s(&[], [2])], bools(&[B], [1, 1, 0])),
        Case(Op::Eq, vec![f32s(&[B], [1., 2., NAN]), f32s(&[B], [1., 3., NAN])], bools(&[B], [1, 0, 0])),
        Case(Op::Ne, vec![f32s(&[B], [1., 2., NAN]), f32s(&[B], [1., 3., NAN])], bools(&[B], [0, 1, 1])),
        Case(Op::And, vec![bools(&[A], [0, 1]), bools(&[Q], [0, 1])], bools(&[A, Q], [0, 0, 0, 1])),
        Case(Op::Or, vec![bools(&[A], [0, 1]), bools(&[Q], [0, 1])], bools(&[A, Q], [0, 1, 1, 1])),
        Case(Op::Not, vec![bools(&[A], [0, 1])], bools(&[A], [1, 0])),
        // The branch not taken has no influence, NaN included.
        Case(Op::Select, vec![bools(&[A], [1, 0]), f32s(&[A], [1., NAN]), f32s(&[], [3.])], f32s(&[A], [1., 3.])),
        Case(Op::Select, vec![bools(&[B], [1, 0, 1]), i32s(&[A], [1, 2]), i32s(&[B], [7, 8, 9])], i32s(&[A, B], [1, 8, 1, 2, 8, 2])),
        Case(Op::Cast(DType::I32), vec![f32s(&[B], [-1.9, 1e10, NAN])], i32s(&[B], [-1, max, 0])),
        Case(Op::Cast(DType::F32), vec![f64s(&[A], [1.0 + tiny, 1e300])], f32s(&[A], [1., INF])),
        Case(Op::Cast(DType::F32), vec![i32s(&[], [max])], f32s(&[], [2147483648.])),
        Case(Op::Cast(DType::F64), vec![bools(&[A], [0, 1])], f64s(&[A], [0., 1.])),
        Case(Op::Cast(DType::Bool), vec![f32s(&[B], [0., -0.5, NAN])], bools(&[B], [0, 1, 1])),
        Case(Op::Sum(set([B])), vec![f32s(&[A, B], [1., 2., 3., 4., 5., 6.])], f32s(&[A], [6., 15.])),
        Case(Op::Sum(set([A])), vec![f32s(&[A, B], [1., 2., 3., 4., 5., 6.])], f32s(&[B], [5., 7., 9.])),
        Case(Op::Sum(set([A, B])), vec![f32s(&[A, B], [1., 2., 3., 4., 5., 6.])], f32s(&[], [21.])),
        Case(Op::Sum(set([Z])), vec![f32s(&[A, Z], [])], f32s(&[A], [0., 0.])),
        Case(Op::Sum(set([A])), vec![f32s(&[A, Z], [])], f32s(&[Z], [])),
        Case(Op::Sum(set([B])), vec![i32s(&[B], [max, max, 3])], i32s(&[], [1])),
        // f64 inside, one rounding at the end: f32 additions would lose both small terms.
        Case(Op::Sum(set([B])), vec![f32s(&[B], [16777216., 1., 1.])], f32s(&[], [16777218.])),
        Case(Op::Max(set([B])), vec![f32s(&[A, B], [1., 3., 2., 4., NAN, 6.])], f32s(&[A], [3., NAN])),
        Case(Op::Max(set([B])), vec![f32s(&[B], [NAN, 1., 2.])], f32s(&[], [NAN])),
        Case(Op::Max(set([Z])), vec![f32s(&[Z], [])], f32s(&[], [-INF])),
        Case(Op::Max(set([Z])), vec![i32s(&[A, Z], [])], i32s(&[A], [min, min])),
        Case(
            Op::Contract(set([B])),
            vec![f32s(&[A, B], [1., 2., 3., 4., 5., 6.]), f32s(&[Q, B], [1., 0., 0., 0., 1., 1.])],
            f32s(&[A, Q], [1., 5., 4., 11.]),
        ),
        Case(Op::Contract(set([B])), vec![f32s(&[B], [1., 2., 3.])], f32s(&[], [6.])),
        Case(
            Op::Contract(set([B])),
            vec![f32s(&[A, B], [1., 2., 3., 4., 5., 6.]), f32s(&[B], [1., 10., 100.]), f32s(&[A], [1., 2.])],
            f32s(&[A], [321., 1308.]),
        ),
        // Joined first, then summed: B stands in one factor only, A in the other.
        Case(Op::Contract(set([A, B])), vec![f32s(&[A], [1., 2.]), f32s(&[B], [1., 2., 3.])], f32s(&[], [18.])),
        Case(Op::Contract(set([Z])), vec![f32s(&[Z], []), f32s(&[A], [NAN, 1.])], f32s(&[A], [0., 0.])),
        Case(Op::Rename(vec![(A, Q)]), vec![f32s(&[A, B], [1., 2., 3., 4., 5., 6.])], f32s(&[Q, B], [1., 2., 3., 4., 5., 6.])),
        Case(Op::Rename(vec![(A, Q), (Q, A)]), vec![f32s(&[A, Q], [1., 2., 3., 4.])], f32s(&[A, Q], [1., 3., 2., 4.])),
        // B = 2 * A + Q - 1
        Case(affine(&[(2, A), (1, Q)], -1), vec![f32s(&[B], [1., 2., 3.])], f32s(&[A, Q], [0., 1., 2., 3.])),
        Case(affine(&[(-1, B)], 2), vec![f32s(&[A, B], [1., 2., 3., 4., 5., 6.])], f32s(&[A, B], [3., 2., 1., 6., 5., 4.])),
        Case(affine(&[(i64::MAX, B)], i64::MIN), vec![f32s(&[B], [1., 2., 3.])], f32s(&[B], [0., 0., 0.])),
        Case(affine(&[], 1), vec![f32s(&[B], [1., 2., 3.])], f32s(&[], [2.])),
        Case(Op::Gather(B), vec![f32s(&[A, B], [1., 2., 3., 4., 5., 6.]), i32s(&[A], [2, 0])], f32s(&[A], [3., 4.])),
        Case(Op::Gather(B), vec![f32s(&[B], [1., 2., 3.]), i32s(&[A, Q], [0, -1, 3, 2])], f32s(&[A, Q], [1., 0., 0., 3.])),
        Case(Op::Gather(B), vec![f32s(&[B], [1., 2., 3.]), i32s(&[B], [2, 2, 0])], f32s(&[B], [3., 3., 1.])),
        Case(Op::Gather(Z), vec![f32s(&[Z], []), i32s(&[], [0])], f32s(&[], [0.])),
        Case(Op::StopGradient, vec![i32s(&[A], [1, 2])], i32s(&[A], [1, 2])),
        Case(Op::Activity("fc".into()), vec![f32s(&[A], [1., 2.])], f32s(&[A], [1., 2.])),
    ]
}

#[test]
fn ops_compute_what_their_definitions_say() {
    for Case(op, args, wants) in cases() {
        let (program, inputs, _) = program_of(&op, &args);
        let got = run(&program, &inputs).unwrap_or_else(|e| panic!("{op:?}: {e}"));
        let got = got.get("y").expect("the one output");
        assert!(got.same_bits(&wants), "{op:?} of {args:#?}: got {got:?}, wants {wants:?}");
    }
}

/// Where a case has f32 operands, the same in f64: what f32 holds exactly comes out the same, all else is within f32's rounding.
#[test]
fn ops_compute_the_same_in_f64() {
    for Case(op, args, wants) in cases() {
        let wide = |t: &Tensor| Tensor { dtype: if t.dtype == DType::F32 { DType::F64 } else { t.dtype }, ..t.clone() };
        if !args.iter().any(|t| t.dtype == DType::F32) || matches!(op, Op::Cast(_)) {
            continue;
        }
        let args: Vec<Tensor> = args.iter().map(wide).collect();
        let (program, inputs, _) = program_of(&op, &args);
        let got = run(&program, &inputs).unwrap_or_else(|e| panic!("{op:?}: {e}"));
        let (got, wants) = (got.get("y").expect("the one output"), wide(&wants));
        assert_eq!(got.dtype, wants.dtype, "{op:?}");
        assert!(got.close(&wants, 6e-8, 0.0), "{op:?} of {args:#?}: got {got:?}, wants {wants:?}");
    }
}

#[test]
fn every_op_has_a_case() {
    // `normal` and `seed` have tests of their own below.
    let mut covered: Vec<&str> = cases().iter().map(|Case(op, ..)| op.name()).collect();
    covered.extend(["normal", "seed"]);
    for info in Op::ALL {
        assert!(covered.contains(&info.name), "`{}` has no case in ir/src/eval/tests.rs", info.name);
    }
}

#[test]
fn seed_has_no_value() {
    let (program, inputs, value) = program_of(&Op::Seed(Box::new((0, Type::new(DType::F32, set([A]))))), &[]);
    assert_eq!(run(&program, &inputs), Err(EvalError::Seed { value }));
}

#[test]
fn normal_numbers_elements_without_the_direction() {
    // Order [B, direction Q, A]: element = 2 * (row + b) + a, whatever the direction.
    for (dtype, row) in [(DType::F32, 0), (DType::F64, 0), (DType::F32, 7), (DType::F64, 7)] {
        let noise = Noise { stream: 5, order: vec![B, Q, A], direction: Some(Q), dtype };
        let rows = (row > 0).then(|| i32s(&[], [row]));
        let args: Vec<_> = [i32s(&[], [-1]), i32s(&[], [3])].into_iter().chain(rows).collect();
        let (program, inputs, y) = program_of(&Op::Normal(Box::new(noise)), &args);
        let got = &run_values(&program, &inputs, &[y]).unwrap()[0];
        let wants = Tensor::from_fn(&program.axes, dtype, &[B, Q, A], |i| {
            let element = (2 * (row as usize + i[0]) + i[2]) as u64;
            let [a, b, c, d] = philox::normals4(u32::MAX, Domain::Noise, 5, i[1] as u32, 3, element / 4);
            let (a, b) = if element % 4 < 2 { (a, b) } else { (c, d) };
            let first = element.is_multiple_of(2);
            match dtype {
                DType::F32 => {
                    let (x, y) = philox::box_muller_f32(a, b);
                    f64::from(if first { x } else { y })
                }
                _ => {
                    let (x, y) = philox::box_muller_f64(a, b);
                    if first { x } else { y }
                }
            }
        });
        assert_eq!(got.order, [A, Q, B], "canonical order");
        assert!(got.same_bits(&wants), "{got:?} {wants:?}");
    }
    let empty = Noise { stream: 0, order: vec![Z, Q], direction: Some(Q), dtype: DType::F32 };
    let (program, inputs, y) = program_of(&Op::Normal(Box::new(empty)), &[i32s(&[], [0]), i32s(&[], [0])]);
    assert_eq!(run_values(&program, &inputs, &[y]).unwrap()[0].data, []);
}

#[test]
fn outputs_follow_their_declared_order_and_inputs_any() {
    let (mut program, mut inputs, _) = program_of(&Op::Neg, &[f32s(&[A, B], [1., 2., 3., 4., 5., 6.])]);
    program.outputs[0].port.order = vec![B, A];
    inputs.insert("x0".into(), f32s(&[B, A], [1., 4., 2., 5., 3., 6.]));
    let got = run(&program, &inputs).unwrap();
    assert_eq!(got.outputs, [("y".to_string(), f32s(&[B, A], [-1., -4., -2., -5., -3., -6.]))]);
}

#[test]
fn only_what_is_needed_is_computed() {
    let (program, mut inputs, y) = program_of(&Op::Add, &[f32s(&[A], [1., 2.]), f32s(&[A], [1., 2.])]);
    inputs.remove("x");
    inputs.remove("w");
    assert!(run(&program, &inputs).is_ok());
    inputs.remove("x1");
    assert!(run_values(&program, &inputs, &[Value(0), Value(0)]).is_ok());
    assert_eq!(run_values(&program, &inputs, &[]), Ok(vec![]));
    assert!(run_values(&program, &inputs, &[y]).is_err());
}

#[test]
fn callers_mistakes_are_named() {
    let x = f32s(&[A, B], [0.; 6]);
    let (program, inputs, _) = program_of(&Op::Neg, std::slice::from_ref(&x));
    let check = |given: Option<Tensor>, wants: &str| {
        let mut inputs = inputs.clone();
        inputs.remove("x0");
        inputs.extend(given.map(|t| ("x0".to_string(), t)));
        assert_eq!(run(&program, &inputs).unwrap_err().to_string(), wants);
    };
    check(None, "the program needs `x0`: f32[A, B], and it was not given [missing]");
    check(Some(Tensor { dtype: DType::F64, ..x.clone() }), "`x0` is declared as f32[A, B], got f64 elements [dtype]");
    check(Some(f32s(&[A], [0.; 2])), "`x0` is declared over [A, B], got a tensor over [A] [axes]");
    check(Some(f32s(&[A, A], [0.; 4])), "`x0` is declared over [A, B], got a tensor over [A, A] [axes]");
    let foreign = Tensor { order: vec![A, AxisId(77)], ..x.clone() };
    check(Some(foreign), "`x0` is declared over [A, B], got a tensor over [A, axis 77] [axes]");
    check(Some(Tensor { shape: vec![2, 4], ..x.clone() }), "`x0` over [A, B] has the shape [2, 3], got [2, 4] [shape]");
    check(Some(Tensor { data: vec![0.; 5], ..x.clone() }), "`x0` of shape [2, 3] has 6 elements, got 5 [len]");

    let (program, inputs, _) = program_of(&Op::Input(0), &[]);
    let check = |data: Vec<f64>, wants: &str| {
        let x = Tensor { dtype: DType::I32, order: vec![B], shape: vec![3], data };
        let inputs = Inputs::from([("x".to_string(), x)]);
        assert_eq!(run(&program, &inputs).unwrap_err().to_string(), wants);
    };
    check(vec![0.0, 1.5, 0.0], "`x` is declared as i32, its element 1 is 1.5 [element]");
    check(vec![0.0, 1.0, 1e10], "`x` is declared as i32, its element 2 is 10000000000 [element]");
    let error = run_values(&program, &inputs, &[Value(9)]).unwrap_err().to_string();
    assert_eq!(error, "the program has 1 values, %9 is none of them [no-value]");
}

#[test]
fn a_value_beyond_all_memory_is_refused() {
    let mut axes = Axes::default();
    let order: Vec<AxisId> = (0..5).map(|i| axes.add(format!("A{i}"), 1 << 20, None).unwrap()).collect();
    let mut b = Builder::new(Program { axes, ..Program::default() });
    let indices: Vec<Value> = order.iter().map(|&a| b.op(Op::Iota(a), &[])).collect();
    let product = indices[1..].iter().fold(indices[0], |l, &r| b.op(Op::Mul, &[l, r]));
    let error = run_values(&b.finish(), &Inputs::new(), &[product]).unwrap_err().to_string();
    assert!(error.ends_with("i32[A0, A1] is too large to evaluate: more than 4294967296 elements [too-large]"), "{error}");
}

#[test]
fn caller_tensors_are_rounded_to_their_dtype() {
    let (program, mut inputs, _) = program_of(&Op::Neg, &[f32s(&[], [0.])]);
    inputs.insert("x0".into(), Tensor { dtype: DType::F32, order: vec![], shape: vec![], data: vec![0.1] });
    assert_eq!(run(&program, &inputs).unwrap().get("y").unwrap().item(), Some(-(0.1f32 as f64)));
}

#[test]
fn tensors_reorder_and_compare() {
    let x = f64s(&[A, B], [1., 2., 3., 4., 5., 6.]);
    let y = x.reorder(&[B, A]).unwrap();
    assert_eq!(y, f64s(&[B, A], [1., 4., 2., 5., 3., 6.]));
    assert!(x.same_bits(&y) && y.same_bits(&x));
    assert!(x.reorder(&[A, Q]).is_err() && x.reorder(&[A]).is_err() && x.reorder(&[A, A]).is_err());
    assert!(Tensor { data: vec![1.], ..x.clone() }.reorder(&[B, A]).is_err());
    assert!(Tensor { shape: vec![], ..x.clone() }.reorder(&[B, A]).is_err());

    let mut z = y.clone();
    z.data[3] += 0.006;
    let worst = z.worst(&x, 1e-3, 0.0).unwrap();
    assert_eq!((worst.at, worst.expected), (4, 5.0), "position in the expected tensor");
    assert!((worst.ratio - 1.0).abs() < 1e-9 && z.close(&x, 1.1e-3, 0.0) && !z.close(&x, 0.9e-3, 0.0));
    z.data[0] = NAN;
    assert_eq!(z.worst(&x, 1.0, 1.0).unwrap().ratio, INF);
    assert!(z.close(&z, 0.0, 0.0) && !x.close(&f64s(&[A], [1., 2.]), 1.0, 1.0));
    assert!(z.max_abs().is_nan() && x.max_abs() == 6.0);
    assert_eq!(x.to_f32_vec(), [1., 2., 3., 4., 5., 6.]);
}

/// The loop order is chosen by size; the order of summation must not be: a contraction's bits do not depend on its other axes.
#[test]
fn contraction_adds_in_one_order() {
    let contract = |rows: usize| {
        let mut axes = Axes::default();
        let (n, k) = (axes.add("N", rows, None).unwrap(), axes.add("K", 40, None).unwrap());
        let noise = Noise { stream: 0, order: vec![n, k], direction: None, dtype: DType::F64 };
        let mut b = Builder::new(Program { axes, ..Program::default() });
        let zero = b.constant(0.0, DType::I32);
        let x = b.op(Op::Normal(Box::new(noise)), &[zero, zero]);
        let y = b.op(Op::Contract(AxisSet::of([k])), &[x, x]);
        run_values(&b.finish(), &Inputs::new(), &[y]).unwrap().remove(0).data
    };
    assert_eq!(contract(3)[..], contract(100)[..3]);
}
