//! The text of a program means that program: printed, parsed and inlined again, every value, type, mark and result is the same; so what
//! `opt` prints after any pass can be read again. And no text makes the path from bytes to program panic.

#[path = "../ir/tests/support/mod.rs"]
mod support;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use pushforward_ir::program::{Local, Loss, Output};
use pushforward_ir::{AxisSet, Builder, Diagnostic, Op, Program, Value, parse};
use pushforward_passes::algorithm::{self, Algorithm, Options};
use pushforward_passes::inline::{self, Bindings};
use support::{Choices, programs};

const LIBRARY: &str = include_str!("../ir/lib.pf");
const LOCALMIXER: &str = include_str!("../models/localmixer.pf");
const TANH_MLP: &str = include_str!("../models/tanh_mlp.pf");

fn config(cases: u32) -> ProptestConfig {
    // The same cases every time: a test that fails, fails for everybody.
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..ProptestConfig::default() }
}

/// The program that a text states.
fn read(text: &str, bindings: &Bindings) -> Result<Program, Vec<Diagnostic>> {
    let library = parse::parse(LIBRARY, 1).expect("the library parses");
    Ok(inline::run(&[&library], &parse::parse(text, 0)?, bindings)?.program)
}

/// Everything that a text says: places and the names of values are no part of it, and its parameters come before its other values.
fn assert_same(read: &Program, program: &Program, text: &str) {
    assert!(bare(read) == bare(program), "{text}\nwas read as\n{}", read.to_text());
}

fn bare(program: &Program) -> Program {
    let mut b = Builder::like(program);
    for i in 0..program.inputs.len() as u32 {
        b.op(Op::Input(i), &[]);
    }
    for i in 0..program.params.len() as u32 {
        b.op(Op::Param(i), &[]);
    }
    let mut new: Vec<Value> = Vec::new();
    for v in program.values() {
        let args: Vec<Value> = program.args(v).iter().map(|a| new[a.0 as usize]).collect();
        new.push(b.op(program.op(v).clone(), &args));
    }
    let at = |v: Value| new[v.0 as usize];
    let loss = |l: &Loss| Loss {
        name: l.name.clone(),
        value: at(l.value),
        local: l.local.as_ref().map(|m| Local { at: at(m.at), along: m.along, copies: m.copies.map(at) }),
    };
    Program {
        losses: program.losses.iter().map(loss).collect(),
        outputs: program.outputs.iter().map(|o| Output { port: o.port.clone(), value: at(o.value) }).collect(),
        origins: Vec::new(),
        ..b.finish()
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn a_programs_text_means_the_program(numbers in prop::collection::vec(any::<u32>(), 0..300)) {
        let program = programs::program(&mut Choices::new(&numbers));
        let text = program.to_text();
        match read(&text, &Bindings::default()) {
            Ok(read) => assert_same(&read, &program, &text),
            Err(errors) => prop_assert!(false, "{text}\n{errors:#?}"),
        }
    }
}

#[test]
fn what_is_printed_after_each_pass_is_read_as_the_same() {
    for (model, sets) in [
        (LOCALMIXER, &[("grid", "2"), ("height", "4"), ("width", "4"), ("channels", "8"), ("groups", "2"), ("blocks", "2")][..]),
        (TANH_MLP, &[]),
    ] {
        let sets = sets.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let program = read(model, &Bindings { sets, batch: Some(3), ..Bindings::default() }).expect("the model is sound");
        for algorithm in Algorithm::ALL {
            // Several directions: an axis that the noise marks with `along`.
            let options = Options { directions: 2, ..Options::new(algorithm) };
            let again = |pass: &str, program: &Program| {
                let text = program.to_text();
                let read = read(&text, &Bindings::default()).unwrap_or_else(|e| panic!("after {pass}: {e:#?}\n{text}"));
                assert_same(&read, program, &text);
            };
            again("inline", &program);
            algorithm::run(program.clone(), algorithm.passes(), &options, &mut |pass, p| again(pass, p)).expect("the algorithm runs");
        }
    }
}

/// `[A..]` takes none as well as many: then nothing is summed.
#[test]
fn a_list_of_axes_may_be_empty() {
    let text = "pf 1\naxis N;\nmodel m(x: f32[N], y: f32[N]) {\n    loss squared_error[](x, y);\n}\n";
    let program = read(text, &Bindings { batch: Some(3), ..Bindings::default() }).expect("the text is right");
    let [loss] = &program.losses[..] else { panic!("one loss is written, and there are {}", program.losses.len()) };
    assert_eq!(program.axes_of(loss.value), AxisSet::of(program.batch), "one for each example");
}

proptest! {
    #![proptest_config(config(400))]

    /// A model with a few bytes, words or lines changed: either a program, or errors that say where.
    #[test]
    fn no_damage_to_a_model_makes_it_panic(
        which in 0..4usize,
        damage in prop::collection::vec((any::<u32>(), 0..7usize, any::<u32>(), prop::sample::select(WORDS.split('~').collect::<Vec<_>>())), 1..5),
    ) {
        let mut text = [LOCALMIXER, TANH_MLP, LIBRARY, include_str!("corpus/errors/sizes_do_not_match_in_call.pf")][which].to_string();
        for (at, how, other, word) in damage {
            damaged(&mut text, at as usize, how, other as usize, word);
        }
        // Small sizes where the text still has them: the point is the path, not the numbers.
        for bindings in [Bindings { batch: Some(2), ..Bindings::default() }, Bindings { sets: vec![("blocks".into(), "2".into()), ("grid".into(), "4".into())], ..Bindings::default() }] {
            match read(&text, &bindings) {
                Ok(program) => drop(program.to_text()),
                Err(errors) => prop_assert!(!errors.is_empty(), "refused without a word:\n{text}"),
            }
        }
    }
}

const WORDS: &str = "0~-1~1e9~999999999~N~P~x~(~)~{~}~[~]~,~;~->~..~=~like~sum~norm~repeat~local~axis Z = 2;~fc[I](x)~-(~size(C)~f64~i32~mixer(x)~é~\
    param w: f32[C] = 0;~loss x;~match norm { local => x }";

fn damaged(text: &mut String, at: usize, how: usize, other: usize, word: &str) {
    let at = text.floor_char_boundary(at % (text.len() + 1));
    let other = text.floor_char_boundary(other % (text.len() + 1));
    let end = text[at..].find(|c: char| !c.is_alphanumeric()).map_or(text.len(), |n| at + n);
    match how {
        0 => text.truncate(at),
        1 => text.insert_str(at, word),
        2 => text.replace_range(at..end, word),
        3 => text.replace_range(at..end, ""),
        // A stretch of the text, moved, doubled or dropped.
        4 => text.insert_str(other, &text[at..(at + 40).min(text.len())].chars().filter(|c| c.is_ascii()).collect::<String>()),
        5 => text.replace_range(at.min(other)..at.max(other).min(text.ceil_char_boundary(at.min(other) + 60)), ""),
        _ => text.insert(at, char::from(other as u8 & 0x7f)),
    }
}
