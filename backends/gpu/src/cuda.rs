//! The spelling of CUDA C++ (C++17). A kernel's text is whole but for [`prelude`], which all share; what needs inline assembly, or several
//! lines, is a function of the prelude. Sums and products of i32 wrap around: C++ wants them unsigned. Read [`Cuda`].
//!
//! Kernels are right whether or not the compiler contracts products and sums (`-fmad`): the plan says where to fuse, and noise does not depend
//! on it. With `-fmad=false` elementwise arithmetic has the CPU's bits.

use pushforward_plan::device::kernel::*;
use pushforward_plan::kernel::{Access, ElementType, Prim};

use crate::emit::{self, Dialect, Exchange, Lack, Level, Parts, Spelled, Spelling};

/// `pushforward.cuh`: what kernels and `launch.cu` include.
pub fn prelude() -> &'static str {
    include_str!("pushforward.cuh")
}

#[derive(Default)]
pub(crate) struct Cuda {
    wide: bool,
}

impl Dialect for Cuda {
    fn begin(&mut self, kernel: &DeviceKernel) -> Result<(), Lack> {
        self.wide = kernel.wide;
        Ok(())
    }

    fn finish(&self, parts: &Parts) -> Result<String, Lack> {
        let mut text = String::new();
        for line in &parts.about {
            text += &format!("{}\n", emit::comment(line).join("\n"));
        }
        text += "#include \"pushforward.cuh\"\n\n";
        if !parts.kernel.scalars.is_empty() {
            text += &scalars(&parts.names.scalars);
            text.push('\n');
        }
        text += &signature(parts.kernel, &parts.names.args, &parts.names.scalars);
        text += "\n{\n";
        // What only combinations use, through which threads do not exchange here, would be a warning.
        for (s, shared) in parts.kernel.shared.iter().enumerate().filter(|(s, _)| parts.touched.contains(s)) {
            text += &format!("    __shared__ {} {}[{}];\n", memory(shared.dtype), emit::shared(s), shared.len);
        }
        Ok(text + parts.body + "}\n")
    }

    fn thread(&self) -> Spelled {
        self.place("threadIdx.x")
    }

    fn block(&self) -> [Spelled; 2] {
        [self.place("blockIdx.x"), self.place("blockIdx.y")]
    }

    fn scalar(&self, name: &str) -> String {
        format!("scalars->{name}")
    }

    fn index(&self, value: u64) -> Spelling {
        Ok(Spelled::primary(format!("{value}{}", if self.wide { "ull" } else { "u" })))
    }

    fn number(&mut self, value: f64, dtype: ElementType) -> Spelling {
        Ok(match dtype {
            ElementType::F32 => match value as f32 {
                x if x.is_nan() => Spelled::primary("__uint_as_float(0x7fc00000u)"),
                x if x.is_infinite() => Spelled::primary(format!("__uint_as_float({:#x}u)", x.to_bits())),
                x => signed(format!("{x:?}f")),
            },
            ElementType::F64 if value.is_finite() => signed(format!("{value:?}")),
            ElementType::F64 => Spelled::primary(format!("pf_double({:#x}ull)", value.to_bits())),
            ElementType::I32 => match value as i32 {
                // Its literal would be that of a larger type.
                i32::MIN => Spelled::primary("(-2147483647 - 1)"),
                x => signed(x.to_string()),
            },
            ElementType::Bool => Spelled::primary(if value == 0.0 { "false" } else { "true" }),
        })
    }

    fn computed_number(&mut self, value: f64, dtype: ElementType) -> Spelling {
        self.number(value, dtype)
    }

    fn declare(&self, name: &str, ty: VarType, value: &str, mutable: bool) -> Result<String, Lack> {
        let ty = match ty {
            VarType::Index => self.index_type(),
            VarType::Element(dtype) => register(dtype),
        };
        Ok(format!("{}{ty} {name} = {value};", if mutable { "" } else { "const " }))
    }

    fn declare_array(&self, name: &str, dtype: ElementType, len: usize) -> Result<String, Lack> {
        Ok(format!("{} {name}[{len}] = {{}};", register(dtype)))
    }

