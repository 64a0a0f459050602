//! The one table of ops. What is data about an op is a row here; what is behaviour is one arm in one file per concern (`infer`, `eval`, and
//! in other crates `jvp`, `transpose`, `reach`, `lower`). This file computes nothing.

use crate::axis::{AxisId, AxisSet};
use crate::types::DType;

/// What kind of rule types an op and, mostly, differentiates it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// No operands.
    Leaf,
    /// Elementwise on numbers, floats or i32; operands and result share a dtype.
    Arith,
    /// Elementwise on floats only; operands and result share a dtype.
    Float,
    /// As [`Class::Float`], but worth keeping rather than computing twice.
    Slow,
    /// Elementwise comparison of two numbers of one dtype, gives bool.
    Compare,
    /// Elementwise on bool.
    Logic,
    /// `select(condition, then, else)`.
    Select,
    /// Elementwise change of dtype.
    Cast,
    /// Removes axes.
    Reduce,
    /// Sum over axes of a product of any number of factors.
    Contract,
    /// Gives axes other names.
    Rename,
    /// Reads at computed positions.
    Index,
    /// The identity, with a meaning for passes.
    Mark,
}

/// How many operands an op takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arity {
    Exactly(usize),
    AtLeast(usize),
    Between(usize, usize),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    pub name: &'static str,
    pub arity: Arity,
    pub class: Class,
}

macro_rules! arity {
    (..) => {
        Arity::AtLeast(1)
    };
    ([$least:literal, $most:literal]) => {
        Arity::Between($least, $most)
    };
    ($n:literal) => {
        Arity::Exactly($n)
    };
}

macro_rules! ops {
    ($($(#[$doc:meta])* $variant:ident $(($payload:ty))? = $name:literal, $arity:tt, $class:ident;)*) => {
        /// An operation of the IR. The text syntax is `name[axes](operands)`.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Op {
            $($(#[$doc])* $variant $(($payload))?,)*
        }

        impl Op {
            /// Every op, in the order of the table.
            pub const ALL: &'static [Info] =
                &[$(Info { name: $name, arity: arity!($arity), class: Class::$class },)*];

            /// The op's row.
            pub fn info(&self) -> Info {
                match self {
                    $(Op::$variant { .. } => Info { name: $name, arity: arity!($arity), class: Class::$class },)*
                }
            }

            /// The op that has no parameters beside its operands and is called `name`.
            pub fn plain(name: &str) -> Option<Op> {
                $(ops!(@plain name, $variant $(($payload))? = $name);)*
                None
            }
        }
    };
    (@plain $text:ident, $variant:ident = $name:literal) => {
        if $text == $name {
            return Some(Op::$variant);
        }
    };
    (@plain $text:ident, $variant:ident ($payload:ty) = $name:literal) => {};
}

ops! {
    /// A tensor handed in by the caller: index into `Program::inputs`.
    Input(u32) = "input", 0, Leaf;
    /// A trained tensor: index into `Program::params`.
    Param(u32) = "param", 0, Leaf;
    /// A scalar constant.
    Const(Number) = "const", 0, Leaf;
    /// The index along an axis, i32.
    Iota(AxisId) = "iota", 0, Leaf;
    /// True where the indices along two axes of one size are equal.
    Delta((AxisId, AxisId)) = "delta", 0, Leaf;
    /// Independent standard normal numbers, a function of (seed, step) and the stream and element numbers. With a third operand they are a part
    /// of a larger tensor of such: it says how many entries of the axis that is numbered first stand before the part's.
    Normal(Box<Noise>) = "normal", [2, 3], Leaf;
    /// A tangent that `transpose` differentiates with respect to; index, type. It never outlives that pass.
    Seed(Box<(u32, crate::types::Type)>) = "seed", 0, Leaf;

    /// Sum of two operands.
    Add = "add", 2, Arith;
    /// Difference.
    Sub = "sub", 2, Arith;
    /// Product.
    Mul = "mul", 2, Arith;
    /// Sign change.
    Neg = "neg", 1, Arith;
    /// Quotient.
    Div = "div", 2, Float;
    /// Natural exponential.
    Exp = "exp", 1, Slow;
    /// Natural logarithm.
    Log = "log", 1, Slow;
    /// Hyperbolic tangent.
    Tanh = "tanh", 1, Slow;
    /// Error function, `2 / sqrt(pi)` times the integral of `exp(-t * t)` from 0 to `x`.
    Erf = "erf", 1, Slow;
    /// Square root.
    Sqrt = "sqrt", 1, Float;
    /// 1 / sqrt(x).
    Rsqrt = "rsqrt", 1, Float;
    /// `x` where `x > 0`, else 0 (0 where `x` is NaN).
    Relu = "relu", 1, Float;

    /// `x < y`.
    Lt = "lt", 2, Compare;
    /// `x <= y`.
    Le = "le", 2, Compare;
    /// `x > y`.
    Gt = "gt", 2, Compare;
    /// `x >= y`.
    Ge = "ge", 2, Compare;
    /// `x == y`.
    Eq = "eq", 2, Compare;
    /// `x != y`.
    Ne = "ne", 2, Compare;
    /// Both.
    And = "and", 2, Logic;
    /// Either.
    Or = "or", 2, Logic;
    /// Negation of a condition.
    Not = "not", 1, Logic;
    /// `select(c, x, y)`: `x` where `c`, else `y`. The branch not taken has no influence, NaN included.
    Select = "select", 3, Select;
    /// Conversion to another dtype; bool becomes 0 or 1, a float is cut towards zero.
    Cast(DType) = "cast", 1, Cast;

    /// Sum over axes.
    Sum(AxisSet) = "sum", 1, Reduce;
    /// Largest element over axes; NaN if any element is.
    Max(AxisSet) = "max", 1, Reduce;
    /// Sum over axes of a product of any number of factors.
    Contract(AxisSet) = "contract", .., Contract;
    /// Gives axes other names, all at once: `rename[A -> B]`. Pairs are sorted.
    Rename(Vec<(AxisId, AxisId)>) = "rename", 1, Rename;
    /// Reads along an axis at an affine position: `window[H = 2 * A + B - 1](x)`; 0 outside.
    Window(Box<Affine>) = "window", 1, Index;
    /// `gather[V](table, index)`: the entry of `table` along V at `index` (i32); 0 outside.
    Gather(AxisId) = "gather", 2, Index;

    /// The identity; derivatives of either mode end here.
    StopGradient = "stop_gradient", 1, Mark;
    /// The identity; an estimator may inject noise here. Carries the scoped name of its layer.
    Activity(String) = "activity", 1, Mark;
}

/// A constant with its dtype; equality is equality of bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Number {
    bits: u64,
    pub dtype: DType,
}

impl Number {
    pub fn new(value: f64, dtype: DType) -> Number {
        let value = match dtype {
            DType::F32 => value as f32 as f64,
            DType::F64 | DType::I32 | DType::Bool => value,
        };
        Number { bits: value.to_bits(), dtype }
    }

    pub fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }
}

/// Parameters of `normal`: the stream (one per perturbed value), the axes in the order that numbers the elements (last one fastest), and of
/// them the axis of tangent directions, which does not count towards the element's number but selects a sequence of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Noise {
    pub stream: u32,
    pub order: Vec<AxisId>,
    pub direction: Option<AxisId>,
    pub dtype: DType,
}

