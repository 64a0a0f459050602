//! `list`: what there is to name on the command line. Every row comes from the table that the compiler itself uses. Read [`run`].

use pushforward::Algorithm;
use pushforward_models::{MODELS, PRESETS};
use pushforward_passes::table::PASSES;

use super::failure::Failure;
use super::out::{self, thousands};

#[derive(clap::Args)]
pub struct Args {
    /// Only this list
    #[arg(value_enum)]
    what: Option<What>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    Models,
    Presets,
    Algorithms,
    Passes,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let all = [What::Models, What::Presets, What::Algorithms, What::Passes];
    let text: Vec<String> = all.into_iter().filter(|w| args.what.is_none_or(|only| only == *w)).map(list).collect();
    out::print(&text.join("\n"))
}

fn list(what: What) -> String {
    let row = |cells: &[&str]| cells.iter().map(|c| c.to_string()).collect::<Vec<_>>();
    let (title, rows, right): (_, Vec<Vec<String>>, &[bool]) = match what {
        What::Models => ("models", MODELS.iter().map(|m| row(&[m.name, m.about])).collect(), &[]),
        What::Presets => {
            let head = row(&["name", "model", "parameters", "images", "classes", "sizes"]);
            let rows = PRESETS.iter().map(|p| {
                let [height, width, channels] = p.image();
                let sets: Vec<String> = p.sets[3..7].iter().map(|(n, v)| format!("{n}={v}")).collect();
                let image = format!("{height}x{width}x{channels}");
                row(&[p.name, p.model, &thousands(p.parameters as u64), &image, &p.classes().to_string(), &sets.join(" ")])
            });
            ("presets", [head].into_iter().chain(rows).collect(), &[false, false, true, true, true])
        }
        What::Algorithms => {
            let rows = Algorithm::every().map(|a| row(&[a.name(), a.about(), &format!("passes: {}", a.passes().join(", "))]));
            ("algorithms", rows.collect(), &[])
        }
        What::Passes => {
            let inline = row(&["inline", "module to program: bind sizes, expand calls and repetitions; always first"]);
            ("passes", [inline].into_iter().chain(PASSES.iter().map(|p| row(&[p.name, p.about]))).collect(), &[])
        }
    };
    let body = out::table(&rows, right);
    let indented: Vec<String> = body.lines().map(|line| format!("  {line}")).collect();
    format!("{title}\n{}\n", indented.join("\n"))
}