    fn unroll(&self) -> Option<&'static str> {
        Some("#pragma unroll")
    }

    fn repeat(&self, name: &str, count: u64) -> Result<String, Lack> {
        let (ty, count) = (self.index_type(), self.index(count)?.text);
        Ok(format!("for ({ty} {name} = 0; {name} < {count}; {name} += 1)"))
    }

    fn barrier(&self) -> &'static str {
        "__syncthreads();"
    }

    fn exchange(&self, name: &str, _shared: &str) -> Exchange {
        Exchange {
            head: |first| format!("for (unsigned distance = {first}u; distance > 0u; distance >>= 1) {{"),
            before: Vec::new(),
            neighbour: Spelled::primary(format!("__shfl_xor_sync(0xffffffffu, {name}, distance)")),
            after: Vec::new(),
        }
    }

    fn mma(&self, acc: (&str, u64), a: (&str, u64), b: (&str, u64)) -> Result<String, Lack> {
        let at = |(name, at): (&str, u64)| if at == 0 { name.to_string() } else { format!("{name} + {at}") };
        Ok(format!("pf_mma_m16n8k8_tf32({}, {}, {});", at(acc), at(a), at(b)))
    }

    fn min(&mut self, x: &Spelled, y: &Spelled) -> Spelled {
        Spelled::call("pf_min", &[x, y])
    }

    fn max(&mut self, _dtype: ElementType, x: &Spelled, y: &Spelled) -> Spelling {
        Ok(Spelled::call("pf_max", &[x, y]))
    }

    fn choose(&self, condition: &Spelled, x: &Spelled, y: &Spelled) -> Spelled {
        Spelled::new(format!("{} ? {} : {}", condition.at(Level::Unary), x.at(Level::Or), y.at(Level::Or)), Level::Choice)
    }

    fn integer(&self, index: &Spelled) -> Spelled {
        Spelled::call("int", &[index])
    }

    fn position(&self, integer: &Spelled) -> Spelled {
        // The name of a wide index is of several words.
        if self.wide { Spelled::call("(unsigned long long)", &[integer]) } else { Spelled::call("unsigned", &[integer]) }
    }

    fn fma(&self, dtype: ElementType, x: &Spelled, y: &Spelled, z: &Spelled) -> Spelling {
        let function = match dtype {
            ElementType::F32 => "fmaf",
            ElementType::F64 => "fma",
            ElementType::I32 | ElementType::Bool => "pf_fma",
        };
        Ok(Spelled::call(function, &[x, y, z]))
    }

    fn tf32(&self, x: &Spelled) -> Spelling {
        Ok(Spelled::call("pf_tf32", &[x]))
    }

    fn prim(&mut self, prim: Prim, dtype: ElementType, to: ElementType, args: &[Spelled]) -> Spelling {
        let x = &args[0];
        let y = args.get(1).unwrap_or(x);
        // Functions of one float.
        let function = |f32s: &str, f64s: &str| match dtype {
            ElementType::F32 | ElementType::I32 | ElementType::Bool => Spelled::call(f32s, &[x]),
            ElementType::F64 => Spelled::call(f64s, &[x]),
        };
        let arith = |operator: &str, wrapping: &str, level: Level| match dtype {
            ElementType::F32 | ElementType::F64 => Spelled::infix(x, operator, y, level),
            ElementType::I32 | ElementType::Bool => Spelled::call(wrapping, &[x, y]),
        };
        let compare = |operator: &str| Spelled::infix(x, operator, y, Level::Compare);
        Ok(match prim {
            Prim::Add => arith("+", "pf_add", Level::Sum),
            Prim::Sub => arith("-", "pf_sub", Level::Sum),
            Prim::Mul => arith("*", "pf_mul", Level::Product),
            Prim::Neg => match dtype {
                ElementType::F32 | ElementType::F64 => Spelled::prefix("-", x),
                ElementType::I32 | ElementType::Bool => Spelled::call("pf_neg", &[x]),
            },
            Prim::Div => Spelled::infix(x, "/", y, Level::Product),
            Prim::Exp => function("expf", "exp"),
            Prim::Log => function("logf", "log"),
            Prim::Tanh => function("tanhf", "tanh"),
            Prim::Erf => function("erff", "erf"),
            Prim::Sqrt => function("sqrtf", "sqrt"),
            Prim::Rsqrt => {
                let one = self.number(1.0, dtype)?;
                Spelled::infix(&one, "/", &function("sqrtf", "sqrt"), Level::Product)
            }
            Prim::Relu => {
                let zero = self.number(0.0, dtype)?;
                self.choose(&Spelled::infix(x, ">", &zero, Level::Compare), x, &zero)
            }
            Prim::Lt => compare("<"),
            Prim::Le => compare("<="),
            Prim::Gt => compare(">"),
            Prim::Ge => compare(">="),
            Prim::Eq => compare("=="),
            Prim::Ne => compare("!="),
            Prim::And => Spelled::infix(x, "&&", y, Level::And),
            Prim::Or => Spelled::infix(x, "||", y, Level::Or),
            Prim::Not => Spelled::prefix("!", x),
            Prim::Select => self.choose(x, y, args.get(2).unwrap_or(y)),
            Prim::Cast => self.cast(dtype, to, x)?,
        })
    }

    fn normal(
        &mut self,
        normal: &Normal,
        stream: &str,
        seed: &Spelled,
        step: &Spelled,
        direction: &Spelled,
        element: &Spelled,
    ) -> Spelling {
        let function = match normal.dtype {
            ElementType::F64 => "pf_normal_f64",
            ElementType::F32 | ElementType::I32 | ElementType::Bool => "pf_normal_f32",
        };
        let unsigned = |x: &Spelled| Spelled::call("unsigned", &[x]);
        let (domain, stream) = (Spelled::primary(format!("{}u", normal.domain)), Spelled::primary(stream));
        Ok(Spelled::call(function, &[&unsigned(seed), &domain, &stream, &unsigned(direction), &unsigned(step), element]))
    }
}

