//! Drivers that a build may be without: whoever asks need not know which. Read [`wgsl`].

use crate::driver::{DeviceError, Driver};

/// What opens: a driver, or why there is none.
pub type Opened = Result<Box<dyn Driver + Send>, DeviceError>;

/// WGSL on the machine's devices.
#[cfg(feature = "wgpu")]
pub fn wgsl() -> Opened {
    Ok(Box::new(crate::driver::wgpu::Wgpu::open()?))
}

/// WGSL on the machine's devices.
#[cfg(not(feature = "wgpu"))]
pub fn wgsl() -> Opened {
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
