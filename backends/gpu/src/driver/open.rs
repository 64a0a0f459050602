//! Drivers that a build may be without: whoever asks need not know which. Read [`wgsl`].

use pushforward_plan::device::Limits;

use crate::driver::{DeviceError, Driver};

/// What opens: a driver, or why there is none.
pub type Opened = Result<Box<dyn Driver + Send>, DeviceError>;

/// WGSL on the machine's devices, and what plans may need there: tensors as large as the device takes, and else what every device has, so that the
/// same kernels run everywhere.
#[cfg(feature = "wgpu")]
pub fn wgsl() -> Result<(Box<dyn Driver + Send>, Limits), DeviceError> {
    let device = crate::driver::wgpu::Wgpu::open()?;
    let (max_storage_buffer_binding_size, max_buffer_size) = device.largest();
    Ok((Box::new(device), Limits { max_storage_buffer_binding_size, max_buffer_size, ..Limits::default() }))
}

/// WGSL on the machine's devices.
#[cfg(not(feature = "wgpu"))]
pub fn wgsl() -> Result<(Box<dyn Driver + Send>, Limits), DeviceError> {
    Err(left_out("WGSL", "wgpu"))
}

/// CUDA C++ on NVIDIA's devices.
#[cfg(feature = "cuda")]
pub fn cuda() -> Opened {
    Ok(Box::new(crate::driver::cuda::Cuda::open()?))
}

/// CUDA C++ on NVIDIA's devices.
#[cfg(not(feature = "cuda"))]
pub fn cuda() -> Opened {
    Err(left_out("CUDA C++", "cuda"))
}

#[cfg(not(all(feature = "wgpu", feature = "cuda")))]
fn left_out(what: &'static str, feature: &str) -> DeviceError {
    let why = "this build is without it".into();
    DeviceError::Absent { what, why, hint: format!("build it in: `cargo run --release --features {feature} -- ..`") }
}
