//! Batches made ahead of the steps that eat them: threads augment images while the engine computes, a bounded queue apart.
//!
//! Read [`Loader::next`]. Batches come in the order of [`epoch_order`], the same bits for any number of threads. A thread that fails says so to
//! whoever waits for its batch; nothing waits for ever. It reads no files: the images are in memory.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::augment::{self, Chances, Which};
use super::{DataSet, Scale, epoch_order};

/// What a step is fed.
#[derive(Clone, PartialEq, Debug)]
pub struct Feed {
    pub seed: u32,
    /// Images in a batch; the last one of an epoch may have fewer.
    pub batch: usize,
    /// What is done to each view of an image; their number is that of the views.
    pub views: Vec<Chances>,
    /// Of the channels of the views.
    pub scale: Scale,
}

/// Images for one step.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Batch {
    /// From 0.
    pub epoch: u32,
    /// `[views, count, height, width, channels]`, in [0, 1] before they are scaled.
    pub pixels: Vec<f32>,
    /// `[count]`
    pub labels: Vec<i32>,
}

/// A thread that made batches has failed.
#[derive(Debug, thiserror::Error)]
#[error("a thread that prepares images failed: {message}; hint: this is a fault of the program, please report it")]
pub struct LoaderError {
    pub message: String,
}

/// The batches of some epochs, one after the other. Dropping it ends its threads.
pub struct Loader {
    queue: Arc<Queue>,
    waited: Duration,
}

impl Loader {
    /// Starts `threads` threads (at least one), which keep one batch each ahead, and one more.
    pub fn new<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        set: &'env DataSet,
        feed: Feed,
        epochs: Range<u32>,
        threads: usize,
    ) -> Loader {
        Loader::with(scope, feed.seed, feed.batch, set.len(), epochs, threads, move |epoch, images| feed.batch_of(set, epoch, images))
    }

    /// The same with the making of a batch left to `make`, from the numbers of an epoch and of its images.
    fn with<'scope>(
        scope: &'scope Scope<'scope, '_>,
        seed: u32,
        batch: usize,
        images: usize,
        epochs: Range<u32>,
        threads: usize,
        make: impl Fn(u32, &[u32]) -> Batch + Send + Sync + 'scope,
    ) -> Loader {
        let (threads, batch) = (threads.max(1), batch.max(1));
        let state =
            State { epochs: epochs.clone(), order: Arc::default(), from: 0, made: 0, taken: 0, ready: BTreeMap::new(), stop: false };
        let ahead = threads as u64 + 1;
        let queue = Arc::new(Queue { seed, batch, images, ahead, state: Mutex::new(state), turned: Condvar::new() });
        let make = Arc::new(make);
        for _ in 0..threads {
            let (queue, make) = (queue.clone(), make.clone());
            scope.spawn(move || {
                while let Some(task) = queue.task() {
                    let made = catch_unwind(AssertUnwindSafe(|| make(task.epoch, &task.order[task.range])));
                    queue.put(task.number, made.map_err(|panic| LoaderError { message: said(&*panic) }));
                }
            });
        }
        Loader { queue, waited: Duration::ZERO }
    }

    /// The next batch; none after the last epoch's last.
    #[expect(clippy::should_implement_trait, reason = "an iterator would tempt to `collect` what is to be bounded")]
    pub fn next(&mut self) -> Option<Result<Batch, LoaderError>> {
        let began = Instant::now();
        let batch = self.queue.take();
        self.waited += began.elapsed();
        batch
    }

    /// How long [`Loader::next`] has waited, all together: what the steps lost to the loader.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.queue.state().stop = true;
        self.queue.turned.notify_all();
    }
}

