//! Every way in which a nest or a product can be shared out among threads, against the evaluator: tiles of each size and their ragged ends,
//! tensor cores, rows with one worker, with a warp, with several warps, columns, grids of several lines, small blocks. The machine that runs
//! them is the plans' oracle, so races and wrong places show, too.

use std::collections::HashMap;

use pushforward_ir::DType;
use pushforward_ir::eval::Tensor;
use pushforward_plan::device::kernel::{Comparison, DevicePlan, DeviceRole, Expr, Stmt};
use pushforward_plan::device::verify::verify;
use pushforward_plan::device::{self, Limits, Precision, Target};
use pushforward_plan::kernel::{Access, ElementType};

use crate::support::{Random, assert_near, evaluated, inlined, on_threads, tensors};

/// A product of [B, M, Q] and [B, Q, R] over Q.
fn product(batch: usize, m: usize, k: usize, n: usize, finish: &str) -> String {
    format!(
        "pf 1\naxis B = {batch}; axis M = {m}; axis Q = {k}; axis R = {n};\n\
         model m(x: f32[B, M, Q], w: f32[B, Q, R], c: f32[R], s: f32[B, M]) {{ y = sum[Q](x * w); output out: f32[B, M, R] = {finish}; }}"
    )
}

fn lowered(text: &str, float: DType, target: &Target) -> DevicePlan {
    device::lower(&inlined(text, &[], 1, float), target).expect("it has a plan")
}

/// What it gives on threads is what the evaluator gives, up to `relative` of the largest number.
fn check(text: &str, float: DType, target: &Target, relative: f64) {
    let program = inlined(text, &[], 1, float);
    let inputs = tensors(&program, &mut Random::new(11));
    let expected: HashMap<String, Tensor> = evaluated(&program, &inputs);
    assert_near(text, &on_threads(&program, &inputs, target), &expected, relative, 1e-30);
}

#[test]
fn products_of_every_size() {
    let target = Target::cuda(Precision::Fp32);
    for (batch, m, k, n) in [(1, 2, 2, 2), (3, 16, 16, 16), (1, 17, 5, 33), (1, 64, 20, 65), (2, 3, 50, 70)] {
        for float in [DType::F32, DType::F64] {
            let relative = if float == DType::F32 { 1e-6 } else { 1e-14 };
            check(&product(batch, m, k, n, "y"), float, &target, relative);
        }
    }
}

/// Tiles of 128 x 128, which products get that fill a device with them.
#[test]
fn large_products_have_large_tiles() {
    let target = Target::cuda(Precision::Fp32);
    let text = product(64, 128, 3, 129, "y");
    let plan = lowered(&text, DType::F32, &target);
    assert_eq!((plan.kernels[0].grid, plan.kernels[0].shared[0].len), ((128, 1), (128 + 4) * 8));
    // Ragged columns, ragged terms.
    check(&text, DType::F32, &target, 1e-6);
}

#[test]
fn operands_are_computed_and_results_finished_in_one_kernel() {
    let target = Target::cuda(Precision::Fp32);
    let text = "pf 1\naxis M = 40; axis Q = 24; axis R = 20;\n\
        model m(x: f32[M, Q], mean: f32[M], scale: f32[M], w: f32[Q, R], c: f32[R], old: f32[M, R]) {\n\
        y = sum[Q](((x - mean) * scale) * w) + c;\n\
        output out: f32[M, R] = relu(y) + old; }";
    let plan = lowered(text, DType::F32, &target);
    assert_eq!((plan.kernels.len(), plan.launches.len(), plan.slots.len()), (1, 1, 0), "{}", device::print::plan(&plan));
    check(text, DType::F32, &target, 1e-6);
}

/// Noise that few tiles load is drawn for them; noise that many load is stored.
#[test]
fn noise_is_drawn_in_a_product_that_loads_it_once() {
    for (columns, kernels) in [(32, 1), (1024, 2)] {
        let text = format!(
            "pf 1\naxis M = 40; axis Q = 24; axis R = {columns};\n\
             model m(w: f32[Q, R], seed: i32, step: i32) {{ z = normal[M, Q](seed, step); output out: f32[M, R] = sum[Q](z * w); }}"
        );
        let target = Target::cuda(Precision::Fp32);
        let plan = lowered(&text, DType::F32, &target);
        assert_eq!(plan.kernels.len(), kernels, "{}", device::print::plan(&plan));
        check(&text, DType::F32, &target, 1e-6);
    }
}

