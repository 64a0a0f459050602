//! One suite for all that runs device plans: a plan of two small kernels, made by hand, holds a driver to what [`Driver`] says. A driver whose device
//! is not there has to say so. Read [`holds_to_the_contract`].

mod support;

use pushforward_gpu::driver::{DeviceError, Driver, Memory};
use pushforward_ir::philox::{Domain, fill_normals};
use pushforward_plan::device::kernel::*;
use pushforward_plan::kernel::ElementType::{F32, I32};
use pushforward_plan::kernel::{Access, Prim};
use support::skipped;

#[cfg(feature = "wgpu")]
mod wgsl {
    use pushforward_gpu::driver::wgpu::Wgpu;

    use super::*;

    #[test]
    fn wgpu_holds_to_the_contract() {
        match Wgpu::open() {
            Ok(mut device) => holds_to_the_contract(&mut device),
            Err(why) => skipped(&why.to_string()),
        }
    }

    #[test]
    fn wgpu_names_what_it_refuses() {
        match Wgpu::open() {
            Ok(mut device) => names_what_it_refuses(&mut device),
            Err(why) => skipped(&why.to_string()),
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_said_to_be_absent() {
        let Err(error) = Wgpu::open_named("no device has such a name") else { panic!("there is one") };
        let DeviceError::Absent { why, .. } = &error else { panic!("another error: {error}") };
        match Wgpu::devices().first() {
            Some(name) => assert!(why.contains(name.as_str()), "{error}"),
            None => assert!(why.contains("no driver"), "{error}"),
        }
    }
}

mod cuda_emu {
    use pushforward_gpu::emu::{Emulator, Options};

    use super::*;

    #[test]
    fn cuda_emu_holds_to_the_contract() {
        for options in
            [Options::default(), Options { sanitize: true, ..Options::default() }, Options { reversed: true, ..Options::default() }]
        {
            match Emulator::new(options) {
                Ok(mut device) => {
                    holds_to_the_contract(&mut device);
                    names_what_it_refuses(&mut device);
                }
                Err(why) => skipped(&why.to_string()),
            }
        }
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use pushforward_gpu::driver::cuda::Cuda;

    use super::*;

    /// Few machines have what it takes; on all others it is the message that is tested.
    #[test]
    fn cuda_holds_to_the_contract_or_says_that_it_is_absent() {
        match Cuda::open() {
            Ok(mut device) => {
                holds_to_the_contract(&mut device);
                names_what_it_refuses(&mut device);
            }
            Err(DeviceError::Absent { what, why, hint }) => {
                assert_eq!(what, "CUDA C++");
                assert!(why.contains("lib") || why.contains("CUDA_ERROR"), "{why}");
                assert!(hint.contains("NVIDIA's driver"), "{hint}");
            }
            Err(error) => panic!("another error: {error}"),
        }
    }
}

const LEN: usize = 300;

/// `scaled`, `summed`, and both once more on what the first made, with another stream of noise: `y = x * lr + n7`, `total += sum y`,
/// `z = y * lr + n9`, `total += sum z`.
fn plan() -> DevicePlan {
    let scalar = |name: &str, dtype, input| Scalar { name: name.into(), dtype, input };
    let buffer = |name: &str, len, role| DeviceBuffer { name: name.into(), dtype: F32, dims: vec![("N".into(), len)], role, live: (0, 3) };
    let launch = |kernel, args: [usize; 2], streams: &[u32]| DeviceLaunch { kernel, args: args.into(), streams: streams.into() };
    DevicePlan {
        name: "sums".into(),
        scalars: vec![scalar("seed", I32, 1), scalar("step", I32, 2), scalar("lr", F32, 3)],
        buffers: vec![
            buffer("x", LEN, DeviceRole::Input(0)),
            buffer("y", LEN, DeviceRole::Slot(0)),
            buffer("total", 1, DeviceRole::State(0)),
            buffer("z", LEN, DeviceRole::Slot(1)),
            buffer("nothing", 0, DeviceRole::Slot(2)),
        ],
        slots: vec![4 * LEN, 4 * LEN, 0],
        kernels: vec![scaled(), summed()],
        launches: vec![launch(0, [0, 1], &[7]), launch(1, [1, 2], &[]), launch(0, [1, 3], &[9]), launch(1, [3, 2], &[])],
    }
}

fn kernel(name: &str, args: [(&str, Access); 2], body: Vec<Stmt>) -> DeviceKernel {
    let arg = |(name, access): (&str, Access)| DeviceArg { name: name.into(), dtype: F32, access };
    DeviceKernel {
        name: name.into(),
        about: String::new(),
        args: args.map(arg).into(),
        scalars: Vec::new(),
        streams: 0,
        grid: (1, 1),
        block: 64,
        shared: Vec::new(),
        wide: false,
        work: Work::default(),
        body,
    }
}

/// Over a grid in two dimensions, one block of which has nothing to do.
fn scaled() -> DeviceKernel {
    let int = |n| Box::new(Expr::Int(n));
    let i = || Box::new(Expr::Var(0));
    let place = Expr::Index(IndexOp::Add, Box::new(Expr::Index(IndexOp::Mul, Box::new(Expr::Block), int(64))), Box::new(Expr::Thread));
    let noise = Expr::Normal(Box::new(Normal {
        dtype: F32,
        domain: Domain::Noise.key(),
        seed: Expr::Scalar(0),
        step: Expr::Scalar(1),
        stream: 0,
        direction: Expr::Int(0),
        element: Expr::Var(0),
    }));
    let product = Expr::Prim(Prim::Mul, F32, F32, vec![Expr::Load(0, i()), Expr::Scalar(2)]);
    let sum = Expr::Prim(Prim::Add, F32, F32, vec![product, noise]);
    let body = vec![
        Stmt::Let(0, VarType::Index, place),
        Stmt::If(Expr::Compare(Comparison::Lt, i(), int(LEN as u64)), vec![Stmt::Store(1, *i(), sum)]),
    ];
    let args = [("x", Access::Read), ("y", Access::Write)];
    DeviceKernel { scalars: vec![0, 1, 2], streams: 1, grid: (3, 2), ..kernel("scaled", args, body) }
}

/// By one block: each thread its part, then the first thread all of them.
fn summed() -> DeviceKernel {
    let add = |x, y| Expr::Prim(Prim::Add, F32, F32, vec![x, y]);
    let (part, turn, place, other) = (0, 1, 2, 3);
    let at = |v| Box::new(Expr::Var(v));
    let index = Expr::Index(IndexOp::Add, Box::new(Expr::Index(IndexOp::Mul, at(turn), Box::new(Expr::Int(64)))), Box::new(Expr::Thread));
    let more = vec![
        Stmt::Let(place, VarType::Index, index),
        Stmt::If(
            Expr::Compare(Comparison::Lt, at(place), Box::new(Expr::Int(LEN as u64))),
            vec![Stmt::Set(part, add(Expr::Var(part), Expr::Load(0, at(place))))],
        ),
    ];
    let first = || Box::new(Expr::Int(0));
    let all = vec![Stmt::Store(1, *first(), add(Expr::Load(1, first()), Expr::Shared(0, at(other))))];
    let body = vec![
        Stmt::Var(part, VarType::Element(F32), Expr::Number(0.0, F32)),
        Stmt::For { var: turn, count: LEN.div_ceil(64) as u64, unroll: false, body: more },
        Stmt::SetShared(0, Expr::Thread, Expr::Var(part)),
        Stmt::Barrier,
        Stmt::If(
            Expr::Compare(Comparison::Eq, Box::new(Expr::Thread), first()),
            vec![Stmt::For { var: other, count: 64, unroll: false, body: all }],
        ),
    ];
    let args = [("y", Access::Read), ("total", Access::ReadWrite)];
    DeviceKernel { shared: vec![Shared { dtype: F32, len: 64 }], ..kernel("summed", args, body) }
}

/// Launches in order, scalars and streams of noise where they belong, memory that is zero at first and kept between runs.
fn holds_to_the_contract(device: &mut dyn Driver) {
    let plan = plan();
    let loaded = device.load(&plan).unwrap();
    let mut buffers: Vec<Memory> = plan.buffers.iter().map(|b| device.allocate(&b.name, b.bytes()).unwrap()).collect();
    let x: Vec<f32> = (0..LEN).map(|i| i as f32 / 16.0).collect();
    device.write(buffers[0], &bytes(&x)).unwrap();
    let mut total = 0.0;
    let mut run = |device: &mut dyn Driver, buffers: &[Memory], step: i32, lr: f32| {
        device.run(loaded, buffers, &[5_i32.to_le_bytes(), step.to_le_bytes(), lr.to_le_bytes()].concat()).unwrap();
        let y = expected(&x, step, lr, 7);
        let z = expected(&y, step, lr, 9);
        total += y.iter().chain(&z).map(|v| f64::from(*v)).sum::<f64>();
        (y, z, vec![total as f32])
    };
    // The device may be behind, but not confuse the scalars of runs.
    for (step, lr) in (0..).zip([0.5, 2.0, 0.25, -1.0, 1.0, 0.5]) {
        run(device, &buffers, step, lr);
    }
    let (y, z, sum) = run(device, &buffers, 6, 4.0);
    close(&floats(device, buffers[1], LEN), &y);
    close(&floats(device, buffers[3], LEN), &z);
    close(&floats(device, buffers[2], 1), &sum);
    // A part of a piece of memory, and memory of no bytes.
    close(&floats(device, buffers[1], 2), &y[..2]);
    device.read(buffers[4], &mut []).unwrap();
    device.write(buffers[4], &[]).unwrap();
    // Other memory, larger than needed, with zeros in it.
    device.free(buffers[3]);
    buffers[3] = device.allocate("z", 4096).unwrap();
    assert_eq!(floats(device, buffers[3], 1024), vec![0.0; 1024]);
    let (_, z, sum) = run(device, &buffers, 7, 1.0);
    close(&floats(device, buffers[3], LEN + 1), &[z, vec![0.0]].concat());
    close(&floats(device, buffers[2], 1), &sum);
    assert!(device.about().ends_with(')'), "{}", device.about());
}

fn names_what_it_refuses(device: &mut dyn Driver) {
    let mut plan = plan();
    plan.kernels[1].shared[0].len = 6_400_000;
    let error = device.load(&plan).unwrap_err();
    let DeviceError::Compile { kernel, .. } = &error else { panic!("another error: {error}") };
    assert_eq!(kernel, "summed");
    let error = device.allocate("weights", 1 << 50).unwrap_err();
    let DeviceError::Memory { name, bytes: wanted, .. } = &error else { panic!("another error: {error}") };
    assert_eq!((name.as_str(), *wanted), ("weights", 1 << 50));
    // None of that has harmed it.
    let memory = device.allocate("x", 8).unwrap();
    device.write(memory, &bytes(&[1.0, 2.0])).unwrap();
    assert_eq!(floats(device, memory, 2), [1.0, 2.0]);
}

fn expected(x: &[f32], step: i32, lr: f32, stream: u32) -> Vec<f32> {
    let mut noise = vec![0.0; x.len()];
    fill_normals(5, Domain::Noise, stream, 0, step as u32, 0, &mut noise);
    x.iter().zip(noise).map(|(x, n)| x * lr + n).collect()
}

fn close(got: &[f32], wanted: &[f32]) {
    assert_eq!(got.len(), wanted.len());
    for (i, (a, b)) in got.iter().zip(wanted).enumerate() {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "[{i}]: {a}, not {b}");
    }
}

fn floats(device: &mut dyn Driver, memory: Memory, len: usize) -> Vec<f32> {
    let mut bytes = vec![0; 4 * len];
    device.read(memory, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}
