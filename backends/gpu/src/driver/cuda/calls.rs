//! What the crate for CUDA leaves unsafe: whether its libraries are there, compiling to machine code, launching with arguments whose number is known
//! at run time. It decides nothing. Read [`launch`].

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaGraph, CudaStream, DriverError};
use cudarc::nvrtc::{result, sys};

/// What is missing to run anything. The crate panics where a library that it calls is not there.
pub(super) fn missing() -> Option<&'static str> {
    // SAFETY: the library may be loaded at any time; nothing of it is called.
    match unsafe { cudarc::driver::sys::is_culib_present() } {
        true if has_compiler() => None,
        true => Some("libnvrtc, which compiles kernels, is not there"),
        false => Some("NVIDIA's driver, libcuda, is not there"),
    }
}

/// Whether [`machine_code`] can be called.
pub(super) fn has_compiler() -> bool {
    // SAFETY: the library may be loaded at any time; nothing of it is called.
    unsafe { sys::is_culib_present() }
}

/// Memory of a context that is made from here on does not track which stream uses it.
pub(super) fn one_stream_only(context: &Arc<CudaContext>) {
    // SAFETY: the driver above uses one stream for everything, which keeps all that it does in order.
    unsafe { context.disable_event_tracking() }
}

/// Machine code of a text for an architecture, `sm_90`. Headers are by file name.
pub(super) fn machine_code(text: &str, headers: &[(&str, &str)], architecture: &str) -> Result<Vec<u8>, String> {
    let c = |text: &str| CString::new(text).map_err(|e| e.to_string());
    let text = c(text)?;
    let names = headers.iter().map(|(name, _)| c(name)).collect::<Result<Vec<CString>, String>>()?;
    let texts = headers.iter().map(|(_, text)| c(text)).collect::<Result<Vec<CString>, String>>()?;
    let pointers = |all: &[CString]| all.iter().map(|s| s.as_ptr()).collect::<Vec<*const c_char>>();
    let (name_pointers, text_pointers) = (pointers(&names), pointers(&texts));
    let mut program = std::ptr::null_mut();
    // SAFETY: both lists have as many strings as is said; they live until the program is destroyed.
    let made = unsafe {
        let (count, name) = (headers.len() as i32, c"kernel.cu".as_ptr());
        sys::nvrtcCreateProgram(&mut program, text.as_ptr(), name, count, text_pointers.as_ptr(), name_pointers.as_ptr()).result()
    };
    made.map_err(|e| e.to_string())?;
    let program = Program(program);
    let options = [format!("--gpu-architecture={architecture}"), "--std=c++17".to_string()];
    // SAFETY: the program is not destroyed yet.
    if let Err(error) = unsafe { result::compile_program(program.0, &options) } {
        return Err(program.log().unwrap_or_else(|| error.to_string()));
    }
    let mut size = 0;
    // SAFETY: the program is not destroyed yet, and the place has as many bytes as it says it writes.
    let code = unsafe {
        sys::nvrtcGetCUBINSize(program.0, &mut size).result().and_then(|()| {
            let mut code = vec![0_u8; size];
            sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast()).result().map(|()| code)
        })
    };
    code.map_err(|e| e.to_string())
}

struct Program(sys::nvrtcProgram);

impl Program {
    /// What the compiler says.
    fn log(&self) -> Option<String> {
        // SAFETY: the program is not destroyed yet.
        let log = unsafe { result::get_program_log(self.0) }.ok()?;
        let bytes: Vec<u8> = log.iter().map(|c| *c as u8).collect();
        CStr::from_bytes_until_nul(&bytes).ok().map(|text| text.to_string_lossy().trim().to_string())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it is not used any more. There is nothing to do about a failure.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// Launches to be replayed.
pub(super) struct Graph(pub CudaGraph);

// SAFETY: a graph may be used from any thread, but by one at a time: whoever has the driver above to themselves.
unsafe impl Send for Graph {}

/// Enqueues a kernel with pointers to memory and, after them, numbers. The caller has made sure that the kernel takes so many of each, and that the
/// memory is large enough and lives until the stream, or a graph made of the launch, is done.
pub(super) fn launch(
    stream: &CudaStream,
    function: &CudaFunction,
    grid: (u32, u32),
    block: u32,
    pointers: &[u64],
    numbers: &[u32],
) -> Result<(), DriverError> {
    let pointers = pointers.iter().map(|p| std::ptr::from_ref(p).cast_mut().cast::<c_void>());
    let numbers = numbers.iter().map(|n| std::ptr::from_ref(n).cast_mut().cast::<c_void>());
    let mut args: Vec<*mut c_void> = pointers.chain(numbers).collect();
    stream.context().bind_to_thread()?;
    let (grid, block, function, stream) = ((grid.0, grid.1, 1), (block, 1, 1), function.cu_function(), stream.cu_stream());
    // SAFETY: CUDA copies the arguments before it returns; the rest is promised by the caller.
    unsafe { cudarc::driver::result::launch_kernel(function, grid, block, 0, stream, &mut args) }
}
