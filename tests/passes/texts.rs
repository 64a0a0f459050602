//! Every text that is emitted for both models and every algorithm, before the judges of their languages: naga and Tint for WGSL; nvcc for CUDA, on
//! three architectures, warnings being errors. And no contraction of M/8/16 spills registers. What the texts compute is tested where they run.

use pushforward_gpu::emit;
use pushforward_gpu::source::{Language, Source};
use pushforward_ir::{DType, Program};
use pushforward_models::presets;
use pushforward_passes::{Algorithm, Options};
use pushforward_plan::device::{self, Limits, Precision, Target};

use crate::judges::{self, Nvcc, Text};
use crate::support::{LOCALMIXER, SMALL_MIXER, TANH_MLP, inlined, passed};

/// The training step of each model and algorithm, at small sizes.
fn steps() -> Vec<(String, Program)> {
    let mut steps = Vec::new();
    for (model, text, sets) in [("localmixer", LOCALMIXER, SMALL_MIXER), ("tanh_mlp", TANH_MLP, &[])] {
        let program = inlined(text, sets, 3, DType::F32);
        for algorithm in Algorithm::ALL {
            let step = passed(program.clone(), algorithm.passes(), &Options::new(algorithm));
            steps.push((format!("{model}, {}", algorithm.name()), step));
        }
    }
    steps
}

fn sources(program: &Program, target: &Target, language: Language) -> Vec<Source> {
    let plan = device::lower(program, target).expect("it has a plan");
    emit::kernels(&plan, language).expect("the target has what it needs")
}

#[test]
fn every_wgsl_text_gets_past_naga_and_tint() {
    let mut all: Vec<Source> = Vec::new();
    for (_, program) in steps() {
        all.extend(sources(&program, &Target::webgpu(Limits::default()), Language::Wgsl));
    }
    all.sort_by(|a, b| a.text.cmp(&b.text));
    all.dedup_by(|a, b| a.text == b.text);
    assert!(all.len() > 50, "{} texts", all.len());
    for source in &all {
        judges::validate_wgsl(&source.text).unwrap_or_else(|e| panic!("{}: {e}\n{}", source.name, source.text));
    }
    let texts: Vec<Text> = all.iter().map(|s| (s.name.as_str(), s.text.as_str())).collect();
    if let Some(result) = judges::tint(&texts) {
        result.unwrap_or_else(|e| panic!("{e}"));
    }
}

/// The kernels of a plan as one file: nvcc takes longer to start than to compile one.
fn file(sources: &[Source]) -> String {
    sources.iter().map(|s| s.text.as_str()).collect()
}

const HEADER: &str = "pushforward.cuh";

#[test]
fn every_cuda_text_gets_past_nvcc() {
    let Some(nvcc) = Nvcc::find() else { return };
    let files: Vec<(String, String)> =
        steps().iter().map(|(name, p)| (name.clone(), file(&sources(p, &Target::cuda(Precision::Fp32), Language::Cuda)))).collect();
    let texts: Vec<Text> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let compiled = nvcc.compile(&[(HEADER, pushforward_gpu::prelude())], &texts).unwrap_or_else(|e| panic!("{e}"));
    report(&compiled);
}

#[test]
fn no_contraction_of_m_8_16_spills() {
    let Some(nvcc) = Nvcc::find() else { return };
    let preset = presets::preset("M/8/16").expect("it is a preset");
    let sets: Vec<(&str, String)> = preset.sets.iter().map(|(name, value)| (*name, value.to_string())).collect();
    let sets: Vec<(&str, &str)> = sets.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let program = inlined(LOCALMIXER, &sets, preset.batch, DType::F32);
    let mut files: Vec<String> = Vec::new();
    for (algorithm, precision) in
        [(Algorithm::LG_FG_A, Precision::Fp32), (Algorithm::LG_FG_A, Precision::Tf32), (Algorithm::BP, Precision::Fp32)]
    {
        let step = passed(program.clone(), algorithm.passes(), &Options::new(algorithm));
        let products = sources(&step, &Target::cuda(precision), Language::Cuda).into_iter().filter(|s| s.name.starts_with("gemm_"));
        files.push(file(&products.collect::<Vec<_>>()));
    }
    let texts: Vec<Text> = files.iter().map(|text| ("products of M/8/16", text.as_str())).collect();
    let compiled = nvcc.compile(&[(HEADER, pushforward_gpu::prelude())], &texts).unwrap_or_else(|e| panic!("{e}"));
    assert!(compiled.len() > 3 * 40, "{} products", compiled.len());
    report(&compiled);
    let spilled: Vec<_> = compiled.iter().filter(|c| c.spills > 0).map(|c| format!("{} on {}", c.kernel, c.architecture)).collect();
    assert!(spilled.is_empty(), "{spilled:?}");
}

/// The most registers, and what spills.
fn report(compiled: &[judges::Compiled]) {
    for c in compiled.iter().filter(|c| c.spills > 0) {
        println!("{} on {}: {} registers, {} bytes spilled", c.kernel, c.architecture, c.registers, c.spills);
    }
    let most = compiled.iter().max_by_key(|c| c.registers).expect("something was compiled");
    println!("{} kernels; most registers: {} by {} on {}", compiled.len(), most.registers, most.kernel, most.architecture);
}
