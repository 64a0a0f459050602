//! What can go wrong between a plan and its results, each with the name of the tensor, kernel or limit at fault. Nothing here is printed
//! or logged. Read [`CpuError`].

use pushforward_plan::kernel::ElementType;

/// Why a plan could not be compiled, or a run not be started. A run that has started always ends.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum CpuError {
    #[error("no code can be generated for this processor: {0}")]
    Host(String),
    #[error("the plan `{plan}` is not sound, so that it is not run: {problem}")]
    Plan { plan: String, problem: String },
    #[error("kernel `{kernel}` could not be compiled: {problem}")]
    Compile { kernel: String, problem: String },
    #[error("the threads could not be started: {0}")]
    Threads(String),
    #[error("no memory for {bytes} bytes ({what})")]
    Memory { what: String, bytes: usize },
    #[error("the program takes {wants} {what}, got {got}")]
    Count { what: &'static str, wants: usize, got: usize },
    #[error("`{name}` is {}, got {}", dtype_name(*wants), dtype_name(*got))]
    DType { name: String, wants: ElementType, got: ElementType },
    #[error("`{name}` [{dims}] has {wants} elements, got {got}")]
    Len { name: String, dims: String, wants: usize, got: usize },
    #[error("the state has no parameter `{name}` [{dims}]")]
    NoParameter { name: String, dims: String },
    #[error("parameter `{name}` is {wants} in the program, {got} in the state")]
    Parameter { name: String, wants: String, got: String },
    #[error("a thread stopped in the middle of the run (`{plan}`): the results are not complete")]
    Stopped { plan: String },
}

/// As in the IR's text.
pub(crate) fn dtype_name(dtype: ElementType) -> &'static str {
    match dtype {
        ElementType::F32 => "f32",
        ElementType::F64 => "f64",
        ElementType::I32 => "i32",
        ElementType::Bool => "bool",
    }
}

/// `N=128, C=512`.
pub(crate) fn dims_text(dims: &[(String, usize)]) -> String {
    dims.iter().map(|(axis, size)| format!("{axis}={size}")).collect::<Vec<_>>().join(", ")
}
