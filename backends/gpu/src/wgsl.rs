//! The spelling of WGSL. A kernel's text is whole: what it needs of the library in `wgsl_library.rs` stands in it. Arguments are storage buffers of
//! group 0 in their order, scalars the uniform buffer of group 1, streams of noise are constants of the pipeline. WGSL has no f64, no places beyond 32 bits and
//! no tensor cores. It lets implementations assume that NaN and infinity do not occur; most do not, so constants of such values are made at
//! run time, and what must tell NaN apart looks at bits. Read [`Wgsl`].

use pushforward_plan::device::kernel::*;
use pushforward_plan::kernel::{Access, ElementType, Prim};

use crate::emit::{self, Dialect, Exchange, Lack, Level, Parts, Spelled, Spelling};
use crate::wgsl_library::{Library, Piece};

#[derive(Default)]
pub(crate) struct Wgsl {
    library: Library,
}

const F64: Lack = "f64";
const WIDE: Lack = "places beyond 32 bits";
const TENSOR_CORES: Lack = "tensor cores";

impl Dialect for Wgsl {
    fn begin(&mut self, kernel: &DeviceKernel) -> Result<(), Lack> {
        if kernel.wide { Err(WIDE) } else { Ok(()) }
    }

    fn finish(&self, parts: &Parts) -> Result<String, Lack> {
        let kernel = parts.kernel;
        let mut text: String = parts.about.iter().map(|line| format!("{}\n", emit::comment(line).join("\n"))).collect();
        text.push('\n');
        for (i, (arg, name)) in kernel.args.iter().zip(&parts.names.args).enumerate() {
            let access = match arg.access {
                Access::Read => "read",
                Access::Write | Access::ReadWrite => "read_write",
            };
            text += &format!("@group(0) @binding({i}) var<storage, {access}> {name}: array<{}>;\n", memory(arg.dtype)?);
        }
        if !kernel.scalars.is_empty() {
            text += "\nstruct Scalars {\n";
            for (name, dtype) in &parts.names.scalars {
                text += &format!("    {name}: {},\n", memory(*dtype)?);
            }
            text += "}\n@group(1) @binding(0) var<uniform> scalars: Scalars;\n";
        }
        for s in 0..kernel.streams {
            text += &format!("override {}: u32;\n", emit::stream(s));
        }
        for (s, shared) in kernel.shared.iter().enumerate() {
            text += &format!("var<workgroup> {}: array<{}, {}>;\n", emit::shared(s), memory(shared.dtype)?, shared.len);
        }
        for piece in self.library.texts() {
            text += &format!("\n{piece}");
        }
        text += &format!("\n@compute @workgroup_size({})\n", kernel.block);
        text += &format!("fn {}(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) block: vec3<u32>) {{\n", kernel.name);
        Ok(text + parts.body + "}\n")
    }

    fn thread(&self) -> Spelled {
        Spelled::primary("thread")
    }

    fn block(&self) -> [Spelled; 2] {
        ["block.x", "block.y"].map(Spelled::primary)
    }

    fn scalar(&self, name: &str) -> String {
        format!("scalars.{name}")
    }

    fn index(&self, value: u64) -> Spelling {
        match u32::try_from(value) {
            Ok(value) => Ok(Spelled::primary(format!("{value}u"))),
            Err(_) => Err(WIDE),
        }
    }

    fn number(&mut self, value: f64, dtype: ElementType) -> Spelling {
        Ok(match dtype {
            ElementType::F32 => {
                let x = value as f32;
                // Literals are neither infinite nor NaN, nor may their digits lie a little above the largest number; signs of zero and
                // subnormals may get lost in them.
                let literal = x.is_normal() && x.abs() < f32::MAX || x.to_bits() == 0;
                if literal { signed(format!("{x:?}f")) } else { self.bits(x) }
            }
            ElementType::F64 => return Err(F64),
            ElementType::I32 => match value as i32 {
                // Its literal would be that of a larger type.
                i32::MIN => Spelled::primary("i32(0x80000000u)"),
                x => signed(format!("{x}i")),
            },
            ElementType::Bool => Spelled::primary(if value == 0.0 { "false" } else { "true" }),
        })
    }

    /// What functions give is no constant.
    fn computed_number(&mut self, value: f64, dtype: ElementType) -> Spelling {
        match dtype {
            ElementType::F32 => Ok(self.bits(value as f32)),
            ElementType::F64 => Err(F64),
            ElementType::I32 => {
                let value = self.number(value, dtype)?;
                Ok(self.library.call(Piece::Integer, &[&value]))
            }
            ElementType::Bool => self.number(value, dtype),
        }
    }

    fn declare(&self, name: &str, ty: VarType, value: &str, mutable: bool) -> Result<String, Lack> {
        let ty = match ty {
            VarType::Index => "u32",
            VarType::Element(dtype) => register(dtype)?,
        };
        Ok(format!("{} {name}: {ty} = {value};", if mutable { "var" } else { "let" }))
    }

    fn declare_array(&self, name: &str, dtype: ElementType, len: usize) -> Result<String, Lack> {
        Ok(format!("var {name} = array<{}, {len}>();", register(dtype)?))
    }

