//! Flags that say which images are trained on, and what is done to them before a step sees them. Read [`FeedFlags::views`].

use pushforward_models::data::augment::Chances;
use pushforward_models::data::{self, Broken, DataSet, Scale, Source, Splits};

use super::failure::{Failure, note};
use super::flags::named;

#[derive(clap::Args, Clone, Debug)]
pub struct FeedFlags {
    /// What is done to training images: `none`; `flip`, left and right; `byol`, crops, flips, colours, grey, blur, solarisation [default:
    /// none, and byol for a model that learns from views]
    #[arg(long, value_name = "none|flip|byol", value_parser = augment)]
    augment: Option<Augment>,
    /// The least part of an image's area that a crop of `byol` keeps [default: 0.5]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = area)]
    crop_area: Option<f64>,
    /// What the network sees of pixels: `unit`, from 0 to 1; `standard`, each channel of mean 0 and deviation 1 over the training images
    /// [default: unit, and standard for a model that learns from views]
    #[arg(long, value_name = "unit|standard", value_parser = pixels)]
    pixels: Option<Pixels>,
    /// What becomes of image files that are broken: `stop`, they are named and nothing is trained; `skip`, they are named and left out
    #[arg(long, value_name = "stop|skip", default_value = "stop", value_parser = broken)]
    broken: Broken,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Augment {
    None,
    Flip,
    Byol,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pixels {
    Unit,
    Standard,
}

impl Pixels {
    fn name(self) -> &'static str {
        match self {
            Pixels::Unit => "unit",
            Pixels::Standard => "standard",
        }
    }

    /// Where nothing is said.
    fn usual(views: usize) -> Pixels {
        if views > 1 { Pixels::Standard } else { Pixels::Unit }
    }
}

/// The paper's for CIFAR-10.
const CROP_AREA: f64 = 0.5;

/// As they stand in a checkpoint's flags.
const AUGMENT: &str = "--augment=";
const AREA: &str = "--crop-area=";
const PIXELS: &str = "--pixels=";

impl Augment {
    const ALL: [Augment; 3] = [Augment::None, Augment::Flip, Augment::Byol];

    fn name(self) -> &'static str {
        match self {
            Augment::None => "none",
            Augment::Flip => "flip",
            Augment::Byol => "byol",
        }
    }

    /// Where nothing is said.
    fn usual(views: usize) -> Augment {
        if views > 1 { Augment::Byol } else { Augment::None }
    }
}

impl FeedFlags {
    /// The data set; images that were left out are named on standard error.
    pub fn load(&self, source: &Source) -> Result<Splits, Failure> {
        let splits = data::load_with(source, self.broken)?;
        for file in &splits.skipped {
            note(format_args!("left out: {file}"));
        }
        if !splits.skipped.is_empty() {
            let (left_out, used) = (splits.skipped.len(), splits.train.len() + splits.test.len());
            note(format_args!("{left_out} of {} image files are broken and left out", left_out + used));
        }
        Ok(splits)
    }

