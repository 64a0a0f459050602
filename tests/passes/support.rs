//! Models, numbers and runs for the tests beside it. It asserts nothing about passes.

use std::collections::HashMap;

use pushforward_cpu::{Executable, Options as CpuOptions, State};
use pushforward_gpu::driver::DeviceError;
use pushforward_gpu::session::{self, Session, States};
use pushforward_ir::eval::{self, Inputs, Tensor};
use pushforward_ir::program::Port;
use pushforward_ir::{DType, Diagnostic, LIBRARY, Program, parse};
use pushforward_passes::inline::{self, Bindings};
use pushforward_passes::{Algorithm, Options, algorithm};
use pushforward_plan::device::kernel::{DeviceBuffer, DeviceRole};
use pushforward_plan::device::{self, Target};
use pushforward_plan::kernel::ElementType;
use pushforward_plan::tensor::{Numbers, Slice, SliceMut};

pub const LOCALMIXER: &str = include_str!("../../models/localmixer.pf");
pub const TANH_MLP: &str = include_str!("../../models/tanh_mlp.pf");

/// Two blocks, four patches, two groups of four channels.
pub const SMALL_MIXER: &[(&str, &str)] = &[
    ("height", "4"),
    ("width", "4"),
    ("colours", "1"),
    ("grid", "2"),
    ("channels", "8"),
    ("groups", "2"),
    ("blocks", "2"),
    ("classes", "3"),
];

