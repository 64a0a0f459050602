//! The text form as a tree: what a person writes, and what the printer prints. It holds no types and checks nothing; `passes::inline` gives
//! it meaning. Two trees are equal if they say the same, wherever it stands in a file ([`At`]); numbers are the same if their bits are.
//!
//! Names are `[A-Za-z_%][A-Za-z0-9_']*`, or several of them joined by dots (`block0.fc.w`). No keyword is reserved where it can be told from
//! a name (`block0.loss`, `loss = x;`); only `inf`, `nan` and their dtyped forms are never names, and `size`, `const` and dtypes name no
//! function. Spellings that are not obvious:
//!
//! | text | is |
//! |---|---|
//! | `1.5`, `1e-5`, `3i32`, `0bool`, `2f64` | a number, perhaps with a dtype attached |
//! | `inf`, `nan`, `inf_f32`, `nan_f64` | a number that has no digits |
//! | `-1.5` | `neg` of a constant |
//! | `const(-1.5)`, `const(-0f32)`, `const(-inf)`, `const(0x7ff8000000000001)` | one constant; the last is the bits of an f64, for NaNs with a payload |
//! | `axis N;`, `axis N = batch 128;`, `axis K = 10;` | the batch axis; the batch axis with its present size; another |
//! | `axis C = (G, D), B = (G,), V = ();` | tuples, of two, of one and of none: a type that names `V` has no such axis, and `sum[V](x)` is `x` |
//! | `axis V = match task { labelled => (), pairs => views };` | a definition chosen by an option |
//! | `match depth { each \| last => { .. } none => {} }` | a statement: those of the chosen arm, and what they name stays inside |
//! | `cast[i32](x)` | change of dtype |
//! | `rename[A -> B, B -> A](x)`, `rename[->](x)` | renaming, all at once; renaming nothing |
//! | `window[H = 2 * A + B - 1](x)` | reading along H at that index |
//! | `block0.fc: activity(x)` | the activity of layer `block0.fc` |
//! | `stream3: normal[along K, N, P](seed, step)` | noise of stream 3, elements numbered along N, P, directions along K; its dtype is that of the statement's type; a third operand says how many entries of N stand before its first |
//! | `local l: x along P, G { loss } copies y;` | a mark on x, with its loss and, once replicated, that loss |
//! | `warn "the loss is not normalised";` | a warning to whoever compiles this; the text is one line without `"` |

use crate::diag::Span;
use crate::types::DType;

/// A place in the text that does not count for equality.
#[derive(Clone, Copy, Debug, Default)]
pub struct At(pub Span);

impl PartialEq for At {
    fn eq(&self, _: &At) -> bool {
        true
    }
}

/// A name where it is used or defined. May be scoped (`block0.fc.w`), primed (`P'`), numbered (`%3`), and, in labels, hold a
/// repetition's counter (`block{i}.fc`).
#[derive(Clone, PartialEq, Debug)]
pub struct Name {
    pub text: String,
    pub at: At,
}

/// A file: `pf 1` and items.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Module {
    pub items: Vec<Item>,
}

/// The version of the text format that this crate reads and writes.
pub const VERSION: u32 = 1;

#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    /// `size grid = 8, channels;` One without a default must be given by the caller.
    Sizes(Vec<(Name, Option<Scalar>)>),
    /// `option norm = local | ln | bn;` The first choice is the default.
    Option { name: Name, choices: Vec<Name> },
    /// `axis N, K = classes, C = (G, D);`
    Axes(Vec<Axis>),
    /// `fn norm[A..](x) { .. }`
    Fn(Function),
    /// `model localmixer(images: f32[N, H, W, S]) { .. }`
    Model(Model),
}

#[derive(Clone, PartialEq, Debug)]
pub struct Axis {
    pub name: Name,
    pub def: AxisDef,
}

