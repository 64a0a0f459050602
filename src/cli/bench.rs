//! `bench`: times a training step on made-up data, and sets it beside what the machine can do. Read [`run`].

use std::time::{Duration, Instant};

use pushforward::{Algorithm, Engine, Error, Pool, Report, Settings, Step};
use pushforward_cpu::peak;
use serde_json::json;

use super::failure::{Failure, note};
use super::flags::{self, Chosen, ModelFlags, StepFlags};
use super::loss;
use super::measure::{Resident, Runner, WARM_UP, alternate, median};
use super::out::{self, bytes};
use super::train::DEFAULT_PRESET;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    step: StepFlags,
    /// Steps to time [default: as many as fit into 3 seconds, from 5 to 200]
    #[arg(long, value_name = "N", value_parser = steps)]
    steps: Option<usize>,
    /// [default: as many as the machine runs at once]
    #[arg(long, value_name = "T", default_value = "0", hide_default_value = true, value_parser = flags::threads)]
    threads: usize,
    /// What runs the steps
    #[arg(long, value_name = "NAME", default_value = "cpu", value_parser = flags::training_backend)]
    backend: String,
    /// Time the model's local losses alone, with their derivatives, simplified and as they are written out [MODEL: cross_entropy]
    #[arg(long, conflicts_with_all = ["no_simplify", "algorithm", "directions", "no_prune"])]
    loss: bool,
    /// With --loss: the model's size `groups`, one after the other [default: as the model says]
    #[arg(long, value_name = "G,G", value_delimiter = ',', requires = "loss", value_parser = groups)]
    groups: Vec<usize>,
    /// A step of every algorithm, each in turns with one of lg-fg-a (fg-a where the model marks no local loss)
    #[arg(long, conflicts_with_all = ["loss", "algorithm", "own", "ng", "noise_per_example"])]
    all: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

const PATIENCE: Duration = Duration::from_secs(3);

pub fn run(args: Args) -> Result<(), Failure> {
    if args.loss {
        let request = loss::Request { groups: &args.groups, rounds: args.steps, threads: args.threads, json: args.json };
        return loss::run(&args.model, &args.step, &request);
    }
    let chosen = args.model.choose(Some(DEFAULT_PRESET))?;
    let settings = args.step.settings(&chosen, chosen.default_batch())?;
    let engine = flags::engine(&args.backend, args.threads)?;
    if args.all {
        return all(&args, &chosen, &settings, &engine);
    }
    let pool = Pool::new(args.threads)?;
    // What this processor can do says nothing of a device.
    let on_cpu = args.backend == "cpu";
    // Measured before and after: the better one is nearer to what the machine can do.
    let before = on_cpu.then(|| peak::gemm_gflops(&pool, 20)).transpose()?;
    let measured = measure(&chosen, &settings, &engine, args.steps)?;
    let gemm_peak = before.map(|before| Ok::<_, Failure>(before.max(peak::gemm_gflops(&pool, 20)?))).transpose()?;
    let memory = on_cpu.then(|| peak::memory_gbytes(&pool, 10));

    let Measured { compile, ms, report, batch, .. } = measured;
    let gflops = report.contraction_flops as f64 / (ms * 1e6);
    let images_per_s = batch as f64 * 1e3 / ms;
    // What a step could not beat: its products at the measured peak, or its tensors through memory at the measured speed.
    let bytes_moved = report.bytes_read + report.bytes_written;
    let floor_gemm = gemm_peak.map(|peak| report.contraction_flops as f64 / (peak * 1e6));
    let floor_memory = memory.map(|memory| bytes_moved as f64 / (memory * 1e6));
    if args.json {
        let figures = json!({
            "model": chosen.model.name(),
            "preset": chosen.preset.map(|p| p.name),
            "algorithm": settings.passes.algorithm.name(),
            "batch": batch,
            "backend": args.backend,
            "threads": on_cpu.then(|| pool.threads()),
            "ms_median": ms,
            "images_per_s": images_per_s,
            "gflops": gflops,
            "gemm_peak_gflops": gemm_peak,
            "share_of_peak": gemm_peak.map(|peak| gflops / peak),
            "peak_bytes": measured.peak_bytes,
            "planned_bytes": report.peak_bytes,
            "steps": measured.steps,
            "ms_min": measured.ms_min,
            "memory_gbytes_per_s": memory,
            "floor_gemm_ms": floor_gemm,
            "floor_memory_ms": floor_memory,
            "compile_ms": compile.as_secs_f64() * 1e3,
        });
        return out::print(&figures.to_string());
    }
    let algorithm = settings.passes.algorithm.name();
    let peak_bytes = measured.peak_bytes.map_or("not known here".into(), bytes);
    let threads = if on_cpu { format!(" on {} threads", pool.threads()) } else { String::new() };
    let mut rows = vec![
        ("step", format!("{}, {algorithm}, batch {batch}, {}{threads}", chosen.title(), args.backend)),
        ("from text to callable", format!("{:.0} ms", compile.as_secs_f64() * 1e3)),
        ("median of a step", format!("{ms:.2} ms ({} steps, best {:.2} ms)", measured.steps, measured.ms_min)),
        ("images", format!("{images_per_s:.0} a second")),
    ];
    rows.push(match gemm_peak {
        Some(peak) => ("matrix products", format!("{gflops:.1} GFLOP/s, {:.1} % of the {peak:.1} measured here", 100.0 * gflops / peak)),
        None => ("matrix products", format!("{gflops:.1} GFLOP/s")),
    });
    rows.extend(floor_gemm.map(|floor| ("floor of these", format!("{floor:.2} ms"))));
    rows.extend(floor_memory.zip(memory).map(|(floor, memory)| {
        ("all tensors through memory", format!("{floor:.2} ms at the {memory:.1} GB/s measured here; less where caches hold them"))
    }));
    rows.push(("peak memory", format!("{peak_bytes}, planned {}", bytes(report.peak_bytes as u64))));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, figure)| vec![name.into(), figure]).collect();
    out::print(&out::table(&rows, &[]))
}

