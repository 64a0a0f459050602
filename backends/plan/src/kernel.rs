//! The plan as data: buffers, kernels, launches, stages. This file says what a plan is; `lower` decides one, `verify` checks one, `print`
//! shows one. No target's spelling is here: a back end walks a kernel and spells it.
//!
//! Read [`Plan`] first, then [`Loops`], which is where everything but dense contractions happens.

use pushforward_ir::DType;
use serde::Serialize;

/// Everything that a target needs to run one step.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Plan {
    pub name: String,
    pub buffers: Vec<Buffer>,
    /// Each kernel stands here once, however often it is launched: equal blocks share theirs.
    pub kernels: Vec<Kernel>,
    /// In order; a stage starts when the one before it has ended.
    pub stages: Vec<Stage>,
    /// Bytes of the arena that holds the temporaries, at their offsets.
    pub arena_bytes: usize,
}

/// Index into [`Plan::buffers`].
pub type BufferId = usize;
/// Index into [`Kernel::args`].
pub type ArgId = usize;
/// A scalar (or vector of lanes) inside a kernel, defined once.
pub type Reg = u32;

/// A dense block of memory, row-major over `dims`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Buffer {
    pub name: String,
    pub dtype: ElementType,
    /// Axis names and sizes, slowest first. Empty for a scalar, which takes one element.
    pub dims: Vec<(String, usize)>,
    pub role: Role,
    /// First and last stage that touch it, inclusive. For the border: the whole plan.
    pub live: (usize, usize),
}

impl Buffer {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().map(|d| d.1).product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.bytes()
    }
}

/// What a buffer is to the outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Role {
    /// Read only, handed in for each run: index into the program's inputs.
    Input(usize),
    /// Kept between runs, read and, where the program has an output of the parameter's name, updated in place: index into the parameters.
    State(usize),
    /// Written: index into the program's outputs.
    Output(usize),
    /// Inside the arena, at this byte offset (a multiple of 64).
    Temp(usize),
}

/// Element types in memory. Conditions take a byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    F32,
    F64,
    I32,
    Bool,
}

impl ElementType {
    pub fn bytes(self) -> usize {
        DType::from(self).bytes()
    }
}

impl From<DType> for ElementType {
    fn from(d: DType) -> Self {
        match d {
            DType::F32 => ElementType::F32,
            DType::F64 => ElementType::F64,
            DType::I32 => ElementType::I32,
            DType::Bool => ElementType::Bool,
        }
    }
}

impl From<ElementType> for DType {
    fn from(d: ElementType) -> Self {
        match d {
            ElementType::F32 => DType::F32,
            ElementType::F64 => DType::F64,
            ElementType::I32 => DType::I32,
            ElementType::Bool => DType::Bool,
        }
    }
}

/// A run of launches. With a slice, every launch runs on one slice of the axis before any runs on the next (slices are independent, so
/// threads share them out); without, every launch runs whole before the next, cut along its own first loop for the threads.
/// Sizes of slices and parts are fixed by the plan, never by the number of threads: that keeps the bits the same.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stage {
    pub slice: Option<Slice>,
    pub launches: Vec<Launch>,
}

/// `axis` of `size`, `chunk` at a time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Slice {
    pub axis: String,
    pub size: usize,
    pub chunk: usize,
}

/// One kernel on bound buffers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Launch {
    pub kernel: usize,
    /// One buffer for each of the kernel's arguments.
    pub args: Vec<BufferId>,
    /// Noise only: the stream to draw from.
    pub stream: u32,
    /// In a stage without a slice: how many steps of the kernel's cut axis one part takes. 0: not cut.
    pub part: usize,
}

