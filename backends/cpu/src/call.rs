#![allow(unsafe_code)]
//! Where raw pointers are followed: calls of compiled kernels, of the GEMM library and of the noise generator. Nothing is decided here.
//! Read [`launch`] first.
//!
//! The unsafe code here rests on these invariants, which `exec.rs` keeps:
//! * The plan is verified: every place of every kernel lies inside its buffer for every index, the ranges of a launch stay inside its cut
//!   axis, and what different slices or parts of a stage write does not overlap what others of them read or write.
//! * Each pointer of a launch is its buffer's start: as many bytes as the buffer has, aligned for its elements, alive during the run, and for
//!   written buffers borrowed alone.
//! * `scratch` has [`crate::emit::scratch_bytes`] bytes and belongs to the calling thread.

use cranelift_jit::JITModule;
use cranelift_module::FuncId;
use gemm::Parallelism;
use pushforward_ir::philox::{self, Domain};
use pushforward_plan::kernel::{Body, Cut, ElementType, Gemm, GemmDim, GemmLoop, Kernel, Normals, Prim};

/// A compiled kernel: arguments, from, to, scratch.
pub(crate) type Entry = unsafe extern "C" fn(*const *mut u8, i64, i64, *mut u8);

/// The functions that compiled code calls for slow primitives: f64 only, f32 is computed in place.
pub(crate) fn symbols() -> [(Prim, &'static str, *const u8); 4] {
    extern "C" fn exp(x: f64) -> f64 {
        x.exp()
    }
    extern "C" fn log(x: f64) -> f64 {
        x.ln()
    }
    extern "C" fn tanh(x: f64) -> f64 {
        x.tanh()
    }
    extern "C" fn erf(x: f64) -> f64 {
        libm::erf(x)
    }
    [
        (Prim::Exp, "pf_exp_f64", exp as *const u8),
        (Prim::Log, "pf_log_f64", log as *const u8),
        (Prim::Tanh, "pf_tanh_f64", tanh as *const u8),
        (Prim::Erf, "pf_erf_f64", erf as *const u8),
    ]
}

/// Fused multiply-add of f32 and of f64, for processors without.
pub(crate) fn fused() -> [(&'static str, *const u8); 2] {
    extern "C" fn f32s(x: f32, y: f32, z: f32) -> f32 {
        x.mul_add(y, z)
    }
    extern "C" fn f64s(x: f64, y: f64, z: f64) -> f64 {
        x.mul_add(y, z)
    }
    [("pf_fma_f32", f32s as *const u8), ("pf_fma_f64", f64s as *const u8)]
}

/// Machine code, mapped as long as this lives.
pub(crate) struct Code {
    module: Option<JITModule>,
    /// By kernel; none where a kernel is no loop nest.
    entries: Vec<Option<Entry>>,
}

// After `finalize_definitions` nothing in the module changes: it is only kept, to unmap the code at the end.
unsafe impl Send for Code {}
unsafe impl Sync for Code {}

impl Code {
    /// `module` is finalized; `ids` are its functions, by kernel, each of the signature of a kernel.
    pub(crate) fn new(module: JITModule, ids: &[Option<FuncId>]) -> Code {
        let entry = |id: FuncId| {
            let start = module.get_finalized_function(id);
            // SAFETY: the function was compiled for this signature and the host's calling convention.
            unsafe { std::mem::transmute::<*const u8, Entry>(start) }
        };
        let entries = ids.iter().map(|id| id.map(entry)).collect();
        Code { module: Some(module), entries }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        self.entries.clear();
        if let Some(module) = self.module.take() {
            // SAFETY: entries never leave `self`.
            unsafe { module.free_memory() }
        }
    }
}

/// Pointers of the run under way, shared by the threads. Between runs they mean nothing and are kept for their memory alone.
#[derive(Default)]
pub(crate) struct Pointers {
    /// Of every buffer of the plan.
    pub buffers: Vec<*mut u8>,
    /// Of every launch's arguments, one after the other.
    pub args: Vec<*mut u8>,
    /// Of every thread's scratch.
    pub scratch: Vec<*mut u8>,
}

// The invariants above say which thread may touch what.
unsafe impl Send for Pointers {}
unsafe impl Sync for Pointers {}

/// A launch, looked up.
pub(crate) struct Ready {
    pub kernel: usize,
    /// Number of its first argument among those of all launches.
    pub first_arg: usize,
    pub stream: u32,
    /// Steps of the kernel's cut axis, and how many of them a task takes.
    pub size: usize,
    pub chunk: usize,
}

/// Runs one task of a launch on the calling thread, whose number is `thread`; a task past the end of the cut axis does nothing.
pub(crate) fn launch(pointers: &Pointers, code: &Code, kernels: &[Kernel], ready: &Ready, task: usize, thread: usize) {
    let kernel = &kernels[ready.kernel];
    let args = &pointers.args[ready.first_arg..ready.first_arg + kernel.args.len()];
    let from = (task * ready.chunk).min(ready.size);
    let to = (from + ready.chunk).min(ready.size);
    if from == to {
        return;
    }
    match &kernel.body {
        Body::Loops(_) => {
            let entry = code.entries[ready.kernel].expect("every loop nest was compiled");
            // SAFETY: the module's invariants.
            unsafe { entry(args.as_ptr(), from as i64, to as i64, pointers.scratch[thread]) }
        }
        Body::Gemm(gemm) => match gemm.dtype {
            ElementType::F64 => product::<f64>(gemm, args, from, to),
            ElementType::F32 | ElementType::I32 | ElementType::Bool => product::<f32>(gemm, args, from, to),
        },
        Body::Normals(normals) => noise(normals, args, ready.stream, from, to),
    }
}

/// A matrix product on part of one of its dimensions.
fn product<T: Real>(gemm: &Gemm, args: &[*mut u8], from: usize, to: usize) {
    let [mut a, mut b, mut c] = [gemm.a, gemm.b, gemm.c].map(|arg| args[arg].cast::<T>());
    let (mut m, mut n) = (gemm.m.clone(), gemm.n.clone());
    let mut batch = gemm.batch.clone();
    let mut skip = |steps: usize, d: (usize, usize, usize)| {
        a = a.wrapping_add(steps * d.0);
        b = b.wrapping_add(steps * d.1);
        c = c.wrapping_add(steps * d.2);
    };
    match gemm.cut {
        Cut::Batch(i) => {
            skip(from, (batch[i].a, batch[i].b, batch[i].c));
            batch[i].size = to - from;
        }
        Cut::M { per } => {
            skip(from * per, (m.a, m.b, m.c));
            m.size = (to - from) * per;
        }
        Cut::N { per } => {
            skip(from * per, (n.a, n.b, n.c));
            n.size = (to - from) * per;
        }
        Cut::None => {}
    }
    if m.size == 0 || n.size == 0 {
        return;
    }
    // Where rows of one batch's products alternate in memory, they share cache lines: a block of rows of all products before the next block.
    let alternate = batch.iter().any(|l| l.a > 0 && l.a < m.a || l.c > 0 && l.c < m.c);
    let rows = if alternate { BLOCK } else { m.size };
    for first_row in (0..m.size).step_by(rows) {
        let m = GemmDim { size: rows.min(m.size - first_row), ..m.clone() };
        points(&batch, |da, db, dc| {
            let (a, b, c) = (a.wrapping_add(first_row * m.a + da), b.wrapping_add(db), c.wrapping_add(first_row * m.c + dc));
            if gemm.k.size == 0 || gemm.more_k.iter().any(|l| l.size == 0) {
                return zero(c, &m, &n);
            }
            let mut first = true;
            points(&gemm.more_k, |da, db, _| {
                // SAFETY: the module's invariants. The first product overwrites, and does not read, what stands in c.
                unsafe { T::multiply(&m, &n, &gemm.k, a.wrapping_add(da), b.wrapping_add(db), c, !first) }
                first = false;
            });
        });
    }
}

/// Rows of a batch's products that are computed at once.
const BLOCK: usize = 64;

/// Calls `f` with the offsets of every point of the loops, the last one fastest.
fn points(loops: &[GemmLoop], mut f: impl FnMut(usize, usize, usize)) {
    fn go(loops: &[GemmLoop], at: (usize, usize, usize), f: &mut dyn FnMut(usize, usize, usize)) {
        match loops.split_first() {
            None => f(at.0, at.1, at.2),
            Some((l, rest)) => (0..l.size).for_each(|i| go(rest, (at.0 + i * l.a, at.1 + i * l.b, at.2 + i * l.c), f)),
        }
    }
    go(loops, (0, 0, 0), &mut f)
}

/// A sum over nothing.
fn zero<T: Real>(c: *mut T, m: &GemmDim, n: &GemmDim) {
    for i in 0..m.size {
        for j in 0..n.size {
            // SAFETY: the module's invariants.
            unsafe { c.wrapping_add(i * m.c + j * n.c).write(T::default()) }
        }
    }
}

/// Numbers that have a GEMM.
trait Real: Copy + Default + 'static {
    /// `c (+)= a * b`.
    ///
    /// # Safety
    /// Every element that the dimensions name lies inside its buffer.
    unsafe fn multiply(m: &GemmDim, n: &GemmDim, k: &GemmDim, a: *const Self, b: *const Self, c: *mut Self, add: bool);
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            unsafe fn multiply(m: &GemmDim, n: &GemmDim, k: &GemmDim, a: *const $t, b: *const $t, c: *mut $t, add: bool) {
                // SAFETY: the caller's.
                unsafe {
                    gemm::gemm(
                        m.size,
                        n.size,
                        k.size,
                        c,
                        n.c as isize,
                        m.c as isize,
                        add,
                        a,
                        k.a as isize,
                        m.a as isize,
                        b,
                        n.b as isize,
                        k.b as isize,
                        1.0,
                        1.0,
                        false,
                        false,
                        false,
                        Parallelism::None,
                    )
                }
            }
        }
    };
}
real!(f32);
real!(f64);