impl Feed {
    /// The images of `set` at `images`, in `epoch`.
    pub fn batch_of(&self, set: &DataSet, epoch: u32, images: &[u32]) -> Batch {
        let (size, each) = ([set.height, set.width, set.channels], set.pixels_per_image());
        let mut pixels = vec![0.0; self.views.len() * images.len() * each];
        let views = (0u32..).zip(&self.views).flat_map(|(view, chances)| images.iter().map(move |&image| (view, chances, image)));
        for ((view, chances, image), out) in views.zip(pixels.chunks_exact_mut(each)) {
            augment::view(set.image(image as usize), size, chances, Which { seed: self.seed, epoch, image, view }, out);
        }
        self.scale.apply(&mut pixels);
        Batch { epoch, pixels, labels: images.iter().map(|&image| i32::from(set.labels[image as usize])).collect() }
    }
}

/// What threads and the one who waits share.
struct Queue {
    seed: u32,
    batch: usize,
    images: usize,
    /// How many batches beyond those taken are begun.
    ahead: u64,
    state: Mutex<State>,
    /// Something in the state has changed that someone may wait for.
    turned: Condvar,
}

struct State {
    /// Those that no task has begun yet, but for the one in `order`.
    epochs: Range<u32>,
    /// Of the epoch that tasks are taken from, and where the next one starts.
    order: Arc<[u32]>,
    from: usize,
    /// Batches that were begun, and that were taken.
    made: u64,
    taken: u64,
    ready: BTreeMap<u64, Result<Batch, LoaderError>>,
    stop: bool,
}

/// A batch to be made.
struct Task {
    number: u64,
    epoch: u32,
    order: Arc<[u32]>,
    range: Range<usize>,
}

