//! What runs programs here: a program and named tensors go in, named tensors come out. It knows no fixtures. Read [`Backend`].

use std::collections::BTreeMap;

use pushforward_cpu::{Executable, Pool, Slice, SliceMut, State};
use pushforward_ir::eval::{self, Inputs, Tensor};
use pushforward_ir::program::Port;
use pushforward_ir::{DType, Program};
use pushforward_plan::kernel::ElementType;

/// Runs programs once each.
pub trait Backend {
    fn name(&self) -> &'static str;

    /// What its programs compute in.
    fn float(&self) -> DType;

    /// All outputs by name, each row-major in its declared order. `inputs` holds the program's inputs and parameters.
    fn run(&self, program: &Program, inputs: &Inputs) -> Result<BTreeMap<String, Vec<f64>>, String>;
}

/// The reference evaluator.
pub struct Eval {
    pub float: DType,
}

impl Backend for Eval {
    fn name(&self) -> &'static str {
        "eval"
    }

    fn float(&self) -> DType {
        self.float
    }

    fn run(&self, program: &Program, inputs: &Inputs) -> Result<BTreeMap<String, Vec<f64>>, String> {
        let evaluated = eval::run(program, inputs).map_err(|e| e.to_string())?;
        Ok(evaluated.outputs.into_iter().map(|(name, tensor)| (name, tensor.data)).collect())
    }
}

/// Compiled for this processor.
pub struct Cpu {
    pub float: DType,
    pool: Pool,
}

impl Cpu {
    pub fn new(float: DType, threads: usize) -> Result<Cpu, String> {
        Ok(Cpu { float, pool: Pool::new(threads).map_err(|e| e.to_string())? })
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn float(&self) -> DType {
        self.float
    }

    fn run(&self, program: &Program, inputs: &Inputs) -> Result<BTreeMap<String, Vec<f64>>, String> {
        let plan = pushforward_plan::lower(program, &pushforward_plan::Options::default()).map_err(|e| e.to_string())?;
        let mut executable = Executable::with_pool(plan, &self.pool).map_err(|e| e.to_string())?;
        let mut state = State::new(executable.plan()).map_err(|e| e.to_string())?;
        for param in &program.params {
            if state.get(&param.port.name).is_some() {
                let numbers = Numbers::given(inputs, &param.port)?;
                state.set(&param.port.name, numbers.slice()).map_err(|e| e.to_string())?;
            }
        }
        let given: Vec<Numbers> = program.inputs.iter().map(|port| Numbers::given(inputs, port)).collect::<Result<_, _>>()?;
        let slices: Vec<Slice<'_>> = given.iter().map(Numbers::slice).collect();
        let (names, mut made): (Vec<String>, Vec<Numbers>) =
            executable.outputs().map(|b| (b.name.clone(), Numbers::zeros(b.dtype, b.len()))).unzip();
        let mut lent: Vec<SliceMut<'_>> = made.iter_mut().map(Numbers::slice_mut).collect();
        executable.run(&mut state, &slices, &mut lent).map_err(|e| e.to_string())?;

        // Outputs that are new values of parameters stay in the state.
        let made: BTreeMap<String, Numbers> = names.into_iter().zip(made).collect();
        let output = |port: &Port| {
            let slice = made.get(&port.name).map(Numbers::slice).or_else(|| state.get(&port.name));
            let slice = slice.ok_or_else(|| format!("the plan has lost the output `{}`", port.name))?;
            Ok((port.name.clone(), numbers(slice)))
        };
        program.outputs.iter().map(|o| output(&o.port)).collect()
    }
}

/// A tensor in memory of its own.
enum Numbers {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    Bool(Vec<u8>),
}

impl Numbers {
    /// The tensor of a port, rounded to its dtype.
    fn given(inputs: &Inputs, port: &Port) -> Result<Numbers, String> {
        let Some(Tensor { data, .. }) = inputs.get(&port.name) else { return Err(format!("the program needs `{}`", port.name)) };
        Ok(match port.dtype {
            DType::F32 => Numbers::F32(data.iter().map(|&x| x as f32).collect()),
            DType::F64 => Numbers::F64(data.clone()),
            DType::I32 => Numbers::I32(data.iter().map(|&x| x as i32).collect()),
            DType::Bool => Numbers::Bool(data.iter().map(|&x| u8::from(x != 0.0)).collect()),
        })
    }

    fn zeros(dtype: ElementType, len: usize) -> Numbers {
        match dtype {
            ElementType::F32 => Numbers::F32(vec![0.0; len]),
            ElementType::F64 => Numbers::F64(vec![0.0; len]),
            ElementType::I32 => Numbers::I32(vec![0; len]),
            ElementType::Bool => Numbers::Bool(vec![0; len]),
        }
    }

    fn slice(&self) -> Slice<'_> {
        match self {
            Numbers::F32(x) => Slice::F32(x),
            Numbers::F64(x) => Slice::F64(x),
            Numbers::I32(x) => Slice::I32(x),
            Numbers::Bool(x) => Slice::Bool(x),
        }
    }

    fn slice_mut(&mut self) -> SliceMut<'_> {
        match self {
            Numbers::F32(x) => SliceMut::F32(x),
            Numbers::F64(x) => SliceMut::F64(x),
            Numbers::I32(x) => SliceMut::I32(x),
            Numbers::Bool(x) => SliceMut::Bool(x),
        }
    }
}

fn numbers(slice: Slice<'_>) -> Vec<f64> {
    match slice {
        Slice::F32(x) => x.iter().map(|&x| f64::from(x)).collect(),
        Slice::F64(x) => x.to_vec(),
        Slice::I32(x) => x.iter().map(|&x| f64::from(x)).collect(),
        Slice::Bool(x) => x.iter().map(|&x| f64::from(x)).collect(),
    }
}