/// Standard normal numbers for a range of the buffer's slowest axis, in every direction.
fn noise(normals: &Normals, args: &[*mut u8], stream: u32, from: usize, to: usize) {
    // SAFETY: the module's invariants: seed, step and row are i32 scalars.
    let word = |arg: *mut u8| unsafe { arg.cast::<u32>().read() };
    let (seed, step, row) = (word(args[1]), word(args[2]), args.get(3).map_or(0, |&row| word(row)));
    let (first, count) = (from * normals.per, (to - from) * normals.per);
    let element = u64::from(row) * normals.per as u64 + first as u64;
    for direction in 0..normals.directions {
        let start = direction * normals.steps * normals.per + first;
        let number = direction as u32;
        // SAFETY: the module's invariants: the range lies inside the buffer.
        unsafe {
            match normals.dtype {
                ElementType::F64 => {
                    let out = std::slice::from_raw_parts_mut(args[0].cast::<f64>().add(start), count);
                    philox::fill_normals_f64(seed, Domain::Noise, stream, number, step, element, out);
                }
                ElementType::F32 | ElementType::I32 | ElementType::Bool => {
                    let out = std::slice::from_raw_parts_mut(args[0].cast::<f32>().add(start), count);
                    fill(seed, stream, number, step, element, out);
                }
            }
        }
    }
}

