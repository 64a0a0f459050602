//! What a caller sees: errors that name the tensor, one state under several programs, texts and figures of the compiled kernels.

mod support;

use pushforward_cpu::{CpuError, Executable, Options, Pool, Slice, SliceMut, State, peak};
use pushforward_plan::Plan;
use pushforward_plan::kernel::ElementType::{F32, I32};
use pushforward_plan::kernel::{Access, InstKind, Lanes, Prim, Section};
use support::*;

/// `v = v + x`, and with `train` also `w = w - v`; `y = w`, all of `size` elements.
fn program(size: usize, train: bool) -> Plan {
    let mut b = Build::new(if train { "train" } else { "evaluate" });
    let update = |p: Prim| {
        vec![
            inst(0, F32, InstKind::Load(place(0, &[1]))),
            inst(1, F32, InstKind::Load(place(1, &[1]))),
            inst(2, F32, InstKind::Prim(p, vec![0, 1])),
            inst(0, F32, InstKind::Store(place(0, &[1]), 2)),
        ]
    };
    let copy = vec![inst(0, F32, InstKind::Load(place(0, &[1]))), inst(0, F32, InstKind::Store(place(1, &[1]), 0))];
    let nest = |insts| loops(&[size], &[], Lanes::Outer, &[], vec![Section::Once(insts)]);
    let both = [(F32, Access::ReadWrite), (F32, Access::Read)];
    if train {
        let (v, w) = (b.state("momentum.w", F32, size), b.state("w", F32, size));
        let (x, y) = (b.input(F32, size), b.output(F32, size));
        let add = b.kernel(&both, nest(update(Prim::Add)));
        let sub = b.kernel(&both, nest(update(Prim::Sub)));
        let copy = b.kernel(&[(F32, Access::Read), (F32, Access::Write)], nest(copy));
        b.launch(add, &[v, x], 2);
        b.launch(sub, &[w, v], 0);
        b.launch(copy, &[w, y], 3);
    } else {
        let (w, y) = (b.state("w", F32, size), b.output(F32, size));
        let copy = b.kernel(&[(F32, Access::Read), (F32, Access::Write)], nest(copy));
        b.launch(copy, &[w, y], 0);
    }
    b.plan
}

fn executable(plan: Plan, threads: usize) -> Executable {
    Executable::new(plan, &Options { threads }).expect("a sound plan")
}

#[test]
fn programs_share_a_state_by_name() {
    let pool = Pool::new(2).expect("threads");
    let mut train = Executable::with_pool(program(5, true), &pool).expect("a sound plan");
    let mut evaluate = Executable::with_pool(program(5, false), &pool).expect("a sound plan");
    let mut state = State::new(train.plan()).expect("memory");
    state.set("w", Slice::F32(&[1.0, 2.0, 3.0, 4.0, 5.0])).expect("it is there");
    let mut y = [0.0; 5];
    for _ in 0..3 {
        train.run(&mut state, &[Slice::F32(&[1.0, 0.0, 0.0, 0.0, 2.0])], &mut [SliceMut::F32(&mut y)]).expect("tensors that fit");
    }
    assert_eq!(y, [-5.0, 2.0, 3.0, 4.0, -7.0]);
    y = [0.0; 5];
    evaluate.run(&mut state, &[], &mut [SliceMut::F32(&mut y)]).expect("tensors that fit");
    assert_eq!(y, [-5.0, 2.0, 3.0, 4.0, -7.0]);
    let names: Vec<&str> = state.iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["momentum.w", "w"]);
    assert_eq!(state.get("momentum.w").and_then(Slice::as_f32), Some(&[3.0, 0.0, 0.0, 0.0, 6.0][..]));
    assert_eq!(evaluate.states().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["w"]);

    // A state made for evaluation lacks the momentum until it is added.
    let mut small = State::new(evaluate.plan()).expect("memory");
    let missing = train.run(&mut small, &[Slice::F32(&[0.0; 5])], &mut [SliceMut::F32(&mut y)]);
    assert_eq!(missing.map_err(|e| e.to_string()), Err("the state has no parameter `momentum.w` [E=5]".to_string()));
    small.add(train.plan()).expect("memory");
    assert_eq!(train.run(&mut small, &[Slice::F32(&[0.0; 5])], &mut [SliceMut::F32(&mut y)]), Ok(()));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let mut exe = executable(program(5, true), 1);
    let mut state = State::new(exe.plan()).expect("memory");
    let (x, mut y) = ([0.0f32; 5], [9.0f32; 5]);
    let mut text =
        |inputs: &[Slice<'_>], outputs: &mut [SliceMut<'_>]| exe.run(&mut state, inputs, outputs).expect_err("refused").to_string();
    assert_eq!(text(&[], &mut [SliceMut::F32(&mut y)]), "the program takes 1 inputs, got 0");
    assert_eq!(text(&[Slice::F32(&x)], &mut []), "the program takes 1 outputs, got 0");
    assert_eq!(text(&[Slice::I32(&[0; 5])], &mut [SliceMut::F32(&mut y)]), "`x0` is f32, got i32");
    assert_eq!(text(&[Slice::F32(&x[..4])], &mut [SliceMut::F32(&mut y)]), "`x0` [E=5] has 5 elements, got 4");
    assert_eq!(text(&[Slice::F32(&x)], &mut [SliceMut::F32(&mut y[1..])]), "`y0` [E=5] has 5 elements, got 4");
    assert_eq!(y, [9.0; 5]);

    let other = program(6, true);
    assert_eq!(
        state.add(&other).expect_err("refused").to_string(),
        "parameter `momentum.w` is f32[E=6] in the program, f32[E=5] in the state"
    );
    assert_eq!(state.set("v", Slice::F32(&x)).expect_err("refused").to_string(), "the state has no parameter `v` [5 elements]");
    assert_eq!(state.set("w", Slice::F64(&[0.0; 5])).expect_err("refused").to_string(), "`w` is f32, got f64");
    assert_eq!(state.set("w", Slice::F32(&x[..2])).expect_err("refused").to_string(), "`w` [E=5] has 5 elements, got 2");
}

