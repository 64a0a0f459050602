//! Compilers that emitted texts have to get past: naga, Tint, nvcc. They look at texts alone and run nothing. A tool that is not there makes a test say
//! so and pass; with CI set it fails. `.ci/tools` installs them. Read [`validate_wgsl`], [`tint`] and [`Nvcc::compile`].

#![allow(dead_code)] // each test takes what it needs

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

/// What a text is called, and the text.
pub type Text<'a> = (&'a str, &'a str);

/// The GPUs that CUDA texts are compiled for: Ampere, Hopper with its own instructions, Blackwell.
pub const ARCHITECTURES: [&str; 3] = ["80", "90a", "100"];

/// naga's opinion of a text, which wgpu shares.
pub fn validate_wgsl(text: &str) -> Result<(), String> {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    validator.validate(&module).map(|_| ()).map_err(|e| e.emit_to_string(text))
}

/// Tint's opinion of texts, as modules and as pipelines under WebGPU's default limits; warnings count. None where it is not installed.
pub fn tint(texts: &[Text]) -> Option<Result<(), String>> {
    let dawn = tool("PUSHFORWARD_DAWN", "target/tools/dawn/node_modules/webgpu", "Dawn for node")?;
    let folder = written(texts, "wgsl");
    let script = root().join("backends/gpu/checks/tint.mjs");
    let names: Vec<String> = texts.iter().map(|(name, _)| format!("{name}.wgsl")).collect();
    let mut node = Command::new("node");
    node.arg(script).args(names).current_dir(folder.path()).env("PUSHFORWARD_DAWN", dawn);
    let output = node.output().expect("node runs where Dawn for node is installed");
    Some(if output.status.success() { Ok(()) } else { Err(said(&output)) })
}

/// A compiler of CUDA C++.
pub struct Nvcc {
    path: PathBuf,
}

/// What became of a kernel for one kind of GPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiled {
    pub kernel: String,
    /// `80`, `90a`.
    pub architecture: String,
    pub registers: u32,
    /// Bytes that a thread stores to memory, and loads from there, for want of registers.
    pub spills: u32,
}

impl Nvcc {
    /// None where it is not installed.
    pub fn find() -> Option<Nvcc> {
        tool("PUSHFORWARD_NVCC", "target/tools/cuda/nvidia/cu13/bin/nvcc", "nvcc").map(|path| Nvcc { path })
    }

    /// Compiles each kernel's text by itself for all [`ARCHITECTURES`], warnings being errors; what they include is in `headers`, by file name.
    /// Equal texts are compiled once. In the order of the texts, or what is wrong with each.
    pub fn compile(&self, headers: &[Text], kernels: &[Text]) -> Result<Vec<Compiled>, String> {
        let mut once: BTreeMap<&str, &str> = BTreeMap::new();
        let distinct: Vec<Text> = kernels.iter().filter(|(name, text)| once.insert(text, name).is_none()).copied().collect();
        let done = self.all(headers, &distinct, &["-fatbin", "-Xptxas", "-v"])?;
        let compiled: Vec<Compiled> = done.iter().flat_map(|log| compiled(log)).collect();
        let expected = distinct.len() * ARCHITECTURES.len();
        assert!(compiled.len() >= expected, "{} reports of {expected} in what nvcc says: {done:?}", compiled.len());
        Ok(compiled)
    }

    /// Compiles texts of the host's side, with the kernels that they include.
    pub fn compile_host(&self, headers: &[Text], texts: &[Text]) -> Result<(), String> {
        self.all(headers, texts, &["-c"]).map(|_| ())
    }

    /// What it says of each text. Two run at once.
    fn all(&self, headers: &[Text], texts: &[Text], options: &[&str]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a folder for texts");
        for (name, text) in headers {
            std::fs::write(folder.path().join(name), text).expect("a header is written");
        }
        let next = Mutex::new(texts.iter().enumerate());
        let said: Mutex<BTreeMap<usize, Result<String, String>>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let Some((at, (name, text))) = next.lock().expect("no worker panics with it").next() else { break };
                        let result = self.one(folder.path(), at, text, options).map_err(|e| format!("{name}.cu:\n{e}"));
                        said.lock().expect("no worker panics with it").insert(at, result);
                    }
                });
            }
        });
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for result in said.into_inner().expect("no worker panics with it").into_values() {
            match result {
                Ok(log) => good.push(log),
                Err(log) => bad.push(log),
            }
        }
        if bad.is_empty() { Ok(good) } else { Err(bad.join("\n")) }
    }

    fn one(&self, folder: &Path, number: usize, text: &str, options: &[&str]) -> Result<String, String> {
        // Numbered, since plans may use a name twice.
        let file = folder.join(format!("{number}.cu"));
        std::fs::write(&file, text).expect("a text is written");
        let mut nvcc = Command::new(&self.path);
        nvcc.args(["-std=c++17", "-Werror", "all-warnings"]).args(options).arg("-I").arg(folder).arg(&file);
        nvcc.arg("-o").arg(file.with_extension("out")).current_dir(folder);
        for a in ARCHITECTURES {
            nvcc.arg("-gencode").arg(format!("arch=compute_{a},code=sm_{a}"));
        }
        let output = nvcc.output().unwrap_or_else(|e| panic!("{}: {e}", self.path.display()));
        if output.status.success() { Ok(said(&output)) } else { Err(said(&output)) }
    }
}

/// What ptxas says of kernels: `Compiling entry function 'k' for 'sm_80'`, `0 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads`,
/// `Used 10 registers, ..`.
fn compiled(log: &str) -> Vec<Compiled> {
    let mut all: Vec<Compiled> = Vec::new();
    for line in log.lines() {
        if let Some(entry) = line.split("Compiling entry function '").nth(1) {
            let mut quoted = entry.split('\'');
            let (kernel, target) = (quoted.next().unwrap_or_default(), quoted.nth(1).unwrap_or_default());
            let architecture = target.trim_start_matches("sm_").to_string();
            all.push(Compiled { kernel: kernel.to_string(), architecture, registers: 0, spills: 0 });
        } else if let Some(last) = all.last_mut() {
            last.spills += number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads");
            last.registers += number_before(line, " registers");
        }
    }
    all
}

fn number_before(line: &str, words: &str) -> u32 {
    let before = line.split_once(words).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Where a tool is: what the variable says, or the place where `.ci/tools` puts it.
pub fn tool(variable: &str, place: &str, name: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map_or_else(|| root().join(place), PathBuf::from);
    if found.exists() {
        return Some(found);
    }
    skipped(&format!("{name} is not at {}; hint: .ci/tools installs it", found.display()));
    None
}

/// Says that a test cannot do its work here; in CI that is a failure.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI no test may skip: {why}");
    eprintln!("skipped: {why}");
}

fn written(texts: &[Text], extension: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder for texts");
    for (name, text) in texts {
        std::fs::write(folder.path().join(format!("{name}.{extension}")), text).expect("a text is written");
    }
    folder
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The repository's folder, from the tests of this crate and of the root's.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().find(|p| p.join("Cargo.lock").exists()).expect("tests run in the repository")
}
