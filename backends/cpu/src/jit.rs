//! From the plan's loop nests to machine code: one function a kernel, compiled side by side. It decides nothing about the code itself
//! (`emit.rs`) and never runs it. Read [`compile`] first.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, ExtFuncData, ExternalName, Function, LibCall, Signature, UserExternalName, UserFuncName, types};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa, TargetFrontendConfig, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module, ModuleReloc};
use pushforward_plan::Plan;
use pushforward_plan::kernel::{Body, Loops};
use pushforward_plan::verify;

use crate::call::Code;
use crate::emit::{self, Libm, Nest};
use crate::error::CpuError;
use crate::pool::Pool;

/// What is known of a compiled kernel.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub kernel: String,
    /// Time to build and compile it.
    pub time: Duration,
    /// Bytes of machine code.
    pub bytes: usize,
}

/// Machine code of a plan's loop nests.
pub(crate) struct Program {
    pub code: Code,
    pub compiled: Vec<Compiled>,
    pub target: TargetFrontendConfig,
}

/// Compiles every loop nest of `plan`, which is verified.
pub(crate) fn compile(plan: &Plan, pool: &Pool) -> Result<Program, CpuError> {
    let isa = host()?;
    let mut builder = JITBuilder::with_isa(isa.clone(), Box::new(libcall));
    let slow = crate::call::symbols().map(|(_, name, start)| (name, start));
    for (name, start) in slow.into_iter().chain(crate::call::fused()) {
        builder.symbol(name, start);
    }
    let mut module = JITModule::new(builder);
    let failed = |kernel: &str| {
        let kernel = kernel.to_string();
        move |e: &dyn std::fmt::Display| CpuError::Compile { kernel, problem: e.to_string() }
    };

    let mut unary = Signature::new(isa.default_call_conv());
    unary.params.push(AbiParam::new(types::F64));
    unary.returns.push(AbiParam::new(types::F64));
    let mut libm = Vec::new();
    for (_, name, _) in crate::call::symbols() {
        libm.push(module.declare_function(name, Linkage::Import, &unary).map_err(|e| failed(name)(&e))?);
    }
    let nests: Vec<(usize, &Loops)> = plan
        .kernels
        .iter()
        .enumerate()
        .filter_map(|(k, kernel)| match &kernel.body {
            Body::Loops(loops) => Some((k, loops)),
            Body::Gemm(_) | Body::Normals(_) => None,
        })
        .collect();
    let mut ids = Vec::new();
    for &(k, _) in &nests {
        let name = &plan.kernels[k].name;
        // Numbered: a kernel may bear the name of a registered function.
        let id = module.declare_function(&format!("k{k}_{name}"), Linkage::Local, &signature(isa.default_call_conv()));
        ids.push(id.map_err(|e| failed(name)(&e))?);
    }

    let built: Vec<Mutex<Option<Result<Built, String>>>> = nests.iter().map(|_| Mutex::new(None)).collect();
    let scratch: Vec<Mutex<Scratch>> = (0..pool.threads()).map(|_| Mutex::default()).collect();
    let sound = pool.run(
        1,
        |_| nests.len(),
        |_, n, thread| {
            let (k, loops) = nests[n];
            let mut scratch = scratch[thread].lock().expect("each thread has its own");
            let result = build(plan, k, loops, isa.as_ref(), ids[n], &libm, &mut scratch);
            *built[n].lock().expect("each kernel has its own") = Some(result);
        },
    );
    let (mut compiled, mut defined) = (Vec::new(), vec![None; plan.kernels.len()]);
    for ((&(k, _), id), built) in nests.iter().zip(&ids).zip(built) {
        let name = &plan.kernels[k].name;
        let result = built.into_inner().ok().flatten().filter(|_| sound);
        let built = result.unwrap_or_else(|| Err("the code generator panicked".to_string())).map_err(|e| failed(name)(&e))?;
        module.define_function_bytes(*id, built.align, &built.code, &built.relocs).map_err(|e| failed(name)(&e))?;
        compiled.push(Compiled { kernel: name.clone(), time: built.time, bytes: built.code.len() });
        defined[k] = Some(*id);
    }
    module.finalize_definitions().map_err(|e| failed("all")(&e))?;
    Ok(Program { code: Code::new(module, &defined), compiled, target: isa.frontend_config() })
}

/// The text of every loop nest before optimisation, by kernel: the same on every machine.
pub(crate) fn clif(plan: &Plan, mut target: TargetFrontendConfig) -> Vec<(String, String)> {
    target.default_call_conv = CallConv::SystemV;
    let mut context = FunctionBuilderContext::new();
    let mut texts = Vec::new();
    for (k, kernel) in plan.kernels.iter().enumerate() {
        if let Body::Loops(loops) = &kernel.body {
            let libm: Vec<FuncId> = (0..crate::call::symbols().len() as u32).map(FuncId::from_u32).collect();
            let function = function(plan, k, loops, target, FuncId::from_u32(k as u32), &libm, &mut context);
            texts.push((kernel.name.clone(), function.display().to_string()));
        }
    }
    texts
}

