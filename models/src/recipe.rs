//! How a model is trained where nothing else is said: the recipes of the paper, for labels and for views. Numbers only; the optimiser is a part
//! of the step (`pushforward_passes::update`). Read [`Recipe::rates`].

/// How long, and how fast.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Recipe {
    pub epochs: usize,
    /// The highest rate.
    pub lr: f64,
    pub schedule: Schedule,
    /// Epochs, and parts of one, over which the rate rises to `lr` before the schedule begins.
    pub warmup: f64,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe { epochs: 10, lr: 0.01, schedule: Schedule::Linear, warmup: 0.0 }
    }
}

/// What becomes of the rate after the warm-up; `p` is the share of the steps since then that is done, from 0 to less than 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// `lr`
    Constant,
    /// `lr * (1 - p)`
    Linear,
    /// `lr * (1 + cos(pi * p)) / 2` (Loshchilov, Hutter: "SGDR", 2017, without restarts)
    Cosine,
}

impl Schedule {
    pub const ALL: [Schedule; 3] = [Schedule::Constant, Schedule::Linear, Schedule::Cosine];

    pub fn name(self) -> &'static str {
        match self {
            Schedule::Constant => "constant",
            Schedule::Linear => "linear",
            Schedule::Cosine => "cosine",
        }
    }

    fn share(self, p: f64) -> f64 {
        match self {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - p,
            // Not the system's cosine, whose last bit differs from one system to the next.
            Schedule::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * p)),
        }
    }
}

/// Why a recipe is none.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum RecipeError {
    #[error(
        "the warm-up of {warmup} epochs takes the whole run of {epochs}: the rate would never leave it; hint: give a --warmup shorter than \
         --epochs"
    )]
    WarmUp { warmup: f64, epochs: usize },
    #[error(
        "{steps} steps are more than a run can have, {}, before its noise repeats; hint: take fewer --epochs or a larger --batch",
        u32::MAX
    )]
    Endless { steps: u128 },
}

impl Recipe {
    /// For a model that learns features from views, in batches of so many examples: the rate is 1.0 for 512 of them and in proportion, as the
    /// paper has it for CIFAR-10; the schedule is its cosine, after a warm-up of a tenth of the run (a hundredth there, of 1000 epochs).
    pub fn of_views(epochs: usize, batch: usize) -> Recipe {
        Recipe { epochs, lr: batch as f64 / 512.0, schedule: Schedule::Cosine, warmup: epochs as f64 / 10.0 }
    }

    /// Whether there is an end, as far as one knows before there are data.
    pub fn check(&self) -> Result<(), RecipeError> {
        let Recipe { epochs, warmup, .. } = *self;
        match epochs > 0 && warmup > 0.0 && warmup >= epochs as f64 {
            true => Err(RecipeError::WarmUp { warmup, epochs }),
            false => Ok(()),
        }
    }

    /// The rates of a run, with so many steps in each epoch.
    pub fn rates(&self, steps_per_epoch: usize) -> Result<Rates, RecipeError> {
        self.check()?;
        let steps = steps_per_epoch as u128 * self.epochs as u128;
        // The number of a step is one of 32 bits: noise is a function of it.
        let total = u32::try_from(steps).map_err(|_| RecipeError::Endless { steps })?;
        // Before the last step at the latest, and so the schedule has steps of its own.
        let warmup = ((self.warmup * steps_per_epoch as f64).round() as u64).min(u64::from(total).saturating_sub(1));
        Ok(Rates { recipe: *self, steps: total.into(), warmup })
    }
}

/// The learning rate of every step of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rates {
    recipe: Recipe,
    /// In all.
    pub steps: u64,
    /// Of them, those in which the rate rises.
    pub warmup: u64,
}

