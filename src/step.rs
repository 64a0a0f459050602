//! A program made callable: tensors go in by name, as `ndarray` views that are not copied, and come out as views of the step's own memory.
//!
//! It decides nothing about kernels (`pushforward_plan`) and runs none itself (`pushforward_cpu`, `pushforward_gpu`). Read [`Step::run`] first.

use std::collections::HashSet;

use ndarray::{ArrayBase, ArrayView, ArrayViewD, Dimension, IxDyn};
use pushforward_cpu::{Executable, State};
use pushforward_gpu::driver::DeviceError;
use pushforward_gpu::session::{self, ProgramId, States};
use pushforward_ir::philox::{Domain, fill_normals, fill_normals_f64};
use pushforward_ir::program::{Init, Port};
use pushforward_ir::{DType, Program};
use pushforward_plan::device;
use pushforward_plan::device::kernel::DeviceRole;
use pushforward_plan::kernel::ElementType;
use pushforward_plan::tensor::{Numbers, Slice, SliceMut};

use crate::engine::{Device, Engine};
use crate::error::Error;
use crate::model::{Model, Settings};
use crate::report::Report;

/// A compiled program.
pub struct Step {
    program: Program,
    code: Code,
    /// The numbers of the inputs that the code reads, ascending.
    reads: Vec<usize>,
    outputs: Vec<Produced>,
}

/// What runs.
enum Code {
    Cpu(Box<Executable>),
    Device(Device, ProgramId),
}

impl Drop for Code {
    fn drop(&mut self) {
        match self {
            Code::Cpu(_) => {}
            Code::Device(device, id) => device.session().unload(*id),
        }
    }
}

/// Memory for one output.
struct Produced {
    name: String,
    shape: Vec<usize>,
    data: Numbers,
}

impl Step {
    /// One training step of a model.
    pub fn training(model: &Model, settings: &Settings, engine: impl Into<Engine>) -> Result<Step, Error> {
        Step::compile(model.training(settings)?, engine)
    }

    /// A piece of a training step's batch, and what ends the step after its last piece; they share parameters. See
    /// [`pushforward_passes::accumulate`].
    pub fn accumulating(model: &Model, settings: &Settings, engine: impl Into<Engine>) -> Result<Step, Error> {
        Step::compile(model.accumulating(settings)?, engine)
    }

    pub fn applying(model: &Model, settings: &Settings, engine: impl Into<Engine>) -> Result<Step, Error> {
        Step::compile(model.applying(settings)?, engine)
    }

    /// The model's declared outputs, for looking at what training made of it.
    pub fn evaluation(model: &Model, settings: &Settings, engine: impl Into<Engine>) -> Result<Step, Error> {
        Step::compile(model.evaluation(settings)?, engine)
    }

    /// Any flat program.
    pub fn compile(program: Program, engine: impl Into<Engine>) -> Result<Step, Error> {
        match engine.into() {
            Engine::Cpu(pool) => {
                let plan = pushforward_plan::lower(&program, &pushforward_plan::Options::default())?;
                let executable = Executable::with_pool(plan, &pool)?;
                let outputs = executable.outputs().map(|b| Produced::of(&b.name, b.dtype, &b.dims)).collect();
                let reads = executable.inputs().enumerate().filter_map(|(i, b)| b.map(|_| i)).collect();
                Ok(Step { program, code: Code::Cpu(Box::new(executable)), reads, outputs })
            }
            Engine::Device(device) => {
                let plan = device::lower(&program, device.target())?;
                let outputs = session::outputs(&plan).map(|b| Produced::of(&b.name, b.dtype, &b.dims)).collect();
                let tensors = plan.buffers.iter().filter_map(|b| match b.role {
                    DeviceRole::Input(i) => Some(i),
                    DeviceRole::State(_) | DeviceRole::Output(_) | DeviceRole::Slot(_) => None,
                });
                let mut reads: Vec<usize> = tensors.chain(plan.scalars.iter().map(|s| s.input)).collect();
                reads.sort_unstable();
                let id = device.session().load(plan)?;
                Ok(Step { program, code: Code::Device(device, id), reads, outputs })
            }
        }
    }