impl Cuda {
    fn index_type(&self) -> &'static str {
        if self.wide { "unsigned long long" } else { "unsigned" }
    }

    fn place(&self, name: &str) -> Spelled {
        match self.wide {
            true => Spelled::new(format!("(unsigned long long){name}"), Level::Unary),
            false => Spelled::primary(name),
        }
    }

    /// A float is cut towards zero and held inside i32, NaN gives 0; bool is true for all but zero.
    fn cast(&mut self, from: ElementType, to: ElementType, x: &Spelled) -> Spelling {
        use ElementType::{Bool, F32, F64, I32};
        Ok(match (from, to) {
            (F32, F32) | (F64, F64) | (I32, I32) | (Bool, Bool) => x.clone(),
            (F32 | F64, I32) => Spelled::call("pf_int", &[x]),
            (F64 | I32, F32) => Spelled::call("float", &[x]),
            (F32 | I32, F64) => Spelled::call("double", &[x]),
            (F32 | F64 | I32, Bool) => Spelled::infix(x, "!=", &self.number(0.0, from)?, Level::Compare),
            (Bool, F32 | F64 | I32) => {
                let (one, zero) = (self.number(1.0, to)?, self.number(0.0, to)?);
                self.choose(x, &one, &zero)
            }
        })
    }
}

/// `extern "C" __global__ ..`, up to its parentheses' end.
pub(crate) fn signature(kernel: &DeviceKernel, args: &[String], scalars: &[(String, ElementType)]) -> String {
    let mut parameters: Vec<String> = Vec::new();
    for (arg, name) in kernel.args.iter().zip(args) {
        let constant = match arg.access {
            Access::Read => "const ",
            Access::Write | Access::ReadWrite => "",
        };
        parameters.push(format!("{constant}{}* __restrict__ {name}", memory(arg.dtype)));
    }
    if !kernel.scalars.is_empty() {
        parameters.push(format!("const {}* __restrict__ scalars", scalars_type(scalars)));
    }
    parameters.extend((0..kernel.streams).map(|s| format!("unsigned {}", emit::stream(s))));
    // Sums of a product are meant to be registers: one block to a multiprocessor is enough, so that none has to give way.
    let least_blocks = if kernel.work.contraction_flops > 0 { ", 1" } else { "" };
    let (block, name) = (kernel.block, &kernel.name);
    format!("extern \"C\" __global__ void __launch_bounds__({block}{least_blocks}) {name}(\n    {})", parameters.join(",\n    "))
}

/// The struct of a plan's scalars, guarded: texts of one plan may be put together.
pub(crate) fn scalars(scalars: &[(String, ElementType)]) -> String {
    let ty = scalars_type(scalars);
    let guard = format!("PF_SCALARS{}", ty.trim_start_matches("PfScalars"));
    let fields: String = scalars.iter().map(|(name, dtype)| format!("    {} {name};\n", memory(*dtype))).collect();
    format!("#ifndef {guard}\n#define {guard}\nstruct {ty} {{\n{fields}}};\n#endif\n")
}

/// Its name tells its fields: plans of one model may have different ones.
pub(crate) fn scalars_type(scalars: &[(String, ElementType)]) -> String {
    let field = |(name, dtype): &(String, ElementType)| format!("_{name}_{}", pushforward_ir::DType::from(*dtype).name());
    format!("PfScalars{}", scalars.iter().map(field).collect::<String>())
}

/// What a number is in a register.
fn register(dtype: ElementType) -> &'static str {
    match dtype {
        ElementType::F32 => "float",
        ElementType::F64 => "double",
        ElementType::I32 => "int",
        ElementType::Bool => "bool",
    }
}

/// What it is in memory.
pub(crate) fn memory(dtype: ElementType) -> &'static str {
    match dtype {
        ElementType::F32 | ElementType::F64 | ElementType::I32 => register(dtype),
        ElementType::Bool => "unsigned",
    }
}

fn signed(text: String) -> Spelled {
    let level = if text.starts_with('-') { Level::Unary } else { Level::Primary };
    Spelled::new(text, level)
}
