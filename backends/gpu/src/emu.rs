//! `cuda-emu`: a [`Driver`] that compiles the emitted CUDA C++ with g++ and runs it on the CPU, in a process of its own: every thread of a block is a
//! fiber (`emu/cuda_emu.h`). It shows numbers, races and accesses out of bounds; it says nothing about speed. It spells no kernel. Texts, objects
//! and libraries lie in a private temporary folder that goes with the [`Emulator`]. Read [`Emulator::new`], then [`Emulator::load_sources`].
//!
//! Under the sanitizer, each temporary of a plan has memory of its own for a run, of just its size and undefined at first, and so are outputs: what
//! reads behind a temporary's end, or what nobody wrote, shows though plans let temporaries share memory.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pushforward_plan::device::kernel::{DeviceKernel, DevicePlan, DeviceRole, element_bytes};
use tempfile::TempDir;

use crate::driver::{DeviceError, Driver, Loaded, Memory};
use crate::source::{Language, Source};
use crate::{emit, launch, prelude};

const HEADER: &str = include_str!("../emu/cuda_emu.h");
const RUN_HEADER: &str = include_str!("../emu/cuda_emu_run.h");
const RUNTIME: &str = include_str!("../emu/cuda_emu.cpp");
const HOST: &str = include_str!("../emu/cuda_emu_host.cpp");

const COMPILER: &str = "g++";
/// Bytes of shared memory that a block may have. The host sees it at a launch, and other compilers of CUDA C++ before.
const MAX_SHARED: usize = 48 << 10;
/// For kernels. As written: no contraction, so that numbers do not depend on the machine. What the machine has is used, for the sake of `fma`.
const KERNELS: &[&str] =
    &["-std=c++17", "-fPIC", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-DCUDA_EMU", "-include", "../cuda_emu.h"];
const FAST: &[&str] = &["-O2"];
const SANITIZED: &[&str] = &["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address", "-fsanitize-sections=pf_shared_*"];
/// For the host, which helps the sanitizer and is not watched by it.
const HOST_FLAGS: &[&str] = &["-std=c++17", "-O1"];
/// Leaks are no matter of kernels, and each copy of a library has the same names.
const SANITIZER: &str = "detect_leaks=0:detect_odr_violation=0:allocator_may_return_null=1";
/// The file of the code that launches.
const LAUNCH: &str = "launch";
/// Files that g++ takes at a time: it starts in as long as a small kernel takes, but several run side by side.
const TOGETHER: usize = 8;
/// Of what a compiler or a sanitizer says, as much as tells what is wrong.
const LINES: usize = 12;

/// How kernels are run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Options {
    /// With AddressSanitizer: what reads or writes outside of a buffer or of shared memory ends the run with its line. Some ten times slower.
    pub sanitize: bool,
    /// The last thread of a block runs first, and the last block.
    pub reversed: bool,
    /// Threads of the machine over which blocks are spread; 0 for as many as it has cores.
    pub threads: usize,
}

impl Options {
    /// What CUDA_EMU_SANITIZE, CUDA_EMU_REVERSED (`1`) and CUDA_EMU_THREADS (a number) ask for.
    pub fn from_environment() -> Options {
        let value = |name: &str| std::env::var(name).unwrap_or_default();
        Options {
            sanitize: value("CUDA_EMU_SANITIZE") == "1",
            reversed: value("CUDA_EMU_REVERSED") == "1",
            threads: value("CUDA_EMU_THREADS").parse().unwrap_or(0),
        }
    }
}

/// What one of the host's operations is called. `emu/cuda_emu_host.cpp` has their fields.
#[derive(Clone, Copy)]
enum Operation {
    Allocate = 1,
    Free = 2,
    Write = 3,
    Read = 4,
    Load = 5,
    Run = 6,
    Undefine = 7,
    Copy = 8,
}

/// A process that runs emitted CUDA C++.
pub struct Emulator {
    options: Options,
    host: Host,
    /// Folders that there ever were.
    folders: usize,
    plans: Vec<Prepared>,
    /// Once it is lost, this is the answer to everything.
    lost: Option<DeviceError>,
    folder: TempDir,
}

/// A loaded plan.
struct Prepared {
    library: Library,
    name: String,
    /// Outputs that are undefined before a run, and their bytes.
    outputs: Vec<(usize, usize)>,
    /// Temporaries with memory of their own, in the order in which they are last used.
    temporaries: Vec<Temporary>,
}

