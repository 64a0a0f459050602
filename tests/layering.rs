//! The map of the project, held to: which crate may use which, who may touch files, devices and terminals, and where `unsafe` may stand.
//! It reads manifests and sources as text and compiles nothing. A wrong arrow fails with a sentence. Read [`MAY_USE`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Crate folder -> crate folders that it may depend on; `.` is the root package. Later rows stand further down the flow of data.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ir", &[]),
    ("passes", &["ir"]),
    ("backends/plan", &["ir"]),
    ("backends/cpu", &["ir", "backends/plan"]),
    ("backends/gpu", &["ir", "backends/plan"]),
    ("models", &["ir", "passes", "backends/plan", "backends/cpu", "backends/gpu"]),
    (".", &["ir", "passes", "backends/plan", "backends/cpu", "backends/gpu", "models"]),
];

/// Crates from outside that only some layers may use, by the first words of their names, and what that keeps out of the others.
const RESERVED: &[(&[&str], &[&str], &str)] = &[
    (&["cranelift-"], &["backends/cpu"], "knows of Cranelift"),
    (&["gemm", "rayon"], &["backends/cpu"], "runs numbers on the CPU"),
    (&["clap", "indicatif", "ctrlc", "annotate-snippets", "plotters", "csv"], &["."], "talks to people and terminals"),
    (&["wgpu", "cudarc"], &["backends/gpu"], "runs numbers on GPUs"),
    (&["flate2", "image"], &["models"], "reads data sets"),
    (&["petgraph", "egg"], &["passes"], "rewrites programs"),
];

/// Words in sources that a layer never has, beside tests and examples, and what it never does.
const ABSENT: &[(&[&str], &[&str], &str)] = &[
    (&["ir", "passes", "backends/plan", "backends/cpu"], &["std::fs", "std::io", "File::open"], "touches no files"),
    (
        &["ir", "passes", "backends/plan"],
        &["std::env", "std::thread", "Instant::now", "SystemTime"],
        "depends on nothing but its arguments",
    ),
    (&["ir", "passes", "backends/plan"], &["println!", "eprintln!", "print!("], "prints nothing"),
];

/// Files that may use `unsafe`, and why they must.
const UNSAFE: &[(&str, &str)] = &[
    ("backends/cpu/src/call.rs", "calls compiled code and the GEMM crate by address"),
    ("backends/cpu/src/memory.rs", "lends disjoint parts of one arena to threads"),
    ("backends/gpu/src/driver/wgpu/module.rs", "takes a guard out of loops that are known to end"),
    ("backends/gpu/src/driver/cuda/calls.rs", "calls NVIDIA's libraries with pointers to device memory"),
];

#[test]
fn dependencies_point_one_way() {
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(folder, _)| *folder).collect();
    let members: BTreeSet<String> = members().into_iter().collect();
    assert_eq!(
        known.iter().map(|s| s.to_string()).collect::<BTreeSet<_>>(),
        members,
        "the workspace's members and the table MAY_USE in tests/layering.rs name different crates: a new crate needs a row there"
    );
    let names: BTreeMap<String, &str> = MAY_USE.iter().map(|(folder, _)| (package_name(folder), *folder)).collect();
    for (place, (folder, may_use)) in MAY_USE.iter().enumerate() {
        let left: Vec<&str> = MAY_USE[..place].iter().map(|(f, _)| *f).collect();
        for dependency in dependencies(folder) {
            let Some(&target) = names.get(&dependency.name) else { continue };
            match dependency.for_tests {
                false => assert!(
                    may_use.contains(&target),
                    "`{folder}` depends on `{target}`, but the layers allow it only [{}]: data flows one way (docs/architecture.md)",
                    may_use.join(", ")
                ),
                true => assert!(
                    left.contains(&target),
                    "the tests of `{folder}` depend on `{target}`, which stands further down the flow of data: put such a test into `tests/`"
                ),
            }
        }
    }
}

#[test]
fn outside_crates_stay_in_their_layer() {
    for (folder, _) in MAY_USE {
        for dependency in dependencies(folder).into_iter().filter(|d| !d.for_tests) {
            for (prefixes, allowed, what) in RESERVED {
                let reserved = prefixes.iter().any(|p| dependency.name == *p || p.ends_with('-') && dependency.name.starts_with(p));
                assert!(
                    !reserved || allowed.contains(folder),
                    "`{folder}` depends on `{}`, but only [{}] {what}",
                    dependency.name,
                    allowed.join(", ")
                );
            }
        }
    }
}

