//! What runs steps: this processor, or a device with its driver. It chooses no device by itself and compiles nothing. Read [`Engine`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pushforward_cpu::Pool;
use pushforward_gpu::driver::{DeviceError, Driver, open};
use pushforward_gpu::emu::{self, Emulator};
use pushforward_gpu::session::Session;
use pushforward_plan::device::{Precision, Target};

/// Where steps run. Clones share threads, or the device.
#[derive(Clone)]
pub enum Engine {
    Cpu(Pool),
    Device(Device),
}

impl From<&Pool> for Engine {
    fn from(pool: &Pool) -> Engine {
        Engine::Cpu(pool.clone())
    }
}

impl From<&Engine> for Engine {
    fn from(engine: &Engine) -> Engine {
        engine.clone()
    }
}

/// A device that steps share.
#[derive(Clone)]
pub struct Device {
    session: Arc<Mutex<Session>>,
    target: Target,
}

impl Device {
    /// `target`: what kernels for it may need.
    pub fn new(driver: Box<dyn Driver + Send>, target: Target) -> Device {
        Device { session: Arc::new(Mutex::new(Session::new(driver))), target }
    }

    /// Its name for people.
    pub fn about(&self) -> String {
        self.session().about()
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn is(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.session, &other.session)
    }

    pub(crate) fn session(&self) -> MutexGuard<'_, Session> {
        // A thread that panicked with the session left no call half done: each is one request to the driver.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names by which commands know engines other than `cpu`.
pub const DEVICES: [&str; 3] = ["cuda-emu", "wgsl", "cuda"];

/// A device by its name among [`DEVICES`] (`wgpu` is another name of `wgsl`); none if no device is called so. Products of f32 run at `precision`.
pub fn device(name: &str, precision: Precision) -> Option<Result<Device, DeviceError>> {
    Some(driver(name, precision)?.map(|(driver, target)| Device::new(driver, target)))
}

/// What runs plans on the device, and what they may need.
pub type Opened = Result<(Box<dyn Driver + Send>, Target), DeviceError>;

/// The same, without a session.
pub fn driver(name: &str, precision: Precision) -> Option<Opened> {
    match name {
        "cuda-emu" => Some(emulator(precision)),
        "wgsl" | "wgpu" => Some(open::wgsl().map(|(driver, limits)| (driver, Target::webgpu(limits)))),
        "cuda" => Some(open::cuda().map(|driver| (driver, Target::cuda(precision)))),
        _ => None,
    }
}

fn emulator(precision: Precision) -> Opened {
    let driver = Emulator::new(emu::Options::from_environment())?;
    Ok((Box::new(driver), Target::cuda(precision)))
}