/// Each factor is off by 2^-11 at most; over the terms of a sum that adds up as a random walk.
#[test]
fn tensor_cores_round_factors_and_nothing_else() {
    let target = Target::cuda(Precision::Tf32);
    for (batch, m, k, n) in [(1, 16, 8, 8), (1, 64, 64, 64), (2, 70, 33, 17), (1, 5, 5, 5)] {
        let text = product(batch, m, k, n, "y");
        let plan = lowered(&text, DType::F32, &target);
        assert!(uses_mma(&plan.kernels[0].body), "{text}");
        check(&text, DType::F32, &target, (k as f64).sqrt() / 1024.0);
        // In f64 there are none.
        check(&text, DType::F64, &target, 1e-14);
    }
    // It would not pass within fp32's tolerance: the rounding is there.
    let text = product(1, 64, 64, 64, "y");
    let program = inlined(&text, &[], 1, DType::F32);
    let inputs = tensors(&program, &mut Random::new(11));
    let (rounded, exact) = (&on_threads(&program, &inputs, &target)["out"], &evaluated(&program, &inputs)["out"]);
    assert!(!rounded.close(exact, 1e-5, 0.0));
}

fn uses_mma(body: &[Stmt]) -> bool {
    body.iter().any(|s| match s {
        Stmt::Mma { .. } => true,
        Stmt::For { body, .. } | Stmt::If(_, body) => uses_mma(body),
        Stmt::Let(..) | Stmt::Var(..) | Stmt::Array(..) | Stmt::Set(..) | Stmt::SetElement(..) => false,
        Stmt::SetShared(..) | Stmt::Store(..) | Stmt::Barrier | Stmt::Combine { .. } => false,
    })
}

/// Rows along memory and across it, from a few elements to several warps' worth.
#[test]
fn rows_of_every_length() {
    for (points, row) in [(5, 3), (300, 4), (7, 5), (40, 32), (3, 100), (2, 129), (5, 1000), (1, 3000), (300, 33)] {
        for order in ["A, R", "R, A"] {
            let text = format!(
                "pf 1\naxis A = {points}; axis R = {row};\n\
                 model m(x: f32[{order}]) {{ m = max[R](x); y = exp(x - m); s = sum[R](y); output out: f32[{order}] = y / s; output top: f32[A] = m; }}"
            );
            check(&text, DType::F32, &Target::cuda(Precision::Fp32), 2e-6);
            check(&text, DType::F32, &Target::webgpu(Limits::default()), 2e-6);
        }
    }
}

/// Threads side by side read side by side what is large, whatever is small beside it.
#[test]
fn the_larger_tensor_decides_who_stands_side_by_side() {
    let text = |order: &str| {
        format!(
            "pf 1\naxis A = 12; axis R = 40;\n\
             model m(x: f32[{order}], b: f32[A], c: f32[A]) {{ s = sum[R](x * b * c); output out: f32[A] = s; output y: f32[A] = s * b; }}"
        )
    };
    let target = Target::cuda(Precision::Fp32);
    for (order, along_rows) in [("A, R", true), ("R, A", false)] {
        let text = text(order);
        let plan = lowered(&text, DType::F32, &target);
        assert_eq!(plan.kernels.len(), 1, "{}", device::print::plan(&plan));
        // Who works on one row exchanges numbers without barriers where they are neighbours.
        assert_eq!(plan.kernels[0].body.iter().any(|s| matches!(s, Stmt::Combine { .. })), along_rows, "{order}");
        check(&text, DType::F32, &target, 2e-6);
    }
}

/// A thread keeps a few costly numbers of its row for the next pass over it, and computes many again.
#[test]
fn rows_too_long_to_be_kept_are_computed_again() {
    let arrays = |row: usize| {
        let text = format!(
            "pf 1\naxis A = 2; axis R = {row};\n\
             model m(x: f32[A, R]) {{ m = max[R](x); y = tanh(exp(x - m) / 2) + 1; output out: f32[A, R] = y / sum[R](y); }}"
        );
        for target in [Target::cuda(Precision::Fp32), Target::webgpu(Limits::default())] {
            check(&text, DType::F32, &target, 2e-6);
        }
        let plan = lowered(&text, DType::F32, &Target::cuda(Precision::Fp32));
        plan.kernels.iter().flat_map(|k| &k.body).filter(|s| matches!(s, Stmt::Array(..))).count()
    };
    assert_eq!((arrays(2000), arrays(40_000)), (1, 0));
}

