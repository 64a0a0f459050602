//! Metrics: one row per epoch, as CSV, written whole after each epoch. Never appends and never draws. Read [`Metrics::resume`] first.
//!
//! Figures are written as the shortest text that reads back to the same number; a run that diverged has `NaN` and `inf` in its rows.

use std::fs;
use std::io;
use std::path::Path;

use super::{RunError, write_whole};

/// The columns before the named losses.
const FIXED: [&str; 8] = ["epoch", "step", "lr", "train_loss", "train_error", "test_error", "seconds", "images_per_s"];

/// What is known at the end of an epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// From 1; a row of epoch 0 is the untrained network.
    pub epoch: usize,
    /// Steps taken since the start of the run.
    pub step: u64,
    /// The rate of the last step.
    pub lr: f64,
    /// Mean over the images of the epoch.
    pub train_loss: f64,
    /// In percent.
    pub train_error: f64,
    /// In percent.
    pub test_error: f64,
    /// Of this epoch. This and the next differ from run to run.
    pub seconds: f64,
    pub images_per_s: f64,
    /// One for each of [`Metrics::loss_names`].
    pub losses: Vec<f64>,
}

/// The rows of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Names of the further columns, one per local loss, say.
    pub loss_names: Vec<String>,
    /// Epochs increase from row to row.
    pub rows: Vec<Row>,
}

impl Metrics {
    pub fn new(loss_names: Vec<String>) -> Metrics {
        Metrics { loss_names, rows: Vec::new() }
    }

    /// The rows of a run that goes on after `epochs_done`: later ones are dropped, their epochs will be run again. Without a file: no rows.
    pub fn resume(path: &Path, loss_names: Vec<String>, epochs_done: usize) -> Result<Metrics, RunError> {
        if !path.exists() {
            return Ok(Metrics::new(loss_names));
        }
        let mut metrics = Metrics::read(path)?;
        if metrics.loss_names != loss_names {
            let reason = format!("the columns of losses are [{}], this run has [{}]", metrics.loss_names.join(", "), loss_names.join(", "));
            return Err(RunError::Metrics { path: path.into(), line: 1, reason });
        }
        metrics.rows.retain(|row| row.epoch <= epochs_done);
        Ok(metrics)
    }

    /// Adds a row; one of the same epoch, or of a later one, gives way to it.
    pub fn push(&mut self, row: Row) {
        self.rows.retain(|old| old.epoch < row.epoch);
        self.rows.push(row);
    }

    pub fn save(&self, path: &Path) -> Result<(), RunError> {
        let bytes = self.to_csv().map_err(|source| RunError::write(path, source))?;
        write_whole(path, &bytes)
    }

    pub fn read(path: &Path) -> Result<Metrics, RunError> {
        let bytes = fs::read(path).map_err(|source| RunError::read(path, source))?;
        Metrics::from_csv(path, &bytes)
    }

    fn to_csv(&self) -> io::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(FIXED.into_iter().chain(self.loss_names.iter().map(String::as_str)))?;
        for row in &self.rows {
            let fixed = [row.lr, row.train_loss, row.train_error, row.test_error, row.seconds, row.images_per_s];
            let numbers = fixed.iter().chain(&row.losses).map(f64::to_string);
            writer.write_record([row.epoch.to_string(), row.step.to_string()].into_iter().chain(numbers))?;
        }
        writer.into_inner().map_err(|e| e.into_error())
    }

    /// `path` is for messages.
    fn from_csv(path: &Path, bytes: &[u8]) -> Result<Metrics, RunError> {
        let wrong = |line, reason| RunError::Metrics { path: path.into(), line, reason };
        let broken = |e: csv::Error| wrong(e.position().map_or(1, csv::Position::line), reason(&e));

        let mut reader = csv::Reader::from_reader(bytes);
        let header = reader.headers().map_err(broken)?.clone();
        for (at, expected) in FIXED.into_iter().enumerate() {
            let found = header.get(at).map_or("missing".into(), |name| format!("`{name}`"));
            if found != format!("`{expected}`") {
                return Err(wrong(1, format!("column {} is {found}, expected `{expected}`", at + 1)));
            }
        }
        let mut metrics = Metrics::new(header.iter().skip(FIXED.len()).map(String::from).collect());
        for record in reader.records() {
            let record = record.map_err(broken)?;
            let line = record.position().map_or(1, csv::Position::line);
            let row = row(&header, &record).map_err(|reason| wrong(line, reason))?;
            if let Some(last) = metrics.rows.last().filter(|last| last.epoch >= row.epoch) {
                return Err(wrong(line, format!("epoch {} follows epoch {}", row.epoch, last.epoch)));
            }
            metrics.rows.push(row);
        }
        Ok(metrics)
    }
}

/// The reader has compared the record's length with the header's.
fn row(header: &csv::StringRecord, record: &csv::StringRecord) -> Result<Row, String> {
    fn parse<T: std::str::FromStr>(header: &csv::StringRecord, record: &csv::StringRecord, at: usize) -> Result<T, String> {
        let text = record.get(at).unwrap_or("");
        text.parse().map_err(|_| format!("`{text}` in column `{}` is not a number of its kind", header.get(at).unwrap_or("")))
    }
    let number = |at| parse(header, record, at);
    Ok(Row {
        epoch: parse(header, record, 0)?,
        step: parse(header, record, 1)?,
        lr: number(2)?,
        train_loss: number(3)?,
        train_error: number(4)?,
        test_error: number(5)?,
        seconds: number(6)?,
        images_per_s: number(7)?,
        losses: (FIXED.len()..record.len()).map(number).collect::<Result<_, _>>()?,
    })
}