/// A step of one algorithm beside one of the model's usual algorithm.
struct Beside {
    algorithm: Algorithm,
    rounds: usize,
    ms: f64,
    /// The median over rounds of how much longer it takes, each measured in the same round: what else the machine does falls on both.
    times: f64,
}

fn all(args: &Args, chosen: &Chosen, settings: &Settings, engine: &Engine) -> Result<(), Failure> {
    let runner = |algorithm: Algorithm| {
        let mut settings = settings.clone();
        settings.passes.algorithm = algorithm;
        Step::training(&chosen.model, &settings, engine)
    };
    let usual = chosen.model.usual_algorithm();
    let mut by = Runner::new(runner(usual)?)?;
    let mut measured = Vec::new();
    // Of that one, in all turns.
    let mut own = Vec::new();
    for algorithm in Algorithm::ALL {
        let step = match runner(algorithm) {
            Ok(step) => step,
            Err(reason @ Error::Text(_)) => {
                note(format_args!("{}: not run: {reason}", algorithm.name()));
                continue;
            }
            Err(other) => return Err(other.into()),
        };
        let times = alternate(&mut by, &mut Runner::new(step)?, args.steps, PATIENCE)?;
        own.extend(times.iter().map(|t| t.0));
        let [ms, ratio] = [median(times.iter().map(|t| t.1)), median(times.iter().map(|t| t.1 / t.0))];
        note(format_args!("{}: {ms:.3} ms, {ratio:.3} times {}", algorithm.name(), usual.name()));
        measured.push(Beside { algorithm, rounds: times.len(), ms, times: ratio });
    }
    let program = by.step().program();
    let batch = program.batch.map_or(1, |a| program.axes.size(a));
    if args.json {
        let row = |m: &Beside| json!({ "algorithm": m.algorithm.name(), "ms_median": m.ms, "times": m.times, "rounds": m.rounds });
        let figures = json!({
            "model": chosen.model.name(),
            "preset": chosen.preset.map(|p| p.name),
            "batch": batch,
            "directions": settings.passes.directions,
            "backend": args.backend,
            "measured_by": usual.name(),
            "measured_by_ms_median": median(own),
            "algorithms": measured.iter().map(row).collect::<Vec<_>>(),
        });
        return out::print(&figures.to_string());
    }
    let head = ["algorithm", "ms a step", &format!("times {}", usual.name()), "rounds"].map(String::from).to_vec();
    let rows = measured
        .iter()
        .map(|m| vec![m.algorithm.name().to_string(), format!("{:.3}", m.ms), format!("{:.3}", m.times), m.rounds.to_string()]);
    let rows: Vec<Vec<String>> = [head].into_iter().chain(rows).collect();
    out::print(&format!("{}, batch {batch}, {}, in turns with {}", chosen.title(), args.backend, usual.name()))?;
    out::print(&out::table(&rows, &[false, true, true, true]))
}

struct Measured {
    compile: Duration,
    steps: usize,
    /// Median and best.
    ms: f64,
    ms_min: f64,
    batch: usize,
    report: Report,
    peak_bytes: Option<u64>,
}

fn measure(chosen: &Chosen, settings: &Settings, engine: &Engine, steps: Option<usize>) -> Result<Measured, Failure> {
    let start = Instant::now();
    let step = Step::training(&chosen.model, settings, engine)?;
    let compile = start.elapsed();
    let program = step.program();
    let batch = program.batch.map_or(1, |a| program.axes.size(a));

    let resident = Resident::start();
    let mut runner = Runner::new(step)?;
    let mut times = Vec::new();
    let began = Instant::now();
    for i in 0.. {
        let ms = runner.once()?;
        if i >= WARM_UP {
            times.push(ms);
        }
        let enough = match steps {
            Some(n) => times.len() >= n,
            None => times.len() >= 200 || times.len() >= 5 && began.elapsed() > PATIENCE,
        };
        if enough {
            break;
        }
    }
    let peak_bytes = resident.and_then(Resident::grown);
    for (name, view) in runner.step().outputs().filter(|(_, view)| view.shape().is_empty()) {
        if view.item().is_some_and(|x| !x.is_finite()) {
            note(format_args!("`{name}` is not finite after {} steps on made-up data; times may be off", times.len()));
        }
    }
    let ms_min = times.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(Measured { compile, steps: times.len(), ms: median(times), ms_min, batch, report: runner.report(), peak_bytes })
}

fn groups(text: &str) -> Result<usize, String> {
    flags::count(text, 1, "there is at least one group")
}

fn steps(text: &str) -> Result<usize, String> {
    flags::count(text, 1, "at least one step is needed for a time")
}
