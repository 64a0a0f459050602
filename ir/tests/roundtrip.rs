//! The printer loses nothing: `parse(print(m)) == m` for any tree and for the tree of any program, and no text at all makes the parser panic.

mod support;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use pushforward_ir::{flat, parse, print, verify};
use support::{Choices, module, programs};

fn config(cases: u32) -> ProptestConfig {
    // The same cases every time: a test that fails, fails for everybody.
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(0), ..ProptestConfig::default() }
}

fn numbers(most: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(any::<u32>(), 0..most)
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn any_tree_survives_its_text(numbers in numbers(600)) {
        let module = module(&mut Choices::new(&numbers));
        let text = print::print(&module);
        match parse::parse(&text, 0) {
            Ok(read) => prop_assert!(read == module, "another tree:\n{text}\n{read:#?}\n{module:#?}"),
            Err(errors) => prop_assert!(false, "{text}\n{errors:#?}"),
        }
    }

    #[test]
    fn any_program_survives_its_text(numbers in numbers(300)) {
        let program = programs::program(&mut Choices::new(&numbers));
        let broken = verify::verify(&program);
        prop_assert!(broken.is_empty(), "{broken:#?}");
        let module = flat::to_module(&program);
        let text = print::print(&module);
        match parse::parse(&text, 0) {
            Ok(read) => prop_assert!(read == module, "another tree:\n{text}"),
            Err(errors) => prop_assert!(false, "{text}\n{errors:#?}"),
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse::parse(&String::from_utf8_lossy(&bytes), 0);
    }

    #[test]
    fn no_tokens_make_the_parser_panic(tokens in prop::collection::vec(prop::sample::select(TOKENS.split(' ').collect::<Vec<_>>()), 0..120)) {
        let text = format!("pf 1 {}", tokens.join(" "));
        if let Err(errors) = parse::parse(&text, 0) {
            prop_assert!(!errors.is_empty(), "refused without a word: {text}");
            for e in &errors {
                let (span, _) = e.place.as_ref().expect("every error of the parser has a place");
                prop_assert!(span.start <= span.end && span.end as usize <= text.len(), "{e:?} in {text}");
            }
        }
    }
}

const TOKENS: &str = "model m ( ) { } [ ] \n ; , : = == -> => .. x y' N f32 i32 1 2.5 0x7f inf local along copies loss repeat output param exact \
    decay ~ normal axis size option fn match warn \"text\" => | const like batch + - * / < ! & | relu %3 block{i}.fc 3z \" é . // /*";

/// The programs above contain every op that text can hold, so the property says something of each.
#[test]
fn random_programs_have_every_op() {
    let mut seen = std::collections::BTreeSet::new();
    let mut state = 1u32;
    for _ in 0..3000 {
        let numbers: Vec<u32> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            state >> 8
        })
        .take(300)
        .collect();
        let program = programs::program(&mut Choices::new(&numbers));
        seen.extend(program.nodes.iter().map(|n| n.op.name()));
    }
    for info in pushforward_ir::Op::ALL.iter().filter(|i| i.name != "seed") {
        assert!(seen.contains(info.name), "no random program has `{}`", info.name);
    }
}
