//! Channels shifted and scaled to mean 0 and deviation 1 over a set of images. Read [`Scale::of`].
//!
//! Why: a patch that augmentation has cut to pure white or black is flat, and a local norm makes 0 of it; behind a linear layer whose bias is
//! still 0 stands then a norm of nothing, whose derivative is the root of 1 / epsilon, and the first steps make the flat patches of all images
//! alike and large. Channels that differ in mean and deviation leave no patch flat.

use super::DataSet;
use crate::recipe::pixel;

/// For each channel, what is subtracted and what it is then multiplied with; none for pixels as they are.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Scale(Vec<(f32, f32)>);

impl Scale {
    /// That of the pixels of a set, which are 0 to 1. A channel that is the same everywhere is only shifted.
    pub fn of(set: &DataSet) -> Scale {
        let channel = |channel: usize| {
            let values = || set.images.iter().skip(channel).step_by(set.channels).map(|&byte| f64::from(pixel(byte)));
            let count = values().count().max(1) as f64;
            let mean = values().sum::<f64>() / count;
            let deviation = (values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
            (mean as f32, if deviation > 1e-6 { (1.0 / deviation) as f32 } else { 1.0 })
        };
        Scale((0..set.channels).map(channel).collect())
    }

    /// On pixels whose last axis is that of channels.
    pub fn apply(&self, pixels: &mut [f32]) {
        for colour in pixels.chunks_exact_mut(self.0.len().max(1)) {
            for (x, (mean, factor)) in colour.iter_mut().zip(&self.0) {
                *x = (*x - mean) * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_come_to_mean_0_and_deviation_1() {
        let images = vec![0, 51, 7, 255, 153, 7];
        let set = DataSet { height: 1, width: 2, channels: 3, classes: 10, images, labels: vec![0] };
        let mut pixels = vec![0.0, 0.2, 7.0 / 255.0, 1.0, 0.6, 7.0 / 255.0];
        Scale::of(&set).apply(&mut pixels);
        for (found, expected) in pixels.iter().zip([-1.0, -1.0, 0.0, 1.0, 1.0, 0.0]) {
            assert!((found - expected).abs() < 1e-5, "{pixels:?}");
        }
        Scale::default().apply(&mut pixels);
        assert!((pixels[0] + 1.0).abs() < 1e-5, "no scale changes nothing");
    }
}