#[derive(Clone, Copy)]
struct Temporary {
    buffer: usize,
    memory: Memory,
    bytes: usize,
}

/// The process and both ends of the talk with it.
struct Host {
    process: Child,
    requests: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Drop for Host {
    fn drop(&mut self) {
        // It keeps nothing: there is nothing to wait for, and if it is gone already, so much the better.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An answer that is not the one asked for.
enum Refusal {
    /// In the host's words; it goes on.
    Said(String),
    /// The process is gone.
    Gone,
}

/// A library of kernels in the host's hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Library(usize);

impl Emulator {
    /// Compiles and starts the host.
    pub fn new(options: Options) -> Result<Emulator, DeviceError> {
        find_compiler()?;
        let folder = tempfile::Builder::new()
            .prefix("cuda-emu-")
            .tempdir()
            .map_err(|e| absent(format!("no temporary folder: {e}"), "set TMPDIR"))?;
        compile_host(folder.path(), options)?;
        let host = run_host(folder.path(), options)?;
        Ok(Emulator { options, host, folders: 0, plans: Vec::new(), lost: None, folder })
    }

    /// A new process, with nothing in it: what was loaded or allocated before is gone. So others can go on after one has lost the device.
    pub fn restart(&mut self) -> Result<(), DeviceError> {
        self.host = run_host(self.folder.path(), self.options)?;
        self.plans.clear();
        self.lost = None;
        Ok(())
    }

    /// Compiles kernels, each in a file `<name>.cu`, with the code that launches them (it has `pf_run`) and what they include as `pushforward.cuh`.
    pub fn load_sources(&mut self, sources: &[Source], launch: &str, prelude: &str) -> Result<Library, DeviceError> {
        self.alive()?;
        let folder = self.folder.path().join(format!("plan{}", self.folders));
        self.folders += 1;
        let broken = |e: std::io::Error| absent(format!("cannot write to {}: {e}", folder.display()), "make room there, or set TMPDIR");
        fs::create_dir(&folder).map_err(broken)?;
        fs::write(folder.join("pushforward.cuh"), prelude).map_err(broken)?;
        let launch = Source { name: LAUNCH.into(), text: launch.into() };
        let files: Vec<&Source> = sources.iter().chain([&launch]).collect();
        for file in &files {
            fs::write(folder.join(format!("{}.cu", file.name)), &file.text).map_err(broken)?;
        }
        let units: Vec<(usize, &[&Source])> = files.chunks(TOGETHER).enumerate().collect();
        let refused = |why: String| {
            // Messages begin with the file that they are about.
            let named = files.iter().find(|file| why.contains(&format!("{}.cu:", file.name)));
            DeviceError::Compile { device: self.about(), kernel: named.map_or(LAUNCH, |file| &file.name).into(), why }
        };
        side_by_side(&units, |(number, files)| {
            let include = |file: &&Source| format!("#define CUDA_EMU_UNIT \"{0}\"\n#include \"{0}.cu\"\n#undef CUDA_EMU_UNIT\n", file.name);
            fs::write(folder.join(format!("unit{number}.cpp")), files.iter().map(include).collect::<String>()).map_err(broken)?;
            let mut command = compiler(&folder);
            command.args(KERNELS).args(if self.options.sanitize { SANITIZED } else { FAST });
            // Messages name files as the plan does.
            command.arg(format!("-ffile-prefix-map={}=.", folder.display()));
            command.args(["-c", &format!("unit{number}.cpp"), "-o", &format!("unit{number}.o")]);
            succeed(&mut command).map_err(refused)
        })?;
        let library = folder.join("plan.so");
        let mut link = linker(&folder, self.options);
        // A kernel's name is its own, whatever else the process has.
        link.args(["-shared", "-Wl,-Bsymbolic", "-o", "plan.so"]).args(units.iter().map(|(number, _)| format!("unit{number}.o")));
        succeed(&mut link).map_err(refused)?;
        let asked = self.ask(Operation::Load, |to| text(to, path_bytes(&library)));
        if !self.options.sanitize {
            // What is loaded stays loaded. A sanitizer looks for lines in the files; else they are in the way of the next thousand plans.
            let _ = fs::remove_dir_all(&folder);
        }
        match asked {
            Ok(answer) => Ok(Library(answered_number(&answer))),
            Err(Refusal::Said(why)) => Err(DeviceError::Compile { device: self.about(), kernel: LAUNCH.into(), why }),
            Err(Refusal::Gone) => Err(self.lose("a library's start", None)),
        }
    }

    /// Calls the library's `pf_run` for `entry`.
    pub fn run_entry(&mut self, library: Library, entry: &str, buffers: &[Memory], scalars: &[u8]) -> Result<(), DeviceError> {
        self.alive()?;
        let asked = self.ask(Operation::Run, |to| {
            number(to, library.0)?;
            text(to, entry.as_bytes())?;
            number(to, buffers.len())?;
            buffers.iter().try_for_each(|memory| number(to, memory.0))?;
            text(to, scalars)
        });
        match asked {
            Ok(_) => Ok(()),
            Err(Refusal::Said(why)) => Err(self.lose(entry, Some(why))),
            Err(Refusal::Gone) => Err(self.lose(entry, None)),
        }
    }

    /// Makes the first bytes of a memory 0xff, NaN in every float, so that whoever reads what nobody wrote shows it.
    pub fn undefine(&mut self, memory: Memory, bytes: usize) -> Result<(), DeviceError> {
        self.ask_numbers(Operation::Undefine, &[memory.0, bytes])
    }

    fn ask_numbers(&mut self, operation: Operation, fields: &[usize]) -> Result<(), DeviceError> {
        self.simply(operation, |to| fields.iter().try_for_each(|&field| number(to, field))).map(drop)
    }

    fn alive(&self) -> Result<(), DeviceError> {
        self.lost.clone().map_or(Ok(()), Err)
    }

    /// An operation that fails only with the device.
    fn simply(
        &mut self,
        operation: Operation,
        fields: impl Fn(&mut BufWriter<ChildStdin>) -> std::io::Result<()>,
    ) -> Result<Vec<u8>, DeviceError> {
        self.alive()?;
        match self.ask(operation, fields) {
            Ok(answer) => Ok(answer),
            Err(Refusal::Said(why)) => Err(self.lose("a copy", Some(why))),
            Err(Refusal::Gone) => Err(self.lose("a copy", None)),
        }
    }

    fn ask(
        &mut self,
        operation: Operation,
        fields: impl Fn(&mut BufWriter<ChildStdin>) -> std::io::Result<()>,
    ) -> Result<Vec<u8>, Refusal> {
        let Host { requests, answers, .. } = &mut self.host;
        let mut talk = || {
            number(requests, operation as usize)?;
            fields(requests)?;
            requests.flush()?;
            let mut head = [[0; 8]; 2];
            answers.read_exact(head.as_flattened_mut())?;
            let [state, length] = head.map(u64::from_ne_bytes);
            let mut answer = vec![0; length as usize];
            answers.read_exact(&mut answer)?;
            Ok::<_, std::io::Error>((state, answer))
        };
        match talk() {
            Ok((0, answer)) => Ok(answer),
            Ok((_, why)) => Err(Refusal::Said(String::from_utf8_lossy(&why).into_owned())),
            Err(_) => Err(Refusal::Gone),
        }
    }

    /// From here on the device is lost. Without a reason, its last words are it.
    fn lose(&mut self, what: &str, why: Option<String>) -> DeviceError {
        let why = why.unwrap_or_else(|| {
            let status = self.host.process.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
            let said = fs::read(self.folder.path().join(SAID)).unwrap_or_default();
            let said = first_lines(&said);
            if said.is_empty() { format!("its process ended, {status}") } else { said }
        });
        let lost = DeviceError::Lost { device: self.about(), what: what.into(), why };
        self.lost = Some(lost.clone());
        lost
    }
}

impl Driver for Emulator {
    fn about(&self) -> String {
        let sanitized = if self.options.sanitize { ", AddressSanitizer" } else { "" };
        let reversed = if self.options.reversed { ", last thread first" } else { "" };
        format!("cuda-emu ({COMPILER}{sanitized}{reversed})")
    }

    fn allocate(&mut self, name: &str, bytes: usize) -> Result<Memory, DeviceError> {
        self.alive()?;
        let asked = self.ask(Operation::Allocate, |to| {
            text(to, name.as_bytes())?;
            number(to, bytes)
        });
        match asked {
            Ok(answer) => Ok(Memory(answered_number(&answer))),
            Err(Refusal::Said(why)) => Err(DeviceError::Memory { device: self.about(), name: name.into(), bytes, why }),
            Err(Refusal::Gone) => Err(self.lose(name, None)),
        }
    }

    fn free(&mut self, memory: Memory) {
        // Of a lost device, nothing is left to free.
        let _ = self.ask_numbers(Operation::Free, &[memory.0]);
    }

    fn write(&mut self, memory: Memory, bytes: &[u8]) -> Result<(), DeviceError> {
        let write = |to: &mut BufWriter<ChildStdin>| {
            number(to, memory.0)?;
            text(to, bytes)
        };
        self.simply(Operation::Write, write).map(drop)
    }

    fn read(&mut self, memory: Memory, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let read = |to: &mut BufWriter<ChildStdin>| {
            number(to, memory.0)?;
            number(to, bytes.len())
        };
        let answer = self.simply(Operation::Read, read)?;
        bytes.copy_from_slice(&answer);
        Ok(())
    }

    fn load(&mut self, plan: &DevicePlan) -> Result<Loaded, DeviceError> {
        self.alive()?;
        let refused = |kernel: &str, why| DeviceError::Compile { device: self.about(), kernel: kernel.into(), why };
        if let Some((kernel, bytes)) = plan.kernels.iter().map(|k| (k, shared_bytes(k))).find(|(_, bytes)| *bytes > MAX_SHARED) {
            return Err(refused(&kernel.name, format!("{bytes} bytes of shared memory; a device takes {MAX_SHARED}")));
        }
        let sources = emit::kernels(plan, Language::Cuda).map_err(|lacking| refused(&lacking.kernel, lacking.to_string()))?;
        let library = self.load_sources(&sources, &launch::source(&plan.name, &[(&plan.name, plan)]), prelude())?;
        let mut prepared = Prepared { library, name: plan.name.clone(), outputs: Vec::new(), temporaries: Vec::new() };
        if self.options.sanitize {
            let mut by_end: Vec<usize> = (0..plan.buffers.len()).collect();
            by_end.sort_by_key(|&buffer| plan.buffers[buffer].live.1);
            for number in by_end {
                let buffer = &plan.buffers[number];
                let bytes = buffer.bytes();
                match buffer.role {
                    DeviceRole::Slot(_) => {
                        let memory = self.allocate(&buffer.name, bytes)?;
                        prepared.temporaries.push(Temporary { buffer: number, memory, bytes });
                    }
                    DeviceRole::Output(_) => prepared.outputs.push((number, bytes)),
                    DeviceRole::Input(_) | DeviceRole::State(_) => {}
                }
            }
        }
        self.plans.push(prepared);
        Ok(Loaded(self.plans.len() - 1))
    }

    fn run(&mut self, plan: Loaded, buffers: &[Memory], scalars: &[u8]) -> Result<(), DeviceError> {
        self.alive()?;
        let Prepared { library, name, outputs, temporaries } = &self.plans[plan.0];
        let (library, name, temporaries) = (*library, name.clone(), temporaries.clone());
        let mut used = buffers.to_vec();
        temporaries.iter().for_each(|own| used[own.buffer] = own.memory);
        let outputs = outputs.iter().map(|&(buffer, bytes)| (buffers[buffer], bytes));
        let undefined: Vec<(Memory, usize)> = outputs.chain(temporaries.iter().map(|own| (own.memory, own.bytes))).collect();
        undefined.into_iter().try_for_each(|(memory, bytes)| self.undefine(memory, bytes))?;
        self.run_entry(library, &name, &used, scalars)?;
        // Whoever looks into a temporary after a run finds what a device would have left there.
        temporaries.iter().try_for_each(|own| self.ask_numbers(Operation::Copy, &[own.memory.0, buffers[own.buffer].0, own.bytes]))
    }
}

fn shared_bytes(kernel: &DeviceKernel) -> usize {
    kernel.shared.iter().map(|shared| shared.len * element_bytes(shared.dtype)).sum()
}

/// What the host says on its standard error.
const SAID: &str = "said.txt";

fn absent(why: String, hint: &str) -> DeviceError {
    DeviceError::Absent { what: "cuda-emu", why, hint: hint.into() }
}

fn find_compiler() -> Result<(), DeviceError> {
    let hint = "install GCC's C++ compiler (the package g++) so that `g++` is found";
    if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return Err(absent("it runs on Linux alone, on x86-64 and aarch64".into(), "use another back end"));
    }
    match Command::new(COMPILER).args(["-dumpfullversion", "-dumpversion"]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(absent(format!("`{COMPILER}` fails: {}", first_lines(&output.stderr)), hint)),
        Err(error) => Err(absent(format!("`{COMPILER}` cannot be run: {error}"), hint)),
    }
}

/// g++ in a folder.
fn compiler(folder: &Path) -> Command {
    let mut command = Command::new(COMPILER);
    // Its messages are read by people and tests.
    command.current_dir(folder).env("LC_ALL", "C");
    command
}

fn linker(folder: &Path, options: Options) -> Command {
    let mut command = compiler(folder);
    command.args(options.sanitize.then_some("-fsanitize=address"));
    command
}

fn broken(error: std::io::Error) -> DeviceError {
    absent(format!("its host does not start: {error}"), "make room in the temporary folder, or set TMPDIR to one whose files may be run")
}

fn compile_host(folder: &Path, options: Options) -> Result<(), DeviceError> {
    for (name, text) in [("cuda_emu.h", HEADER), ("cuda_emu_run.h", RUN_HEADER), ("cuda_emu.cpp", RUNTIME), ("cuda_emu_host.cpp", HOST)] {
        fs::write(folder.join(name), text).map_err(broken)?;
    }
    let refused = |why| absent(format!("its host does not compile: {why}"), "see whether g++ is GCC 10 or newer and has its libraries");
    side_by_side(&["cuda_emu", "cuda_emu_host"], |unit| {
        let mut command = compiler(folder);
        command.args(HOST_FLAGS).args(options.sanitize.then_some("-DCUDA_EMU_SANITIZED"));
        succeed(command.args(["-c", &format!("{unit}.cpp"), "-o", &format!("{unit}.o")])).map_err(refused)
    })?;
    let link = ["cuda_emu.o", "cuda_emu_host.o", "-o", "host", "-rdynamic", "-pthread", "-ldl"];
    succeed(linker(folder, options).args(link)).map_err(refused)
}

fn run_host(folder: &Path, options: Options) -> Result<Host, DeviceError> {
    let said = File::create(folder.join(SAID)).map_err(broken)?;
    let mut command = Command::new(folder.join("host"));
    // Ctrl-C is for the command that runs steps: it ends the device when it has saved what is there.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut process = command
        .env("CUDA_EMU_THREADS", options.threads.to_string())
        .env("CUDA_EMU_REVERSED", if options.reversed { "1" } else { "0" })
        .env("ASAN_OPTIONS", SANITIZER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(said)
        .spawn()
        .map_err(broken)?;
    let requests = BufWriter::new(process.stdin.take().expect("it was piped"));
    let answers = BufReader::new(process.stdout.take().expect("it was piped"));
    Ok(Host { process, requests, answers })
}

/// Runs a command to its end, or says what it said.
fn succeed(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(first_lines(&output.stderr)),
        Err(error) => Err(error.to_string()),
    }
}

/// Does all, as many at a time as the machine has cores. The error is that of the first item that has one.
fn side_by_side<T: Sync>(items: &[T], act: impl Fn(&T) -> Result<(), DeviceError> + Sync) -> Result<(), DeviceError> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<(usize, DeviceError)>> = Mutex::new(None);
    let work = || {
        while let Some((i, item)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?))) {
            if let Err(error) = act(item) {
                let mut failed = failed.lock().expect("nobody panics with it");
                if failed.as_ref().is_none_or(|(first, _)| i < *first) {
                    *failed = Some((i, error));
                }
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    std::thread::scope(|scope| (0..cores.min(items.len())).for_each(|_| drop(scope.spawn(work))));
    failed.into_inner().expect("nobody panics with it").map_or(Ok(()), |(_, error)| Err(error))
}

fn first_lines(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().filter(|line| line.chars().any(char::is_alphanumeric)).take(LINES).collect();
    lines.join("\n")
}

fn number(to: &mut impl Write, number: usize) -> std::io::Result<()> {
    to.write_all(&(number as u64).to_ne_bytes())
}

fn text(to: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    number(to, bytes.len())?;
    to.write_all(bytes)
}

fn answered_number(answer: &[u8]) -> usize {
    u64::from_ne_bytes(answer.try_into().expect("the host answers with a number")) as usize
}

fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}