impl Queue {
    /// The next batch to make; waits while enough are made. None if there is nothing left to do.
    fn task(&self) -> Option<Task> {
        let mut state = self.state();
        loop {
            if state.stop {
                return None;
            }
            if state.from == state.order.len() {
                let epoch = state.epochs.next().filter(|_| self.images > 0)?;
                (state.order, state.from) = (epoch_order(self.seed, epoch, self.images).into(), 0);
            }
            if state.made < state.taken + self.ahead {
                break;
            }
            state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let range = state.from..state.order.len().min(state.from + self.batch);
        let task = Task { number: state.made, epoch: state.epochs.start - 1, order: state.order.clone(), range: range.clone() };
        (state.from, state.made) = (range.end, state.made + 1);
        Some(task)
    }

    fn put(&self, number: u64, batch: Result<Batch, LoaderError>) {
        self.state().ready.insert(number, batch);
        self.turned.notify_all();
    }

    fn take(&self) -> Option<Result<Batch, LoaderError>> {
        let mut state = self.state();
        loop {
            let number = state.taken;
            if let Some(batch) = state.ready.remove(&number) {
                state.taken += 1;
                self.turned.notify_all();
                return Some(batch);
            }
            let all_begun = state.from == state.order.len() && (state.epochs.is_empty() || self.images == 0);
            if all_begun && state.made == state.taken {
                return None;
            }
            state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between locking and unlocking leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The words of a panic.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    fn set(images: usize) -> DataSet {
        let pixels = (0..images * 4 * 4 * 3).map(|i| (i * 31 % 251) as u8).collect();
        let labels = (0..images).map(|i| (i % 10) as u8).collect();
        DataSet { height: 4, width: 4, channels: 3, classes: 10, images: pixels, labels }
    }

    fn feed() -> Feed {
        Feed { seed: 3, batch: 8, views: vec![Chances::byol(0, 0.5), Chances::byol(1, 0.5)], scale: Scale::default() }
    }

    fn all(set: &DataSet, feed: Feed, epochs: Range<u32>, threads: usize) -> Vec<Batch> {
        thread::scope(|scope| {
            let mut loader = Loader::new(scope, set, feed, epochs, threads);
            std::iter::from_fn(|| loader.next()).map(|batch| batch.unwrap()).collect()
        })
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits_in_the_same_order() {
        let (set, feed) = (set(21), feed());
        let one = all(&set, feed.clone(), 2..4, 1);
        assert_eq!(one.iter().map(|b| (b.epoch, b.labels.len())).collect::<Vec<_>>(), [(2, 8), (2, 8), (2, 5), (3, 8), (3, 8), (3, 5)]);
        for threads in [0, 2, 7] {
            assert!(all(&set, feed.clone(), 2..4, threads) == one, "{threads} threads");
        }
        // An epoch is the same whatever ran before it, and others are others.
        assert!(all(&set, feed.clone(), 3..4, 2) == one[3..]);
        assert_ne!(one[0].pixels, one[3].pixels);
    }

    #[test]
    fn a_batch_is_all_images_of_the_first_view_then_all_of_the_second() {
        let (set, mut feed) = (set(5), feed());
        feed.views = vec![Chances::NONE, Chances { flip: 1.0, ..Chances::NONE }];
        let batch = &all(&set, feed, 0..1, 1)[0];
        let order = epoch_order(3, 0, 5);
        assert_eq!(batch.labels, order.iter().map(|&i| i as i32).collect::<Vec<_>>());
        let image: Vec<f32> = set.image(order[1] as usize).iter().map(|&b| f32::from(b) / 255.0).collect();
        assert_eq!(batch.pixels.len(), 2 * 5 * 48);
        assert_eq!(batch.pixels[48..96], image);
        // The first row of the mirrored image begins with the last pixel of the row.
        assert_eq!(batch.pixels[(5 + 1) * 48..][..3], image[9..12]);
    }

    #[test]
    fn nothing_to_do_ends_at_once() {
        assert!(all(&set(0), feed(), 0..3, 2).is_empty());
        assert!(all(&set(5), feed(), 3..3, 2).is_empty());
    }

    /// Threads stop in front of a full queue: memory is bounded.
    #[test]
    fn no_more_is_made_than_was_asked_for() {
        let made = AtomicU64::new(0);
        thread::scope(|scope| {
            let make = |epoch, _: &[u32]| {
                made.fetch_add(1, Ordering::SeqCst);
                Batch { epoch, ..Batch::default() }
            };
            let mut loader = Loader::with(scope, 0, 1, 1000, 0..1, 3, make);
            for taken in 1..50 {
                loader.next().unwrap().unwrap();
                thread::sleep(Duration::from_millis(1));
                let made = made.load(Ordering::SeqCst);
                assert!(made <= taken + 4, "{made} made, {taken} taken");
            }
        });
    }

    #[test]
    fn a_thread_that_panics_is_an_error_and_not_the_end_of_the_others() {
        let outcome: Vec<Result<u32, String>> = thread::scope(|scope| {
            let make = |epoch, images: &[u32]| {
                assert!(images[0] != 4, "image 4 is cursed");
                Batch { epoch, labels: vec![images[0] as i32], ..Batch::default() }
            };
            let mut loader = Loader::with(scope, 0, 1, 10, 0..1, 2, make);
            let all = std::iter::from_fn(|| loader.next());
            all.map(|batch| batch.map(|b| b.labels[0] as u32).map_err(|e| e.to_string())).collect()
        });
        assert_eq!(outcome.len(), 10);
        for (image, got) in epoch_order(0, 0, 10).into_iter().zip(outcome) {
            match got {
                Ok(same) => assert_eq!(same, image),
                Err(message) => assert!(image == 4 && message.contains("image 4 is cursed") && message.contains("hint: "), "{message}"),
            }
        }
    }

    #[test]
    fn waiting_is_counted() {
        let waited = thread::scope(|scope| {
            let make = |epoch, _: &[u32]| {
                thread::sleep(Duration::from_millis(20));
                Batch { epoch, ..Batch::default() }
            };
            let mut loader = Loader::with(scope, 0, 1, 3, 0..1, 1, make);
            while loader.next().is_some() {}
            loader.waited()
        });
        assert!(waited >= Duration::from_millis(50), "{waited:?}");
    }

    /// The scope would wait for ever for threads that do not end.
    #[test]
    fn dropping_the_loader_ends_its_threads() {
        let (set, feed) = (set(100), feed());
        thread::scope(|scope| {
            let mut loader = Loader::new(scope, &set, feed, 0..1000, 3);
            loader.next().unwrap().unwrap();
        });
    }
}
