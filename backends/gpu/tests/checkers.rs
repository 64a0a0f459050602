//! The compilers that judge emitted texts are themselves held to texts whose faults are known.

mod support;

use support::{Nvcc, tint, validate_wgsl};

const DOUBLED: &str = "
struct Scalars { lr: f32, step: i32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> scalars: Scalars;
override stream0: u32;
var<workgroup> s0: array<f32, 64>;
@compute @workgroup_size(64)
fn doubled(@builtin(local_invocation_index) thread: u32) {
    s0[thread] = x[thread];
    workgroupBarrier();
    y[thread] = s0[63u - thread] * scalars.lr + f32(stream0);
}
";

#[test]
fn naga_accepts_and_refuses() {
    validate_wgsl(DOUBLED).unwrap();
    let error = validate_wgsl(&DOUBLED.replace("= x[thread]", "= x[thread] + 1u")).unwrap_err();
    assert!(error.contains("s0[thread] = x[thread] + 1u"), "{error}");
}

#[test]
fn tint_accepts_and_refuses() {
    let barrier = DOUBLED.replace("workgroupBarrier();", "if s0[thread] > 0.0 { workgroupBarrier(); }");
    let large = DOUBLED.replace("array<f32, 64>", "array<f32, 4097>");
    let Some(good) = tint(&[("doubled", DOUBLED)]) else { return };
    good.unwrap();
    let error = tint(&[("doubled", DOUBLED), ("barrier", &barrier), ("large", &large)]).unwrap().unwrap_err();
    assert!(error.contains("barrier.wgsl:11:27: error: 'workgroupBarrier' must only be called from uniform control flow"), "{error}");
    assert!(error.contains("large.wgsl:doubled: error: The total use of workgroup storage (16400 bytes)"), "{error}");
    assert!(!error.contains("doubled.wgsl"), "{error}");
}

const TRIPLED: &str = r#"
#include "three.cuh"
extern "C" __global__ void __launch_bounds__(256) tripled(const float* __restrict__ x, float* __restrict__ y) {
    y[threadIdx.x] = x[threadIdx.x] * THREE;
}
"#;

/// Two kilobytes of numbers for each of 1024 threads do not fit into registers.
const SPILLS: &str = r#"
extern "C" __global__ void __launch_bounds__(1024) spills(const float* __restrict__ x, float* __restrict__ y) {
    float a[128];
    #pragma unroll
    for (int i = 0; i < 128; i++) a[i] = x[i * 1024 + threadIdx.x];
    for (int j = 0; j < 10; j++) {
        #pragma unroll
        for (int i = 0; i < 128; i++) a[i] = a[i] * a[(i + 7) % 128] + 1.0f;
    }
    #pragma unroll
    for (int i = 0; i < 128; i++) y[i * 1024 + threadIdx.x] = a[i];
}
"#;

#[test]
fn nvcc_accepts_counts_and_refuses() {
    let Some(nvcc) = Nvcc::find() else { return };
    let three = [("three.cuh", "#define THREE 3.0f\n")];
    let kernels = [("tripled", TRIPLED), ("spills", SPILLS), ("again", TRIPLED)];
    let compiled = nvcc.compile(&three, &kernels).unwrap();
    let names: Vec<(&str, &str)> = compiled.iter().map(|c| (c.kernel.as_str(), c.architecture.as_str())).collect();
    let each = |name| ["80", "90a", "100"].map(|a| (name, a));
    assert_eq!(names, [each("tripled"), each("spills")].concat());
    for c in compiled {
        assert_eq!(c.spills > 0, c.kernel == "spills", "{c:?}");
        assert!((4..=64).contains(&c.registers), "{c:?}");
    }
    let unused = TRIPLED.replace("y[threadIdx.x] =", "int unused = 0; y[threadIdx.x] =");
    let error = nvcc.compile(&three, &[("tripled", TRIPLED), ("unused", &unused)]).unwrap_err();
    assert!(error.contains("unused.cu:") && error.contains("\"unused\" was declared but never referenced"), "{error}");
    assert!(!error.contains("tripled.cu:"), "{error}");
    nvcc.compile_host(&three, &[("host", &format!("{TRIPLED}void run() {{ tripled<<<1, 256>>>(nullptr, nullptr); }}"))]).unwrap();
}