/// Few numbers from many: along some of the summed axes first. A sum that keeps a device busy as it is stays one.
#[test]
fn long_sums_go_in_two_steps() {
    let sums = |text: &str| {
        let plan = lowered(text, DType::F32, &Target::cuda(Precision::Fp32));
        plan.kernels.iter().map(|k| (k.name.clone(), k.grid.0)).collect::<Vec<_>>()
    };
    let head = "pf 1\naxis N = 64; axis P = 64; axis A = 8; axis B = 8; axis M = 2000;\n";
    let model = |inputs: &str, sum: &str, axes: &str| format!("{head}model m({inputs}) {{ output out: f32[{axes}] = 2.0 * {sum}; }}");
    let product = model("x: f32[N, P, A], y: f32[N, P, B]", "sum[N, P](x * y)", "A, B");
    assert_eq!(sums(&product), [("gemm_A_by_B_over_P".into(), 64), ("rows_N_of_A_B".into(), 2)]);
    let whole = model("x: f32[N, P, A, B]", "sum[N, P, A, B](x * x)", "");
    assert_eq!(sums(&whole).len(), 2);
    let columns = model("x: f32[N, P, A]", "sum[N, P](tanh(x))", "A");
    assert_eq!(sums(&columns).len(), 2);
    // Enough rows; too few terms to be worth it.
    let (rows, short) = (model("x: f32[M, P]", "sum[P](x)", "M"), model("x: f32[N, A]", "sum[N](x)", "A"));
    assert_eq!((sums(&rows).len(), sums(&short).len()), (1, 1));
    // A quarter of a million terms.
    for text in [product, whole, columns, rows, short] {
        check(&text, DType::F32, &Target::cuda(Precision::Fp32), 2e-6);
        check(&text, DType::F64, &Target::cuda(Precision::Fp32), 1e-13);
    }
}

/// More blocks than a line of a grid holds, and blocks of fewer threads.
#[test]
fn small_limits_are_kept() {
    let limits = Limits { max_compute_workgroups_per_dimension: 7, ..Limits::default() };
    let few_threads = Limits { max_compute_invocations_per_workgroup: 64, max_compute_workgroup_size_x: 64, ..Limits::default() };
    let rows = "pf 1\naxis A = 150; axis R = 40;\n\
        model m(x: f32[A, R]) { s = sum[R](x); output out: f32[A, R] = x * s; output y: f32[A, R] = tanh(x); }";
    for target in [Target::webgpu(limits.clone()), Target::webgpu(few_threads)] {
        check(rows, DType::F32, &target, 2e-6);
        let plan = lowered(rows, DType::F32, &target);
        let lines = target.limits.max_compute_workgroups_per_dimension;
        assert!(
            plan.kernels
                .iter()
                .all(|k| u64::from(k.grid.0) <= lines && u64::from(k.block) <= target.limits.max_compute_invocations_per_workgroup)
        );
    }
    // Products have smaller tiles then.
    for most in [128, 255, 7] {
        let limits = Limits { max_compute_invocations_per_workgroup: most, ..Limits::default() };
        let target = Target::webgpu(limits);
        for text in [product(1, 40, 20, 33, "y"), product(3, 5, 9, 2, "relu(y) + c")] {
            let plan = lowered(&text, DType::F32, &target);
            assert!(plan.kernels.iter().all(|k| u64::from(k.block) <= most), "{}", device::print::plan(&plan));
            check(&text, DType::F32, &target, 1e-6);
        }
    }
    // Nine tiles are more than a line; the second has places to spare, which must not store.
    for m in [140, 150] {
        let text = product(1, m, 9, 140, "relu(y) + c + s");
        let target = Target::webgpu(limits.clone());
        assert!(lowered(&text, DType::F32, &target).kernels[0].grid.1 > 1);
        check(&text, DType::F32, &target, 1e-6);
    }
}

/// Within eight bindings, whatever a kernel could be fused to.
#[test]
fn bindings_are_kept() {
    let names: Vec<String> = (0..14).map(|i| format!("x{i}")).collect();
    let inputs = names.iter().map(|n| format!("{n}: f32[A]")).collect::<Vec<_>>().join(", ");
    let text = format!("pf 1\naxis A = 30;\nmodel m({inputs}) {{ output out: f32[A] = {}; }}", names.join(" * "));
    for most in [8, 5, 3] {
        let target = Target::webgpu(Limits { max_storage_buffers_per_shader_stage: most, ..Limits::default() });
        let plan = lowered(&text, DType::F32, &target);
        assert!(plan.kernels.iter().all(|k| k.args.len() <= most as usize), "{}", device::print::plan(&plan));
        check(&text, DType::F32, &target, 1e-6);
    }
    let plan = lowered(&text, DType::F32, &Target::cuda(Precision::Fp32));
    assert_eq!(plan.kernels.len(), 1);
}