#[derive(Clone, PartialEq, Debug)]
pub enum AxisDef {
    /// `axis N`: the batch, whose size the caller gives.
    Batch,
    /// `axis N = batch 128`: the batch, with the size that it has unless the caller gives another.
    BatchOf(Scalar),
    /// `axis K = classes`
    Size(Scalar),
    /// `axis C = (G, D)`
    Tuple(Vec<Name>),
    /// `axis Q like P`: fresh atoms with the sizes of P's.
    Like(Name),
    /// `axis R = match replicas { patch => (P,), none => () }`: what stands behind `=` in the chosen arm.
    Match { option: Name, arms: Vec<Arm<AxisDef>> },
}

/// `local | ln => ..`: what a `match` says of one choice of its option, or of several alike. The arms that are not chosen mean nothing: they may
/// name what does not exist then.
#[derive(Clone, PartialEq, Debug)]
pub struct Arm<T> {
    pub choices: Vec<Name>,
    pub body: T,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Function {
    pub name: Name,
    pub axes: Vec<Name>,
    /// The last axis parameter takes all remaining axes: `[A..]`.
    pub variadic: bool,
    pub params: Vec<Name>,
    pub body: Block,
    pub at: At,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Model {
    pub name: Name,
    pub inputs: Vec<(Name, TypeExpr)>,
    pub body: Block,
    pub at: At,
}

/// `f32[N, C]`: the order of the axes is the memory order at the border.
#[derive(Clone, PartialEq, Debug)]
pub struct TypeExpr {
    pub dtype: DType,
    pub axes: Vec<Name>,
    pub at: At,
}

/// Statements, then perhaps a result.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Block {
    pub stmts: Vec<Stmt>,
    pub result: Option<Box<Expr>>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Stmt {
    pub kind: StmtKind,
    pub at: At,
}

#[derive(Clone, PartialEq, Debug)]
pub enum StmtKind {
    /// `axis E like C;` inside a function.
    Axes(Vec<Axis>),
    /// `exact param w: f32[C, K] ~ normal(0.1) decay;`
    Param { name: Name, ty: TypeExpr, init: Init, exact: bool, decay: bool },
    /// `x: f32[N] = relu(y);` The type is optional and checked.
    Let { name: Name, ty: Option<TypeExpr>, value: Expr },
    /// `local block0.loss: x along P, G { .. }`, with `copies %9` once the replicated loss is written out.
    Local { label: Option<Name>, at: Box<Expr>, along: Vec<Name>, loss: Block, copies: Option<Box<Expr>> },
    /// `loss name: value;`
    Loss { label: Option<Name>, value: Expr },
    /// `repeat i = 1 .. blocks { .. }`: the body with i = 1, .., blocks - 1; names bound outside and rebound inside are carried.
    Repeat { counter: Name, from: Scalar, to: Scalar, body: Block },
    /// `output logits: f32[N, K] = y;`
    Output { name: Name, ty: TypeExpr, value: Expr },
    /// `match locality { block => { local .. } layer | end => {} }`: the statements of the chosen arm, as if they stood here.
    Match { option: Name, arms: Vec<Arm<Block>> },
    /// `warn "nothing is normalised";`
    Warn(String),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Init {
    /// `= 0`
    Constant(Scalar),
    /// `~ normal(0.1)`
    Normal(Scalar),
}

#[derive(Clone, PartialEq, Debug)]
pub struct Expr {
    pub kind: ExprKind,
    pub at: At,
}

#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A value, or a size where no value has that name.
    Name(String),
    /// `1.5`: takes the dtype of what it meets, f32 alone; `1.5f64`, `3i32` and `0bool` say it. A negative one is written `const(-1.5)`.
    Number(f64, Option<DType>),
    /// `size(A)`: the number of elements along an axis.
    Size(Name),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// `label: name[axes](args)`: an op or a function.
    Call {
        label: Option<Name>,
        name: Name,
        axes: AxisArgs,
        args: Vec<Expr>,
    },
    /// `match norm { local | ln => x, none => y }` on an option.
    Match {
        option: Name,
        arms: Vec<Arm<Expr>>,
    },
}

impl PartialEq for ExprKind {
    fn eq(&self, other: &ExprKind) -> bool {
        use ExprKind::*;
        match (self, other) {
            (Name(a), Name(b)) => a == b,
            (Number(a, s), Number(b, t)) => a.to_bits() == b.to_bits() && s == t,
            (Size(a), Size(b)) => a == b,
            (Unary(o, a), Unary(p, b)) => o == p && a == b,
            (Binary(o, a, c), Binary(p, b, d)) => o == p && a == b && c == d,
            (Call { label, name, axes, args }, Call { label: l, name: n, axes: x, args: a }) => {
                label == l && name == n && axes == x && args == a
            }
            (Match { option, arms }, Match { option: o, arms: a }) => option == o && arms == a,
            (Name(_) | Number(..) | Size(_) | Unary(..) | Binary(..) | Call { .. } | Match { .. }, _) => false,
        }
    }
}

/// What stands in a call's brackets.
#[derive(Clone, PartialEq, Debug)]
pub enum AxisArgs {
    /// No brackets, or `[A, B]`.
    List(Vec<Name>),
    /// `[along K, N, P]`: a list with one axis marked, by its place: the axis of directions of `normal`.
    Along { axes: Vec<Name>, along: usize },
    /// `[A -> B, C -> D]`
    Rename(Vec<(Name, Name)>),
    /// `[H = 2 * A + B - 1]`
    Window { axis: Name, terms: Vec<(i64, Name)>, offset: i64 },
}

/// Elementwise operators with a spelling of their own. `-x` is `neg`, `!x` is `not`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unary {
    Neg,
    Not,
}

/// Loosest first: `|`, `&`, comparisons (not associative), `+ -`, `* /`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binary {
    Or,
    And,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    Add,
    Sub,
    Mul,
    Div,
}

