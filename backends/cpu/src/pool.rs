//! The threads that run plans. A [`Pool`] is a handle: any number of executables share one. It knows no plan. Read [`Pool::run`] first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::CpuError;

/// A number of threads. With one, everything runs on the caller's.
#[derive(Clone)]
pub struct Pool {
    threads: usize,
    /// Runs take turns: two that each hold half of the threads would wait for each other for ever.
    workers: Option<Arc<Mutex<rayon::ThreadPool>>>,
}

impl Pool {
    /// `threads` of them; 0 for as many as the machine runs at once.
    pub fn new(threads: usize) -> Result<Pool, CpuError> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let workers = if threads == 1 {
            None
        } else {
            let build = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("pushforward-{i}")).build();
            Some(Arc::new(Mutex::new(build.map_err(|e| CpuError::Threads(e.to_string()))?)))
        };
        Ok(Pool { threads, workers })
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `stages` stages one after the other; of each, the tasks `0..tasks(stage)` in any order on any thread: `work(stage, task, thread)`.
    /// A stage starts when the one before it has ended. False if some task panicked: then later ones may not have run.
    pub(crate) fn run(&self, stages: usize, tasks: impl Fn(usize) -> usize + Sync, work: impl Fn(usize, usize, usize) + Sync) -> bool {
        let sound = AtomicBool::new(true);
        let next = AtomicUsize::new(0);
        let gate = Gate { threads: self.threads, waiting: AtomicUsize::new(0), round: AtomicUsize::new(0) };
        let thread = |thread: usize| {
            // Task numbers go on counting through the stages, so that nobody has to reset the counter.
            let mut first = 0;
            for stage in 0..stages {
                let end = first + tasks(stage);
                let share = catch_unwind(AssertUnwindSafe(|| {
                    while sound.load(Ordering::Relaxed) {
                        let task = next.fetch_add(1, Ordering::Relaxed);
                        if task >= end {
                            break;
                        }
                        work(stage, task - first, thread);
                    }
                }));
                if share.is_err() {
                    sound.store(false, Ordering::Relaxed);
                }
                // Each thread took one number too many; the last to arrive puts the counter back.
                gate.pass(|| next.store(end, Ordering::Relaxed));
                first = end;
            }
        };
        match &self.workers {
            None => thread(0),
            Some(workers) => {
                let workers = workers.lock().unwrap_or_else(PoisonError::into_inner);
                workers.broadcast(|context| thread(context.index()));
            }
        }
        sound.load(Ordering::Relaxed)
    }
}

/// Where threads wait for each other between stages. Stages are short: they spin first, and then let others run.
struct Gate {
    threads: usize,
    waiting: AtomicUsize,
    round: AtomicUsize,
}

impl Gate {
    /// Returns once every thread is here, and the last one has run `last`.
    fn pass(&self, last: impl FnOnce()) {
        let round = self.round.load(Ordering::Acquire);
        if self.waiting.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.waiting.store(0, Ordering::Relaxed);
            last();
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0;
        while self.round.load(Ordering::Acquire) == round {
            spins += 1;
            if spins < 4000 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_and_stages_follow_each_other() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads).expect("threads");
            let count = AtomicUsize::new(0);
            let sizes = [3usize, 0, 1, 17, 0, 2];
            let before: Vec<usize> = (0..sizes.len()).map(|s| sizes[..s].iter().sum()).collect();
            for _ in 0..50 {
                count.store(0, Ordering::SeqCst);
                let done = pool.run(
                    sizes.len(),
                    |s| sizes[s],
                    |stage, task, thread| {
                        assert!(task < sizes[stage] && thread < threads);
                        let seen = count.fetch_add(1, Ordering::SeqCst);
                        assert!((before[stage]..before[stage] + sizes[stage]).contains(&seen));
                    },
                );
                assert!(done);
                assert_eq!(count.load(Ordering::SeqCst), 23);
            }
        }
    }

    #[test]
    fn a_panic_ends_the_run_without_hanging() {
        for threads in [1, 3] {
            let pool = Pool::new(threads).expect("threads");
            let done = pool.run(3, |_| 4, |stage, task, _| assert!((stage, task) != (1, 2), "on purpose"));
            assert!(!done);
            assert!(pool.run(3, |_| 4, |_, _, _| {}));
        }
    }
}