    /// Runs once. Inputs may come in any order; those that the program does not read may be left out. `parameters` are updated in place.
    /// Nothing is computed if a tensor is missing or does not fit.
    pub fn run(&mut self, parameters: &mut Parameters, inputs: &[(&str, Input<'_>)]) -> Result<(), Error> {
        if let Some((name, _)) = inputs.iter().find(|(name, _)| self.program.input(name).is_none()) {
            let known: Vec<&str> = self.program.inputs.iter().map(|p| p.name.as_str()).collect();
            return Err(Error::Unknown { what: "input", name: name.to_string(), known: known.join(", ") });
        }
        let mut slices = Vec::with_capacity(inputs.len());
        for (i, port) in self.program.inputs.iter().enumerate() {
            let given = inputs.iter().find(|(name, _)| *name == port.name);
            slices.push(match given {
                Some((_, input)) => input.slice(port, &self.program)?,
                None if !self.reads.contains(&i) => Slice::F32(&[]),
                None => return Err(Error::Missing { name: port.name.clone(), wants: show(port, &self.program) }),
            });
        }
        let mut outputs: Vec<SliceMut<'_>> = self.outputs.iter_mut().map(|o| o.data.slice_mut()).collect();
        match &mut self.code {
            Code::Cpu(executable) => {
                if parameters.there.is_some() {
                    return Err(elsewhere());
                }
                // A plan does not know of inputs after the last one that it reads.
                slices.truncate(self.reads.last().map_or(0, |last| last + 1));
                Ok(executable.run(&mut parameters.state, &slices, &mut outputs)?)
            }
            Code::Device(device, id) => {
                let states = parameters.send(device, *id)?;
                Ok(device.session().run(*id, states, &slices, &mut outputs)?)
            }
        }
    }

    /// The output `name` of the last run; zeros before the first.
    pub fn output(&self, name: &str) -> Option<View<'_>> {
        self.outputs.iter().find(|o| o.name == name).map(|o| View::new(&o.shape, o.data.slice()))
    }

    /// All outputs, in the program's order.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, View<'_>)> {
        self.outputs.iter().map(|o| (o.name.as_str(), View::new(&o.shape, o.data.slice())))
    }

    /// The program that was compiled: its inputs, parameters, outputs and their shapes.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The machine code, if the step runs on this processor.
    pub fn executable(&self) -> Option<&Executable> {
        match &self.code {
            Code::Cpu(executable) => Some(executable),
            Code::Device(..) => None,
        }
    }

    /// What a run costs.
    pub fn report(&self) -> Report {
        match &self.code {
            Code::Cpu(executable) => Report::of(executable.plan()),
            Code::Device(device, id) => Report::of_device(device.session().plan(*id)),
        }
    }
}

impl Produced {
    fn of(name: &str, dtype: ElementType, dims: &[(String, usize)]) -> Produced {
        let shape: Vec<usize> = dims.iter().map(|d| d.1).collect();
        let data = Numbers::zeros(dtype, shape.iter().product());
        Produced { name: name.to_string(), shape, data }
    }
}

/// What a model has learnt, and its momentum: the tensors that live from step to step. One set serves every step of a model: training,
/// evaluation, other batches. Steps on a device keep theirs there: [`Parameters::fetch`] brings them here.
pub struct Parameters {
    /// Here; on the CPU, the only ones.
    state: State,
    there: Option<There>,
}

/// Parameters on a device.
struct There {
    device: Device,
    states: States,
    /// By name: those here are newer than those there.
    changed: Vec<String>,
    /// Those there are newer.
    ran: bool,
}

impl Parameters {
    /// Those of `step`, as its model says that they begin; `seed` decides what is random. Parameter `i` of the model draws from stream `i`.
    pub fn new(step: &Step, seed: u32) -> Result<Parameters, Error> {
        let there = match &step.code {
            Code::Cpu(_) => None,
            Code::Device(device, _) => Some(There { device: device.clone(), states: States::default(), changed: Vec::new(), ran: false }),
        };
        let mut parameters = Parameters { state: State::default(), there };
        parameters.add(step, seed)?;
        Ok(parameters)
    }

