//! What the printers make of small kernels built by hand: every statement, every expression, every primitive on every dtype, in both languages.
//! WGSL is held to naga's validator here; what the texts compute is tested where they run.

#[path = "support/hand.rs"]
mod hand;
mod support;

use std::collections::BTreeSet;

use pushforward_gpu::emit::kernels;
use pushforward_gpu::source::Language;
use pushforward_plan::device::kernel::*;
use pushforward_plan::kernel::ElementType::{Bool, F32, F64, I32};
use pushforward_plan::kernel::{Access, Prim, Reduction};

use hand::*;

fn text(plan: &DevicePlan, language: Language) -> String {
    let mut sources = kernels(plan, language).unwrap_or_else(|e| panic!("{e}"));
    let source = sources.pop().expect("one kernel");
    assert_eq!(source.name, "kernel");
    if language == Language::Wgsl {
        support::validate_wgsl(&source.text).unwrap_or_else(|e| panic!("{e}\n{}", source.text));
    }
    source.text
}

#[test]
fn statements() {
    let plan = statements_plan();
    insta::assert_snapshot!("statements_cuda", text(&plan, Language::Cuda));
    insta::assert_snapshot!("statements_wgsl", text(&plan, Language::Wgsl));
}

fn statements_plan() -> DevicePlan {
    let at = || Expr::Var(0);
    let body = vec![
        Stmt::Let(0, VarType::Index, place()),
        Stmt::Var(1, VarType::Element(F32), float(0.0)),
        Stmt::Array(2, F32, 4),
        Stmt::For {
            var: 3,
            count: 4,
            unroll: true,
            body: vec![
                Stmt::SetElement(2, Expr::Var(3), Expr::Load(0, boxed(index(IndexOp::Mul, at(), Expr::Var(3))))),
                Stmt::Set(1, Expr::Fma(F32, boxed(Expr::Element(2, boxed(Expr::Var(3)))), boxed(float(-1.5)), boxed(Expr::Var(1)))),
            ],
        },
        Stmt::SetShared(0, Expr::Thread, Expr::Var(1)),
        Stmt::Barrier,
        Stmt::Set(1, Expr::Shared(0, boxed(index(IndexOp::Min, Expr::Int(31), Expr::Thread)))),
        Stmt::Combine { var: 1, dtype: F32, reduction: Reduction::Sum, width: 32, shared: 1 },
        Stmt::Combine { var: 1, dtype: F32, reduction: Reduction::Max, width: 8, shared: 1 },
        Stmt::If(
            Expr::Both(
                boxed(Expr::Compare(Comparison::Lt, boxed(at()), boxed(Expr::Int(60)))),
                boxed(Expr::Compare(Comparison::Lt, boxed(Expr::Int(0)), boxed(index(IndexOp::Rem, at(), Expr::Int(3))))),
            ),
            vec![Stmt::Store(1, at(), Expr::Var(1)), Stmt::Store(2, at(), Expr::Compare(Comparison::Eq, boxed(at()), boxed(Expr::Int(5))))],
        ),
    ];
    let args = [("x", F32, Access::Read), ("y", F32, Access::ReadWrite), ("while", Bool, Access::Write)];
    plan(&args, &[(F32, 32), (F32, 32)], body)
}

#[test]
fn expressions() {
    let plan = expressions_plan();
    insta::assert_snapshot!("expressions_cuda", text(&plan, Language::Cuda));
    insta::assert_snapshot!("expressions_wgsl", text(&plan, Language::Wgsl));
}

fn expressions_plan() -> DevicePlan {
    let x = || Expr::Load(0, boxed(Expr::Var(0)));
    let prim = |prim, args: Vec<Expr>| Expr::Prim(prim, F32, F32, args);
    let sub = |x, y| prim(Prim::Sub, vec![x, y]);
    let less = |x, y| Expr::Prim(Prim::Lt, F32, Bool, vec![x, y]);
    let logic = |p, x, y| Expr::Prim(p, Bool, Bool, vec![x, y]);
    let normal = Normal {
        dtype: F32,
        domain: 0,
        seed: Expr::Scalar(0),
        step: Expr::Scalar(1),
        stream: 0,
        direction: Expr::Int(3),
        element: Expr::Var(0),
    };
    let values = vec![
        // Parentheses where they are needed, none where they are not.
        sub(sub(x(), x()), sub(x(), x())),
        prim(Prim::Mul, vec![sub(x(), x()), prim(Prim::Neg, vec![prim(Prim::Neg, vec![x()])])]),
        prim(Prim::Div, vec![x(), prim(Prim::Mul, vec![x(), float(-0.5)])]),
        // `a < b, c > (d)` among arguments.
        Expr::Prim(Prim::Select, F32, F32, vec![less(x(), sub(x(), x())), x(), Expr::Prim(Prim::Cast, Bool, F32, vec![less(x(), x())])]),
        Expr::Prim(
            Prim::Select,
            F32,
            F32,
            vec![logic(Prim::Or, logic(Prim::And, less(x(), x()), less(x(), x())), Expr::Scalar(3)), x(), Expr::Scalar(2)],
        ),
        // Numbers that languages have no literals for, and constants that they must not compute.
        Expr::Max(F32, boxed(float(f64::NEG_INFINITY)), boxed(x())),
        Expr::Max(F32, boxed(float(f64::NAN)), boxed(float(-0.0))),
        prim(Prim::Div, vec![float(1.0), float(0.0)]),
        sub(float(1e-45), float(f32::MAX.into())),
        Expr::Prim(Prim::Cast, I32, F32, vec![Expr::Integer(boxed(place()))]),
        Expr::Normal(Box::new(normal)),
    ];
    let mut body = vec![Stmt::Let(0, VarType::Index, place())];
    body.extend(values.into_iter().map(|value| Stmt::Store(1, Expr::Var(0), value)));
    let mut plan = plan(&[("x", F32, Access::Read), ("y", F32, Access::Write)], &[], body);
    plan.kernels[0].grid = (4, 3);
    plan
}