impl Rates {
    /// The rate of step `step`, from 0. It rises linearly, the first step's being above 0 already, and then follows the schedule, which begins
    /// at `lr`; a falling one is 0 where the run ends.
    pub fn at(&self, step: u64) -> f64 {
        let lr = self.recipe.lr;
        match step.checked_sub(self.warmup) {
            None => lr * (step + 1) as f64 / (self.warmup + 1) as f64,
            Some(done) => lr * self.recipe.schedule.share(done as f64 / (self.steps - self.warmup).max(1) as f64),
        }
    }
}

/// The error of training data is measured on this many images, the first.
pub const TRAIN_ERROR_IMAGES: usize = 10_000;

/// A pixel as the network sees it.
pub fn pixel(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule, warmup: f64) -> Vec<f64> {
        let rates = Recipe { epochs: 2, lr: 0.5, schedule, warmup }.rates(4).expect("it ends");
        (0..=rates.steps).map(|step| rates.at(step)).collect()
    }

    #[test]
    fn rates_follow_their_schedule() {
        assert_eq!(rates(Schedule::Linear, 0.0), [0.5, 0.4375, 0.375, 0.3125, 0.25, 0.1875, 0.125, 0.0625, 0.0]);
        assert_eq!(rates(Schedule::Constant, 0.0), [0.5; 9]);
        let cosine = rates(Schedule::Cosine, 0.0);
        for (step, rate) in cosine.iter().enumerate() {
            let exact = 0.25 * (1.0 + (step as f64 * std::f64::consts::PI / 8.0).cos());
            assert!((rate - exact).abs() < 1e-15, "{cosine:?}");
        }
    }

    #[test]
    fn views_have_a_recipe_of_their_own() {
        // The paper's for CIFAR-10, but for the share of the warm-up.
        assert_eq!(Recipe::of_views(1000, 512), Recipe { epochs: 1000, lr: 1.0, schedule: Schedule::Cosine, warmup: 100.0 });
        assert_eq!(Recipe::of_views(5, 128), Recipe { epochs: 5, lr: 0.25, schedule: Schedule::Cosine, warmup: 0.5 });
        assert_eq!(Recipe::of_views(0, 128).check(), Ok(()));
    }

    #[test]
    fn rates_rise_first() {
        // Three of eight steps.
        let linear = rates(Schedule::Linear, 0.75);
        for (rate, exact) in linear.iter().zip([0.125, 0.25, 0.375, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]) {
            assert!((rate - exact).abs() < 1e-15, "{linear:?}");
        }
        assert_eq!(rates(Schedule::Constant, 0.25), [0.25, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]);
        let cosine = rates(Schedule::Cosine, 1.0);
        assert_eq!(cosine[..5], [0.1, 0.2, 0.3, 0.4, 0.5]);
        assert!((cosine[6] - 0.25).abs() < 1e-15 && cosine[8] == 0.0, "{cosine:?}");
        // Hardly any warm-up is none, and almost all of the run leaves a step.
        assert_eq!(rates(Schedule::Linear, 0.01), rates(Schedule::Linear, 0.0));
        assert_eq!(Recipe { epochs: 2, warmup: 1.999, ..Recipe::default() }.rates(4).expect("it ends").warmup, 7);
    }

    #[test]
    fn what_never_ends_is_refused() {
        let of = |epochs, warmup| Recipe { epochs, warmup, ..Recipe::default() };
        for (epochs, warmup) in [(2, 2.0), (2, 3.0), (1, f64::INFINITY)] {
            assert_eq!(of(epochs, warmup).rates(4), Err(RecipeError::WarmUp { warmup, epochs }));
        }
        assert_eq!(of(1 << 24, 0.0).rates(60_000), Err(RecipeError::Endless { steps: (1 << 24) * 60_000 }));
        assert_eq!(of(usize::MAX, 0.0).rates(usize::MAX).map(|r| r.steps).ok(), None);
        // No epochs: nothing is asked.
        assert_eq!(of(0, 5.0).rates(4).expect("it ends").at(0), 0.01);
    }

    #[test]
    fn pixels_fill_the_unit_interval() {
        assert_eq!((pixel(0), pixel(255)), (0.0, 1.0));
        assert_eq!(pixel(51), 0.2);
    }
}
