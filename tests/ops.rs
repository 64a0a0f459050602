//! Each op, end to end: `tests/corpus/ops/<op>.pf` computes one output `y` with it. Its text, the evaluator against the CPU and devices in f32
//! and f64, its derivative against central differences, its transpose against its derivative. A file's first line may say `// no derivative`, or
//! `// derivative: 0.5 of the difference`. A new op fails here until it has its file.

use std::collections::BTreeSet;
use std::path::Path;

use pushforward::{Engine, Input, Parameters, Pool, Step, View, engine};
use pushforward_ir::eval::{self, Inputs, Tensor};
use pushforward_ir::{DType, Op, Program, parse, print};
use pushforward_passes::inline::{self, Bindings};
use pushforward_passes::{Options, algorithm};
use pushforward_plan::device::Precision;

/// Files by op.
fn cases() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/ops");
    let files = std::fs::read_dir(&folder).expect("tests/corpus/ops is there").map(|e| e.expect("a folder can be read").path());
    let mut all: Vec<(String, String)> = files
        .map(|p| (p.file_stem().expect("a name").to_string_lossy().into_owned(), std::fs::read_to_string(&p).expect("text")))
        .collect();
    all.sort();
    all
}

#[test]
fn every_op_has_its_file() {
    let files: BTreeSet<String> = cases().into_iter().map(|(name, _)| name).collect();
    // `seed` stands only inside `transpose`.
    let ops: BTreeSet<String> = Op::ALL.iter().map(|info| info.name.to_string()).filter(|name| name != "seed").collect();
    assert_eq!(files, ops, "tests/corpus/ops has a file for each op, and for nothing else");
    for (name, text) in cases() {
        let program = program(&text, DType::F32);
        let live = program.live();
        let has = program.values().any(|v| live[v.0 as usize] && program.op(v).name() == name);
        assert!(has, "tests/corpus/ops/{name}.pf does not compute with `{name}`:\n{}", program.to_text());
    }
}

#[test]
fn texts_survive() {
    for (name, text) in cases() {
        let module = parse::parse(&text, 0).expect("it parses");
        assert_eq!(parse::parse(&print::print(&module), 0).as_ref(), Ok(&module), "{name}");
    }
}

#[test]
fn the_cpu_computes_what_the_evaluator_does() {
    let pool = Pool::new(1).expect("a thread");
    computes_what_the_evaluator_does(&Engine::from(&pool), &[DType::F32, DType::F64]);
}

fn computes_what_the_evaluator_does(engine: &Engine, floats: &[DType]) {
    for (name, text) in cases() {
        for &float in floats {
            let tolerance = if float == DType::F64 { 1e-13 } else { 1e-6 };
            let program = program(&text, float);
            if float == DType::F64 && !program.params.is_empty() {
                continue; // callers set parameters in f32
            }
            let inputs = inputs(&program);
            let wants = eval::run(&program, &inputs).expect("it can be evaluated").get("y").expect("the output").clone();
            let got = on(engine, &program, &inputs);
            let got = Tensor::new(wants.dtype, wants.order.clone(), wants.shape.clone(), got);
            let worst = got.worst(&wants, tolerance, 0.0).expect("one shape");
            assert!(worst.ratio <= 1.0, "{name} in {}: {worst:?}", float.name());
        }
    }
}

#[test]
fn devices_compute_what_the_evaluator_does() {
    for name in ["cuda-emu", "wgsl"] {
        let device = match engine::device(name, Precision::Fp32).expect("it is called so") {
            Ok(device) => Engine::Device(device),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "in CI no test may skip: {error}");
                eprintln!("skipped: {error}");
                continue;
            }
        };
        let floats: &[DType] = if name == "wgsl" { &[DType::F32] } else { &[DType::F32, DType::F64] };
        computes_what_the_evaluator_does(&device, floats);
    }
}

#[test]
fn derivatives_are_limits_of_differences() {
    for (name, text) in cases() {
        let program = program(&text, DType::F64);
        if !program.outputs[0].port.dtype.is_float() {
            continue;
        }
        let derived = pass(&program, "jvp");
        if text.starts_with("// no derivative") {
            let errors = derived.expect_err("an op without a rule is refused");
            assert!(errors.contains(&format!("`{name}` has no derivative rule")), "{errors}");
            continue;
        }
        let derived = derived.unwrap_or_else(|e| panic!("{name}: {e}"));
        let share =
            text.strip_prefix("// derivative: ").map_or(1.0, |rest| rest.split(' ').next().and_then(|x| x.parse().ok()).expect("a number"));
        let at = |h: f64| {
            let mut inputs = inputs(&program);
            for (name, x) in inputs.iter_mut().filter(|(_, x)| x.dtype.is_float()) {
                let direction = tangent(name, x.data.len());
                x.data.iter_mut().zip(direction).for_each(|(x, d)| *x += h * d);
            }
            eval::run(&program, &inputs).expect("it can be evaluated").get("y").expect("the output").clone()
        };
        let h = 1e-5;
        let (above, below) = (at(h), at(-h));
        let mut wants = above.clone();
        wants.data.iter_mut().zip(&below.data).for_each(|(a, b)| *a = share * (*a - b) / (2.0 * h));
        let got = eval::run(&derived, &inputs(&derived)).expect("it can be evaluated");
        let worst = got.get("d.y").expect("a tangent").worst(&wants, 1e-8, 1e-9).expect("one shape");
        assert!(worst.ratio <= 1.0, "{name}: {worst:?}");
    }
}

