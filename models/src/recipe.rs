//! How a classifier is trained where nothing else is said: the recipe of the paper's supervised experiments. Numbers only.

/// Stochastic gradient descent with momentum, its rate falling linearly to 0.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Recipe {
    pub epochs: usize,
    /// The rate of the first step.
    pub lr: f64,
    /// `v = momentum * v + g`.
    pub momentum: f64,
    /// Added to the gradient, times the weight; on parameters that say `decay`.
    pub weight_decay: f64,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe { epochs: 10, lr: 0.01, momentum: 0.9, weight_decay: 1e-4 }
    }
}

impl Recipe {
    /// The rate of step `step` (from 0) of `steps`: linear, and 0 where the run ends.
    pub fn rate(&self, step: u64, steps: u64) -> f64 {
        self.lr * (1.0 - step as f64 / steps.max(1) as f64)
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

    #[test]
    fn the_rate_falls_linearly_to_zero() {
        let recipe = Recipe { lr: 0.5, ..Recipe::default() };
        let rates: Vec<f64> = (0..=4).map(|s| recipe.rate(s, 4)).collect();
        assert_eq!(rates, [0.5, 0.375, 0.25, 0.125, 0.0]);
        assert_eq!(recipe.rate(0, 0), 0.5);
    }

    #[test]
    fn pixels_fill_the_unit_interval() {
        assert_eq!((pixel(0), pixel(255)), (0.0, 1.0));
        assert_eq!(pixel(51), 0.2);
    }
}