/// Numbers that are the same everywhere (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// Between -1 and 1.
    pub fn number(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// The flat program of a model's text, `f32` in it standing for `float`.
pub fn inlined(text: &str, sets: &[(&str, &str)], batch: usize, float: DType) -> Program {
    let sets = sets.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let bindings = Bindings { sets, batch: Some(batch), float, ..Bindings::default() };
    let library = parse::parse(LIBRARY, 1).expect("the library parses");
    let module = parse::parse(text, 0).unwrap_or_else(|e| panic!("{}\n{text}", show(&e)));
    inline::run(&[&library], &module, &bindings).unwrap_or_else(|e| panic!("{}\n{text}", show(&e))).program
}

/// A program after passes, each of them verified.
pub fn passed(program: Program, names: &[&str], options: &Options) -> Program {
    algorithm::run(program, names, options, &mut |_, _| {}).unwrap_or_else(|e| panic!("{}", show(&e)))
}

/// Whether an algorithm is one for a model: direct feedback starts at the prediction of the only loss, and not every model has one.
pub fn suits(program: &Program, algorithm: Algorithm) -> bool {
    match algorithm::run(program.clone(), &algorithm.passes()[..1], &Options::new(algorithm), &mut |_, _| {}) {
        Ok(_) => true,
        Err(errors) => {
            assert!(algorithm == Algorithm::DFA && errors[0].message.starts_with("direct feedback starts"), "{}", show(&errors));
            false
        }
    }
}

fn show(errors: &[Diagnostic]) -> String {
    errors.iter().map(|e| format!("{} {:?}\n", e.message, e.place)).collect()
}

/// Random tensors for all inputs and parameters of a program: numbers of the order of 1, integers that count classes.
pub fn tensors(program: &Program, random: &mut Random) -> Inputs {
    let classes = program.axes.find("K").map_or(3, |k| program.axes.size(k));
    let ports = program.inputs.iter().chain(program.params.iter().map(|p| &p.port));
    ports.map(|port| (port.name.clone(), tensor(program, port, random, classes))).collect()
}

fn tensor(program: &Program, port: &Port, random: &mut Random, classes: usize) -> Tensor {
    let number = |_: &[usize]| match (port.dtype, port.name.as_str()) {
        (DType::F32 | DType::F64, "lr") => 0.1,
        (DType::F32 | DType::F64, _) => random.number(),
        (DType::I32, _) => random.below(classes) as f64,
        (DType::Bool, _) => random.below(2) as f64,
    };
    Tensor::from_fn(&program.axes, port.dtype, &port.order, number)
}

pub fn evaluated(program: &Program, inputs: &Inputs) -> HashMap<String, Tensor> {
    let done = eval::run(program, inputs).unwrap_or_else(|e| panic!("{e}\n{}", program.to_text()));
    done.outputs.into_iter().collect()
}

/// The outputs of `program` run on the CPU back end; parameters that it updates are among them.
pub fn on_cpu(program: &Program, inputs: &Inputs, slices: bool, threads: usize) -> HashMap<String, Tensor> {
    let plan =
        pushforward_plan::lower(program, &pushforward_plan::Options { slices }).unwrap_or_else(|e| panic!("{e}\n{}", program.to_text()));
    let problems = pushforward_plan::verify::verify(&plan);
    assert!(problems.is_empty(), "{problems:?}\n{}", program.to_text());
    let mut executable = Executable::new(plan, &CpuOptions { threads }).unwrap_or_else(|e| panic!("{e}\n{}", program.to_text()));
    let mut state = State::new(executable.plan()).expect("small parameters");
    for param in &program.params {
        if executable.states().any(|b| b.name == param.port.name) {
            let data = numbers(&inputs[&param.port.name]);
            state.set(&param.port.name, data.slice()).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    let given: Vec<Numbers> = program.inputs.iter().map(|p| numbers(&inputs[&p.name])).collect();
    let given: Vec<Slice> = given.iter().map(Numbers::slice).collect();
    let wanted: Vec<(String, ElementType, usize)> = executable.outputs().map(|b| (b.name.clone(), b.dtype, b.len())).collect();
    let mut results: Vec<Numbers> = wanted.iter().map(|(_, dtype, len)| Numbers::zeros(*dtype, *len)).collect();
    {
        let mut out: Vec<SliceMut> = results.iter_mut().map(Numbers::slice_mut).collect();
        executable.run(&mut state, &given, &mut out).unwrap_or_else(|e| panic!("{e}\n{}", program.to_text()));
    }
    let outputs = program.outputs.iter().map(|o| {
        let port = &o.port;
        let data = match wanted.iter().position(|w| w.0 == port.name) {
            Some(i) => results[i].slice().to_f64(),
            None => state.get(&port.name).expect("an updated parameter is in the state").to_f64(),
        };
        (port.name.clone(), Tensor::new(port.dtype, port.order.clone(), program.shape(port), data))
    });
    outputs.collect()
}

/// The same, as blocks of threads would run it: the plan for devices by its oracle, which finds races and wrong places, too.
pub fn on_threads(program: &Program, inputs: &Inputs, target: &Target) -> HashMap<String, Tensor> {
    let plan = device::lower(program, target).unwrap_or_else(|e| panic!("{e}\n{}", program.to_text()));
    let numbers = |b: &DeviceBuffer| match b.role {
        DeviceRole::Input(_) | DeviceRole::State(_) => inputs[&b.name].data.clone(),
        DeviceRole::Output(_) => vec![f64::NAN; b.len()],
        DeviceRole::Slot(_) => Vec::new(),
    };
    let problems = device::verify::verify(&plan);
    assert!(problems.is_empty(), "{problems:?}\n{}", program.to_text());
    let scalars = plan.scalars.iter().map(|s| inputs[&s.name].data[0]).collect();
    let mut memory = device::run::Memory { scalars, buffers: plan.buffers.iter().map(numbers).collect() };
    device::run::run(&plan, &mut memory).unwrap_or_else(|e| panic!("{e}\n{}", program.to_text()));
    let outputs = program.outputs.iter().enumerate().map(|(i, o)| {
        let port = &o.port;
        let is_it = |b: &DeviceBuffer| match b.role {
            DeviceRole::Output(output) => output == i,
            DeviceRole::State(_) => b.name == port.name,
            DeviceRole::Input(_) | DeviceRole::Slot(_) => false,
        };
        let b = plan.buffers.iter().position(is_it).expect("outputs have buffers");
        (port.name.clone(), Tensor::new(port.dtype, port.order.clone(), program.shape(port), memory.buffers[b].clone()))
    });
    outputs.collect()
}

/// The same, on a device.
pub fn on_device(program: &Program, inputs: &Inputs, session: &mut Session, target: &Target) -> HashMap<String, Tensor> {
    let plan = device::lower(program, target).unwrap_or_else(|e| panic!("{e}\n{}", program.to_text()));
    let mut made = session::room(&plan);
    let mut run = || -> Result<HashMap<String, Tensor>, DeviceError> {
        let loaded = session.load(plan.clone())?;
        let mut states = States::default();
        session.add_states(loaded, &mut states)?;
        for param in &program.params {
            session.write_state(&states, &param.port.name, numbers(&inputs[&param.port.name]).slice())?;
        }
        let given: Vec<Numbers> = program.inputs.iter().map(|p| numbers(&inputs[&p.name])).collect();
        let given: Vec<Slice> = given.iter().map(Numbers::slice).collect();
        session.run(loaded, &states, &given, &mut made.iter_mut().map(|(_, x)| x.slice_mut()).collect::<Vec<_>>())?;
        let mut results = HashMap::new();
        for out in &program.outputs {
            let port = &out.port;
            let data = match made.iter().find(|(name, _)| *name == port.name) {
                Some((_, x)) => x.slice().to_f64(),
                None => {
                    let len = program.shape(port).iter().product();
                    let mut x = Numbers::zeros(port.dtype.into(), len);
                    session.read_state(&states, &port.name, &mut x.slice_mut())?;
                    x.slice().to_f64()
                }
            };
            results.insert(port.name.clone(), Tensor::new(port.dtype, port.order.clone(), program.shape(port), data));
        }
        session.unload(loaded);
        session.free_states(&mut states);
        Ok(results)
    };
    run().unwrap_or_else(|e| panic!("{e}\n{}", program.to_text()))
}

/// A tensor's elements in its dtype.
fn numbers(tensor: &Tensor) -> Numbers {
    Numbers::rounded(tensor.dtype.into(), &tensor.data)
}

/// All of `expected` are in `got` and near: `relative` of the largest entry of the tensor, and `absolute`.
pub fn assert_near(what: &str, got: &HashMap<String, Tensor>, expected: &HashMap<String, Tensor>, relative: f64, absolute: f64) {
    assert!(!expected.is_empty(), "{what}: nothing is compared");
    let mut names: Vec<&String> = expected.keys().collect();
    names.sort();
    let mut wrong = Vec::new();
    for name in names {
        let Some(ours) = got.get(name) else {
            wrong.push(format!("{name}: missing"));
            continue;
        };
        match ours.worst(&expected[name], relative, absolute) {
            Some(d) if d.ratio <= 1.0 => {}
            Some(d) => wrong.push(format!("{name}[{}]: got {}, expected {}: {:.3} times the tolerance", d.at, d.got, d.expected, d.ratio)),
            None => wrong.push(format!("{name}: axes {:?} of {:?}, expected {:?}", ours.order, ours.shape, expected[name].order)),
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}