/// `ct . (J dx) = (J' ct) . dx`
#[test]
fn transposes_are_adjoint_to_derivatives() {
    for (name, text) in cases() {
        let program = program(&text, DType::F64);
        if !program.outputs[0].port.dtype.is_float() || text.starts_with("// no derivative") {
            continue;
        }
        let run = |pass_name| {
            let program = pass(&program, pass_name).unwrap_or_else(|e| panic!("{name}: {e}"));
            let given = inputs(&program);
            (eval::run(&program, &given).expect("it can be evaluated"), given)
        };
        let (forward, dx) = run("jvp");
        let (backward, ct) = run("transpose");
        let dot = |x: &Tensor, y: &Tensor| {
            let y = y.reorder(&x.order).expect("one shape");
            x.data.iter().zip(&y.data).map(|(x, y)| x * y).sum::<f64>()
        };
        let left = dot(&ct["ct.y"], forward.get("d.y").expect("a tangent"));
        let gradients = backward.outputs.iter().filter_map(|(n, g)| Some((format!("d.{}", n.strip_prefix("g.")?), g)));
        let right: f64 = gradients.map(|(n, g)| dot(&dx[&n], g)).sum();
        assert!((left - right).abs() <= 1e-12 * left.abs().max(1.0), "{name}: {left} is not {right}");
    }
}

fn program(text: &str, float: DType) -> Program {
    let module = parse::parse(text, 0).unwrap_or_else(|e| panic!("{e:#?}\n{text}"));
    inline::run(&[], &module, &Bindings { batch: Some(3), float, ..Bindings::default() })
        .unwrap_or_else(|e| panic!("{e:#?}\n{text}"))
        .program
}

fn pass(program: &Program, name: &str) -> Result<Program, String> {
    let options = Options::new(pushforward::Algorithm::BP);
    algorithm::run(program.clone(), &[name], &options, &mut |_, _| {})
        .map_err(|errors| errors.iter().map(|e| e.message.clone()).collect::<Vec<_>>().join("\n"))
}

/// Numbers for every input and parameter; tangents and cotangents are others than their values.
fn inputs(program: &Program) -> Inputs {
    let ports = program.inputs.iter().chain(program.params.iter().map(|p| &p.port));
    let tensor = |port: &pushforward_ir::program::Port| {
        let count: usize = program.shape(port).iter().product();
        let data: Vec<f64> = match port.dtype {
            DType::F32 | DType::F64 if port.name.starts_with("d.") => tangent(&port.name[2..], count),
            DType::F32 | DType::F64 if port.name.starts_with("ct.") => tangent(&port.name, count),
            // No two equal, none near 0, both signs.
            DType::F32 | DType::F64 => {
                (0..count).map(|i| ((i * 7 + 3 + port.name.len()) % 23) as f64 / 8.0 - 1.3 + i as f64 / 512.0).collect()
            }
            // Beyond every axis on both sides, with equal ones.
            DType::I32 => (0..count).map(|i| ((i * 5 + 2) % 8) as f64 - 2.0).collect(),
            DType::Bool => (0..count).map(|i| (i % 3 % 2) as f64).collect(),
        };
        (port.name.clone(), Tensor::from_data(&program.axes, port.dtype, &port.order, data))
    };
    ports.map(tensor).collect()
}

fn tangent(name: &str, count: usize) -> Vec<f64> {
    (0..count).map(|i| ((i * 5 + name.len() * 3) % 11) as f64 / 4.0 - 1.2).collect()
}

fn on(engine: &Engine, program: &Program, inputs: &Inputs) -> Vec<f64> {
    let mut step = Step::compile(program.clone(), engine).expect("it compiles");
    let mut parameters = Parameters::new(&step, 0).expect("memory");
    for param in &program.params {
        parameters.set(&param.port.name, &inputs[&param.port.name].to_f32_vec()).expect("it fits");
    }
    let f32s: Vec<Vec<f32>> = program.inputs.iter().map(|p| inputs[&p.name].to_f32_vec()).collect();
    let f64s: Vec<&[f64]> = program.inputs.iter().map(|p| &inputs[&p.name].data[..]).collect();
    let i32s: Vec<Vec<i32>> = f64s.iter().map(|x| x.iter().map(|&x| x as i32).collect()).collect();
    let bools: Vec<Vec<u8>> = f64s.iter().map(|x| x.iter().map(|&x| x as u8).collect()).collect();
    let lent = program.inputs.iter().enumerate().map(|(i, port)| {
        let input: Input = match port.dtype {
            DType::F32 => f32s[i][..].into(),
            DType::F64 => f64s[i].into(),
            DType::I32 => i32s[i][..].into(),
            DType::Bool => bools[i][..].into(),
        };
        (port.name.as_str(), input)
    });
    step.run(&mut parameters, &lent.collect::<Vec<_>>()).expect("it runs");
    match step.output("y").expect("the output") {
        View::F32(y) => y.iter().map(|&y| y.into()).collect(),
        View::F64(y) => y.iter().copied().collect(),
        View::I32(y) => y.iter().map(|&y| y.into()).collect(),
        View::Bool(y) => y.iter().map(|&y| y.into()).collect(),
    }
}
