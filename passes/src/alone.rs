//! alone: the local losses of a replicated program with their derivatives, and nothing of the layers: each marked value becomes an input, each
//! loss's copies an output. It is no row of the table, as no step is made with it: it is for looking at what losses cost. Read [`run`].

use std::collections::HashMap;

use pushforward_ir::program::{Port, rebuild};
use pushforward_ir::{Builder, Diagnostic, Op, Program, Value};

use crate::border::{input, output};
use crate::jvp::{self, Departures};
use crate::transpose::{filled, vjp};
use crate::util::param_values;

/// Which derivatives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Of each loss along its marked value: inputs `d.<value>`, outputs `d.<loss>`.
    Forward,
    /// With respect to marked values and parameters, for any cotangents: inputs `ct.<loss>`, outputs `g.<value>`, `g.<parameter>`.
    Reverse,
}

impl Mode {
    pub const ALL: [Mode; 2] = [Mode::Forward, Mode::Reverse];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Forward => "forward",
            Mode::Reverse => "reverse",
        }
    }
}

pub fn run(program: &Program, mode: Mode) -> Result<Program, Vec<Diagnostic>> {
    let replicated: Vec<_> =
        program.losses.iter().filter_map(|l| Some((l.name.clone(), l.local.as_ref()?.at, l.local.as_ref()?.copies?))).collect();
    if replicated.is_empty() {
        let error = Diagnostic::error("the model marks no local loss, so there is no loss to look at alone");
        return Err(vec![error.hint("mark one: `local x along P, G { cross_entropy[K](head(x), labels) }`")]);
    }
    let (mut refused, mut new, mut names) = (Vec::new(), HashMap::new(), HashMap::new());
    let mut opened = rebuild(program, |b, v, args| {
        let y = match (program.op(v), replicated.iter().find(|r| r.1 == v)) {
            (Op::Input(i), Some(_)) => {
                names.insert(v, program.inputs[*i as usize].name.clone());
                b.copy(program, v, args)
            }
            (_, Some((loss, ..))) => {
                let name = format!("{loss}.of");
                let port = Port { name: name.clone(), dtype: program.ty(v).dtype, order: program.axes.in_order(program.axes_of(v)) };
                names.insert(v, name);
                input(b, port).unwrap_or_else(|errors| {
                    refused.extend(errors);
                    b.copy(program, v, args)
                })
            }
            (_, None) => b.copy(program, v, args),
        };
        new.insert(v, y);
        y
    });
    if !refused.is_empty() {
        return Err(refused);
    }
    opened.losses.clear();
    opened.outputs.clear();
    let mut marked: Vec<(String, Value)> = Vec::new();
    for (_, at, _) in &replicated {
        let one = (names[at].clone(), new[at]);
        if !marked.contains(&one) {
            marked.push(one);
        }
    }
    let losses: Vec<(String, Value)> = replicated.into_iter().map(|(name, _, copies)| (name, new[&copies])).collect();

    let mut b = Builder::new(opened);
    for (name, loss) in &losses {
        let axes = b.axes_of(*loss);
        output(&mut b, name.clone(), *loss, axes);
    }
    match mode {
        Mode::Forward => forward(&mut b, &marked, &losses)?,
        Mode::Reverse => reverse(&mut b, &marked, &losses)?,
    }
    Ok(crate::dce::run(&b.finish()))
}

fn forward(b: &mut Builder, marked: &[(String, Value)], losses: &[(String, Value)]) -> Result<(), Vec<Diagnostic>> {
    let mut request = jvp::Request { roots: losses.iter().map(|l| l.1).collect(), ..Default::default() };
    for (name, v) in marked {
        request.seeds.insert(*v, beside(b, format!("d.{name}"), *v)?);
    }
    let tangents = jvp::append(b, &request)?;
    for ((name, loss), tangent) in losses.iter().zip(tangents) {
        let (value, axes) = (filled(b, tangent.value(), *loss), b.axes_of(*loss));
        output(b, format!("d.{name}"), value, axes);
    }
    Ok(())
}

fn reverse(b: &mut Builder, marked: &[(String, Value)], losses: &[(String, Value)]) -> Result<(), Vec<Diagnostic>> {
    let mut roots = Vec::new();
    for (name, loss) in losses {
        roots.push((*loss, beside(b, format!("ct.{name}"), *loss)?));
    }
    let all: Vec<u32> = (0..b.program().params.len() as u32).collect();
    let (params, values) = param_values(b.program(), &all);
    let names: Vec<String> = params.iter().map(|&i| b.program().params[i as usize].port.name.clone()).collect();
    let wrt: Vec<(String, Value)> = marked.iter().cloned().chain(names.into_iter().zip(values)).collect();
    let gradients = vjp(b, &roots, &wrt.iter().map(|w| w.1).collect::<Vec<_>>(), &Departures::default())?;
    for ((name, v), gradient) in wrt.iter().zip(gradients) {
        let (value, axes) = (filled(b, gradient, *v), b.axes_of(*v));
        output(b, format!("g.{name}"), value, axes);
    }
    Ok(())
}

/// An input of the type of `v`.
fn beside(b: &mut Builder, name: String, v: Value) -> Result<Value, Vec<Diagnostic>> {
    let (ty, order) = (b.ty(v), b.program().axes.in_order(b.axes_of(v)));
    input(b, Port { name, dtype: ty.dtype, order })
}
