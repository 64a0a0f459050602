//! Where a step first computed what is not finite: its program runs once more on the processor, and tells of every value whether it is. Nothing
//! is looked for while all is well. Read [`Step::fault`].

use pushforward_cpu::Pool;
use pushforward_ir::{Diagnostic, Op, Program, Value, verify};
use pushforward_passes::finite::{self, Check};

use crate::error::Error;
use crate::step::{Input, Parameters, Step};

/// What a step computed.
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// All is finite now that every value is looked at, which changes the order of some sums: the step is at the edge of what the numbers hold.
    None,
    Found {
        /// The first output that is not finite: a loss, a parameter's new value.
        output: String,
        /// The first value that is not, in the order of the program, of those that such outputs need; with its place in the model's text. An
        /// infinity that stands in that text is meant, and so is what is made of it, as long as it is no NaN.
        diagnostic: Diagnostic,
    },
}

impl Step {
    /// What is not finite when the step runs on these tensors. Nothing changes; the parameters are those that are here. It takes a few times as
    /// long as compiling the step and running it.
    pub fn fault(&self, parameters: &Parameters, inputs: &[(&str, Input<'_>)]) -> Result<Fault, Error> {
        let program = self.program();
        let pool = match self.executable() {
            Some(executable) => executable.pool().clone(),
            None => Pool::new(std::thread::available_parallelism().map_or(1, |n| n.get()))?,
        };
        let run = |program: Program| -> Result<Step, Error> {
            let mut step = Step::compile(program, &pool)?;
            step.run(&mut parameters.copy_for(&step)?, inputs)?;
            Ok(step)
        };
        let (checks, told) = finite::checks(program);
        let ran = run(checks)?;
        let (mut infinite, mut nan) = (vec![false; program.nodes.len()], vec![false; program.nodes.len()]);
        for ((v, check), (_, number)) in told.iter().zip(ran.outputs()) {
            let list = match check {
                Check::Finite => &mut infinite,
                Check::Number => &mut nan,
            };
            list[v.0 as usize] = !number.item().is_some_and(f64::is_finite);
        }
        drop(ran);
        let outputs = || program.outputs.iter().filter(|o| infinite[o.value.0 as usize]);
        let Some(output) = outputs().next() else { return Ok(Fault::None) };
        let needed = program.reaches(outputs().map(|o| o.value));
        let first = first(program, &infinite, &nan, &needed).unwrap_or(output.value);
        let found = run(finite::only(program, first, "first"))?;
        let numbers = found.output("first").map(|view| view.to_f64()).unwrap_or_default();
        // Alone, it may be computed in another order: then all may be finite, at the edge of what the numbers hold.
        let what =
            numbers.into_iter().find(|x| !x.is_finite()).map_or("at the edge of what the numbers hold".to_string(), |x| x.to_string());
        let diagnostic = verify::origin_diagnostic(program, first, message(program, first, &what));
        Ok(Fault::Found { output: output.port.name.clone(), diagnostic })
    }
}

/// The first value that is needed, not finite, and not meant to be so: from lists of what each value is.
fn first(program: &Program, infinite: &[bool], nan: &[bool], needed: &[bool]) -> Option<Value> {
    let mut meant = vec![false; program.nodes.len()];
    for v in program.values() {
        let at = v.0 as usize;
        let of_meant = finite::is_infinity(program, v) || program.node(v).args.iter().any(|a| meant[a.0 as usize]);
        meant[at] = infinite[at] && !nan[at] && of_meant;
    }
    program.values().map(|v| (v, v.0 as usize)).find(|&(_, at)| infinite[at] && !meant[at] && needed[at]).map(|(v, _)| v)
}

fn message(program: &Program, v: Value, number: &str) -> String {
    match program.op(v) {
        Op::Input(i) => format!("the input `{}` is not finite: it holds {number}", program.inputs[*i as usize].name),
        Op::Param(i) => format!("the parameter `{}` is not finite: it holds {number}", program.params[*i as usize].port.name),
        op => format!("this `{}` is the first value that is not finite: it is {number}", op.name()),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use pushforward_ir::DType;
    use pushforward_ir::eval::{self, Inputs, Tensor};
    use pushforward_passes::validate::inputs::{Kind, inputs};

    use super::*;
    use crate::{Algorithm, Model, Settings};

    const TEXT: &str = "pf 1\naxis N, A = 2;\nmodel m(x: f32[N, A]) {\n    param w: f32[A] = 1;\n    y = sum[A](log(x) * w);\n    \
                        output y: f32[N] = y;\n    loss y * y;\n}\n";

    #[test]
    fn the_first_value_is_named() {
        let model = Model::parse("m.pf", TEXT).unwrap();
        let step = Step::training(&model, &Settings::new(Algorithm::BP, 2), &Pool::new(1).unwrap()).unwrap();
        let parameters = Parameters::new(&step, 0).unwrap();
        let fault = |x: [f32; 4]| step.fault(&parameters, &[("x", x[..].into()), ("lr", 0.1f32.into())]).unwrap();
        assert_eq!(fault([1.0, 2.0, 3.0, 4.0]), Fault::None);
        let Fault::Found { diagnostic, .. } = fault([1.0, 0.0, 3.0, 4.0]) else { panic!("-inf is not found") };
        assert_eq!(diagnostic.message, "this `log` is the first value that is not finite: it is -inf");
        assert!(diagnostic.place.is_some());
        let Fault::Found { diagnostic, .. } = fault([1.0, f32::NAN, 3.0, 4.0]) else { panic!("NaN is not found") };
        assert_eq!(diagnostic.message, "the input `x` is not finite: it holds NaN");
    }

    /// On large, infinite and undefined numbers; the evaluator, op by op, is the judge.
    #[test]
    fn it_is_the_first_value_that_the_evaluator_finds() {
        let mut found = 0;
        for (name, algorithm) in [("mlp", Algorithm::LG_FG_A), ("residual_mlp", Algorithm::LG_BP), ("convnet", Algorithm::BP)] {
            let model = Model::built_in(name).unwrap().unwrap();
            let step = Step::training(&model, &Settings::new(algorithm, 2), &Pool::new(1).unwrap()).unwrap();
            let program = step.program();
            for kind in [Kind::Ordinary, Kind::Large, Kind::Infinite, Kind::NaN] {
                let tensors = inputs(program, program, kind, 0);
                let mut parameters = Parameters::new(&step, 0).unwrap();
                for param in &program.params {
                    parameters.set(&param.port.name, &floats(&tensors[&param.port.name])).unwrap();
                }
                let whole: Vec<(&str, DType, Vec<f32>, Vec<i32>)> = program
                    .inputs
                    .iter()
                    .map(|port| {
                        let tensor = &tensors[&port.name];
                        (port.name.as_str(), port.dtype, floats(tensor), tensor.data.iter().map(|&x| x as i32).collect())
                    })
                    .collect();
                let given: Vec<(&str, Input<'_>)> = whole
                    .iter()
                    .map(|(name, dtype, floats, integers)| match dtype {
                        DType::I32 => (*name, integers[..].into()),
                        DType::F32 | DType::F64 | DType::Bool => (*name, floats[..].into()),
                    })
                    .collect();
                let oracle = judged(program, &tensors);
                let fault = match step.fault(&parameters, &given).unwrap() {
                    Fault::None => None,
                    Fault::Found { diagnostic, .. } => Some(diagnostic),
                };
                assert_eq!(fault.is_some(), oracle.is_some(), "{name}, {}", kind.name());
                if let (Some(fault), Some(v)) = (fault, oracle) {
                    assert_eq!(fault.place, verify::origin_diagnostic(program, v, "").place, "{name}, {}", kind.name());
                    assert!(fault.message.starts_with(&message(program, v, "")), "{name}, {}: {}", kind.name(), fault.message);
                    found += u32::from(!matches!(program.op(v), Op::Input(_) | Op::Param(_)));
                }
            }
        }
        assert!(found > 0);
    }

    fn floats(tensor: &Tensor) -> Vec<f32> {
        tensor.data.iter().map(|&x| x as f32).collect()
    }

    /// The first value that is not finite, of those that outputs need which are not.
    fn judged(program: &Program, tensors: &Inputs) -> Option<Value> {
        let roots: Vec<Value> = program.outputs.iter().map(|o| o.value).collect();
        let (mut infinite, mut nan) = (vec![false; program.nodes.len()], vec![false; program.nodes.len()]);
        eval::run_values_by(program, tensors, &roots, &mut |v, _, y: Rc<Tensor>| {
            infinite[v.0 as usize] = y.data.iter().any(|x| !x.is_finite());
            nan[v.0 as usize] = y.data.iter().any(|x| x.is_nan());
            y
        })
        .unwrap();
        let needed = program.reaches(roots.into_iter().filter(|v| infinite[v.0 as usize]));
        first(program, &infinite, &nan, &needed)
    }

    const MASKED: &str = "pf 1\naxis N, A = 2;\nmodel m(x: f32[N, A]) {\n    param w: f32[A] = 1;\n    kept = select(x > 0, x * w, const(-inf));\n    \
                          y = logsumexp[A](kept);\n    output y: f32[N] = y;\n    loss y * y;\n}\n";

    /// What is masked out is no fault; that nothing is left is one, and so is a number that is too large beside it.
    #[test]
    fn an_infinity_of_the_text_is_meant() {
        let model = Model::parse("m.pf", MASKED).unwrap();
        let step = Step::training(&model, &Settings::new(Algorithm::BP, 2), &Pool::new(1).unwrap()).unwrap();
        let parameters = Parameters::new(&step, 0).unwrap();
        let fault = |x: [f32; 4]| match step.fault(&parameters, &[("x", x[..].into()), ("lr", 0.1f32.into())]).unwrap() {
            Fault::None => String::new(),
            Fault::Found { diagnostic, .. } => diagnostic.message,
        };
        assert_eq!(fault([1.0, 2.0, -3.0, 4.0]), "");
        assert_eq!(fault([1.0, 2.0, -3.0, -4.0]), "this `sub` is the first value that is not finite: it is NaN");
        assert_eq!(fault([1.0, 2.0, -3.0, 1e30]), "this `contract` is the first value that is not finite: it is inf");
    }
}
