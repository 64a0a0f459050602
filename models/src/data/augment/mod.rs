//! Views of an image as BYOL makes them (Grill et al., "Bootstrap your own latent", 2020, appendix B): random resized crop, flip, colour
//! jitter, grey, blur, solarise. Read [`view`].
//!
//! A view is a pure function of its image and of (seed, epoch, image, view): whatever the threads or their order, the same bits. Nothing here
//! holds a generator's state, and one op's luck never shifts another's: each has its own number, drawn whether it is used or not.
//!
//! What an op does to pixels is in `ops.rs`.

mod ops;

use pushforward_ir::philox::{Domain, philox4x32};

/// How likely each op is, in the order in which they are done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Chances {
    /// The least part of the image's area that a crop keeps, above 0 and at most 1; `None`: no crop. The area is uniform from there to 1, the
    /// ratio of width to height uniform in its logarithm from 3/4 to 4/3, and the crop is resized (bicubic) to the size of the image.
    pub crop: Option<f64>,
    /// Left and right change places.
    pub flip: f64,
    /// Brightness, contrast, saturation, hue, in random order.
    pub jitter: f64,
    pub grey: f64,
    pub blur: f64,
    pub solarise: f64,
}

impl Chances {
    /// The image as it is.
    pub const NONE: Chances = Chances { crop: None, flip: 0.0, jitter: 0.0, grey: 0.0, blur: 0.0, solarise: 0.0 };

    /// BYOL's table 6. Its two views differ: the first is always blurred and never solarised. Further views are as the second.
    pub fn byol(view: usize, least_area: f64) -> Chances {
        let (blur, solarise) = if view == 0 { (1.0, 0.0) } else { (0.1, 0.2) };
        Chances { crop: Some(least_area), flip: 0.5, jitter: 0.8, grey: 0.2, blur, solarise }
    }
}

/// Brightness is shifted by at most this, of 1.
const BRIGHTNESS: f64 = 0.4;
/// Contrast and saturation are multiplied by at least 1 minus this, at most 1 plus it.
const CONTRAST: f64 = 0.4;
const SATURATION: f64 = 0.2;
/// Hue is turned by at most this part of a full turn.
const HUE: f64 = 0.1;
/// The deviation of the blur, in pixels; its kernel is a tenth of the image's height wide, at least 3 pixels.
const SIGMA: (f64, f64) = (0.1, 2.0);
/// The logarithm of the largest ratio of a crop's width to its height, and of the least with the sign turned.
const LOG_RATIO: f64 = 0.287_682_072_451_780_9; // ln(4 / 3)

/// Which view of which image, when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Which {
    pub seed: u32,
    pub epoch: u32,
    /// In its data set.
    pub image: u32,
    pub view: u32,
}

/// Writes a view of `image`, bytes `[height, width, channels]`, into `out`, as many numbers in [0, 1]. Ops on colours leave images alone whose
/// channels are not red, green and blue; brightness and contrast are for all.
pub fn view(image: &[u8], size: [usize; 3], chances: &Chances, which: Which, out: &mut [f32]) {
    let luck = Luck::of(which);
    match chances.crop {
        Some(least_area) => ops::resized_crop(image, size, crop(size, least_area, &luck), out),
        None => ops::numbers(image, out),
    }
    if luck.smiles(Draw::Flip, chances.flip) {
        ops::flip(out, size);
    }
    if luck.smiles(Draw::Jitter, chances.jitter) {
        for op in luck.order() {
            match op {
                Jitter::Brightness => ops::brightness(out, luck.between(Draw::Brightness, -BRIGHTNESS, BRIGHTNESS) as f32),
                Jitter::Contrast => ops::contrast(out, size[2], luck.between(Draw::Contrast, 1.0 - CONTRAST, 1.0 + CONTRAST) as f32),
                Jitter::Saturation => {
                    ops::saturation(out, size[2], luck.between(Draw::Saturation, 1.0 - SATURATION, 1.0 + SATURATION) as f32);
                }
                Jitter::Hue => ops::hue(out, size[2], luck.between(Draw::Hue, -HUE, HUE) as f32),
            }
        }
    }
    if luck.smiles(Draw::Grey, chances.grey) {
        ops::grey(out, size[2]);
    }
    if luck.smiles(Draw::Blur, chances.blur) {
        ops::blur(out, size, luck.between(Draw::Sigma, SIGMA.0, SIGMA.1) as f32);
    }
    if luck.smiles(Draw::Solarise, chances.solarise) {
        ops::solarise(out);
    }
}

