//! The emulator itself, on kernels written by hand whose results are known: barriers, exchanges between lanes, tensor-core products, launches that no
//! device takes. And the tests of the tests: a barrier taken away, a wrong bound and a barrier that not all threads reach are found.

mod support;

use pushforward_gpu::driver::{DeviceError, Driver, Memory};
use pushforward_gpu::emu::{Emulator, Library, Options};
use pushforward_gpu::source::Source;
use support::skipped;

const NORMAL: Options = Options { sanitize: false, reversed: false, threads: 2 };
const REVERSED: Options = Options { sanitize: false, reversed: true, threads: 2 };
const SANITIZED: Options = Options { sanitize: true, reversed: false, threads: 2 };

/// Without g++ there is nothing to test.
fn emulator(options: Options) -> Option<Emulator> {
    match Emulator::new(options) {
        Ok(emulator) => Some(emulator),
        Err(error @ DeviceError::Absent { .. }) => {
            skipped(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A kernel by hand: its text, its parameters as they are declared, grid and block.
struct Kernel {
    name: &'static str,
    parameters: &'static str,
    body: &'static str,
    grid: &'static str,
    block: u32,
}

/// Each kernel is an entry of one launch file: its buffers in the order of its parameters, but for the last, `n`, which is a scalar.
fn load(emulator: &mut Emulator, kernels: &[Kernel]) -> Result<Library, DeviceError> {
    let source = |k: &Kernel| Source {
        name: k.name.into(),
        text: format!("extern \"C\" __global__ void {}({})\n{{{}}}\n", k.name, k.parameters, k.body),
    };
    let mut declared = String::new();
    let mut entries = String::new();
    for Kernel { name, parameters, grid, block, .. } in kernels {
        declared += &format!("extern \"C\" __global__ void {name}({parameters});\n");
        let arguments = (0..parameters.matches('*').count()).map(|b| format!("(float *)buffers[{b}]"));
        let scalar = parameters.contains("int n").then(|| "*(const int *)scalars".to_string());
        let arguments: Vec<String> = arguments.chain(scalar).collect();
        entries += &format!("    if (is(entry, \"{name}\")) PF_LAUNCH({name}, {grid}, {block}, stream, {});\n", arguments.join(", "));
    }
    let launch = format!(
        "{declared}
static bool is(const char *x, const char *y) {{ for (; *x && *x == *y; x++, y++) {{}} return *x == *y; }}
extern \"C\" int pf_run(const char *entry, cudaStream_t stream, void *const *buffers, const void *scalars) {{
{entries}    return cudaGetLastError();
}}
"
    );
    emulator.load_sources(&kernels.iter().map(source).collect::<Vec<_>>(), &launch, "")
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_ne_bytes()).collect()
}

fn place(emulator: &mut Emulator, name: &str, numbers: &[f32]) -> Memory {
    let memory = emulator.allocate(name, 4 * numbers.len()).unwrap();
    emulator.write(memory, &bytes(numbers)).unwrap();
    memory
}

fn numbers(emulator: &mut Emulator, memory: Memory, len: usize) -> Vec<f32> {
    let mut bytes = vec![0; 4 * len];
    emulator.read(memory, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|x| f32::from_ne_bytes(x.try_into().unwrap())).collect()
}

/// Small whole numbers with no pattern that a wrong index would hit.
fn ramp(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 + i / 7) % 23) as f32 - 11.0).collect()
}

const ALL: &[Options] = &[NORMAL, REVERSED, SANITIZED];

