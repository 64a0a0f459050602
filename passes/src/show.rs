//! show: local losses as outputs, for whoever watches a model learn that has no other loss. It is no row of the table: no step needs it. It
//! goes first, onto the model as written, as later passes change what losses are.

use pushforward_ir::program::{Output, Port};
use pushforward_ir::{Builder, Program};

use crate::util::mean;

/// Adds the mean of every local loss as an output of its name.
pub fn local_losses(program: Program) -> Program {
    let losses: Vec<_> = program.losses.iter().filter(|l| l.local.is_some()).map(|l| (l.name.clone(), l.value)).collect();
    let mut b = Builder::new(program);
    for (name, value) in losses {
        b.origin = b.program().node(value).origin;
        let shown = mean(&mut b, value);
        let port = Port { name, dtype: b.ty(shown).dtype, order: Vec::new() };
        b.program_mut().outputs.push(Output { port, value: shown });
    }
    b.finish()
}