    /// Adds those of another step, which are not here yet, as they begin. The step runs where the first one does.
    pub fn add(&mut self, step: &Step, seed: u32) -> Result<(), Error> {
        let known: HashSet<String> = self.state.iter().map(|(name, ..)| name.to_string()).collect();
        let state = &mut self.state;
        match &step.code {
            Code::Cpu(executable) => state.add(executable.plan())?,
            Code::Device(device, id) => {
                for buffer in &device.session().plan(*id).buffers {
                    if let DeviceRole::State(_) = buffer.role {
                        state.declare(&buffer.name, buffer.dtype, &buffer.dims)?;
                    }
                }
            }
        }
        for (stream, param) in (0u32..).zip(&step.program.params).filter(|(_, param)| !known.contains(&param.port.name)) {
            let Some(values) = state.get_mut(&param.port.name) else { continue };
            match (values, param.init) {
                (SliceMut::F32(x), Init::Constant(value)) => x.fill(value as f32),
                (SliceMut::F64(x), Init::Constant(value)) => x.fill(value),
                (SliceMut::F32(x), Init::Normal(deviation)) => {
                    fill_normals(seed, Domain::Init, stream, 0, 0, 0, x);
                    x.iter_mut().for_each(|x| *x *= deviation as f32);
                }
                (SliceMut::F64(x), Init::Normal(deviation)) => {
                    fill_normals_f64(seed, Domain::Init, stream, 0, 0, 0, x);
                    x.iter_mut().for_each(|x| *x *= deviation);
                }
                (SliceMut::I32(x), Init::Constant(value) | Init::Normal(value)) => x.fill(value as i32),
                (SliceMut::Bool(x), Init::Constant(value) | Init::Normal(value)) => x.fill(u8::from(value != 0.0)),
            }
        }
        if let Some(there) = &mut self.there {
            there.changed.extend(self.state.iter().map(|(name, ..)| name.to_string()).filter(|name| !known.contains(name)));
        }
        Ok(())
    }

    /// Those that `step` wants, which runs on this processor, as copies: it changes none of these.
    pub(crate) fn copy_for(&self, step: &Step) -> Result<Parameters, Error> {
        let mut state = State::default();
        if let Some(executable) = step.executable() {
            state.add(executable.plan())?;
        }
        for (name, _, numbers) in self.state.iter() {
            if state.get(name).is_some() {
                state.set(name, numbers)?;
            }
        }
        Ok(Parameters { state, there: None })
    }

    /// Makes sure that what is read here is what the last run left. On the CPU it always is.
    pub fn fetch(&mut self) -> Result<(), Error> {
        let Some(There { device, states, changed, ran: ran @ true }) = &mut self.there else { return Ok(()) };
        // What was set here since has yet to go there: it is the newer.
        let names: Vec<String> = self.state.iter().map(|(name, ..)| name.to_string()).filter(|name| !changed.contains(name)).collect();
        for name in &names {
            if let Some(mut numbers) = self.state.get_mut(name) {
                device.session().read_state(states, name, &mut numbers)?;
            }
        }
        *ran = false;
        Ok(())
    }

    /// The parameters on the device, with what was changed here.
    fn send(&mut self, device: &Device, program: ProgramId) -> Result<&States, Error> {
        let there = self.there.as_mut().filter(|there| there.device.is(device)).ok_or_else(elsewhere)?;
        let mut session = device.session();
        session.add_states(program, &mut there.states)?;
        // Those of other programs wait until one of these runs.
        let (here, later) = std::mem::take(&mut there.changed).into_iter().partition(|name| there.states.holds(name));
        there.changed = later;
        for name in here {
            if let Some(numbers) = self.state.get(&name) {
                session.write_state(&there.states, &name, numbers)?;
            }
        }
        there.ran = true;
        Ok(&there.states)
    }

    pub fn get(&self, name: &str) -> Option<View<'_>> {
        self.iter().find(|(n, _)| *n == name).map(|(_, view)| view)
    }

    /// Name and numbers of each, in the order in which the step declares them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, View<'_>)> {
        self.state.iter().map(|(name, dims, data)| (name, View::new(&dims.iter().map(|d| d.1).collect::<Vec<_>>(), data)))
    }

    /// Overwrites one.
    pub fn set<T: Scalar>(&mut self, name: &str, values: &[T]) -> Result<(), Error> {
        self.state.set(name, T::lend(values))?;
        if let Some(there) = &mut self.there {
            there.changed.push(name.to_string());
        }
        Ok(())
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        if let Some(there) = &mut self.there {
            there.device.session().free_states(&mut there.states);
        }
    }
}

