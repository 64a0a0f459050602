//! How many images a second the loader prepares, two views each as BYOL makes them, beside what a training step eats (`pushforward bench`).
//! `cargo run --release -p pushforward-models --example loader_speed [DIR]`; without a folder, the built-in images.

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use pushforward_models::data::augment::Chances;
use pushforward_models::data::loader::{Feed, Loader};
use pushforward_models::data::{Scale, Source, load};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source = std::env::args().nth(1).map_or(Source::Builtin, |dir| Source::Dir(PathBuf::from(dir)));
    let splits = load(&source)?;
    let most = thread::available_parallelism()?.get();
    for threads in [1, most] {
        let feed = Feed { seed: 0, batch: 128, views: vec![Chances::byol(0, 0.5), Chances::byol(1, 0.5)], scale: Scale::default() };
        let began = Instant::now();
        let images = thread::scope(|scope| {
            let mut loader = Loader::new(scope, &splits.train, feed, 0..1, threads);
            let mut images = 0;
            while let Some(batch) = loader.next() {
                images += batch?.labels.len();
            }
            Ok::<_, Box<dyn std::error::Error>>(images)
        })?;
        println!(
            "{}, {threads} threads: {:.0} images a second, two views each",
            splits.name,
            images as f64 / began.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
