//! The contract of whatever runs device plans: memory by number, programs by number. What tensors are called and who keeps them is not a
//! driver's business. Read [`Driver`].

#[cfg(feature = "cuda")]
pub mod cuda;
pub mod open;
#[cfg(feature = "wgpu")]
pub mod wgpu;

use pushforward_plan::device::kernel::DevicePlan;

/// A piece of device memory, as its driver numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Memory(pub usize);

/// A loaded plan, as its driver numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Loaded(pub usize);

/// What can go wrong on a device.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeviceError {
    /// Nothing runs here, and why.
    #[error("no device runs {what} here: {why}; hint: {hint}")]
    Absent { what: &'static str, why: String, hint: String },
    #[error("{device} cannot give {bytes} bytes for `{name}`: {why}; hint: a smaller --batch takes less")]
    Memory { device: String, name: String, bytes: usize, why: String },
    /// Not what `pushforward_plan` makes.
    #[error("the plan `{plan}` is not sound: {problem}")]
    Plan { plan: String, problem: String },
    /// What the caller handed in does not fit.
    #[error("`{name}` {why}")]
    Tensor { name: String, why: String },
    /// The text of a kernel is refused.
    #[error("kernel `{kernel}` does not compile for {device}: {why}")]
    Compile { device: String, kernel: String, why: String },
    /// The device is gone, or what ran on it broke: nothing on it can be read any more.
    #[error("{device} was lost while it ran `{what}`: {why}")]
    Lost { device: String, what: String, why: String },
}

/// A device. Calls are in order; `run` may return before the device is done, `read` waits for all that came before.
pub trait Driver {
    /// Its name for people: `llvmpipe (Vulkan)`.
    fn about(&self) -> String;

    /// `bytes` of zeros, for the tensor `name`. May be 0.
    fn allocate(&mut self, name: &str, bytes: usize) -> Result<Memory, DeviceError>;

    fn free(&mut self, memory: Memory);

    /// From the memory's start; not more than it has.
    fn write(&mut self, memory: Memory, bytes: &[u8]) -> Result<(), DeviceError>;

    /// From the memory's start; not more than it has.
    fn read(&mut self, memory: Memory, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// Makes a plan ready to run.
    fn load(&mut self, plan: &DevicePlan) -> Result<Loaded, DeviceError>;

    /// Runs all launches of a plan once: `buffers` in the order of the plan's, each with as many bytes as the plan says, `scalars` in the order
    /// of the plan's, each one's bytes (4, f64 has 8) one after the other, aligned to their size, a condition as four bytes.
    fn run(&mut self, plan: Loaded, buffers: &[Memory], scalars: &[u8]) -> Result<(), DeviceError>;
}