fn elsewhere() -> Error {
    let why =
        "lie on the CPU or another device than the step; hint: make them with `Parameters::new` from a step that runs where this one does";
    DeviceError::Tensor { name: "the parameters".into(), why: why.into() }.into()
}

/// A tensor that the caller lends to one run.
pub struct Input<'a> {
    /// `None` for a flat slice: only its length is checked.
    shape: Option<Vec<usize>>,
    lent: Lent<'a>,
}

enum Lent<'a> {
    Slice(Slice<'a>),
    F32(f32),
    F64(f64),
    I32(i32),
    /// A view that is not dense and row-major.
    Strided,
}

impl Input<'_> {
    pub(crate) fn slice(&self, port: &Port, program: &Program) -> Result<Slice<'_>, Error> {
        let wants = program.shape(port);
        if let Some(got) = self.shape.as_ref().filter(|got| !same_shape(&wants, got)) {
            return Err(Error::Shape { name: port.name.clone(), wants: show(port, program), got: got.clone() });
        }
        match &self.lent {
            Lent::Slice(x) => Ok(*x),
            Lent::F32(x) => Ok(Slice::F32(std::slice::from_ref(x))),
            Lent::F64(x) => Ok(Slice::F64(std::slice::from_ref(x))),
            Lent::I32(x) => Ok(Slice::I32(std::slice::from_ref(x))),
            Lent::Strided => Err(Error::Strided { name: port.name.clone(), shape: self.shape.clone().unwrap_or_default() }),
        }
    }
}

/// Whether an array of shape `got` is the tensor: axes that a person wrote as one (`H = (Y, h)`) may be one in the array. Both read row by row.
fn same_shape(wants: &[usize], got: &[usize]) -> bool {
    if wants.contains(&0) || got.contains(&0) {
        return wants.contains(&0) && got.contains(&0);
    }
    let mut left = wants.iter().copied().filter(|&n| n != 1);
    let split = got.iter().copied().filter(|&n| n != 1).all(|n| {
        let mut product = 1usize;
        while product < n {
            match left.next() {
                Some(size) => product = product.saturating_mul(size),
                None => return false,
            }
        }
        product == n
    });
    split && left.next().is_none()
}

/// `f32[N=32, P=4]`
fn show(port: &Port, program: &Program) -> String {
    let dims: Vec<String> = port.order.iter().map(|&a| format!("{}={}", program.axes[a].name, program.axes.size(a))).collect();
    format!("{}[{}]", port.dtype.name(), dims.join(", "))
}

/// What a tensor's elements may be in Rust; conditions are bytes.
pub trait Scalar: Sized {
    #[doc(hidden)]
    fn lend(x: &[Self]) -> Slice<'_>;
}

impl Scalar for f32 {
    fn lend(x: &[f32]) -> Slice<'_> {
        Slice::F32(x)
    }
}

impl Scalar for f64 {
    fn lend(x: &[f64]) -> Slice<'_> {
        Slice::F64(x)
    }
}

impl Scalar for i32 {
    fn lend(x: &[i32]) -> Slice<'_> {
        Slice::I32(x)
    }
}

impl Scalar for u8 {
    fn lend(x: &[u8]) -> Slice<'_> {
        Slice::Bool(x)
    }
}

impl<'a, T: Scalar, D: Dimension> From<ArrayView<'a, T, D>> for Input<'a> {
    fn from(x: ArrayView<'a, T, D>) -> Input<'a> {
        let lent = x.to_slice().map_or(Lent::Strided, |x| Lent::Slice(T::lend(x)));
        Input { shape: Some(x.shape().to_vec()), lent }
    }
}

impl<'a, S: ndarray::Data<Elem: Scalar>, D: Dimension> From<&'a ArrayBase<S, D>> for Input<'a> {
    fn from(x: &'a ArrayBase<S, D>) -> Input<'a> {
        x.view().into()
    }
}

impl<'a, T: Scalar> From<&'a [T]> for Input<'a> {
    fn from(x: &'a [T]) -> Input<'a> {
        Input { shape: None, lent: Lent::Slice(T::lend(x)) }
    }
}