/// Where a crop lies. A side that would be longer than the image's is cut to it, as in the published code, and does not redraw.
fn crop([height, width, _]: [usize; 3], least_area: f64, luck: &Luck) -> ops::Crop {
    let area = luck.between(Draw::Area, least_area, 1.0) * (height * width) as f64;
    let ratio = luck.between(Draw::Ratio, -LOG_RATIO, LOG_RATIO).exp();
    let side = |length: f64, most: usize| (length.round() as usize).clamp(1, most);
    let (w, h) = (side((area * ratio).sqrt(), width), side((area / ratio).sqrt(), height));
    ops::Crop { left: luck.below(Draw::Left, width - w + 1), top: luck.below(Draw::Top, height - h + 1), width: w, height: h }
}

/// What is decided by chance, each by a number of its own.
#[derive(Clone, Copy)]
enum Draw {
    Area,
    Ratio,
    Left,
    Top,
    Flip,
    Jitter,
    Order,
    Brightness,
    Contrast,
    Saturation,
    Hue,
    Grey,
    Blur,
    Sigma,
    Solarise,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Jitter {
    Brightness,
    Contrast,
    Saturation,
    Hue,
}

/// Uniform numbers of 32 bits, one for each [`Draw`]: four blocks of the cipher that draws the noise of training.
struct Luck([u32; 16]);

impl Luck {
    fn of(which: Which) -> Luck {
        let Which { seed, epoch, image, view } = which;
        let mut bits = [0; 16];
        for (block, lanes) in (0u32..).zip(bits.chunks_exact_mut(4)) {
            lanes.copy_from_slice(&philox4x32([block, image, view, epoch], [seed, Domain::Data.key()]));
        }
        Luck(bits)
    }

    /// In [low, high).
    fn between(&self, draw: Draw, low: f64, high: f64) -> f64 {
        low + (high - low) * (f64::from(self.0[draw as usize]) / 4_294_967_296.0)
    }

    fn smiles(&self, draw: Draw, probability: f64) -> bool {
        self.between(draw, 0.0, 1.0) < probability
    }

    /// One of 0 .. count.
    fn below(&self, draw: Draw, count: usize) -> usize {
        ((u64::from(self.0[draw as usize]) * count as u64) >> 32) as usize
    }

