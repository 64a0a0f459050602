//! The passes `jvp` and `transpose` on whole programs: derivatives of every output with respect to every float input and parameter. Tangents
//! come in as inputs `d.<name>`, cotangents as inputs `ct.<output>`; derivatives leave as outputs `d.<output>` and `g.<name>`.

use pushforward_ir::program::{Output, Port};
use pushforward_ir::{Builder, Diagnostic, Op, Program, Value, verify};

use crate::border::input;
use crate::jvp::{self, Departures, Tangent};
use crate::transpose::{filled, vjp};
use crate::util::{expand, zeros};

pub fn jvp(program: &Program) -> Result<Program, Vec<Diagnostic>> {
    free(program, program.outputs.iter().map(|o| (o.value, format!("d.{}", o.port.name))))?;
    let mut b = Builder::new(program.clone());
    let mut request = jvp::Request { roots: program.outputs.iter().map(|o| o.value).collect(), ..Default::default() };
    for (v, port) in sources(program) {
        let d = input(&mut b, Port { name: format!("d.{}", port.name), ..port })?;
        request.seeds.insert(v, d);
    }
    let tangents = jvp::append(&mut b, &request)?;
    for (out, tangent) in program.outputs.iter().zip(tangents) {
        let ty = program.ty(out.value);
        if !ty.dtype.is_float() {
            continue;
        }
        let value = match tangent {
            Tangent::Value(t) => expand(&mut b, t, ty.axes),
            Tangent::Zero => zeros(&mut b, ty.dtype, ty.axes),
        };
        b.program_mut().outputs.push(Output { port: Port { name: format!("d.{}", out.port.name), ..out.port.clone() }, value });
    }
    Ok(b.finish())
}

pub fn transpose(program: &Program) -> Result<Program, Vec<Diagnostic>> {
    free(program, sources(program).into_iter().map(|(v, port)| (v, format!("g.{}", port.name))))?;
    let mut b = Builder::new(program.clone());
    let mut roots = Vec::new();
    for out in program.outputs.iter().filter(|o| o.port.dtype.is_float()) {
        roots.push((out.value, input(&mut b, Port { name: format!("ct.{}", out.port.name), ..out.port.clone() })?));
    }
    let sources = sources(program);
    let wrt: Vec<Value> = sources.iter().map(|s| s.0).collect();
    let gradients = vjp(&mut b, &roots, &wrt, &Departures::default())?;
    for ((v, port), gradient) in sources.into_iter().zip(gradients) {
        let value = filled(&mut b, gradient, v);
        b.program_mut().outputs.push(Output { port: Port { name: format!("g.{}", port.name), ..port }, value });
    }
    Ok(crate::dce::run(&b.finish()))
}

/// Outputs of these names can be added.
fn free(program: &Program, names: impl Iterator<Item = (Value, String)>) -> Result<(), Vec<Diagnostic>> {
    let taken = |name: &str| program.output(name).is_some();
    let error = |(v, name): (Value, String)| {
        let message = format!("the derivative of this would be the output `{name}`, and there is one of that name");
        verify::origin_diagnostic(program, v, message).hint("take derivatives once, and of a model whose outputs have other names")
    };
    let errors: Vec<Diagnostic> = names.filter(|(_, name)| taken(name)).map(error).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Float inputs and parameters in use, with their ports.
fn sources(program: &Program) -> Vec<(Value, Port)> {
    let port = |v: Value| match program.op(v) {
        Op::Input(i) => Some(&program.inputs[*i as usize]),
        Op::Param(i) => Some(&program.params[*i as usize].port),
        _ => None,
    };
    program.values().filter_map(|v| Some((v, port(v)?.clone()))).filter(|(_, p)| p.dtype.is_float()).collect()
}