impl From<f32> for Input<'_> {
    fn from(x: f32) -> Self {
        Input { shape: Some(Vec::new()), lent: Lent::F32(x) }
    }
}

impl From<f64> for Input<'_> {
    fn from(x: f64) -> Self {
        Input { shape: Some(Vec::new()), lent: Lent::F64(x) }
    }
}

impl From<i32> for Input<'_> {
    fn from(x: i32) -> Self {
        Input { shape: Some(Vec::new()), lent: Lent::I32(x) }
    }
}

/// A tensor of the step's, for looking.
#[derive(Clone, Debug)]
pub enum View<'a> {
    F32(ArrayViewD<'a, f32>),
    F64(ArrayViewD<'a, f64>),
    I32(ArrayViewD<'a, i32>),
    Bool(ArrayViewD<'a, u8>),
}

impl<'a> View<'a> {
    fn new(shape: &[usize], data: Slice<'a>) -> View<'a> {
        fn view<'a, T>(shape: &[usize], data: &'a [T]) -> ArrayViewD<'a, T> {
            ArrayView::from_shape(IxDyn(shape), data).expect("a buffer has as many elements as its sizes say")
        }
        match data {
            Slice::F32(x) => View::F32(view(shape, x)),
            Slice::F64(x) => View::F64(view(shape, x)),
            Slice::I32(x) => View::I32(view(shape, x)),
            Slice::Bool(x) => View::Bool(view(shape, x)),
        }
    }

    pub fn dtype(&self) -> DType {
        match self {
            View::F32(_) => DType::F32,
            View::F64(_) => DType::F64,
            View::I32(_) => DType::I32,
            View::Bool(_) => DType::Bool,
        }
    }

    pub fn shape(&self) -> &[usize] {
        match self {
            View::F32(x) => x.shape(),
            View::F64(x) => x.shape(),
            View::I32(x) => x.shape(),
            View::Bool(x) => x.shape(),
        }
    }

    /// The array, if it is f32.
    pub fn f32(self) -> Option<ArrayViewD<'a, f32>> {
        match self {
            View::F32(x) => Some(x),
            View::F64(_) | View::I32(_) | View::Bool(_) => None,
        }
    }

    /// Every number, row by row.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            View::F32(x) => x.iter().map(|&x| f64::from(x)).collect(),
            View::F64(x) => x.iter().copied().collect(),
            View::I32(x) => x.iter().map(|&x| f64::from(x)).collect(),
            View::Bool(x) => x.iter().map(|&x| f64::from(x)).collect(),
        }
    }

    /// The one number of a tensor that has one.
    pub fn item(&self) -> Option<f64> {
        match self {
            View::F32(x) if x.len() == 1 => x.first().map(|&x| f64::from(x)),
            View::F64(x) if x.len() == 1 => x.first().copied(),
            View::I32(x) if x.len() == 1 => x.first().map(|&x| f64::from(x)),
            View::Bool(x) if x.len() == 1 => x.first().map(|&x| f64::from(x)),
            View::F32(_) | View::F64(_) | View::I32(_) | View::Bool(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::same_shape;

    #[test]
    fn composite_axes_may_be_one() {
        let (wants, fits) =
            ([128, 8, 4, 8, 4, 3], [vec![128, 32, 32, 3], vec![128, 8, 4, 8, 4, 3], vec![128, 64 * 16 * 3], vec![128 * 3072]]);
        assert!(fits.iter().all(|got| same_shape(&wants, got)));
        for got in [vec![128, 3, 32, 32], vec![64, 32, 32, 3], vec![128, 32, 32], vec![], vec![128, 32, 32, 3, 2]] {
            assert!(!same_shape(&wants, &got), "{got:?}");
        }
        assert!(same_shape(&[1, 28, 1, 28], &[28, 28]) && same_shape(&[1, 28, 1, 28], &[1, 28, 28, 1]));
        assert!(same_shape(&[], &[]) && same_shape(&[], &[1]) && !same_shape(&[], &[2]));
        assert!(same_shape(&[0, 3], &[0, 3]) && !same_shape(&[0, 3], &[2, 3]));
    }
}