    fn unroll(&self) -> Option<&'static str> {
        None
    }

    fn repeat(&self, name: &str, count: u64) -> Result<String, Lack> {
        Ok(format!("for (var {name} = 0u; {name} < {}; {name} += 1u)", self.index(count)?.text))
    }

    fn barrier(&self) -> &'static str {
        "workgroupBarrier();"
    }

    fn exchange(&self, name: &str, shared: &str) -> Exchange {
        Exchange {
            head: |first| format!("for (var distance = {first}u; distance > 0u; distance >>= 1u) {{"),
            before: vec![format!("{shared}[thread] = {name};"), "workgroupBarrier();".into()],
            neighbour: Spelled::primary(format!("{shared}[thread ^ distance]")),
            after: vec!["workgroupBarrier();".into()],
        }
    }

    fn mma(&self, _acc: (&str, u64), _a: (&str, u64), _b: (&str, u64)) -> Result<String, Lack> {
        Err(TENSOR_CORES)
    }

    fn min(&mut self, x: &Spelled, y: &Spelled) -> Spelled {
        Spelled::call("min", &[x, y])
    }

    fn max(&mut self, dtype: ElementType, x: &Spelled, y: &Spelled) -> Spelling {
        match dtype {
            ElementType::F32 => Ok(self.library.call(Piece::Max, &[x, y])),
            ElementType::F64 => Err(F64),
            ElementType::I32 | ElementType::Bool => Ok(Spelled::call("max", &[x, y])),
        }
    }

    fn choose(&self, condition: &Spelled, x: &Spelled, y: &Spelled) -> Spelled {
        Spelled::call("select", &[y, x, condition])
    }

    fn integer(&self, index: &Spelled) -> Spelled {
        Spelled::call("i32", &[index])
    }

    fn position(&self, integer: &Spelled) -> Spelled {
        Spelled::call("u32", &[integer])
    }

    fn fma(&self, dtype: ElementType, x: &Spelled, y: &Spelled, z: &Spelled) -> Spelling {
        match dtype {
            ElementType::F32 => Ok(Spelled::call("fma", &[x, y, z])),
            ElementType::F64 => Err(F64),
            ElementType::I32 | ElementType::Bool => Ok(Spelled::infix(&Spelled::infix(x, "*", y, Level::Product), "+", z, Level::Sum)),
        }
    }

    fn tf32(&self, _x: &Spelled) -> Spelling {
        Err(TENSOR_CORES)
    }

    fn prim(&mut self, prim: Prim, dtype: ElementType, to: ElementType, args: &[Spelled]) -> Spelling {
        // All dtypes that are spelled.
        register(dtype)?;
        let x = &args[0];
        let y = args.get(1).unwrap_or(x);
        let compare = |operator: &str| Spelled::infix(x, operator, y, Level::Compare);
        Ok(match prim {
            Prim::Add => Spelled::infix(x, "+", y, Level::Sum),
            Prim::Sub => Spelled::infix(x, "-", y, Level::Sum),
            Prim::Mul => Spelled::infix(x, "*", y, Level::Product),
            Prim::Neg => Spelled::prefix("-", x),
            Prim::Div => Spelled::infix(x, "/", y, Level::Product),
            Prim::Exp => self.library.call(Piece::Exp, &[x]),
            Prim::Log => self.library.call(Piece::Log, &[x]),
            Prim::Tanh => self.library.call(Piece::Tanh, &[x]),
            Prim::Erf => self.library.call(Piece::Erf, &[x]),
            Prim::Sqrt => Spelled::call("sqrt", &[x]),
            Prim::Rsqrt => {
                let one = self.number(1.0, dtype)?;
                Spelled::infix(&one, "/", &Spelled::call("sqrt", &[x]), Level::Product)
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
            Prim::Ne => unequal(x, y),
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
        register(normal.dtype)?;
        let unsigned = |x: &Spelled| Spelled::call("u32", &[x]);
        let (domain, stream) = (Spelled::primary(format!("{}u", normal.domain)), Spelled::primary(stream));
        Ok(self.library.call(Piece::Normal, &[&unsigned(seed), &domain, &stream, direction, &unsigned(step), element]))
    }
}

impl Wgsl {
    /// A number by its bits.
    fn bits(&mut self, x: f32) -> Spelled {
        self.library.call(Piece::Number, &[&Spelled::primary(format!("{:#x}u", x.to_bits()))])
    }

    /// A float is cut towards zero and held inside i32, NaN gives 0; bool is true for all but zero.
    fn cast(&mut self, from: ElementType, to: ElementType, x: &Spelled) -> Spelling {
        use ElementType::{Bool, F32, F64, I32};
        Ok(match (from, to) {
            (F32, F32) | (I32, I32) | (Bool, Bool) => x.clone(),
            (F32, I32) => self.library.call(Piece::ToInteger, &[x]),
            (I32, F32) => Spelled::call("f32", &[x]),
            (F32 | I32, Bool) => unequal(x, &self.number(0.0, from)?),
            (Bool, F32 | I32) => {
                let (one, zero) = (self.number(1.0, to)?, self.number(0.0, to)?);
                self.choose(x, &one, &zero)
            }
            (F64, F32 | F64 | I32 | Bool) | (F32 | I32 | Bool, F64) => return Err(self::F64),
        })
    }
}

/// True for NaN: as the contrary of `==`, which is false for NaN everywhere.
fn unequal(x: &Spelled, y: &Spelled) -> Spelled {
    Spelled::prefix("!", &Spelled::infix(x, "==", y, Level::Compare))
}

fn register(dtype: ElementType) -> Result<&'static str, Lack> {
    match dtype {
        ElementType::F32 => Ok("f32"),
        ElementType::F64 => Err(F64),
        ElementType::I32 => Ok("i32"),
        ElementType::Bool => Ok("bool"),
    }
}

/// What a number is in memory.
fn memory(dtype: ElementType) -> Result<&'static str, Lack> {
    match dtype {
        ElementType::F32 | ElementType::F64 | ElementType::I32 => register(dtype),
        ElementType::Bool => Ok("u32"),
    }
}

fn signed(text: String) -> Spelled {
    let level = if text.starts_with('-') { Level::Unary } else { Level::Primary };
    Spelled::new(text, level)
}