/// `axis = sum of coefficient * index along a term's axis, plus offset`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Affine {
    pub axis: AxisId,
    pub terms: Vec<(i64, AxisId)>,
    pub offset: i64,
}

impl Op {
    pub fn name(&self) -> &'static str {
        self.info().name
    }

    pub fn class(&self) -> Class {
        self.info().class
    }

    /// The same op with every axis that it names replaced. Elements of `normal` keep their numbers: the order of its axes is what counts.
    pub fn with_axes(&self, mut at: impl FnMut(AxisId) -> AxisId) -> Op {
        let set = |s: &AxisSet, at: &mut dyn FnMut(AxisId) -> AxisId| s.iter().map(at).collect::<AxisSet>();
        match self {
            Op::Iota(a) => Op::Iota(at(*a)),
            Op::Delta((a, b)) => Op::Delta((at(*a), at(*b))),
            Op::Normal(noise) => {
                let order = noise.order.iter().map(|&a| at(a)).collect();
                Op::Normal(Box::new(Noise { order, direction: noise.direction.map(at), ..(**noise).clone() }))
            }
            Op::Seed(seed) => Op::Seed(Box::new((seed.0, crate::types::Type::new(seed.1.dtype, set(&seed.1.axes, &mut at))))),
            Op::Sum(over) => Op::Sum(set(over, &mut at)),
            Op::Max(over) => Op::Max(set(over, &mut at)),
            Op::Contract(over) => Op::Contract(set(over, &mut at)),
            Op::Rename(pairs) => Op::rename(pairs.iter().map(|&(a, b)| (at(a), at(b)))),
            Op::Window(affine) => {
                let terms = affine.terms.iter().map(|&(factor, a)| (factor, at(a))).collect();
                Op::Window(Box::new(Affine { terms, axis: at(affine.axis), offset: affine.offset }))
            }
            Op::Gather(a) => Op::Gather(at(*a)),
            Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Cast(_) | Op::Activity(_) => self.clone(),
            Op::Add | Op::Sub | Op::Mul | Op::Neg | Op::Div | Op::Sqrt | Op::Rsqrt | Op::Relu => self.clone(),
            Op::Exp | Op::Log | Op::Tanh | Op::Erf => self.clone(),
            Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne => self.clone(),
            Op::And | Op::Or | Op::Not | Op::Select | Op::StopGradient => self.clone(),
        }
    }

    /// The axes that the op itself names.
    pub fn axes(&self) -> Vec<AxisId> {
        let mut named = Vec::new();
        self.with_axes(|a| {
            named.push(a);
            a
        });
        named
    }

    /// Pairs of a rename in their one normal form.
    pub fn rename(pairs: impl IntoIterator<Item = (AxisId, AxisId)>) -> Op {
        let mut pairs: Vec<_> = pairs.into_iter().filter(|(a, b)| a != b).collect();
        pairs.sort_unstable();
        Op::Rename(pairs)
    }
}