/// `fill_normals`, compiled for the widest vectors that the processor has. The bits are the same.
fn fill(seed: u32, stream: u32, direction: u32, step: u32, first: u64, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw")]
        fn avx512(seed: u32, stream: u32, direction: u32, step: u32, first: u64, out: &mut [f32]) {
            philox::fill_normals(seed, Domain::Noise, stream, direction, step, first, out);
        }
        #[target_feature(enable = "avx2")]
        fn avx2(seed: u32, stream: u32, direction: u32, step: u32, first: u64, out: &mut [f32]) {
            philox::fill_normals(seed, Domain::Noise, stream, direction, step, first, out);
        }
        let wide = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw");
        if wide {
            // SAFETY: the processor has the features.
            return unsafe { avx512(seed, stream, direction, step, first, out) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature.
            return unsafe { avx2(seed, stream, direction, step, first, out) };
        }
    }
    philox::fill_normals(seed, Domain::Noise, stream, direction, step, first, out);
}

/// Starts of square f32 matrices, three for each thread: what `peak.rs` multiplies.
pub(crate) struct Starts(pub Vec<*mut u8>);

// Tasks with different numbers use different matrices.
unsafe impl Sync for Starts {}

/// Matrix `first + 2` becomes the product of `first` and `first + 1`, all `size` by `size`.
pub(crate) fn square_product(starts: &Starts, first: usize, size: usize) {
    let [a, b, c] = [0, 1, 2].map(|i| starts.0[first + i].cast::<f32>());
    let dim = |a, b, c| GemmDim { axes: String::new(), size, a, b, c };
    // SAFETY: the caller's blocks hold size * size numbers each, and no other task uses them.
    unsafe { f32::multiply(&dim(size, 0, size), &dim(0, 1, 1), &dim(1, size, 0), a, b, c, false) }
}
