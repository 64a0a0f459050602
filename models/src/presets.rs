//! The paper's sizes as settings of a model's text, with the images that they are made for. A preset is no more than its `--set`s.

/// Named sizes of a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preset {
    /// `M/8/16`: width, patches along a side, groups.
    pub name: &'static str,
    /// The model's name, among [`crate::MODELS`].
    pub model: &'static str,
    pub sets: [(&'static str, usize); 8],
    /// Trained numbers, all together.
    pub parameters: usize,
    /// What one step takes where nothing else is said: as much as memory and patience allow.
    pub batch: usize,
}

const MODEL: &str = "localmixer";

/// The five sizes of the paper's Table 2: images, patches along a side, channels, groups, blocks, classes.
pub const PRESETS: &[Preset] = &[
    Preset { name: "S/1/1", model: MODEL, sets: sets([28, 28, 1], 1, 256, 1, 1, 10), parameters: 271_892, batch: 128 },
    Preset { name: "M/1/16", model: MODEL, sets: sets([28, 28, 1], 1, 512, 16, 1, 10), parameters: 429_076, batch: 128 },
    Preset { name: "M/8/16", model: MODEL, sets: sets([32, 32, 3], 8, 512, 16, 4, 10), parameters: 918_770, batch: 128 },
    Preset { name: "L/8/64", model: MODEL, sets: sets([32, 32, 3], 8, 2048, 64, 4, 10), parameters: 13_074_674, batch: 16 },
    Preset { name: "L/32/64", model: MODEL, sets: sets([224, 224, 3], 32, 2048, 64, 4, 100), parameters: 17_335_796, batch: 8 },
];

const fn sets(image: [usize; 3], grid: usize, channels: usize, groups: usize, blocks: usize, classes: usize) -> [(&'static str, usize); 8] {
    [
        ("height", image[0]),
        ("width", image[1]),
        ("colours", image[2]),
        ("grid", grid),
        ("channels", channels),
        ("groups", groups),
        ("blocks", blocks),
        ("classes", classes),
    ]
}

impl Preset {
    /// Height, width and channels of the images that it is made for.
    pub fn image(&self) -> [usize; 3] {
        let [(_, height), (_, width), (_, channels), ..] = self.sets;
        [height, width, channels]
    }

    pub fn classes(&self) -> usize {
        let [.., (_, classes)] = self.sets;
        classes
    }
}

/// The preset of this name, whatever the case.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|p| p.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use pushforward_ir::{DType, LIBRARY, parse};
    use pushforward_passes::inline::{self, Bindings};

    use super::*;

    /// The counts of the paper's Table 2, and the shapes of the data, come out of the text.
    #[test]
    fn sizes_are_those_of_the_paper() {
        let library = parse::parse(LIBRARY, 0).unwrap();
        for preset in PRESETS {
            let module = parse::parse(crate::model(preset.model).unwrap().text, 1).unwrap();
            let sets = preset.sets.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            let bindings = Bindings { sets, batch: Some(2), ..Bindings::default() };
            let inlined = inline::run(&[&library], &module, &bindings);
            let program = inlined.unwrap_or_else(|e| panic!("{}: {e:?}", preset.name)).program;
            let count: usize = program.params.iter().map(|p| program.shape(&p.port).iter().product::<usize>()).sum();
            assert_eq!(count, preset.parameters, "{}", preset.name);
            assert!(program.params.iter().all(|p| p.port.dtype == DType::F32));

            let pixels: usize = program.shape(&program.inputs[0]).iter().skip(1).product();
            assert_eq!(pixels, preset.image().iter().product::<usize>(), "{}", preset.name);
            assert_eq!(program.shape(&program.output("logits").unwrap().port), [2, preset.classes()], "{}", preset.name);
        }
    }

    #[test]
    fn found_by_name_in_any_case() {
        assert_eq!(preset("m/8/16").map(|p| p.name), Some("M/8/16"));
        assert_eq!(preset("M/8"), None);
    }
}
