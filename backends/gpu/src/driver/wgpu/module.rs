//! What wgpu leaves unsafe: a text without guards that its emitter makes needless. It decides nothing else.

#![allow(unsafe_code)]

use wgpu::{Device, ShaderModule, ShaderModuleDescriptor, ShaderRuntimeChecks, ShaderSource};

/// A kernel's text as wgpu's module. It has to be one that `emit` wrote: each of its loops ends, since it counts to a constant. A counter more in every
/// loop takes half as much time again on a processor.
pub(super) fn module(device: &Device, kernel: &str, text: &str) -> ShaderModule {
    let wanted = ShaderModuleDescriptor { label: Some(kernel), source: ShaderSource::Wgsl(text.into()) };
    let mut checks = ShaderRuntimeChecks::checked();
    checks.force_loop_bounding = false;
    // SAFETY: no loop is without end. Places outside of buffers stay checked.
    unsafe { device.create_shader_module_trusted(wanted, checks) }
}
