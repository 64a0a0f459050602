//! The printed program after every pass of every algorithm, and the plan and kernels of every target, for LocalMixer and tanh_mlp at small
//! sizes. A difference says what changed, not that
//! it is wrong: read it, then `INSTA_UPDATE=always cargo test --test passes snapshots`. Snapshots that no test makes any more fail, too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pushforward_cpu::Executable;
use pushforward_gpu::emit;
use pushforward_gpu::source::Language;
use pushforward_ir::DType;
use pushforward_passes::{Algorithm, Options, algorithm};
use pushforward_plan::device::{self, Limits, Precision, Target};

use crate::support::{LOCALMIXER, SMALL_MIXER, TANH_MLP, inlined, passed};

/// Where the snapshots of these tests are: a folder for each group, with the names that its tests make. Those of other crates' tests are held
/// by `.ci/run`.
const GROUPS: &[(&str, fn() -> BTreeSet<String>)] = &[("passes", || names(programs())), ("kernels", || names(kernels()))];

const FOLDER: &str = "tests/snapshots";

#[test]
fn programs_after_every_pass() {
    hold("passes", programs());
}

/// What each target gets: the plan as text, then every kernel; the CPU's as loop nests and as Cranelift's text.
#[test]
fn plans_and_kernels_of_every_target() {
    hold("kernels", kernels());
}

fn hold(group: &str, texts: Vec<(String, String)>) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join(group));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| texts.into_iter().for_each(|(name, text)| insta::assert_snapshot!(name, text)));
}

fn names(texts: Vec<(String, String)>) -> BTreeSet<String> {
    texts.into_iter().map(|t| t.0).collect()
}

/// Algorithms that every pass is shown of, and kernels: of the others, which are made of the same passes, the finished step.
const SHOWN: [Algorithm; 3] = [Algorithm::BP, Algorithm::LG_BP, Algorithm::LG_FG_A];

/// Name and text of the program after each pass.
fn programs() -> Vec<(String, String)> {
    let mut programs = Vec::new();
    for (model, text, sets) in [("localmixer", LOCALMIXER, SMALL_MIXER), ("tanh_mlp", TANH_MLP, &[])] {
        let program = inlined(text, sets, 3, DType::F32);
        programs.push((format!("{model}-inline"), program.to_text()));
        for algorithm in Algorithm::ALL {
            let mut count = 0;
            let mut seen = |pass: &str, program: &pushforward_ir::Program| {
                count += 1;
                if !SHOWN.contains(&algorithm) && (model != "localmixer" || count < algorithm.passes().len()) {
                    return;
                }
                programs.push((format!("{model}-{}-{count}-{pass}", algorithm.name()), program.to_text()));
            };
            algorithm::run(program.clone(), algorithm.passes(), &Options::new(algorithm), &mut seen).expect("the algorithm runs");
        }
    }
    programs
}

/// Name and text of the plan and kernels of each algorithm's training step.
fn kernels() -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for (model, text, sets) in [("localmixer", LOCALMIXER, SMALL_MIXER), ("tanh_mlp", TANH_MLP, &[])] {
        let program = inlined(text, sets, 3, DType::F32);
        for algorithm in SHOWN {
            let program = passed(program.clone(), algorithm.passes(), &Options::new(algorithm));
            let name = |target: &str| format!("{model}-{}-{target}", algorithm.name());
            let plan = pushforward_plan::lower(&program, &pushforward_plan::Options::default()).expect("it has a plan");
            let mut cpu = pushforward_plan::print::plan(&plan);
            let executable = Executable::new(plan, &pushforward_cpu::Options { threads: 1 }).expect("it compiles");
            executable.clif().iter().for_each(|(_, text)| cpu += &format!("\n{text}"));
            texts.push((name("cpu"), cpu));
            for (target, language, limits) in
                [("cuda", Language::Cuda, Target::cuda(Precision::Fp32)), ("wgsl", Language::Wgsl, Target::webgpu(Limits::default()))]
            {
                let plan = device::lower(&program, &limits).expect("it has a plan");
                let mut text = device::print::plan(&plan);
                let sources = emit::kernels(&plan, language).expect("the target has what it needs");
                sources.iter().for_each(|s| text += &format!("\n{}", s.text));
                texts.push((name(target), text));
            }
        }
    }
    texts
}

#[test]
fn no_snapshot_is_orphaned() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join(FOLDER), &mut files);
    let mut expected = BTreeSet::new();
    for (group, names) in GROUPS {
        expected.extend(names().into_iter().map(|n| PathBuf::from(FOLDER).join(group).join(format!("{n}.snap"))));
    }
    let found: BTreeSet<PathBuf> = files.into_iter().map(|f| f.strip_prefix(root).expect("below the root").to_path_buf()).collect();
    let orphans: Vec<&PathBuf> = found.difference(&expected).collect();
    assert!(orphans.is_empty(), "no test makes these snapshots (a new group needs a row in GROUPS, an old file goes): {orphans:?}");
    let missing: Vec<&PathBuf> = expected.difference(&found).collect();
    assert!(missing.is_empty(), "snapshots are missing: {missing:?}");
}

/// All snapshots, and those that wait for a decision, below a folder; build outputs and hidden folders are none of the repository's.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a folder can be read").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() && name != "target" && !name.starts_with('.') {
            walk(&path, files);
        } else if name.ends_with(".snap") || name.ends_with(".snap.new") {
            files.push(path);
        }
    }
}
