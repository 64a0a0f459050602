//! What a device can do, in WebGPU's words, and the precision that it is asked for. It decides nothing. Read [`Target`].

use serde::{Deserialize, Serialize};

/// What kernels are made for.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Target {
    pub limits: Limits,
    pub precision: Precision,
    /// Whether the device computes in f64.
    pub f64: bool,
}

/// Of products of f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Fp32,
    /// Factors are rounded to ten bits of fraction, for tensor cores; sums are f32.
    Tf32,
}

/// Names and meanings are WebGPU's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    pub max_storage_buffers_per_shader_stage: u64,
    pub max_storage_buffer_binding_size: u64,
    pub max_buffer_size: u64,
    pub max_compute_workgroup_storage_size: u64,
    pub max_compute_invocations_per_workgroup: u64,
    pub max_compute_workgroup_size_x: u64,
    pub max_compute_workgroups_per_dimension: u64,
}

impl Default for Limits {
    /// What every WebGPU device has.
    fn default() -> Limits {
        Limits {
            max_storage_buffers_per_shader_stage: 8,
            max_storage_buffer_binding_size: 128 << 20,
            max_buffer_size: 256 << 20,
            max_compute_workgroup_storage_size: 16 << 10,
            max_compute_invocations_per_workgroup: 256,
            max_compute_workgroup_size_x: 256,
            max_compute_workgroups_per_dimension: 65_535,
        }
    }
}

impl Limits {
    /// What every CUDA device since compute capability 3.0 has; buffers are pointers, of which 4 KiB go to a kernel.
    pub fn cuda() -> Limits {
        Limits {
            max_storage_buffers_per_shader_stage: 500,
            max_storage_buffer_binding_size: 1 << 40,
            max_buffer_size: 1 << 40,
            max_compute_workgroup_storage_size: 48 << 10,
            max_compute_invocations_per_workgroup: 1024,
            max_compute_workgroup_size_x: 1024,
            max_compute_workgroups_per_dimension: 65_535,
        }
    }
}

impl Target {
    pub fn cuda(precision: Precision) -> Target {
        Target { limits: Limits::cuda(), precision, f64: true }
    }

    /// WebGPU has neither f64 nor tensor cores.
    pub fn webgpu(limits: Limits) -> Target {
        Target { limits, precision: Precision::Fp32, f64: false }
    }
}
