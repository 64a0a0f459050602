//! How fast the evaluator is: 10^8 multiply-adds of a contraction, over each axis. `cargo run --release --example eval_speed`.

use std::time::Instant;

use pushforward_ir::axis::{Axes, AxisId, AxisSet};
use pushforward_ir::eval::{Inputs, run_values};
use pushforward_ir::op::Noise;
use pushforward_ir::{Builder, DType, Op, Program};

fn main() {
    for sizes in [[1000, 100, 1000], [1000, 1000, 100], [100, 1000, 1000]] {
        let mut axes = Axes::default();
        let mut next = ["N", "I", "O"].into_iter().zip(sizes);
        let [n, i, o] = [(); 3].map(|()| next.next().and_then(|(name, size)| axes.add(name, size, None)).expect("three axes"));
        let normal = |order: Vec<AxisId>| Op::Normal(Box::new(Noise { stream: 0, order, direction: None, dtype: DType::F32 }));
        let mut b = Builder::new(Program { axes, ..Program::default() });
        let zero = b.constant(0.0, DType::I32);
        let (x, w) = (b.op(normal(vec![n, i]), &[zero, zero]), b.op(normal(vec![i, o]), &[zero, zero]));
        for over in [i, n, o] {
            let y = b.op(Op::Contract(AxisSet::of([over])), &[x, w]);
            let start = Instant::now();
            run_values(b.program(), &Inputs::new(), &[y]).expect("it can be evaluated");
            println!("{} over {}: {:?}", b.ty(y).show(&b.program().axes), b.program().axes[over].name, start.elapsed());
        }
    }
}