#[test]
fn texts_are_the_same_every_time() {
    let (a, b) = (executable(program(9, true), 1), executable(program(9, true), 3));
    assert_eq!(a.clif(), b.clif());
    assert_eq!(a.clif().len(), 3);
    assert!(a.clif()[0].0 == "kernel0" && a.clif()[0].1.contains("fadd"), "{}", a.clif()[0].1);
    assert!(a.compiled().iter().all(|c| c.bytes > 0));
}

#[test]
fn executables_move_between_threads() {
    let mut exe = executable(program(3, false), 2);
    let mut state = State::new(exe.plan()).expect("memory");
    let moved = std::thread::spawn(move || exe.run(&mut state, &[], &mut [SliceMut::F32(&mut [0.0; 3])]));
    assert_eq!(moved.join().expect("no panic"), Ok(()));
}

#[test]
fn a_pool_serves_callers_at_once() {
    let pool = Pool::new(2).expect("threads");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut exe = Executable::with_pool(program(50, true), &pool).expect("a sound plan");
                let mut state = State::new(exe.plan()).expect("memory");
                let (x, mut y) = ([1.0f32; 50], [0.0f32; 50]);
                for _ in 0..100 {
                    exe.run(&mut state, &[Slice::F32(&x)], &mut [SliceMut::F32(&mut y)]).expect("tensors that fit");
                }
                assert_eq!(y, [-5050.0; 50]);
            });
        }
    });
}

#[test]
fn nothing_to_do_is_done() {
    let plan = Build::new("empty").plan;
    let mut state = State::new(&plan).expect("memory");
    assert_eq!(executable(plan, 2).run(&mut state, &[], &mut []), Ok(()));
    assert_eq!(
        executable(program(0, true), 2).run(
            &mut State::new(&program(0, true)).expect("memory"),
            &[Slice::F32(&[])],
            &mut [SliceMut::F32(&mut [])]
        ),
        Ok(())
    );
    let mut unused = Build::new("unused");
    unused.input(I32, 3);
    let plan = unused.plan;
    let mut state = State::new(&plan).expect("memory");
    assert_eq!(executable(plan.clone(), 1).run(&mut state, &[Slice::I32(&[1, 2, 3])], &mut []), Ok(()));
    let refused = executable(plan, 1).run(&mut state, &[Slice::I32(&[1])], &mut []);
    assert!(matches!(refused, Err(CpuError::Len { .. })));
}

#[test]
fn the_peak_is_a_number() {
    let pool = Pool::new(2).expect("threads");
    assert!(peak::gemm_gflops(&pool, 2).expect("memory") > 0.01);
}
