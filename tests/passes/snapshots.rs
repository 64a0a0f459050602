//! The printed program after every pass of every algorithm, for LocalMixer and tanh_mlp at small sizes. A difference says what changed, not that
//! it is wrong: read it, then `INSTA_UPDATE=always cargo test --test passes snapshots`. Snapshots that no test makes any more fail, too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pushforward_ir::DType;
use pushforward_passes::{Algorithm, Options, algorithm};

use crate::support::{LOCALMIXER, SMALL_MIXER, TANH_MLP, inlined};

/// Where all snapshots of this repository are: a folder for each group, with the names that its tests make.
const GROUPS: &[(&str, fn() -> BTreeSet<String>)] = &[("passes", || programs().into_iter().map(|p| p.0).collect())];

const FOLDER: &str = "tests/snapshots";

#[test]
fn programs_after_every_pass() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join("passes"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| programs().into_iter().for_each(|(name, text)| insta::assert_snapshot!(name, text)));
}

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
                programs.push((format!("{model}-{}-{count}-{pass}", algorithm.name()), program.to_text()));
            };
            algorithm::run(program.clone(), algorithm.passes(), &Options::new(algorithm), &mut seen).expect("the algorithm runs");
        }
    }
    programs
}

#[test]
fn no_snapshot_is_orphaned() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(root, &mut files);
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
