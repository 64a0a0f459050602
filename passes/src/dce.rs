//! dce: drops values that no output and no loss mark needs. Numbers stay the same, bit by bit.

use pushforward_ir::Program;
use pushforward_ir::program::rebuild;

pub fn run(program: &Program) -> Program {
    rebuild(program, |b, v, args| b.copy(program, v, args))
}
