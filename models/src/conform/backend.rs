//! What runs programs here: a program and named tensors go in, named tensors come out. It knows no fixtures. Read [`Backend`].

use std::cell::RefCell;
use std::collections::BTreeMap;

use pushforward_cpu::{Executable, Pool, State};
use pushforward_gpu::driver::Driver;
use pushforward_gpu::session::{self, ProgramId, Session, States};
use pushforward_ir::eval::{self, Inputs, Tensor};
use pushforward_ir::program::Port;
use pushforward_ir::{DType, Program};
use pushforward_plan::device::{Precision, Target};
use pushforward_plan::tensor::{Numbers, Slice, SliceMut};

/// Runs programs once each.
pub trait Backend {
    fn name(&self) -> &str;

    /// What its programs compute in.
    fn float(&self) -> DType;

    /// Of its products in f32.
    fn precision(&self) -> Precision {
        Precision::Fp32
    }

    /// All outputs by name, each row-major in its declared order. `inputs` holds the program's inputs and parameters.
    fn run(&self, program: &Program, inputs: &Inputs) -> Result<BTreeMap<String, Vec<f64>>, String>;
}

/// The reference evaluator.
pub struct Eval {
    pub float: DType,
}

impl Backend for Eval {
    fn name(&self) -> &str {
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
    fn name(&self) -> &str {
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
                let numbers = given(inputs, &param.port)?;
                state.set(&param.port.name, numbers.slice()).map_err(|e| e.to_string())?;
            }
        }
        let given: Vec<Numbers> = program.inputs.iter().map(|port| given(inputs, port)).collect::<Result<_, _>>()?;
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
            Ok((port.name.clone(), slice.to_f64()))
        };
        program.outputs.iter().map(|o| output(&o.port)).collect()
    }
}

/// On a device.
pub struct Device {
    name: String,
    float: DType,
    session: RefCell<Session>,
    target: Target,
}

impl Device {
    pub fn new(name: &str, float: DType, driver: Box<dyn Driver + Send>, target: Target) -> Device {
        Device { name: name.into(), float, session: RefCell::new(Session::new(driver)), target }
    }
}

impl Backend for Device {
    fn name(&self) -> &str {
        &self.name
    }

    fn float(&self) -> DType {
        self.float
    }

    fn precision(&self) -> Precision {
        self.target.precision
    }

    fn run(&self, program: &Program, inputs: &Inputs) -> Result<BTreeMap<String, Vec<f64>>, String> {
        let plan = pushforward_plan::device::lower(program, &self.target).map_err(|e| e.to_string())?;
        let mut made = session::room(&plan);
        let mut session = self.session.borrow_mut();
        let id = session.load(plan).map_err(|e| e.to_string())?;
        let mut states = States::default();
        let done = once(&mut session, id, &mut states, program, inputs, &mut made);
        session.free_states(&mut states);
        session.unload(id);
        let updated = done?;
        Ok(made.into_iter().chain(updated).map(|(name, numbers)| (name, numbers.slice().to_f64())).collect())
    }
}

/// Runs a loaded program once; gives the outputs that are new values of parameters.
fn once(
    session: &mut Session,
    id: ProgramId,
    states: &mut States,
    program: &Program,
    inputs: &Inputs,
    made: &mut [(String, Numbers)],
) -> Result<Vec<(String, Numbers)>, String> {
    session.add_states(id, states).map_err(|e| e.to_string())?;
    for param in &program.params {
        let numbers = given(inputs, &param.port)?;
        session.write_state(states, &param.port.name, numbers.slice()).map_err(|e| e.to_string())?;
    }
    let lent: Vec<Numbers> = program.inputs.iter().map(|port| given(inputs, port)).collect::<Result<_, _>>()?;
    let slices: Vec<Slice<'_>> = lent.iter().map(Numbers::slice).collect();
    let mut outputs: Vec<SliceMut<'_>> = made.iter_mut().map(|m| m.1.slice_mut()).collect();
    session.run(id, states, &slices, &mut outputs).map_err(|e| e.to_string())?;
    let of_parameters = program.outputs.iter().filter(|o| program.param(&o.port.name).is_some());
    let updated = of_parameters.map(|o| {
        let mut numbers = Numbers::zeros(o.port.dtype.into(), program.shape(&o.port).iter().product());
        session.read_state(states, &o.port.name, &mut numbers.slice_mut()).map_err(|e| e.to_string())?;
        Ok((o.port.name.clone(), numbers))
    });
    updated.collect()
}

/// The tensor of a port, rounded to its dtype.
fn given(inputs: &Inputs, port: &Port) -> Result<Numbers, String> {
    let Some(Tensor { data, .. }) = inputs.get(&port.name) else { return Err(format!("the program needs `{}`", port.name)) };
    Ok(Numbers::rounded(port.dtype.into(), data))
}
