//! A plan for a machine that runs blocks of threads: buffers, kernels as programs of one thread, launches. It is what remains when everything
//! is decided: which thread computes what, tiles, staging, barriers, guards, the order of sums. Only spelling is left, and no target's
//! spelling is here.
//!
//! Read [`DevicePlan`] first, then [`DeviceKernel`] and [`Stmt`].

use serde::Serialize;

use crate::kernel::{Access, BufferId, ElementType, Prim, Reduction};

/// Everything that a device needs to run one program.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DevicePlan {
    pub name: String,
    /// Inputs without axes, in the program's order: the caller's numbers for one run, read by kernels as [`Expr::Scalar`].
    pub scalars: Vec<Scalar>,
    pub buffers: Vec<DeviceBuffer>,
    /// Bytes of each piece of memory that temporaries share, one after the other in time.
    pub slots: Vec<usize>,
    /// Each stands here once, however often it is launched.
    pub kernels: Vec<DeviceKernel>,
    /// In order: each sees what those before it wrote.
    pub launches: Vec<DeviceLaunch>,
}

/// An input without axes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Scalar {
    pub name: String,
    pub dtype: ElementType,
    /// Its number among the program's inputs.
    pub input: usize,
}

/// A dense block of memory, row-major over `dims`. A condition takes four bytes, 0 or 1.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DeviceBuffer {
    pub name: String,
    pub dtype: ElementType,
    /// Axis names and sizes, slowest first. Empty for a scalar, which takes one element.
    pub dims: Vec<(String, usize)>,
    pub role: DeviceRole,
    /// First and last launch that touch it, inclusive. For the border: the whole plan.
    pub live: (usize, usize),
}

impl DeviceBuffer {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().map(|d| d.1).product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.len() * element_bytes(self.dtype)
    }
}

/// Bytes of an element on a device.
pub fn element_bytes(dtype: ElementType) -> usize {
    match dtype {
        ElementType::F32 | ElementType::I32 | ElementType::Bool => 4,
        ElementType::F64 => 8,
    }
}

/// What a buffer is to the outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum DeviceRole {
    /// Read only, handed in for each run: index into the program's inputs.
    Input(usize),
    /// Kept between runs, read and updated in place: index into the program's parameters. Programs of one model find theirs by name.
    State(usize),
    /// Written: index into the program's outputs.
    Output(usize),
    /// At the start of this slot.
    Slot(usize),
}

/// One kernel on bound buffers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DeviceLaunch {
    pub kernel: usize,
    /// One buffer for each of the kernel's arguments.
    pub args: Vec<BufferId>,
    /// Of each of the kernel's draws, the stream to draw from.
    pub streams: Vec<u32>,
}

/// What every thread of a grid runs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct DeviceKernel {
    /// An identifier, unique in the plan, that says what is computed.
    pub name: String,
    /// Shapes and source ops, for people.
    pub about: String,
    pub args: Vec<DeviceArg>,
    /// The plan's scalars that it reads, by index.
    pub scalars: Vec<usize>,
    /// How many streams of noise a launch names.
    pub streams: usize,
    /// Blocks in x and y. [`Expr::Block`] numbers them `y * grid.0 + x`; there may be a few more than are needed.
    pub grid: (u32, u32),
    /// Threads of a block, in one dimension.
    pub block: u32,
    /// Memory that the threads of a block share.
    pub shared: Vec<Shared>,
    /// Whether places need more than 32 bits.
    pub wide: bool,
    pub work: Work,
    pub body: Vec<Stmt>,
}