    /// What a command must say to go on with a run, as no checkpoint says it.
    pub fn again(&self) -> &'static str {
        match self.broken {
            Broken::Stop => "",
            Broken::Skip => " --broken skip",
        }
    }

    /// What is done to each of so many views of an image.
    pub fn views(&self, views: usize) -> Result<Vec<Chances>, Failure> {
        let augment = self.augment.unwrap_or(Augment::usual(views));
        if self.crop_area.is_some() && augment != Augment::Byol {
            return Err(Failure::usage("--crop-area says how `--augment byol` crops, and nothing else crops; hint: leave it out"));
        }
        let area = self.crop_area.unwrap_or(CROP_AREA);
        let chances = |view| match augment {
            Augment::None => Chances::NONE,
            Augment::Flip => Chances { flip: 0.5, ..Chances::NONE },
            Augment::Byol => Chances::byol(view, area),
        };
        Ok((0..views).map(chances).collect())
    }

    /// What is done to the pixels of a set of images with so many views.
    pub fn scale(&self, views: usize, set: &DataSet) -> Scale {
        match self.pixels.unwrap_or(Pixels::usual(views)) {
            Pixels::Unit => Scale::default(),
            Pixels::Standard => Scale::of(set),
        }
    }

    /// What is not as usual, as the flags that say it.
    pub fn spelled(&self, views: usize) -> Vec<String> {
        let augment = self.augment.filter(|&a| a != Augment::usual(views)).map(|a| format!("{AUGMENT}{}", a.name()));
        let area = self.crop_area.filter(|&a| a != CROP_AREA).map(|a| format!("{AREA}{a}"));
        let pixels = self.pixels.filter(|&p| p != Pixels::usual(views)).map(|p| format!("{PIXELS}{}", p.name()));
        augment.into_iter().chain(area).chain(pixels).collect()
    }

    /// Where these flags say nothing, what [`FeedFlags::spelled`] wrote.
    pub fn or_spelled(self, flags: &[String]) -> FeedFlags {
        let stored = |name: &str| flags.iter().find_map(|f| f.strip_prefix(name));
        FeedFlags {
            augment: self.augment.or_else(|| augment(stored(AUGMENT)?).ok()),
            crop_area: self.crop_area.or_else(|| area(stored(AREA)?).ok()),
            pixels: self.pixels.or_else(|| pixels(stored(PIXELS)?).ok()),
            broken: self.broken,
        }
    }
}

fn augment(text: &str) -> Result<Augment, String> {
    named("augmentation", text, Augment::ALL, |a| a.name())
}

fn pixels(text: &str) -> Result<Pixels, String> {
    named("scale of pixels", text, [Pixels::Unit, Pixels::Standard], |p| p.name())
}

fn broken(text: &str) -> Result<Broken, String> {
    match text.to_lowercase().as_str() {
        "stop" => Ok(Broken::Stop),
        "skip" => Ok(Broken::Skip),
        _ => Err("expected `stop` or `skip`".into()),
    }
}

fn area(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x <= 1.0 => Ok(x),
        _ => Err("expected a part of an image: a number above 0 and at most 1, such as 0.5".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        assert_eq!((augment("BYOL"), area("0.08"), area("1")), (Ok(Augment::Byol), Ok(0.08), Ok(1.0)));
        assert!(augment("crop").unwrap_err().contains("none, flip, byol"));
        for text in ["0", "-0.5", "1.01", "nan", "half"] {
            assert!(area(text).unwrap_err().contains("above 0 and at most 1"), "{text}");
        }
    }

    #[test]
    fn what_is_usual_is_not_spelled() {
        let flags = |augment, crop_area| FeedFlags { augment, crop_area, pixels: None, broken: Broken::Stop };
        assert!(flags(None, None).spelled(2).is_empty() && flags(Some(Augment::Byol), Some(0.5)).spelled(2).is_empty());
        let odd = flags(Some(Augment::Byol), Some(0.3));
        assert_eq!(odd.spelled(1), ["--augment=byol", "--crop-area=0.3"]);
        let back = flags(None, None).or_spelled(&odd.spelled(1));
        assert_eq!((back.augment, back.crop_area), (odd.augment, odd.crop_area));
        assert_eq!(back.or_spelled(&["--augment=flip".into()]).augment, Some(Augment::Byol));
    }

    #[test]
    fn nothing_crops_but_byol() {
        let flags = |augment, crop_area| FeedFlags { augment, crop_area, pixels: None, broken: Broken::Stop };
        assert!(flags(Some(Augment::Flip), Some(0.5)).views(1).is_err());
        assert!(flags(None, Some(0.5)).views(1).is_err());
        assert_eq!(flags(None, Some(0.3)).views(2).ok(), Some(vec![Chances::byol(0, 0.3), Chances::byol(1, 0.3)]));
    }
}
