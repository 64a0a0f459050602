//! A program with a training loop of its own: a step is compiled from a text and called with `ndarray` views. `cargo run --example embed`.

use ndarray::{Array1, Array2, Axis};
use pushforward::{Algorithm, Error, Model, Parameters, Pool, Settings, Step};

const MODEL: &str = "
pf 1
axis N, I = 8, J = 32;
model fit(x: f32[N, I], y: f32[N]) {
    param w: f32[I, J] ~ normal(0.5) decay;  param b: f32[J] = 0;
    hidden = relu(activity(sum[I](x * w) + b));
    exact param v: f32[J] = 0 decay;
    loss (sum[J](hidden * v) - y) * (sum[J](hidden * v) - y);
}";

fn main() -> Result<(), Error> {
    let model = Model::parse("fit.pf", MODEL)?;
    let mut step = Step::training(&model, &Settings::new(Algorithm::FG_A, 64), &Pool::new(0)?)?;
    let mut parameters = Parameters::new(&step, 0)?;

    let x = Array2::from_shape_fn((1024, 8), |(n, i)| ((n * (i + 3)) as f32 * 0.37).sin());
    let y: Array1<f32> = x.map_axis(Axis(1), |row| row[0] * row[1] + row[2]);
    for epoch in 0..10 {
        for (i, (x, y)) in x.axis_chunks_iter(Axis(0), 64).zip(y.axis_chunks_iter(Axis(0), 64)).enumerate() {
            let at = 16 * epoch + i as i32;
            step.run(
                &mut parameters,
                &[("x", x.into()), ("y", y.into()), ("lr", 0.01f32.into()), ("seed", 0.into()), ("step", at.into())],
            )?;
        }
        println!("epoch {epoch}: loss {:.4}", step.output("loss").and_then(|loss| loss.item()).unwrap_or(f64::NAN));
    }
    Ok(())
}