    /// One of the 24 orders.
    fn order(&self) -> [Jitter; 4] {
        let mut ops = [Jitter::Brightness, Jitter::Contrast, Jitter::Saturation, Jitter::Hue];
        let mut number = self.below(Draw::Order, 24);
        for place in 0..3 {
            let left = 4 - place;
            ops[place..].rotate_left(number % left);
            number /= left;
        }
        ops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: [usize; 3] = [32, 32, 3];

    fn which(epoch: u32, image: u32, view: u32) -> Which {
        Which { seed: 5, epoch, image, view }
    }

    /// Every value from 0 to 255, in no pattern.
    fn sample() -> Vec<u8> {
        (0..32 * 32 * 3).map(|i: usize| (i * 7919 % 256) as u8).collect()
    }

    fn seen(chances: &Chances, which: Which) -> Vec<f32> {
        let mut out = vec![f32::NAN; 32 * 32 * 3];
        view(&sample(), SIZE, chances, which, &mut out);
        out
    }

    #[test]
    fn a_view_depends_on_all_of_seed_epoch_image_and_view_and_on_nothing_else() {
        let chances = Chances::byol(1, 0.5);
        let usual = seen(&chances, which(1, 2, 3));
        assert_eq!(usual, seen(&chances, which(1, 2, 3)));
        let others = [which(2, 2, 3), which(1, 3, 3), which(1, 2, 4), which(3, 1, 2), Which { seed: 6, ..which(1, 2, 3) }];
        for other in others {
            assert_ne!(usual, seen(&chances, other), "{other:?}");
        }
    }

    #[test]
    fn without_ops_an_image_stays_as_it_is() {
        let plain: Vec<f32> = sample().iter().map(|&byte| f32::from(byte) / 255.0).collect();
        assert_eq!(seen(&Chances::NONE, which(0, 0, 0)), plain);
    }

    /// Each op alone, where its chance is 1, does something; where it is 0, nothing.
    #[test]
    fn ops_are_done_as_often_as_asked() {
        let plain = seen(&Chances::NONE, which(0, 0, 0));
        let one: [fn(&mut Chances, f64); 5] =
            [|c, p| c.flip = p, |c, p| c.jitter = p, |c, p| c.grey = p, |c, p| c.blur = p, |c, p| c.solarise = p];
        for set in one {
            for (probability, expected) in [(0.0, 0.0), (0.2, 200.0), (0.8, 800.0), (1.0, 1000.0)] {
                let mut chances = Chances::NONE;
                set(&mut chances, probability);
                let changed = (0..1000).filter(|&image| seen(&chances, which(0, image, 0)) != plain).count() as f64;
                // Four deviations of a binomial count.
                let tolerance = 4.0 * f64::sqrt(1000.0 * probability * (1.0 - probability));
                assert!((changed - expected).abs() <= tolerance, "{chances:?}: {changed} of 1000");
            }
        }
    }

    #[test]
    fn views_stay_in_the_unit_interval() {
        for view_index in 0..2 {
            for image in 0..300 {
                let out = seen(&Chances::byol(view_index, 0.08), which(0, image, view_index as u32));
                assert!(out.iter().all(|x| (0.0..=1.0).contains(x)), "image {image}");
            }
        }
    }

    /// The views of BYOL's table 6.
    #[test]
    fn the_two_views_differ_in_blur_and_solarisation() {
        let [first, second] = [0, 1].map(|view| Chances::byol(view, 0.5));
        assert_eq!((first.blur, first.solarise, second.blur, second.solarise), (1.0, 0.0, 0.1, 0.2));
        assert_eq!(Chances { blur: 0.0, solarise: 0.0, ..first }, Chances { blur: 0.0, solarise: 0.0, ..second });
    }

    /// Areas are uniform but for the sides that are cut: on a large image, where rounding says little. Where no side is cut (area at most
    /// 3/4), a tenth of the range has its share of the draws.
    #[test]
    fn areas_of_crops_are_uniform() {
        let (size, least) = ([1000, 1000, 1], 0.25);
        let crops: Vec<ops::Crop> = (0..20_000).map(|image| crop(size, least, &Luck::of(which(0, image, 0)))).collect();
        let area = |c: &ops::Crop| (c.width * c.height) as f64 / 1e6;
        for tenth in 0..10 {
            let from = least + 0.05 * f64::from(tenth);
            let count = crops.iter().filter(|c| (from..from + 0.05).contains(&area(c))).count() as f64;
            // Expected 20,000 * 0.05 / 0.75 = 1333, deviation 35.
            assert!((count - 1333.0).abs() < 150.0, "{from}: {count}");
        }
        assert!(crops.iter().all(|c| c.left + c.width <= 1000 && c.top + c.height <= 1000 && area(c) > least - 0.001));
        let ratios: Vec<f64> = crops.iter().map(|c| (c.width as f64 / c.height as f64).ln()).collect();
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        assert!(mean.abs() < 0.01 && ratios.iter().all(|r| r.abs() < LOG_RATIO + 0.01), "{mean}");
        // Crops lie everywhere, up to both edges.
        let free: Vec<f64> = crops.iter().filter(|c| c.width < 900).map(|c| c.left as f64 / (1000 - c.width) as f64).collect();
        let mean = free.iter().sum::<f64>() / free.len() as f64;
        assert!((mean - 0.5).abs() < 0.02 && free.iter().any(|&x| x < 0.01) && free.iter().any(|&x| x > 0.99), "{mean}");
    }

    #[test]
    fn every_order_of_the_jitter_is_as_likely_as_any_other() {
        let mut counts = std::collections::HashMap::new();
        for image in 0..24_000 {
            *counts.entry(format!("{:?}", Luck::of(which(0, image, 0)).order())).or_insert(0) += 1;
        }
        assert!(counts.len() == 24 && counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    /// Grey images keep one channel, and odd ones any number.
    #[test]
    fn any_number_of_channels() {
        for channels in [1, 2, 3, 4, 5] {
            let (size, image) = ([7, 9, channels], &sample()[..63 * channels]);
            let mut out = vec![f32::NAN; image.len()];
            for number in 0..50 {
                view(image, size, &Chances::byol(1, 0.3), which(0, number, 1), &mut out);
                assert!(out.iter().all(|x| (0.0..=1.0).contains(x)), "{channels} channels");
            }
        }
    }
}