/// What is computed. A back end compiles it to a function of (arguments, from, to), where `from..to` is a range of the cut axis.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Kernel {
    /// An identifier, unique in the plan, that says what is computed.
    pub name: String,
    /// Shapes and source ops, for people.
    pub about: String,
    pub args: Vec<Arg>,
    pub body: Body,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Arg {
    pub dtype: ElementType,
    pub access: Access,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Access {
    Read,
    Write,
    /// In place: every element is read, if at all, before it is written, at the same point.
    ReadWrite,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub enum Body {
    Loops(Loops),
    Gemm(Gemm),
    Normals(Normals),
}

/// A loop over an axis. Loops of size 1 are left out by `lower`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Loop {
    pub axis: String,
    pub size: usize,
}

/// For every point of `outer`: the sections in turn. A row section runs over the whole of `row`.
/// The cut axis is `outer[0]`; a nest without outer loops is not cut.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Loops {
    pub outer: Vec<Loop>,
    pub row: Vec<Loop>,
    /// The loop whose points may be computed side by side.
    pub lanes: Lanes,
    /// Rows of numbers kept between sections; one each for a point of `outer` being computed.
    pub scratch: Vec<Scratch>,
    pub sections: Vec<Section>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Lanes {
    /// The last loop of `row`: reductions combine lanes at the end, in a fixed order.
    Row,
    /// The last loop of `outer`: every lane is a point of its own.
    Outer,
    /// None: one point at a time.
    Scalar,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Scratch {
    pub dtype: ElementType,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub enum Section {
    /// Once for a point of `outer`. Sees results of reductions of earlier row sections.
    Once(Vec<Inst>),
    /// For every point of `row`, the last loop fastest.
    Row(Vec<Inst>),
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Inst {
    /// The register defined; meaningless for `Store` and `Keep`.
    pub reg: Reg,
    pub dtype: ElementType,
    pub kind: InstKind,
}

/// A place in a buffer: the sum of loop indices times strides (in elements).
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Place {
    pub arg: ArgId,
    /// One for each loop of `outer`, then one for each of `row`; 0 where the buffer does not depend on it. In `Once`, those of `row` are 0.
    pub strides: Vec<usize>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub enum InstKind {
    Const(f64),
    /// i32 index of a loop: outer loops first, then row loops.
    Index(usize),
    Load(Place),
    /// A standard normal number. Only kernels for devices draw inside of nests; the CPU has kernels for it.
    Draw(Draw),
    /// A scalar primitive on registers.
    Prim(Prim, Vec<Reg>),
    /// Row sections only: the reduction of a register over `row`. Its own register holds the result, from the next section on.
    Reduce(Reduction, Reg),
    Store(Place, Reg),
    /// Row sections: remember a register for later row sections (by index into `scratch`).
    Keep(usize, Reg),
    /// Row sections: what `Keep` remembered at this point of the row.
    Recall(usize),
}

/// Which number of a stream: its direction and element are sums of loop indices times strides, as in a [`Place`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Draw {
    pub stream: u32,
    /// Registers, i32.
    pub seed: Reg,
    pub step: Reg,
    /// Where it is a part of more: the number of its first row, and elements in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<(Reg, usize)>,
    pub direction: Vec<usize>,
    pub element: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Reduction {
    Sum,
    /// NaN if any element is.
    Max,
}

/// Scalar primitives. Semantics are those of the ops of the same name in `pushforward_ir::op`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
pub enum Prim {
    Add,
    Sub,
    Mul,
    Neg,
    Div,
    Exp,
    Log,
    Tanh,
    Erf,
    Sqrt,
    Rsqrt,
    Relu,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    And,
    Or,
    Not,
    Select,
    /// To the instruction's dtype.
    Cast,
}

impl Prim {
    /// Whether it takes a polynomial or a call, not an instruction or a few: `Class::Slow` of the ops.
    pub fn is_slow(self) -> bool {
        matches!(self, Prim::Exp | Prim::Log | Prim::Tanh | Prim::Erf)
    }
}

/// `c[b, m, n] = sum over k of a[b, m, k] * b[b, k, n]`, strides in elements. Sums run over `k` inside and `more_k` outside, in order.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Gemm {
    pub dtype: ElementType,
    pub a: ArgId,
    pub b: ArgId,
    pub c: ArgId,
    pub batch: Vec<GemmLoop>,
    pub m: GemmDim,
    pub n: GemmDim,
    pub k: GemmDim,
    /// Further summed loops, where the summed axes do not run evenly through memory.
    pub more_k: Vec<GemmLoop>,
    pub cut: Cut,
}

/// One dimension of the product: `m` has strides in a and c, `n` in b and c, `k` in a and b; the third is 0.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GemmDim {
    /// The axes that run through it, `N*P`.
    pub axes: String,
    pub size: usize,
    pub a: usize,
    pub b: usize,
    pub c: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GemmLoop {
    pub axis: String,
    pub size: usize,
    pub a: usize,
    pub b: usize,
    pub c: usize,
}

/// Which dimension a range `from..to` of the cut axis selects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Cut {
    /// A loop of `batch`.
    Batch(usize),
    /// The slowest axis of `m`, or of `n`: this many rows (columns) for each of its steps.
    M {
        per: usize,
    },
    N {
        per: usize,
    },
    None,
}

/// Fills its only written argument (arg 0) with standard normal numbers; args 1 and 2 are seed and step (i32 scalars).
/// The buffer's own row-major order numbers the elements, within each direction.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Normals {
    pub dtype: ElementType,
    /// Steps of the cut axis (the buffer's slowest), 1 if it has none.
    pub steps: usize,
    /// Elements for one step of the cut axis.
    pub per: usize,
    /// Directions: the buffer is `[directions, elements]` if more than one, and then `steps` counts within a direction.
    pub directions: usize,
}