/// A compiled function, not yet in place.
struct Built {
    code: Vec<u8>,
    align: u64,
    relocs: Vec<ModuleReloc>,
    time: Duration,
}

/// What a thread reuses from kernel to kernel.
#[derive(Default)]
struct Scratch {
    function: FunctionBuilderContext,
    context: Option<Context>,
}

fn build(
    plan: &Plan,
    k: usize,
    loops: &Loops,
    isa: &dyn TargetIsa,
    id: FuncId,
    libm: &[FuncId],
    scratch: &mut Scratch,
) -> Result<Built, String> {
    let start = Instant::now();
    let context = scratch.context.get_or_insert_with(Context::new);
    context.clear();
    context.func = function(plan, k, loops, isa.frontend_config(), id, libm, &mut scratch.function);
    let compiled = context.compile(isa, &mut ControlPlane::default()).map_err(|e| format!("{:?}", e.inner))?;
    let code = compiled.code_buffer().to_vec();
    let align = u64::from(compiled.buffer.alignment).max(u64::from(isa.function_alignment().minimum)).max(isa.symbol_alignment());
    let relocs = compiled.buffer.relocs().to_vec();
    let relocs = relocs.iter().map(|r| ModuleReloc::from_mach_reloc(r, &context.func, id)).collect();
    Ok(Built { code, align, relocs, time: start.elapsed() })
}

fn function(
    plan: &Plan,
    k: usize,
    loops: &Loops,
    target: TargetFrontendConfig,
    id: FuncId,
    libm: &[FuncId],
    context: &mut FunctionBuilderContext,
) -> Function {
    let mut func = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature(target.default_call_conv));
    let mut unary = Signature::new(target.default_call_conv);
    unary.params.push(AbiParam::new(types::F64));
    unary.returns.push(AbiParam::new(types::F64));
    let unary = func.import_signature(unary);
    let functions = libm.iter().map(|id| {
        let name = func.declare_imported_user_function(UserExternalName { namespace: 0, index: id.as_u32() });
        func.import_function(ExtFuncData { name: ExternalName::user(name), signature: unary, colocated: false, patchable: false })
    });
    let libm = Libm(crate::call::symbols().map(|(prim, ..)| prim).into_iter().zip(functions).collect());
    let readonly = readonly(plan, k);
    emit::emit(&mut func, context, target, &Nest { loops, args: &plan.kernels[k].args, readonly: &readonly }, libm);
    func
}

fn signature(convention: CallConv) -> Signature {
    let mut signature = Signature::new(convention);
    signature.params = [types::I64; 4].map(AbiParam::new).to_vec();
    signature
}

/// By argument of kernel `k`: whether it is only read, and no launch binds it to memory that the kernel writes.
fn readonly(plan: &Plan, k: usize) -> Vec<bool> {
    let args = &plan.kernels[k].args;
    let written = |arg: usize| verify::is_written(&args[arg]);
    let launches = || plan.stages.iter().flat_map(|s| &s.launches).filter(|l| l.kernel == k);
    let clear =
        |arg: usize| launches().all(|l| (0..args.len()).filter(|&w| written(w)).all(|w| !verify::overlap(plan, l.args[arg], l.args[w])));
    (0..args.len()).map(|arg| !written(arg) && clear(arg)).collect()
}

fn host() -> Result<OwnedTargetIsa, CpuError> {
    let host = |e: &dyn std::fmt::Display| CpuError::Host(e.to_string());
    let mut flags = settings::builder();
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    for (name, value) in [("opt_level", "speed"), ("is_pic", "false"), ("use_colocated_libcalls", "false"), ("enable_verifier", verifier)] {
        flags.set(name, value).map_err(|e| host(&e))?;
    }
    let isa = cranelift_native::builder().map_err(|e| host(&e))?;
    let isa = isa.finish(settings::Flags::new(flags)).map_err(|e| host(&e))?;
    if isa.pointer_bits() != 64 {
        return Err(CpuError::Host(format!("pointers of {} bits, 64 are needed", isa.pointer_bits())));
    }
    Ok(isa)
}

/// Names of the functions that generated code may call by itself. Fused multiply-add is ours, where the processor has none.
fn libcall(call: LibCall) -> String {
    match call {
        LibCall::FmaF32 => crate::call::fused()[0].0.to_string(),
        LibCall::FmaF64 => crate::call::fused()[1].0.to_string(),
        other => cranelift_module::default_libcall_names()(other),
    }
}