#[test]
fn layers_never_do_what_is_not_theirs() {
    for (folders, words, never) in ABSENT {
        for folder in *folders {
            for (file, text) in sources(&format!("{folder}/src")) {
                if file.ends_with("tests.rs") {
                    continue;
                }
                // Tests stand last in a file.
                let code = text.split("#[cfg(test)]").next().unwrap_or(&text);
                for (number, line) in code.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
                    if let Some(word) = words.iter().find(|w| line.contains(**w)) {
                        panic!("{file}:{}: `{folder}` {never}, but here stands `{word}`", number + 1);
                    }
                }
            }
        }
    }
}

#[test]
fn unsafe_code_stands_where_the_list_says() {
    let lints = manifest(".");
    assert!(
        lints.contains("[workspace.lints.rust]\nunsafe_code = \"deny\""),
        "the root manifest no longer denies `unsafe_code` for the workspace"
    );
    let mut found = BTreeSet::new();
    for (folder, _) in MAY_USE {
        assert!(manifest(folder).contains("[lints]\nworkspace = true"), "`{folder}/Cargo.toml` does not take the workspace's lints");
        let top = if *folder == "." { "src".to_string() } else { folder.to_string() };
        for (file, text) in sources(&top) {
            if text.contains("allow(unsafe_code)") {
                found.insert(file);
            }
        }
    }
    let listed: BTreeSet<String> = UNSAFE.iter().map(|(file, _)| file.to_string()).collect();
    let unlisted: Vec<&String> = found.difference(&listed).collect();
    assert!(unlisted.is_empty(), "{unlisted:?} allow `unsafe`: if they must, they stand in the list in tests/layering.rs, with the reason");
    let needless: Vec<&String> = listed.difference(&found).collect();
    assert!(needless.is_empty(), "{needless:?} stand in the list of files with `unsafe` but have none: take them out");
}

/// What `docs/architecture.md` points at exists, and every crate has its row there.
#[test]
fn the_map_names_places_that_exist() {
    let map = std::fs::read_to_string(root().join("docs/architecture.md")).expect("the map is there");
    for word in map.split('`').skip(1).step_by(2) {
        let path = word.split_whitespace().next().unwrap_or_default();
        let is_path = path.contains('/') && !path.contains(['<', '*', '[']) && !path.ends_with("what_is_wrong.pf");
        assert!(!is_path || root().join(path).exists(), "docs/architecture.md names `{path}`, which does not exist");
    }
    for (folder, _) in MAY_USE.iter().filter(|(folder, _)| *folder != ".") {
        assert!(map.contains(&format!("| `{folder}/` |")), "docs/architecture.md has no row for `{folder}/`");
    }
}

struct Dependency {
    name: String,
    /// In `[dev-dependencies]`.
    for_tests: bool,
}

/// What the README and the documents point to is there, from where they stand.
#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    let mut documents = vec![root().join("README.md")];
    documents.extend(std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for document in documents.iter().filter(|path| path.extension().is_some_and(|e| e == "md")) {
        let text = std::fs::read_to_string(document).unwrap();
        // Without what stands between backticks, one or three: `sum[I](x)` is no link.
        let text = text.split('`').step_by(2).collect::<String>();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            links += 1;
            assert!(document.parent().unwrap().join(link).exists(), "{}: `{link}` is not there", document.display());
        }
    }
    assert!(links > 10, "only {links} links are seen");
}

/// The names in a manifest's tables of dependencies.
fn dependencies(folder: &str) -> Vec<Dependency> {
    let (mut all, mut section) = (Vec::new(), String::new());
    for line in manifest(folder).lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_string();
        } else if let Some((name, _)) = line.split_once(['=', '.', ' ']).filter(|_| !line.starts_with('#')) {
            let for_tests = section == "dev-dependencies";
            if for_tests || section == "dependencies" || section == "build-dependencies" || section.starts_with("target.") {
                all.push(Dependency { name: name.to_string(), for_tests });
            }
        }
    }
    all
}

fn members() -> Vec<String> {
    let root = manifest(".");
    let line = root.lines().find(|l| l.starts_with("members = [")).expect("the root manifest lists its members in one line");
    line.split('"').skip(1).step_by(2).map(str::to_string).collect()
}

fn package_name(folder: &str) -> String {
    let manifest = manifest(folder);
    let package = manifest.split("[package]").nth(1).expect("a member is a package");
    let line = package.lines().find(|l| l.starts_with("name = ")).expect("a package has a name");
    line.split('"').nth(1).expect("a name stands in quotes").to_string()
}

fn manifest(folder: &str) -> String {
    let path = root().join(folder).join("Cargo.toml");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All Rust files below a folder, named from the root of the repository.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut open: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
                all.push((name, std::fs::read_to_string(&path).expect("sources are text")));
            }
        }
    }
    all.sort();
    all
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