/// Shared memory as a staging place: each block of 64 turns its part around.
const TURN: Kernel = Kernel {
    name: "turn",
    parameters: "const float* __restrict__ x, float* __restrict__ y",
    body: "
    __shared__ float s[64];
    s[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
    __syncthreads();
    y[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x];
",
    grid: "dim3(5)",
    block: 64,
};

/// The sums of rows of 100 numbers, a block of 64 threads each: lanes exchange, then warps through shared memory.
const ROWS: Kernel = Kernel {
    name: "rows",
    parameters: "const float* x, float* y, int n",
    body: "
    __shared__ float s[2];
    float sum = 0.0f;
    unsigned row = blockIdx.y * gridDim.x + blockIdx.x;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[row * n + i];
    #pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (threadIdx.x % 32 == 0) s[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) y[row] = s[0] + s[1];
",
    grid: "dim3(3, 4)",
    block: 64,
};

/// Other exchanges, of doubles too.
const LANES: Kernel = Kernel {
    name: "lanes",
    parameters: "float* y",
    body: "
    double mine = threadIdx.x;
    y[threadIdx.x] = (float)__shfl_down_sync(0xffffffffu, mine, 5);
    y[64 + threadIdx.x] = (float)__shfl_sync(0xffffffffu, mine, 3);
",
    grid: "1",
    block: 64,
};

/// A product of 48 x 40 and 40 x 32 in tiles of 16, k in tiles of 8.
const TILED: Kernel = Kernel {
    name: "tiled",
    parameters: "const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c",
    body: "
    __shared__ float sa[16 * 8];
    __shared__ float sb[8 * 16];
    unsigned row = threadIdx.x / 16, column = threadIdx.x % 16;
    unsigned top = blockIdx.x / 2 * 16, left = blockIdx.x % 2 * 16;
    float sum = 0.0f;
    for (unsigned k = 0; k < 40; k += 8) {
        if (threadIdx.x < 128) {
            sa[threadIdx.x] = a[(top + threadIdx.x / 8) * 40 + k + threadIdx.x % 8];
            sb[threadIdx.x] = b[(k + threadIdx.x / 16) * 32 + left + threadIdx.x % 16];
        }
        __syncthreads();
        for (unsigned i = 0; i < 8; i++) sum = fmaf(sa[row * 8 + i], sb[i * 16 + column], sum);
        __syncthreads();
    }
    c[(top + row) * 32 + left + column] = sum;
",
    grid: "6",
    block: 256,
};

/// A warp's product of 16 x 24 and 24 x 8 by the fragments of PTX's `mma.m16n8k8`.
const MMA: Kernel = Kernel {
    name: "mma",
    parameters: "const float* a, const float* b, float* c",
    body: "
    unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
    float acc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (unsigned k = 0; k < 24; k += 8) {
        float x[4] = {pf_tf32(a[g * 24 + k + t]), pf_tf32(a[(g + 8) * 24 + k + t]), pf_tf32(a[g * 24 + k + t + 4]), pf_tf32(a[(g + 8) * 24 + k + t + 4])};
        float y[2] = {pf_tf32(b[(k + t) * 8 + g]), pf_tf32(b[(k + t + 4) * 8 + g])};
        pf_mma_m16n8k8_tf32(acc, x, y);
    }
    c[g * 8 + 2 * t] = acc[0];
    c[g * 8 + 2 * t + 1] = acc[1];
    c[(g + 8) * 8 + 2 * t] = acc[2];
    c[(g + 8) * 8 + 2 * t + 1] = acc[3];
",
    grid: "1",
    block: 32,
};

/// Whatever the order of threads and with the sanitizer looking on: the known results.
#[test]
fn kernels_give_what_they_must() {
    for options in ALL {
        let Some(mut emulator) = emulator(*options) else { return };
        let library = load(&mut emulator, &[TURN, ROWS, LANES, TILED, MMA]).unwrap();

        let x = ramp(320);
        let (mx, my) = (place(&mut emulator, "x", &x), place(&mut emulator, "y", &[0.0; 320]));
        emulator.run_entry(library, "turn", &[mx, my], &[]).unwrap();
        let want: Vec<f32> = x.chunks_exact(64).flat_map(|part| part.iter().rev().copied()).collect();
        assert_eq!(numbers(&mut emulator, my, 320), want, "{options:?}");

        let x = ramp(1200);
        let (mx, my) = (place(&mut emulator, "x", &x), place(&mut emulator, "y", &[0.0; 12]));
        emulator.run_entry(library, "rows", &[mx, my], &100i32.to_ne_bytes()).unwrap();
        let want: Vec<f32> = x.chunks_exact(100).map(|row| row.iter().sum()).collect();
        assert_eq!(numbers(&mut emulator, my, 12), want, "{options:?}");

        let my = place(&mut emulator, "y", &[0.0; 128]);
        emulator.run_entry(library, "lanes", &[my], &[]).unwrap();
        let down = (0..64).map(|i| if i % 32 + 5 < 32 { i + 5 } else { i } as f32);
        let third = (0..64).map(|i| (i / 32 * 32 + 3) as f32);
        assert_eq!(numbers(&mut emulator, my, 128), down.chain(third).collect::<Vec<_>>(), "{options:?}");

        let (a, b) = (ramp(48 * 40), ramp(40 * 32));
        let (ma, mb, mc) = (place(&mut emulator, "a", &a), place(&mut emulator, "b", &b), place(&mut emulator, "c", &[0.0; 48 * 32]));
        emulator.run_entry(library, "tiled", &[ma, mb, mc], &[]).unwrap();
        assert_eq!(numbers(&mut emulator, mc, 48 * 32), product(&a, &b, 48, 40, 32), "{options:?}");

        // Whole numbers and quarters are TF32 already, and their products and sums exact; only the layout can be wrong.
        let (a, b): (Vec<f32>, Vec<f32>) = (ramp(16 * 24), ramp(24 * 8).iter().map(|x| x / 4.0).collect());
        let (ma, mb, mc) = (place(&mut emulator, "a", &a), place(&mut emulator, "b", &b), place(&mut emulator, "c", &[0.0; 16 * 8]));
        emulator.run_entry(library, "mma", &[ma, mb, mc], &[]).unwrap();
        assert_eq!(numbers(&mut emulator, mc, 16 * 8), product(&a, &b, 16, 24, 8), "{options:?}");
    }
}

/// `c[m, n] = sum over k of a[m, k] * b[k, n]`.
fn product(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f32> {
    let element = |i: usize| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum();
    (0..m * n).map(element).collect()
}

/// TF32 has ten bits of fraction, ties go away from zero, and what a product gets is rounded before, not after.
#[test]
fn tensor_cores_take_rounded_numbers() {
    let Some(mut emulator) = emulator(NORMAL) else { return };
    let round = Kernel {
        name: "round",
        parameters: "const float* x, float* y",
        body: "\n    y[threadIdx.x] = pf_tf32(x[threadIdx.x]);\n",
        grid: "1",
        block: 8,
    };
    let library = load(&mut emulator, &[round, MMA]).unwrap();
    let bit = f32::EPSILON; // the last of 23
    let half = bit * 4096.0;
    let x = [1.0 + half, 1.0 + half - bit, -1.0 - half, 1.0 + 3.0 * half, f32::INFINITY, f32::NAN, f32::MAX, -0.0];
    let (mx, my) = (place(&mut emulator, "x", &x), place(&mut emulator, "y", &[0.0; 8]));
    emulator.run_entry(library, "round", &[mx, my], &[]).unwrap();
    let y = numbers(&mut emulator, my, 8);
    assert_eq!(y[..5], [1.0 + 2.0 * half, 1.0, -1.0 - 2.0 * half, 1.0 + 4.0 * half, f32::INFINITY]);
    assert!(y[5].is_nan());
    assert_eq!(y[6..], [f32::INFINITY, 0.0]);
    assert!(y[7].is_sign_negative());

    let fraction = |i: usize| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5;
    let (a, b): (Vec<f32>, Vec<f32>) = ((0..16 * 24).map(fraction).collect(), (0..24 * 8).map(|i| fraction(i + 500)).collect());
    let (ma, mb, mc) = (place(&mut emulator, "a", &a), place(&mut emulator, "b", &b), place(&mut emulator, "c", &[0.0; 16 * 8]));
    emulator.run_entry(library, "mma", &[ma, mb, mc], &[]).unwrap();
    let tf32 = |x: &f32| f32::from_bits((x.to_bits() + 0x1000) & !0x1fff) as f64;
    let (a, b): (Vec<f64>, Vec<f64>) = (a.iter().map(tf32).collect(), b.iter().map(tf32).collect());
    for (i, got) in numbers(&mut emulator, mc, 16 * 8).into_iter().enumerate() {
        let want: f64 = (0..24).map(|k| a[i / 8 * 24 + k] * b[k * 8 + i % 8]).sum();
        assert!((got as f64 - want).abs() < 1e-6, "element {i}: {got} for {want}");
    }
}

/// The barrier of [`TURN`] taken away: in one order of threads, each reads what its neighbours have not written yet, and shared memory holds NaN.
#[test]
fn a_missing_barrier_is_found() {
    let body = TURN.body.replace("    __syncthreads();\n", "");
    assert_ne!(body, TURN.body);
    for options in [NORMAL, REVERSED] {
        let Some(mut emulator) = emulator(options) else { return };
        let library = load(&mut emulator, &[Kernel { body: body.clone().leak(), ..TURN }]).unwrap();
        let (mx, my) = (place(&mut emulator, "x", &ramp(320)), place(&mut emulator, "y", &[0.0; 320]));
        emulator.run_entry(library, "turn", &[mx, my], &[]).unwrap();
        let undefined = numbers(&mut emulator, my, 320).iter().filter(|x| x.is_nan()).count();
        assert_eq!(undefined, 160, "half of the threads read before the other half has written, {options:?}");
    }
}

/// Without the second barrier of [`TILED`], the next tile is written over what others still read: wrong numbers in either order.
#[test]
fn a_missing_barrier_between_tiles_is_found() {
    let body = TILED.body.replace("sum);\n        __syncthreads();\n", "sum);\n");
    assert_ne!(body, TILED.body);
    let Some(mut emulator) = emulator(NORMAL) else { return };
    let library = load(&mut emulator, &[Kernel { body: body.leak(), ..TILED }]).unwrap();
    let (a, b) = (ramp(48 * 40), ramp(40 * 32));
    let (ma, mb, mc) = (place(&mut emulator, "a", &a), place(&mut emulator, "b", &b), place(&mut emulator, "c", &[0.0; 48 * 32]));
    emulator.run_entry(library, "tiled", &[ma, mb, mc], &[]).unwrap();
    assert_ne!(numbers(&mut emulator, mc, 48 * 32), product(&a, &b, 48, 40, 32));
}

/// What a run that must fail says.
fn failure(emulator: &mut Emulator, kernel: Kernel, buffers: &[(&str, usize)]) -> String {
    emulator.restart().unwrap();
    let name = kernel.name;
    let library = load(emulator, &[kernel]).unwrap();
    let buffers: Vec<Memory> = buffers.iter().map(|(name, len)| place(emulator, name, &vec![0.0; *len])).collect();
    let error = emulator.run_entry(library, name, &buffers, &[]).unwrap_err();
    let DeviceError::Lost { what, why, .. } = &error else { panic!("{error:?}") };
    assert_eq!(what, name);
    // What is lost stays lost.
    assert_eq!(emulator.run_entry(library, name, &buffers, &[]).unwrap_err(), error);
    assert_eq!(emulator.read(buffers[0], &mut []).unwrap_err(), error);
    why.clone()
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

/// One element too few for the last thread: the sanitizer names kernel, thread, buffer and line.
#[test]
fn a_wrong_bound_is_found() {
    let Some(mut emulator) = emulator(SANITIZED) else { return };
    let why = failure(&mut emulator, TURN, &[("x", 319), ("y", 320)]);
    says(&why, &["heap-buffer-overflow", "kernel `turn`, block (4, 0), thread 63", "byte 1276 of `x`, which has 1276", "turn.cu:4"]);

    let write = Kernel {
        name: "shared_bound",
        parameters: "float* y",
        body: "
    __shared__ float s[64];
    s[threadIdx.x + 1] = 0.0f;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
",
        grid: "1",
        block: 64,
    };
    let why = failure(&mut emulator, write, &[("y", 64)]);
    says(&why, &["global-buffer-overflow", "kernel `shared_bound`, block (0, 0), thread 63", "shared_bound.cu:4"]);
}

/// Half of a block waits for the other half, which has ended or waits elsewhere.
#[test]
fn a_barrier_that_not_all_reach_is_reported() {
    let Some(mut emulator) = emulator(NORMAL) else { return };
    let kernel = |name, body| Kernel { name, parameters: "float* y", body, grid: "dim3(2, 2)", block: 64 };
    let ended = kernel("ended", "\n    if (threadIdx.x < 40) __syncthreads();\n    y[0] = 1.0f;\n");
    let why = failure(&mut emulator, ended, &[("y", 1)]);
    says(&why, &["kernel `ended`, block (0, 0): thread 0 waits at `__syncthreads` (ended.cu:3), but thread 40 has ended"]);

    let elsewhere = kernel(
        "elsewhere",
        "\n    if (threadIdx.x < 40) {\n        __syncthreads();\n    } else {\n        __syncthreads();\n    }\n    y[0] = 1.0f;\n",
    );
    let why = failure(&mut emulator, elsewhere, &[("y", 1)]);
    says(&why, &["thread 0 waits at `__syncthreads` (elsewhere.cu:4), but thread 40 waits at `__syncthreads` (elsewhere.cu:6)"]);

    let lanes = kernel("lanes", "\n    if (threadIdx.x != 33) y[0] = __shfl_xor_sync(0xffffffffu, y[0], 1);\n");
    let why = failure(&mut emulator, lanes, &[("y", 1)]);
    says(&why, &["thread 32 waits at `__shfl_xor_sync` (lanes.cu:3), but thread 33 has ended"]);
}

/// Too many threads, blocks, or bytes of shared memory, with and without the sanitizer's zones between variables.
#[test]
fn a_launch_that_no_device_takes_is_reported() {
    let kernel = |name, body, grid, block| Kernel { name, parameters: "float* y", body, grid, block };
    let store = "\n    y[0] = 1.0f;\n";
    let exactly = "
    __shared__ float s[12200];
    __shared__ float t[88];
    s[threadIdx.x] = t[threadIdx.x] = 1.0f;
    __syncthreads();
    y[0] = s[threadIdx.x] * t[threadIdx.x];
";
    for options in [NORMAL, SANITIZED] {
        let Some(mut emulator) = emulator(options) else { return };
        let why = failure(&mut emulator, kernel("wide", store, "1", 1025), &[("y", 1)]);
        says(&why, &["kernel `wide` cannot be launched: a block of 1025 x 1 x 1 threads"]);
        let why = failure(&mut emulator, kernel("tall", store, "dim3(1, 65536)", 32), &[("y", 1)]);
        says(&why, &["a grid of 1 x 65536 x 1 blocks"]);
        let hungry = exactly.replace("t[88]", "t[92]").leak();
        let why = failure(&mut emulator, kernel("hungry", hungry, "1", 32), &[("y", 1)]);
        says(&why, &["kernel `hungry` cannot be launched: 49168 bytes of shared memory; a device takes 49152"]);

        emulator.restart().unwrap();
        let library = load(&mut emulator, &[kernel("full", exactly, "1", 32)]).unwrap();
        let y = place(&mut emulator, "y", &[0.0]);
        emulator.run_entry(library, "full", &[y], &[]).unwrap();
        assert_eq!(numbers(&mut emulator, y, 1), [1.0]);
    }
}

/// A crash outside of the sanitizer's sight still tells where; the process that asked lives on.
#[test]
fn a_crash_takes_nobody_along() {
    let Some(mut emulator) = emulator(NORMAL) else { return };
    let kernel = |name, body| Kernel { name, parameters: "float* y", body, grid: "1", block: 32 };
    let why = failure(&mut emulator, kernel("far", "\n    if (threadIdx.x == 7) y[1ull << 44] = 1.0f;\n"), &[("y", 1)]);
    says(&why, &["Segmentation fault in kernel `far`, block (0, 0), thread 7"]);
    let deep = "\n    volatile float all[40000];\n    for (int i = 39999; i >= 0; i--) all[i] = 1.0f;\n    y[0] = all[7];\n";
    let why = failure(&mut emulator, kernel("deep", deep), &[("y", 1)]);
    says(&why, &["in kernel `deep`, block (0, 0), thread 0", "its stack of 65536 bytes is too small"]);
}

#[test]
fn a_text_that_is_no_program_is_refused_with_its_line() {
    let Some(mut emulator) = emulator(NORMAL) else { return };
    let wrong = Kernel { name: "wrong", parameters: "float* y", body: "\n    y[0] = nobody(1.0f);\n", grid: "1", block: 32 };
    let error = load(&mut emulator, &[TURN, wrong]).unwrap_err();
    let DeviceError::Compile { kernel, why, .. } = &error else { panic!("{error:?}") };
    assert_eq!(kernel, "wrong");
    says(why, &["wrong.cu:3", "nobody"]);
}

/// More than one library at a time, and memory that comes and goes.
#[test]
fn libraries_do_not_meet() {
    let Some(mut emulator) = emulator(NORMAL) else { return };
    let fill = |body| Kernel { name: "fill", parameters: "float* y", body, grid: "2", block: 32 };
    let one = load(&mut emulator, &[fill("\n    y[blockIdx.x * 32 + threadIdx.x] = 1.0f;\n")]).unwrap();
    let two = load(&mut emulator, &[fill("\n    y[blockIdx.x * 32 + threadIdx.x] = 2.0f;\n")]).unwrap();
    let gone = place(&mut emulator, "gone", &[1.0]);
    emulator.free(gone);
    let y = emulator.allocate("y", 256).unwrap();
    assert_eq!(numbers(&mut emulator, y, 64), [0.0; 64]);
    emulator.run_entry(one, "fill", &[y], &[]).unwrap();
    assert_eq!(numbers(&mut emulator, y, 64), [1.0; 64]);
    emulator.run_entry(two, "fill", &[y], &[]).unwrap();
    assert_eq!(numbers(&mut emulator, y, 64), [2.0; 64]);
    emulator.undefine(y, 256).unwrap();
    assert!(numbers(&mut emulator, y, 64).iter().all(|x| x.is_nan()));
    let error = emulator.allocate("all", usize::MAX / 2).unwrap_err();
    assert!(matches!(error, DeviceError::Memory { .. }), "{error}");
}