/// The crate's own messages repeat the position.
fn reason(e: &csv::Error) -> String {
    match e.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!("it has {len} fields, the header has {expected_len}"),
        csv::ErrorKind::Utf8 { err, .. } => format!("it is not text: {err}"),
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(epochs: usize) -> Metrics {
        let mut metrics = Metrics::new(vec!["block0".into(), "a \"b\", c".into()]);
        for epoch in 1..=epochs {
            let x = epoch as f64;
            metrics.push(Row {
                epoch,
                step: 79 * epoch as u64,
                lr: 0.01 * (1.0 - x / 11.0),
                train_loss: 1.0 / x,
                train_error: 12.34 / x,
                test_error: 100.0 / 3.0 / x,
                seconds: 1e-7 * x,
                images_per_s: 1e9 / 7.0,
                losses: vec![x.sqrt(), -0.0],
            });
        }
        metrics
    }

    fn read(text: &str) -> Result<Metrics, RunError> {
        Metrics::from_csv(Path::new("run/metrics.csv"), text.as_bytes())
    }

    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let message = read(text).unwrap_err().to_string();
        for part in parts.iter().chain(&["`run/metrics.csv` line ", "; hint: "]) {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    const HEADER: &str = "epoch,step,lr,train_loss,train_error,test_error,seconds,images_per_s\n";

    #[test]
    fn round_trips() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        for epochs in [0, 1, 10] {
            let metrics = sample(epochs);
            metrics.save(&path).unwrap();
            assert_eq!(Metrics::read(&path).unwrap(), metrics);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn reads_as_a_person_would_expect() {
        let metrics = Metrics { loss_names: vec![], rows: vec![Row { epoch: 1, step: 79, lr: 0.01, train_loss: 2.5, ..Row::default() }] };
        assert_eq!(String::from_utf8(metrics.to_csv().unwrap()).unwrap(), format!("{HEADER}1,79,0.01,2.5,0,0,0,0\n"));
    }

    #[test]
    fn keeps_what_diverged() {
        let row = Row { epoch: 1, train_loss: f64::NAN, train_error: f64::INFINITY, test_error: f64::NEG_INFINITY, ..Row::default() };
        let metrics = Metrics { loss_names: vec![], rows: vec![row] };
        let back = Metrics::from_csv(Path::new("m"), &metrics.to_csv().unwrap()).unwrap();
        assert!(back.rows[0].train_loss.is_nan());
        assert_eq!((back.rows[0].train_error, back.rows[0].test_error), (f64::INFINITY, f64::NEG_INFINITY));
    }

    #[test]
    fn resume_drops_what_ran_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.csv");
        let names = sample(0).loss_names;
        assert_eq!(Metrics::resume(&path, names.clone(), 3).unwrap(), sample(0));
        sample(10).save(&path).unwrap();
        let mut resumed = Metrics::resume(&path, names.clone(), 3).unwrap();
        assert_eq!(resumed, sample(3));
        for row in &sample(10).rows[3..] {
            resumed.push(row.clone());
            resumed.save(&path).unwrap();
        }
        assert_eq!(Metrics::resume(&path, names, 10).unwrap(), sample(10));
        let message = Metrics::resume(&path, vec!["block0".into()], 3).unwrap_err().to_string();
        assert!(message.contains("line 1") && message.contains("this run has [block0]"), "{message}");
    }

    #[test]
    fn push_keeps_epochs_in_order() {
        let mut metrics = sample(5);
        metrics.push(Row { epoch: 3, step: 1, ..Row::default() });
        assert_eq!(metrics.rows.iter().map(|row| row.epoch).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(metrics.rows[2].step, 1);
    }

    #[test]
    fn bad_rows_are_named() {
        refused("", &["line 1", "column 1 is missing, expected `epoch`"]);
        refused("epoch,steps\n", &["line 1", "column 2 is `steps`, expected `step`"]);
        refused(&format!("{HEADER}1,79,0.01,2,3,4,5,6\n2,158,0.01,x,3,4,5,6\n"), &["line 3", "`x` in column `train_loss`"]);
        refused(&format!("{HEADER}-1,79,0.01,2,3,4,5,6\n"), &["line 2", "`-1` in column `epoch`"]);
        refused(&format!("{HEADER}1,79,0.01,2,3\n"), &["line 2", "it has 5 fields, the header has 8"]);
        refused(&format!("{HEADER}1,79,0.01,2,3,4,5,6,7\n"), &["line 2", "it has 9 fields"]);
        refused(&format!("{HEADER}2,79,0.01,2,3,4,5,6\n2,79,0.01,2,3,4,5,6\n"), &["line 3", "epoch 2 follows epoch 2"]);
        let bytes = [HEADER.as_bytes(), b"1,79,\xff,2,3,4,5,6\n"].concat();
        let message = Metrics::from_csv(Path::new("m"), &bytes).unwrap_err().to_string();
        assert!(message.contains("`m` line 2: it is not text"), "{message}");
        let message = Metrics::read(Path::new("/nowhere/m.csv")).unwrap_err().to_string();
        assert!(message.contains("cannot read `/nowhere/m.csv`"), "{message}");
    }

    #[test]
    fn no_cut_panics() {
        let bytes = sample(4).to_csv().unwrap();
        for kept in 0..bytes.len() {
            let _ = Metrics::from_csv(Path::new("m"), &bytes[..kept]);
        }
    }
}
