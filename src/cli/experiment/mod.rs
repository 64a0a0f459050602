//! `experiment`: tables and figures as files, each measured here and now. One file for each. Read [`Args`] for what there is.

mod ablation;
mod fig5;
mod fig8;
mod table3;

use std::path::{Path, PathBuf};

use super::failure::{Failure, note};
use super::flags;
use crate::run::write_folder;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    which: Which,
}

#[derive(clap::Subcommand)]
enum Which {
    /// Memory and time of the replicated loss, simplified and written out, against the number of groups, beside the reference's
    Fig5(fig5::Args),
    /// Variance of the forward-gradient estimators against batch and sizes of a layer, over the lines that theory has for them
    Fig8(fig8::Args),
    /// Errors of every algorithm that fits a data set: mean and deviation over seeds, beside those of the reference; goes on where it was stopped
    Table3(table3::Args),
    /// What simplify, pruning, shared masks and each family of rules are worth, for each preset
    Ablation(ablation::Args),
}

/// Of experiments that take time.
#[derive(clap::Args)]
struct Rounds {
    /// Rounds to time [default: as many as fit into some seconds, at least 3]
    #[arg(long, value_name = "N", value_parser = rounds)]
    steps: Option<usize>,
}

/// Flags that experiments share.
#[derive(clap::Args)]
struct Common {
    /// [default: as many as the machine runs at once]
    #[arg(long, value_name = "T", default_value = "0", hide_default_value = true, value_parser = flags::threads)]
    threads: usize,
    /// Replace what an earlier run of the experiment wrote there
    #[arg(long)]
    force: bool,
    /// The folder to write [default: runs/<experiment>]
    #[arg(short = 'o', long = "output", value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    match args.which {
        Which::Fig5(args) => fig5::run(args),
        Which::Fig8(args) => fig8::run(args),
        Which::Table3(args) => table3::run(args),
        Which::Ablation(args) => ablation::run(args),
    }
}

impl Common {
    /// Writes the files of an experiment, which may be called whatever starts with its name.
    fn write(&self, name: &'static str, files: &[(&str, String)]) -> Result<(), Failure> {
        let path = self.output.clone().unwrap_or_else(|| Path::new("runs").join(name));
        let files: Vec<(PathBuf, Vec<u8>)> =
            files.iter().map(|(end, text)| (format!("{name}.{end}").into(), text.clone().into_bytes())).collect();
        write_folder(&path, &files, self.force, ours)?;
        let written: Vec<String> = files.iter().map(|(file, _)| file.display().to_string()).collect();
        note(format_args!("{} in `{}`", written.join(", "), path.display()));
        Ok(())
    }
}

/// What an experiment may have written.
fn ours(file: &Path) -> bool {
    ["fig5", "fig8", "ablation"].iter().any(|name| ["csv", "svg", "md"].iter().any(|end| file == Path::new(&format!("{name}.{end}"))))
}

/// Rows under a head, as CSV.
fn csv(head: &[&str], rows: &[Vec<String>]) -> Result<String, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(head).map_err(Failure::wrong)?;
    rows.iter().try_for_each(|row| writer.write_record(row)).map_err(Failure::wrong)?;
    let bytes = writer.into_inner().map_err(Failure::wrong)?;
    String::from_utf8(bytes).map_err(Failure::wrong)
}

/// What is not known is an empty cell.
fn cell(figure: Option<impl ToString>) -> String {
    figure.map_or(String::new(), |f| f.to_string())
}

fn rounds(text: &str) -> Result<usize, String> {
    flags::count(text, 1, "at least one round is needed for a time")
}
