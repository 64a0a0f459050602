//! Each op of `augment` on one image of numbers in [0, 1], `[height, width, channels]`: parameters in, pixels out, no chance. Cropping,
//! resizing and mirroring are the image crate's. Each op ends in [0, 1].

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, Pixel, Rgb};

use crate::recipe::pixel;

/// A part of an image, in pixels; both sides are at least 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Crop {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// Channels of which it is known that they are red, green and blue.
const COLOURS: usize = 3;

/// Bytes as the network sees them.
pub(super) fn numbers(image: &[u8], out: &mut [f32]) {
    for (out, &byte) in out.iter_mut().zip(image) {
        *out = pixel(byte);
    }
}

/// The crop, enlarged to the size of the image by Catmull and Rom's cubic, cut at 0 and 1 where it overshoots.
pub(super) fn resized_crop(image: &[u8], size: [usize; 3], crop: Crop, out: &mut [f32]) {
    let channels = size[2];
    if channels == COLOURS {
        let part = resized::<Rgb<f32>>(image.iter().copied(), size, crop);
        out.copy_from_slice(&part);
        return;
    }
    for channel in 0..channels {
        let plane = resized::<Luma<f32>>(image.iter().skip(channel).step_by(channels).copied(), size, crop);
        for (out, x) in out.iter_mut().skip(channel).step_by(channels).zip(plane) {
            *out = x;
        }
    }
}

fn resized<P: Pixel<Subpixel = f32> + 'static>(image: impl Iterator<Item = u8>, [height, width, _]: [usize; 3], crop: Crop) -> Vec<f32> {
    let whole: ImageBuffer<P, Vec<f32>> = ImageBuffer::from_raw(width as u32, height as u32, image.map(pixel).collect())
        .expect("a data set's image has as many bytes as its size says");
    let part = imageops::crop_imm(&whole, crop.left as u32, crop.top as u32, crop.width as u32, crop.height as u32).to_image();
    imageops::resize(&part, width as u32, height as u32, FilterType::CatmullRom).into_raw()
}

/// Left and right change places.
pub(super) fn flip(image: &mut [f32], [_, width, channels]: [usize; 3]) {
    for row in image.chunks_exact_mut(width * channels) {
        for left in 0..width / 2 {
            let (a, b) = row.split_at_mut((width - 1 - left) * channels);
            a[left * channels..][..channels].swap_with_slice(&mut b[..channels]);
        }
    }
}

pub(super) fn brightness(image: &mut [f32], shift: f32) {
    for x in image {
        *x = unit(*x + shift);
    }
}

/// Each channel away from its own mean, or towards it.
pub(super) fn contrast(image: &mut [f32], channels: usize, factor: f32) {
    for channel in 0..channels {
        let plane = || image.iter().skip(channel).step_by(channels);
        let mean = plane().sum::<f32>() / plane().count() as f32;
        for x in image.iter_mut().skip(channel).step_by(channels) {
            *x = unit(mean + factor * (*x - mean));
        }
    }
}

/// Scales the saturation of HSV, up to full; hue and value stay.
pub(super) fn saturation(image: &mut [f32], channels: usize, factor: f32) {
    each_colour(image, channels, |colour| {
        let (least, most) = extremes(colour);
        // With saturation (most - least) / most, this is how far the least may go.
        let factor = if factor * (most - least) > most { most / (most - least) } else { factor };
        colour.map(|x| unit(most - factor * (most - x)))
    });
}

/// Turns the hue of HSV by part of a full turn; saturation and value stay.
pub(super) fn hue(image: &mut [f32], channels: usize, turn: f32) {
    each_colour(image, channels, |colour| {
        let (least, most) = extremes(colour);
        let (chroma, [r, g, b]) = (most - least, colour);
        if chroma == 0.0 {
            return colour;
        }
        // In sixths of a turn: red at 0, green at 2, blue at 4.
        let sixths = match () {
            () if r == most => (g - b) / chroma,
            () if g == most => 2.0 + (b - r) / chroma,
            () => 4.0 + (r - g) / chroma,
        };
        let turned = sixths + 6.0 * turn;
        [5.0, 3.0, 1.0].map(|phase: f32| {
            let k = (phase + turned).rem_euclid(6.0);
            unit(most - chroma * k.min(4.0 - k).clamp(0.0, 1.0))
        })
    });
}

/// All three channels become the luma of Rec. 601.
pub(super) fn grey(image: &mut [f32], channels: usize) {
    each_colour(image, channels, |[r, g, b]| [unit(0.2989 * r + 0.5870 * g + 0.1140 * b); COLOURS]);
}

