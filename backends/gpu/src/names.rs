//! What arguments and scalars are called in a text: as in the plan, but for words that a language has for itself. Read [`Names::of`].

use std::collections::BTreeSet;

use pushforward_plan::device::kernel::{DeviceKernel, DevicePlan};
use pushforward_plan::kernel::ElementType;

/// Names of one kernel's surroundings.
pub(crate) struct Names {
    /// By argument.
    pub args: Vec<String>,
    /// All scalars of the plan.
    pub scalars: Vec<(String, ElementType)>,
}

impl Names {
    pub fn of(plan: &DevicePlan, kernel: &DeviceKernel) -> Names {
        let mut taken = BTreeSet::from([kernel.name.clone()]);
        let args = kernel.args.iter().map(|a| free(&a.name, &mut taken)).collect();
        Names { args, scalars: scalars(plan) }
    }
}

/// Fields of the struct of a plan's scalars.
pub(crate) fn scalars(plan: &DevicePlan) -> Vec<(String, ElementType)> {
    let mut taken = BTreeSet::new();
    plan.scalars.iter().map(|s| (free(&s.name, &mut taken), s.dtype)).collect()
}

/// The name as an identifier that is free in every language, which is then taken.
pub(crate) fn free(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert(0, 'x');
    }
    while name.contains("__") {
        name = name.replace("__", "_");
    }
    let stem = name.clone();
    let mut number = 1;
    while is_ours(&name) || RESERVED.binary_search(&name.as_str()).is_ok() || !taken.insert(name.clone()) {
        number += 1;
        name = format!("{}_{number}", stem.trim_end_matches('_'));
    }
    name
}

/// Words that the emitter uses: `v3`, `s0`, `stream0` and library functions.
fn is_ours(name: &str) -> bool {
    let numbered =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    numbered("v") || numbered("s") || numbered("stream") || name.starts_with("pf_") || name.starts_with("Pf") || name.starts_with("PF")
}

/// Keywords, reserved words, types and functions of C++, CUDA and WGSL, in order.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "CUDA_EMU", "EOF", "FILE", "HUGE_VAL", "I", "INFINITY", "NAN", "NULL", "Scalars", "Self", "abs", "abstract", "active", "alias",
    "alignas", "alignof", "and", "and_eq", "array", "arrayLength", "as", "asm", "asm_fragment", "assert", "async", "atomic",
    "atomic_cancel", "atomic_commit", "atomic_noexcept", "attribute", "auto", "await", "become", "bitand", "bitcast", "bitor", "block",
    "blockDim", "blockIdx", "bool", "break", "case", "cast", "catch", "char", "char16_t", "char32_t", "char8_t", "class", "co_await",
    "co_return", "co_yield", "coherent", "column_major", "common", "compile", "compile_fragment", "compl", "concept", "const",
    "const_assert", "const_cast", "consteval", "constexpr", "constinit", "continue", "continuing", "cos", "crate", "debugger", "decltype",
    "default", "delete", "demote", "demote_to_helper", "diagnostic", "dim3", "discard", "distance", "do", "double", "dynamic_cast",
    "else", "enable", "enum", "erf", "erff", "errno", "exp", "expf", "explicit", "export", "extends", "extern", "external", "f16", "f32",
    "f64", "fallthrough", "false", "filter", "final", "finally", "float", "float2", "floor", "fma", "fmaf", "fn", "for", "friend", "from",
    "fxgroup", "get", "goto", "gridDim", "groupshared", "highp", "i32", "i64", "if", "impl", "implements", "import", "inline",
    "instanceof", "int", "interface", "layout", "let", "linux", "log", "logf", "long", "loop", "lowp", "macro", "macro_rules", "mat2x2",
    "mat2x3", "mat2x4", "mat3x2", "mat3x3", "mat3x4", "mat4x2", "mat4x3", "mat4x4", "match", "max", "mediump", "memcpy", "meta", "min",
    "mod", "module", "move", "mut", "mutable", "namespace", "new", "nil", "noexcept", "noinline", "nointerpolation", "non_coherent",
    "noncoherent", "noperspective", "not", "not_eq", "null", "nullptr", "of", "operator", "or", "or_eq", "override", "package",
    "packoffset", "partial", "pass", "patch", "pixelfragment", "precise", "precision", "premerge", "priv", "private", "protected", "ptr",
    "pub", "public", "read_write", "readonly", "ref", "reflexpr", "regardless", "register", "reinterpret_cast", "require", "requires",
    "resource", "restrict", "return", "round", "sampler", "scalars", "select", "self", "set", "shared", "short", "signed", "sin",
    "sincos", "sizeof", "smooth", "snorm", "sqrt", "sqrtf", "static", "static_assert", "static_cast", "std", "stderr", "stdin", "stdout",
    "storage", "storageBarrier", "struct", "subroutine", "super", "switch", "synchronized", "tanh", "tanhf", "target", "template", "this",
    "thread", "threadIdx", "thread_local", "throw", "trait", "true", "try", "type", "typedef", "typeid", "typename", "typeof", "u32",
    "u64", "uint", "uniform", "union", "unix", "unless", "unorm", "unsafe", "unsigned", "unsized", "use", "using", "var", "varying",
    "vec2", "vec2f", "vec2i", "vec2u", "vec3", "vec3f", "vec3i", "vec3u", "vec4", "vec4f", "vec4i", "vec4u", "virtual", "void",
    "volatile", "warpSize", "wchar_t", "wgsl", "where", "while", "with", "workgroup", "workgroupBarrier", "writeonly", "xor", "xor_eq",
    "yield",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_words_are_in_order() {
        assert!(RESERVED.is_sorted(), "{:?}", RESERVED.windows(2).find(|w| w[0] >= w[1]));
    }

    #[test]
    fn names_are_free() {
        let mut taken = BTreeSet::new();
        let mut free = |name: &str| free(name, &mut taken);
        assert_eq!(free("x"), "x");
        assert_eq!(free("x"), "x_2");
        assert_eq!(free("loop"), "loop_2");
        assert_eq!(free("v3"), "v3_2");
        assert_eq!(free("block0.fc.w'"), "block0_fc_w_");
        assert_eq!(free("3"), "x3");
    }
}
