//! Where a step first computes what is not finite: the evaluator runs its program op by op, slowly, on the tensors of that step, unless that
//! would take too long. Nothing is looked for while all is well. Read [`Step::fault`].

use std::rc::Rc;

use pushforward_ir::eval::{self, Inputs, Tensor};
use pushforward_ir::program::Port;
use pushforward_ir::{Diagnostic, Op, Value, verify};
use pushforward_passes::validate::operations;

use crate::error::Error;
use crate::step::{Input, Parameters, Step};

/// What a step computed.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// All outputs are finite, as far as the evaluator's rounding goes (it rounds f32 once after every op, sums once at their end).
    None,
    Found {
        /// The first output that is not finite: a loss, a parameter's new value.
        output: String,
        /// The first value that is not, in the order of the program, of those that such outputs need; with its place in the model's text.
        diagnostic: Diagnostic,
    },
    /// Nothing was looked for: the evaluator would do so many operations on elements, and `most` at most.
    TooLarge { operations: u64, most: u64 },
}

/// The most operations of a search: about a minute.
pub const MOST: u64 = 20_000_000_000;

impl Step {
    /// What is not finite when the step runs on these tensors, if that takes no more than `most` operations, such as [`MOST`]. Nothing
    /// changes; the parameters are those that are here.
    pub fn fault(&self, parameters: &Parameters, inputs: &[(&str, Input<'_>)], most: u64) -> Result<Fault, Error> {
        let program = self.program();
        let operations = operations(program);
        if operations > most {
            return Ok(Fault::TooLarge { operations, most });
        }
        let mut tensors = Inputs::new();
        let mut give = |port: &Port, data: Vec<f64>| {
            tensors.insert(port.name.clone(), Tensor::new(port.dtype, port.order.clone(), program.shape(port), data));
        };
        for port in &program.inputs {
            if let Some((_, input)) = inputs.iter().find(|(name, _)| *name == port.name) {
                give(port, input.slice(port, program)?.to_f64());
            }
        }
        for param in &program.params {
            if let Some(view) = parameters.get(&param.port.name) {
                give(&param.port, view.to_f64());
            }
        }

        let roots: Vec<Value> = program.outputs.iter().map(|o| o.value).collect();
        // The first number of each value that is not finite.
        let mut wrong: Vec<Option<f64>> = vec![None; program.nodes.len()];
        eval::run_values_by(program, &tensors, &roots, &mut |v, _, y: Rc<Tensor>| {
            wrong[v.0 as usize] = y.data.iter().copied().find(|x| !x.is_finite());
            y
        })?;
        let outputs = || program.outputs.iter().filter(|o| wrong[o.value.0 as usize].is_some());
        let Some(output) = outputs().next() else { return Ok(Fault::None) };
        let needed = program.reaches(outputs().map(|o| o.value));
        let first = program.values().find_map(|v| Some((v, wrong[v.0 as usize].filter(|_| needed[v.0 as usize])?)));
        let (v, number) = first.expect("the output itself is one");
        let message = match program.op(v) {
            Op::Input(i) => format!("the input `{}` is not finite: it holds {number}", program.inputs[*i as usize].name),
            Op::Param(i) => format!("the parameter `{}` is not finite: it holds {number}", program.params[*i as usize].port.name),
            op => format!("this `{}` is the first value that is not finite: it is {number}", op.name()),
        };
        Ok(Fault::Found { output: output.port.name.clone(), diagnostic: verify::origin_diagnostic(program, v, message) })
    }
}

#[cfg(test)]
mod tests {
    use pushforward_cpu::Pool;

    use super::*;
    use crate::{Algorithm, Model, Settings};

    const TEXT: &str = "pf 1\naxis N, A = 2;\nmodel m(x: f32[N, A]) {\n    param w: f32[A] = 1;\n    y = sum[A](log(x) * w);\n    \
                        output y: f32[N] = y;\n    loss y * y;\n}\n";

    #[test]
    fn the_first_value_is_named_unless_there_are_too_many() {
        let model = Model::parse("m.pf", TEXT).unwrap();
        let step = Step::training(&model, &Settings::new(Algorithm::BP, 2), &Pool::new(1).unwrap()).unwrap();
        let parameters = Parameters::new(&step, 0).unwrap();
        let fault = |x: [f32; 4], most| step.fault(&parameters, &[("x", x[..].into()), ("lr", 0.1f32.into())], most).unwrap();
        assert_eq!(fault([1.0, 2.0, 3.0, 4.0], MOST), Fault::None);
        let Fault::Found { diagnostic, .. } = fault([1.0, 0.0, 3.0, 4.0], MOST) else { panic!("-inf is not found") };
        assert_eq!(diagnostic.message, "this `log` is the first value that is not finite: it is -inf");
        assert!(diagnostic.place.is_some());
        let Fault::TooLarge { operations, most: 1 } = fault([1.0, 0.0, 3.0, 4.0], 1) else { panic!("more than one is looked at") };
        assert!((10..1000).contains(&operations), "{operations}");
    }
}
