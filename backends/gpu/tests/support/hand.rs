//! Small kernels built by hand: one kernel on buffers of 64 elements, named for its arguments. Read [`plan`].

#![allow(dead_code)] // each test takes what it needs

use pushforward_plan::device::kernel::*;
use pushforward_plan::kernel::ElementType::{Bool, F32, F64, I32};
use pushforward_plan::kernel::{Access, ElementType, Prim};

/// A plan of one kernel whose arguments are buffers of the same names.
pub fn plan(args: &[(&str, ElementType, Access)], shared: &[(ElementType, usize)], body: Vec<Stmt>) -> DevicePlan {
    let buffer = |(i, &(name, dtype, access)): (usize, &(&str, ElementType, Access))| DeviceBuffer {
        name: name.into(),
        dtype,
        dims: vec![("N".into(), 64)],
        role: if access == Access::Read { DeviceRole::Input(i) } else { DeviceRole::Output(i) },
        live: (0, 0),
    };
    DevicePlan {
        name: "small".into(),
        scalars: vec![
            Scalar { name: "seed".into(), dtype: I32, input: 0 },
            Scalar { name: "step".into(), dtype: I32, input: 1 },
            Scalar { name: "lr".into(), dtype: F32, input: 2 },
            Scalar { name: "loop".into(), dtype: Bool, input: 3 },
        ],
        buffers: args.iter().enumerate().map(buffer).collect(),
        slots: Vec::new(),
        kernels: vec![DeviceKernel {
            name: "kernel".into(),
            // A comment has to hold its lines, and a backslash that would carry one on.
            about: "made by hand\nin two lines \\".into(),
            args: args.iter().map(|&(name, dtype, access)| DeviceArg { name: name.into(), dtype, access }).collect(),
            scalars: vec![0, 1, 2, 3],
            streams: 1,
            grid: (2, 1),
            block: 32,
            shared: shared.iter().map(|&(dtype, len)| Shared { dtype, len }).collect(),
            wide: false,
            work: Work::default(),
            body,
        }],
        launches: vec![DeviceLaunch { kernel: 0, args: (0..args.len()).collect(), streams: vec![7] }],
    }
}

pub fn boxed(e: Expr) -> Box<Expr> {
    Box::new(e)
}

pub fn index(op: IndexOp, x: Expr, y: Expr) -> Expr {
    Expr::Index(op, boxed(x), boxed(y))
}

pub fn float(x: f64) -> Expr {
    Expr::Number(x, F32)
}

/// `block * 32 + thread`.
pub fn place() -> Expr {
    index(IndexOp::Add, index(IndexOp::Mul, Expr::Block, Expr::Int(32)), Expr::Thread)
}

/// Primitives with the dtypes that they take, and of what they give.
pub fn signatures() -> Vec<(Prim, ElementType, ElementType, usize)> {
    let (numbers, floats, all) = ([F32, F64, I32], [F32, F64], [F32, F64, I32, Bool]);
    let mut list = Vec::new();
    for prim in [Prim::Add, Prim::Sub, Prim::Mul] {
        list.extend(numbers.map(|d| (prim, d, d, 2)));
    }
    list.extend(numbers.map(|d| (Prim::Neg, d, d, 1)));
    list.extend(floats.map(|d| (Prim::Div, d, d, 2)));
    for prim in [Prim::Exp, Prim::Log, Prim::Tanh, Prim::Erf, Prim::Sqrt, Prim::Rsqrt, Prim::Relu] {
        list.extend(floats.map(|d| (prim, d, d, 1)));
    }
    for prim in [Prim::Lt, Prim::Le, Prim::Gt, Prim::Ge, Prim::Eq, Prim::Ne] {
        list.extend(all.map(|d| (prim, d, Bool, 2)));
    }
    list.extend([(Prim::And, Bool, Bool, 2), (Prim::Or, Bool, Bool, 2), (Prim::Not, Bool, Bool, 1)]);
    list.extend(all.map(|d| (Prim::Select, d, d, 3)));
    for from in all {
        list.extend(all.map(|to| (Prim::Cast, from, to, 1)));
    }
    list
}

/// Each primitive on each dtype, stored by a kernel of its own; `number` makes its operands.
pub fn primitives(number: fn(usize, ElementType) -> Expr) -> Vec<(String, DevicePlan)> {
    let one = |(prim, from, to, arity): (Prim, ElementType, ElementType, usize)| {
        let operand = |i: usize| match (prim, i) {
            (Prim::Select, 0) => number(3, Bool),
            (_, i) => number(i, from),
        };
        let value = Expr::Prim(prim, from, to, (0..arity).map(operand).collect());
        // Arguments 0 to 3 are read, the last is written.
        let args = [("x", from, Access::Read), ("y", from, Access::Read), ("z", from, Access::Read)];
        let more = [("when", Bool, Access::Read), ("result", to, Access::Write)];
        let args: Vec<_> = args.into_iter().chain(more).collect();
        (format!("{prim:?} {from:?} {to:?}"), plan(&args, &[], vec![Stmt::Store(4, Expr::Thread, value)]))
    };
    signatures().into_iter().map(one).collect()
}