#[test]
fn primitives_are_spelled() {
    let places = primitives(|i, _| Expr::Load(i, boxed(Expr::Thread)));
    let mut lines = String::new();
    for (name, plan) in &places {
        let line = |text: &str| text.lines().find_map(|l| l.trim().strip_prefix("result[")).expect("it is stored").to_string();
        lines += &format!("{name}\n  CUDA {}\n", line(&text(plan, Language::Cuda)));
        lines += &match kernels(plan, Language::Wgsl) {
            Ok(_) => format!("  WGSL {}\n", line(&text(plan, Language::Wgsl))),
            Err(lacking) => format!("  {lacking}\n"),
        };
    }
    insta::assert_snapshot!("primitives", lines);
    constant_primitives().iter().filter(|plan| kernels(plan, Language::Wgsl).is_ok()).for_each(|plan| drop(text(plan, Language::Wgsl)));
}

/// Of constants alone: languages that compute them themselves refuse what has no value.
fn constant_primitives() -> Vec<DevicePlan> {
    let plans = primitives(|i, dtype| Expr::Number(if i == 0 { i32::MIN.into() } else { 0.0 }, dtype));
    plans.into_iter().map(|(_, plan)| plan).collect()
}

/// All texts of this file, by language.
fn texts(language: Language) -> Vec<String> {
    let mut plans = vec![statements_plan(), expressions_plan()];
    plans.extend(primitives(|i, _| Expr::Load(i, boxed(Expr::Thread))).into_iter().map(|p| p.1));
    plans.extend(constant_primitives());
    plans.iter().filter_map(|plan| kernels(plan, language).ok()).flatten().map(|s| s.text).collect()
}

#[test]
fn tint_accepts_them() {
    let texts = texts(Language::Wgsl);
    let names: Vec<String> = (0..texts.len()).map(|i| format!("kernel_{i}")).collect();
    let named: Vec<support::Text> = names.iter().zip(&texts).map(|(n, t)| (n.as_str(), t.as_str())).collect();
    if let Some(result) = support::tint(&named) {
        result.unwrap_or_else(|e| panic!("{e}"));
    }
}

/// Primitives stand together in one text: nvcc takes half a second for each.
#[test]
fn nvcc_accepts_them() {
    let Some(nvcc) = support::Nvcc::find() else { return };
    let texts = texts(Language::Cuda);
    let together: String = texts.iter().enumerate().map(|(i, t)| t.replace(" kernel(", &format!(" kernel_{i}("))).collect();
    nvcc.compile(&[("pushforward.cuh", pushforward_gpu::prelude())], &[("all", &together)]).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn what_a_language_lacks_is_an_error() {
    let store = |value| vec![Stmt::Store(0, Expr::Thread, value)];
    let says = |plan: &DevicePlan| kernels(plan, Language::Wgsl).expect_err("WGSL cannot say it").to_string();
    let wide = plan(&[("y", F64, Access::Write)], &[], store(Expr::Number(1.0, F64)));
    assert_eq!(says(&wide), "kernel `kernel` needs f64, which WGSL does not have");
    let mut far = plan(&[("y", F32, Access::Write)], &[], store(float(1.0)));
    far.kernels[0].wide = true;
    assert_eq!(says(&far), "kernel `kernel` needs places beyond 32 bits, which WGSL does not have");
    assert!(text(&far, Language::Cuda).contains("y[(unsigned long long)threadIdx.x] = 1.0f;"));
    let tensor = plan(&[("y", F32, Access::Write)], &[], store(Expr::Tf32(boxed(float(1.0)))));
    assert_eq!(says(&tensor), "kernel `kernel` needs tensor cores, which WGSL does not have");
}

/// Literals in a text, by their bits.
fn literals(text: &str) -> BTreeSet<u32> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-').filter_map(|w| w.strip_suffix('f'));
    words.filter_map(|w| w.parse::<f32>().ok()).flat_map(|x| [x.to_bits(), (-x).to_bits()]).collect()
}

/// The prelude is a file by itself: its constants are the generator's.
#[test]
fn the_preludes_constants_are_the_generators() {
    use pushforward_ir::philox::*;
    let prelude = pushforward_gpu::prelude();
    let found = literals(prelude);
    for x in LN_POLY.iter().chain(&LN_2).chain(&SIN_POLY).chain(&COS_POLY).chain([&RADIANS]) {
        assert!(found.contains(&x.to_bits()), "{x:?} does not stand in pushforward.cuh");
    }
    for word in MULTIPLIERS.iter().chain(&WEYL).chain([&SQRT_HALF_BITS]) {
        assert!(prelude.contains(&format!("{word:#x}u")), "{word:#x} does not stand in pushforward.cuh");
    }
}