/// What is wrong with a plan is found, whatever it is.
#[test]
fn faults_of_plans_are_found() {
    let text = "pf 1\naxis A = 6; axis R = 1000;\n\
        model m(x: f32[A, R]) { s = sum[R](x); t = sum[A](tanh(x)); output out: f32[A] = exp(s); output y: f32[R] = t * t + 1; }";
    let sound = lowered(text, DType::F32, &Target::cuda(Precision::Fp32));
    assert_eq!(verify(&sound), Vec::<String>::new());
    let faults: [(&str, fn(&mut DevicePlan)); 9] = [
        ("is used before it is named", |p| {
            p.kernels[0].body.remove(0);
        }),
        ("a barrier that some threads may not reach", |p| {
            let one = || Box::new(Expr::Int(1));
            p.kernels[0].body.push(Stmt::If(Expr::Compare(Comparison::Lt, Box::new(Expr::Thread), one()), vec![Stmt::Barrier]));
        }),
        ("is named twice", |p| {
            let first = p.kernels[0].body[0].clone();
            p.kernels[0].body.insert(0, first);
        }),
        ("is only written, and loaded", |p| p.kernels[0].args.iter_mut().for_each(|a| a.access = Access::Write)),
        ("is only read, and stored", |p| p.kernels[0].args.iter_mut().for_each(|a| a.access = Access::Read)),
        ("a buffer is bound twice", |p| p.launches[0].args[1] = p.launches[0].args[0]),
        ("1 streams for 0", |p| p.launches[0].streams.push(3)),
        ("has another dtype", |p| p.buffers.iter_mut().for_each(|b| b.dtype = ElementType::I32)),
        ("the input `x` is written", |p| p.kernels[0].args.iter_mut().for_each(|a| a.access = Access::ReadWrite)),
    ];
    for (says, spoil) in faults {
        let mut plan = sound.clone();
        spoil(&mut plan);
        let problems = verify(&plan);
        assert!(problems.iter().any(|p| p.contains(says)), "{says}: {problems:?}");
    }
    // Two that live at the same time, put into one slot.
    let text = "pf 1\naxis A = 40; axis B = 40; axis C = 40;\n\
        model m(x: f32[A, B], y: f32[B, C], z: f32[A, C]) { p = sum[B](x * y); q = sum[A](x * z); output o: f32[A, B] = sum[C](tanh(p) * tanh(q)); }";
    let mut plan = lowered(text, DType::F32, &Target::cuda(Precision::Fp32));
    assert!(verify(&plan).is_empty() && plan.slots.len() > 1, "{}", device::print::plan(&plan));
    for buffer in &mut plan.buffers {
        if let DeviceRole::Slot(slot) = &mut buffer.role {
            *slot = 0;
        }
    }
    assert!(verify(&plan).iter().any(|p| p.contains("live in slot 0 at the same time")));
}

/// What a target lacks is said with the kernel, the limit, both numbers and what to do.
#[test]
fn exceeded_limits_are_named() {
    let refused = |text: &str, float: DType, target: &Target| match device::lower(&inlined(text, &[], 1, float), target) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{text} has a plan"),
    };
    let text = product(1, 40, 40, 40, "y");
    for (limits, says) in [
        (
            Limits { max_storage_buffers_per_shader_stage: 2, ..Limits::default() },
            ["needs 3 storage buffers", "`maxStorageBuffersPerShaderStage` is 2"],
        ),
        (
            Limits { max_compute_workgroup_storage_size: 1000, ..Limits::default() },
            ["bytes of workgroup memory", "`maxComputeWorkgroupStorageSize` is 1000"],
        ),
        (
            Limits { max_compute_invocations_per_workgroup: 0, ..Limits::default() },
            ["needs 1 threads", "`maxComputeInvocationsPerWorkgroup` is 0"],
        ),
        (
            Limits { max_storage_buffer_binding_size: 100, ..Limits::default() },
            ["needs 6400 bytes for `", "`maxStorageBufferBindingSize` is 100"],
        ),
        (Limits { max_buffer_size: 100, ..Limits::default() }, ["needs 6400 bytes for `", "`maxBufferSize` is 100"]),
    ] {
        let message = refused(&text, DType::F32, &Target::webgpu(limits));
        assert!(message.starts_with("kernel `gemm_M_by_R_over_Q`") && message.contains("; hint: "), "{message}");
        assert!(says.iter().all(|s| message.contains(s)), "{message}");
    }
    let message = refused(&text, DType::F64, &Target::webgpu(Limits::default()));
    assert!(message.starts_with("`x: f64[B, M, Q]` is f64, which this target does not have; hint: "), "{message}");
}