/// What a launch computes, counted. What is computed again, for each tile that loads it, counts again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Work {
    /// Of contractions, 2 for each product.
    pub contraction_flops: u64,
    /// Primitives and terms of reductions, 1 each.
    pub other_flops: u64,
    /// Normal numbers drawn.
    pub normals: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DeviceArg {
    /// What the first launch binds to it, as an identifier unique in the kernel.
    pub name: String,
    pub dtype: ElementType,
    pub access: Access,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Shared {
    pub dtype: ElementType,
    pub len: usize,
}

/// A name for a number in a thread, `v3`; unique in the kernel.
pub type Var = u32;
/// Index into [`DeviceKernel::args`].
pub type ArgId = usize;
/// Index into [`DeviceKernel::shared`].
pub type SharedId = usize;

/// What a number in a thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum VarType {
    /// Without a sign: counts and places.
    Index,
    Element(ElementType),
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub enum Stmt {
    /// A number that never changes.
    Let(Var, VarType, Expr),
    /// One that does.
    Var(Var, VarType, Expr),
    /// As many elements, all zero at first. Where indices are constants of unrolled loops, they are registers.
    Array(Var, ElementType, usize),
    Set(Var, Expr),
    SetElement(Var, Expr, Expr),
    SetShared(SharedId, Expr, Expr),
    Store(ArgId, Expr, Expr),
    /// `var` from 0 up to, not including, `count`.
    For {
        var: Var,
        count: u64,
        /// All steps are written out by the target's compiler.
        unroll: bool,
        body: Vec<Stmt>,
    },
    If(Expr, Vec<Stmt>),
    /// All threads of the block wait for each other, and see what the others wrote to shared memory.
    Barrier,
    /// The threads of a group, `width` (a power of two, at most 32) neighbours from a multiple of it, combine their values of a variable: step by step
    /// with the neighbour at distance `width / 2`, .., 2, 1, so that all get the same. Stands where all threads of the block pass. `shared` has an
    /// element for each thread of the block, for targets that exchange numbers through memory; it is free again when the statement ends.
    Combine {
        var: Var,
        dtype: ElementType,
        reduction: Reduction,
        width: u32,
        shared: SharedId,
    },
    /// A tensor core's step by the 32 threads of a warp: `acc[at..at + 4] += a[a_at..a_at + 4] * b[b_at..b_at + 2]`, the fragments of a 16 x 8 result
    /// and factors 16 x 8 and 8 x 8, held as PTX's `mma.m16n8k8` for TF32 holds them. The factors have been through [`Expr::Tf32`].
    Mma {
        acc: (Var, u64),
        a: (Var, u64),
        b: (Var, u64),
    },
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub enum Expr {
    /// An index.
    Int(u64),
    /// A number; conditions are 0 and 1.
    Number(f64, ElementType),
    Var(Var),
    Element(Var, Box<Expr>),
    Shared(SharedId, Box<Expr>),
    Load(ArgId, Box<Expr>),
    /// One of the plan's scalars.
    Scalar(usize),
    /// Index of the thread in its block.
    Thread,
    /// Index of the block in its grid.
    Block,
    /// On indices, giving an index.
    Index(IndexOp, Box<Expr>, Box<Expr>),
    /// On indices, giving a condition.
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// Both conditions hold.
    Both(Box<Expr>, Box<Expr>),
    /// An index as i32.
    Integer(Box<Expr>),
    /// An i32 that is not negative as an index.
    Position(Box<Expr>),
    /// A scalar primitive; the dtype of its operands (the last one's for a select), the dtype that it gives, the operands.
    Prim(Prim, ElementType, ElementType, Vec<Expr>),
    /// `x * y + z`, rounded once where the target can.
    Fma(ElementType, Box<Expr>, Box<Expr>, Box<Expr>),
    /// The larger of two; NaN if one is.
    Max(ElementType, Box<Expr>, Box<Expr>),
    /// f32 rounded to TF32's ten bits of fraction, ties away from zero.
    Tf32(Box<Expr>),
    /// A standard normal number of `pushforward_ir::philox`.
    Normal(Box<Normal>),
}

/// Where a normal number stands. Seed and step are i32, direction and element indices.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Normal {
    pub dtype: ElementType,
    /// The key's second word.
    pub domain: u32,
    pub seed: Expr,
    pub step: Expr,
    /// Which of the launch's streams.
    pub stream: usize,
    pub direction: Expr,
    pub element: Expr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum IndexOp {
    Add,
    Mul,
    Div,
    Rem,
    Min,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Comparison {
    Lt,
    Eq,
}
