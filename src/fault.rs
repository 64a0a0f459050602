//! Where a step first computes what is not finite: the evaluator runs its program op by op, slowly, on the tensors of that step. Nothing is
//! looked for while all is well. Read [`Step::fault`].

use std::rc::Rc;

use pushforward_ir::eval::{self, Inputs, Tensor};
use pushforward_ir::program::Port;
use pushforward_ir::{Diagnostic, Op, Value, verify};

use crate::error::Error;
use crate::step::{Input, Parameters, Step};

/// What a step computed.
#[derive(Clone, PartialEq, Debug)]
pub struct Fault {
    /// The first output that is not finite: a loss, a parameter's new value.
    pub output: String,
    /// The first value that is not, in the order of the program, of those that such outputs need; with its place in the model's text.
    pub diagnostic: Diagnostic,
}

impl Step {
    /// What is not finite when the step runs on these tensors. `None`: all outputs are finite, as far as the evaluator's rounding goes (it
    /// rounds f32 once after every op, sums once at their end). Nothing changes; the parameters are those that are here.
    pub fn fault(&self, parameters: &Parameters, inputs: &[(&str, Input<'_>)]) -> Result<Option<Fault>, Error> {
        let program = self.program();
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
        let Some(output) = outputs().next() else { return Ok(None) };
        let needed = program.reaches(outputs().map(|o| o.value));
        let first = program.values().find_map(|v| Some((v, wrong[v.0 as usize].filter(|_| needed[v.0 as usize])?)));
        let (v, number) = first.expect("the output itself is one");
        let message = match program.op(v) {
            Op::Input(i) => format!("the input `{}` is not finite: it holds {number}", program.inputs[*i as usize].name),
            Op::Param(i) => format!("the parameter `{}` is not finite: it holds {number}", program.params[*i as usize].port.name),
            op => format!("this `{}` is the first value that is not finite: it is {number}", op.name()),
        };
        Ok(Some(Fault { output: output.port.name.clone(), diagnostic: verify::origin_diagnostic(program, v, message) }))
    }
}