impl Binary {
    pub fn compares(self) -> bool {
        match self {
            Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => true,
            Binary::Or | Binary::And | Binary::Add | Binary::Sub | Binary::Mul | Binary::Div => false,
        }
    }

    /// Operators of a higher level bind more tightly.
    pub fn level(self) -> u8 {
        match self {
            Binary::Or => 0,
            Binary::And => 1,
            Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => 2,
            Binary::Add | Binary::Sub => 3,
            Binary::Mul | Binary::Div => 4,
        }
    }

    /// Every operator with its spelling.
    pub const ALL: [(Binary, &'static str); 12] = [
        (Binary::Or, "|"),
        (Binary::And, "&"),
        (Binary::Lt, "<"),
        (Binary::Le, "<="),
        (Binary::Gt, ">"),
        (Binary::Ge, ">="),
        (Binary::Eq, "=="),
        (Binary::Ne, "!="),
        (Binary::Add, "+"),
        (Binary::Sub, "-"),
        (Binary::Mul, "*"),
        (Binary::Div, "/"),
    ];
}

/// Arithmetic on sizes, evaluated when sizes are bound.
#[derive(Clone, PartialEq, Debug)]
pub struct Scalar {
    pub kind: ScalarKind,
    pub at: At,
}

#[derive(Clone, Debug)]
pub enum ScalarKind {
    /// Not negative: `-1` is `Neg`.
    Number(f64),
    /// A size, or a repetition's counter.
    Name(String),
    /// `size(A)`
    Size(Name),
    Neg(Box<Scalar>),
    Binary(ScalarOp, Box<Scalar>, Box<Scalar>),
    /// `sqrt(x)` of one, `min(x, y)` and `max(x, y)` of two or more.
    Call(ScalarFn, Vec<Scalar>),
}

impl PartialEq for ScalarKind {
    fn eq(&self, other: &ScalarKind) -> bool {
        use ScalarKind::*;
        match (self, other) {
            (Number(a), Number(b)) => a.to_bits() == b.to_bits(),
            (Name(a), Name(b)) => a == b,
            (Size(a), Size(b)) => a == b,
            (Neg(a), Neg(b)) => a == b,
            (Binary(o, a, c), Binary(p, b, d)) => o == p && a == b && c == d,
            (Call(f, a), Call(g, b)) => f == g && a == b,
            (Number(_) | Name(_) | Size(_) | Neg(_) | Binary(..) | Call(..), _) => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScalarOp {
    Add,
    Sub,
    Mul,
    Div,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScalarFn {
    Sqrt,
    Min,
    Max,
}