/// Convolves with a Gaussian of deviation `sigma`, cut off so that it is about a tenth of the image's height wide: 3 pixels at 32, 23 at 224.
/// Beyond the edge the outermost pixels go on.
pub(super) fn blur(image: &mut [f32], [height, width, channels]: [usize; 3], sigma: f32) {
    let radius = (height / 20).max(1);
    let weights: Vec<f32> = (0..=2 * radius).map(|i| (-0.5 * ((i as f32 - radius as f32) / sigma).powi(2)).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let weights: Vec<f32> = weights.into_iter().map(|w| w / sum).collect();
    let row = width * channels;
    // Along x, then along y: (steps of the axis, its length, of what lies across it).
    for (stride, length) in [(channels, width), (row, height)] {
        let source = image.to_vec();
        for (at, out) in image.iter_mut().enumerate() {
            let place = at / stride % length;
            let line = at - place * stride;
            let tap = |i: usize| source[line + (place + i).saturating_sub(radius).min(length - 1) * stride];
            *out = unit(weights.iter().enumerate().map(|(i, w)| w * tap(i)).sum());
        }
    }
}

/// What is brighter than one half is turned into its negative.
pub(super) fn solarise(image: &mut [f32]) {
    for x in image.iter_mut().filter(|x| **x >= 0.5) {
        *x = 1.0 - *x;
    }
}

fn each_colour(image: &mut [f32], channels: usize, op: impl Fn([f32; COLOURS]) -> [f32; COLOURS]) {
    if channels == COLOURS {
        for colour in image.as_chunks_mut::<COLOURS>().0 {
            *colour = op(*colour);
        }
    }
}

fn extremes([r, g, b]: [f32; COLOURS]) -> (f32, f32) {
    (r.min(g).min(b), r.max(g).max(b))
}

fn unit(x: f32) -> f32 {
    x.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}, expected {expected:?}");
    }

    fn after<const N: usize>(mut image: [f32; N], op: impl Fn(&mut [f32])) -> [f32; N] {
        op(&mut image);
        image
    }

    const ORANGE: [f32; 3] = [0.8, 0.4, 0.2];

    #[test]
    fn a_crop_of_everything_is_the_image() {
        let image: Vec<u8> = (0..24).map(|i| i * 10).collect();
        for size in [[2, 4, 3], [4, 6, 1], [3, 4, 2]] {
            let mut out = vec![0.0; 24];
            resized_crop(&image, size, Crop { left: 0, top: 0, width: size[1], height: size[0] }, &mut out);
            near(&out, &image.iter().map(|&b| f32::from(b) / 255.0).collect::<Vec<_>>());
        }
    }

    /// The upper right quarter of a 4x4 image whose columns are 0, 1, 0, 1 and whose rows are the same: columns 0 and 1, twice as wide. Output
    /// `x` lies at `(x + 0.5) / 2 - 0.5` of the input: -0.25, 0.25, 0.75, 1.25. With Catmull and Rom's weights, those that fall outside left
    /// out and the rest divided by their sum: w(t) = 1.5 t^3 - 2.5 t^2 + 1 below 1, -0.5 t^3 + 2.5 t^2 - 4 t + 2 below 2.
    #[test]
    fn a_crop_is_enlarged_by_the_cubic() {
        let image: Vec<u8> = (0..16).map(|i| if i % 2 == 1 { 255 } else { 0 }).collect();
        let mut out = vec![0.0; 16];
        resized_crop(&image, [4, 4, 1], Crop { left: 2, top: 0, width: 2, height: 2 }, &mut out);
        let near_weight = |t: f32| 1.5 * t.powi(3) - 2.5 * t.powi(2) + 1.0;
        let far_weight = |t: f32| -0.5 * t.powi(3) + 2.5 * t.powi(2) - 4.0 * t + 2.0;
        let left = [far_weight(1.25) / (near_weight(0.25) + far_weight(1.25)), near_weight(0.75) / (near_weight(0.25) + near_weight(0.75))];
        // The first is below 0 and is cut, its mirror above 1.
        assert!(left[0] < 0.0);
        let row = [0.0, left[1], 1.0 - left[1], 1.0];
        near(&out, &[row, row, row, row].concat());
    }

    #[test]
    fn flipping_keeps_channels_together() {
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(after(image, |x| flip(x, [1, 3, 2])), [5.0, 6.0, 3.0, 4.0, 1.0, 2.0]);
        assert_eq!(after(image, |x| flip(x, [3, 2, 1])), [2.0, 1.0, 4.0, 3.0, 6.0, 5.0]);
    }

    #[test]
    fn brightness_shifts_and_cuts() {
        near(&after([0.0, 0.5, 0.9], |x| brightness(x, 0.25)), &[0.25, 0.75, 1.0]);
        near(&after([0.0, 0.5, 0.9], |x| brightness(x, -0.25)), &[0.0, 0.25, 0.65]);
    }

    /// Two pixels of two channels with means 0.4 and 0.5.
    #[test]
    fn contrast_turns_about_each_channels_mean() {
        near(&after([0.2, 0.5, 0.6, 0.5], |x| contrast(x, 2, 1.5)), &[0.1, 0.5, 0.7, 0.5]);
        near(&after([0.2, 0.1, 0.6, 0.9], |x| contrast(x, 2, 0.5)), &[0.3, 0.3, 0.5, 0.7]);
    }

    /// Orange has saturation 0.75 and value 0.8: a third of it is as far from 0.8; doubled it is full, and 0.8 stays.
    #[test]
    fn saturation_keeps_hue_and_value() {
        near(&after(ORANGE, |x| saturation(x, 3, 0.5)), &[0.8, 0.6, 0.5]);
        near(&after(ORANGE, |x| saturation(x, 3, 2.0)), &[0.8, 0.8 - 0.4 * 4.0 / 3.0, 0.0]);
        near(&after([0.3; 3], |x| saturation(x, 3, 2.0)), &[0.3; 3]);
        near(&after([0.0; 3], |x| saturation(x, 3, 1.2)), &[0.0; 3]);
    }

    /// A third of a turn moves red to green; orange stands at 1/18 of a turn, so as much back is pure red.
    #[test]
    fn hue_turns() {
        near(&after([1.0, 0.0, 0.0], |x| hue(x, 3, 1.0 / 3.0)), &[0.0, 1.0, 0.0]);
        near(&after(ORANGE, |x| hue(x, 3, 1.0 / 3.0)), &[0.2, 0.8, 0.4]);
        near(&after(ORANGE, |x| hue(x, 3, -1.0 / 3.0)), &[0.4, 0.2, 0.8]);
        near(&after(ORANGE, |x| hue(x, 3, -1.0 / 18.0)), &[0.8, 0.2, 0.2]);
        near(&after(ORANGE, |x| hue(x, 3, 1.0)), &ORANGE);
        near(&after([0.7; 3], |x| hue(x, 3, 0.1)), &[0.7; 3]);
        // Magenta to red, through the end of the circle.
        near(&after([0.5, 0.0, 0.5], |x| hue(x, 3, 1.0 / 6.0)), &[0.5, 0.0, 0.0]);
    }

    #[test]
    fn grey_is_luma() {
        near(&after([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], |x| grey(x, 3)), &[0.2989, 0.2989, 0.2989, 0.587, 0.587, 0.587]);
    }

    /// Ops on colours do nothing to images without: nobody knows what their channels are.
    #[test]
    fn other_channels_are_left_alone() {
        for channels in [1, 2, 4] {
            let ops: [&dyn Fn(&mut [f32]); 3] = [&|x| grey(x, channels), &|x| hue(x, channels, 0.1), &|x| saturation(x, channels, 0.8)];
            for op in ops {
                assert_eq!(after([0.1, 0.9, 0.3, 0.2], op), [0.1, 0.9, 0.3, 0.2]);
            }
        }
    }

    /// At deviation 1 the weights are 1 : e^0.5 : 1 over their sum; one bright pixel becomes their outer product. In a corner the edge
    /// counts twice.
    #[test]
    fn blur_spreads_by_the_gaussian() {
        let (side, middle) = (1.0 / (2.0 + 0.5f32.exp()), 0.5f32.exp() / (2.0 + 0.5f32.exp()));
        let mut spot = [0.0; 25];
        spot[12] = 1.0;
        let weights = [0.0, side, middle, side, 0.0];
        let expected: Vec<f32> = (0..25).map(|i| weights[i / 5] * weights[i % 5]).collect();
        near(&after(spot, |x| blur(x, [5, 5, 1], 1.0)), &expected);
        near(
            &after([1.0, 0.0, 0.0, 0.0], |x| blur(x, [2, 2, 1], 1.0)),
            &[(side + middle).powi(2), (side + middle) * side, (side + middle) * side, side.powi(2)],
        );
        // Channels do not mix, and what is even stays so.
        near(&after([0.2, 0.7, 0.2, 0.7], |x| blur(x, [1, 2, 2], 2.0)), &[0.2, 0.7, 0.2, 0.7]);
    }

    #[test]
    fn solarising_turns_the_bright_half() {
        near(&after([0.0, 0.49, 0.5, 0.75, 1.0], solarise), &[0.0, 0.49, 0.5, 0.25, 0.0]);
    }
}
