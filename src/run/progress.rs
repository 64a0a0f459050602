//! What a person sees of training: a bar that moves on a terminal, a plain line per epoch elsewhere; all on standard error.
//!
//! Never computes an error or a loss, and never fails: a closed pipe is no reason to stop training. Read [`Progress::new`] first.

use std::io::{self, Write};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Row;

/// Shows one run; call [`Progress::step`] after each step and [`Progress::epoch`] after each epoch.
pub struct Progress {
    epochs: usize,
    /// The epoch that is running, from 1.
    epoch: usize,
    steps_per_epoch: usize,
    step: usize,
    images: usize,
    /// When the epoch began.
    began: Instant,
    sink: Sink,
}

enum Sink {
    Bar(ProgressBar),
    Lines(Box<dyn Write + Send>),
}

impl Progress {
    /// A run of `epochs` epochs of which `epochs_done` are done; call it right before the first step, since it starts the clock.
    /// `is_terminal`: whether standard error is one.
    pub fn new(epochs: usize, steps_per_epoch: usize, epochs_done: usize, is_terminal: bool) -> Progress {
        let sink = match is_terminal {
            true => Sink::Bar(bar(epochs.saturating_mul(steps_per_epoch), epochs_done.saturating_mul(steps_per_epoch))),
            false => Sink::Lines(Box::new(io::stderr())),
        };
        Progress::with(sink, epochs, steps_per_epoch, epochs_done)
    }

    /// After a step on `images` images. `loss` is shown as it is; `error`, in percent, if it is known.
    pub fn step(&mut self, loss: f64, error: Option<f64>, images: usize) {
        self.step += 1;
        self.images += images;
        if let Sink::Bar(bar) = &self.sink {
            let rate = self.images as f64 / self.began.elapsed().as_secs_f64();
            bar.set_message(status(self.step, self.steps_per_epoch, loss, error, rate));
            bar.inc(1);
        }
    }

    /// After an epoch and its evaluation.
    pub fn epoch(&mut self, row: &Row) {
        self.print(&epoch_line(row, self.epochs));
        self.epoch = row.epoch + 1;
        (self.step, self.images, self.began) = (0, 0, Instant::now());
        if let Sink::Bar(bar) = &self.sink {
            bar.set_prefix(prefix(self.epoch, self.epochs));
            bar.set_position(row.epoch.saturating_mul(self.steps_per_epoch) as u64);
        }
    }

    /// A line of its own, above the bar if there is one.
    pub fn print(&mut self, line: &str) {
        match &mut self.sink {
            Sink::Bar(bar) => bar.println(line),
            Sink::Lines(out) => {
                let _ = writeln!(out, "{line}");
            }
        }
    }

    /// Takes the bar away; the lines of the epochs stay.
    pub fn finish(self) {
        if let Sink::Bar(bar) = self.sink {
            bar.finish_and_clear();
        }
    }

    fn with(sink: Sink, epochs: usize, steps_per_epoch: usize, epochs_done: usize) -> Progress {
        let epoch = epochs_done + 1;
        if let Sink::Bar(bar) = &sink {
            bar.set_prefix(prefix(epoch, epochs));
        }
        Progress { epochs, epoch, steps_per_epoch, step: 0, images: 0, began: Instant::now(), sink }
    }
}

fn bar(steps: usize, steps_done: usize) -> ProgressBar {
    let template = "{prefix} {wide_bar} {msg}  {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is a constant, and tested").progress_chars("━╸─");
    let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr()).with_style(style);
    bar.set_position(steps_done as u64);
    bar.reset_eta();
    bar
}

fn prefix(epoch: usize, epochs: usize) -> String {
    format!("epoch {}/{epochs}", epoch.min(epochs))
}

fn status(step: usize, steps: usize, loss: f64, error: Option<f64>, rate: f64) -> String {
    let error = error.map_or(String::new(), |error| format!("  error {error:.2} %"));
    format!("{step}/{steps}  loss {loss:.4}{error}  {rate:.0} images/s")
}

/// Fits 80 columns, and differs from the closing line of `train`, for which scripts look.
fn epoch_line(row: &Row, epochs: usize) -> String {
    let width = epochs.to_string().len();
    // Where labels are not learnt, there is no error.
    let errors = match row.train_error.is_nan() && row.test_error.is_nan() {
        true => String::new(),
        false => format!("  error: train {:5.2} %, test {:5.2} %", row.train_error, row.test_error),
    };
    format!("epoch {:width$}/{epochs}  loss {:.4}{errors}  {:.0} images/s", row.epoch, row.train_loss, row.images_per_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    fn row(epoch: usize) -> Row {
        Row { epoch, train_loss: 0.81234, train_error: 4.2, test_error: 9.125, seconds: 0.84, images_per_s: 11904.7, ..Row::default() }
    }

    #[test]
    fn lines_elsewhere() {
        let out = Shared::default();
        let mut progress = Progress::with(Sink::Lines(Box::new(out.clone())), 10, 2, 8);
        for epoch in [9, 10] {
            progress.step(2.3, Some(90.0), 128);
            progress.step(2.2, None, 100);
            progress.epoch(&row(epoch));
        }
        progress.finish();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "epoch  9/10  loss 0.8123  error: train  4.20 %, test  9.12 %  11905 images/s\n\
             epoch 10/10  loss 0.8123  error: train  4.20 %, test  9.12 %  11905 images/s\n"
        );
    }

    #[test]
    fn closed_pipe_is_no_failure() {
        let mut progress = Progress::with(Sink::Lines(Box::new(Closed)), 1, 1, 0);
        progress.step(1.0, None, 1);
        progress.epoch(&row(1));
        progress.finish();
    }

    #[test]
    fn bar_counts_steps_of_the_whole_run() {
        let bar = bar(6, 2);
        bar.set_draw_target(ProgressDrawTarget::hidden());
        let mut progress = Progress::with(Sink::Bar(bar.clone()), 3, 2, 1);
        assert_eq!((bar.position(), bar.prefix().as_str()), (2, "epoch 2/3"));
        progress.step(0.5, Some(12.345), 128);
        assert_eq!(bar.position(), 3);
        assert!(bar.message().starts_with("1/2  loss 0.5000  error 12.35 %  "), "{}", bar.message());
        progress.epoch(&row(2));
        assert_eq!((bar.position(), bar.prefix().as_str()), (4, "epoch 3/3"));
        progress.epoch(&row(3));
        assert_eq!(bar.prefix(), "epoch 3/3");
        progress.finish();
        assert!(bar.is_finished());
    }

    /// Nothing to do, as with `--epochs 0`, and figures of a run that diverged.
    #[test]
    fn odd_runs() {
        for terminal in [false, true] {
            let mut progress = Progress::new(0, 0, 0, terminal);
            progress.step(f64::NAN, Some(f64::INFINITY), 0);
            progress.epoch(&Row::default());
            progress.finish();
        }
    }
}
