//! What kind of case a file holds, and its sizes: the JSON text in its metadata. Read [`Config`].

use std::num::NonZeroU32;

use serde::Deserialize;

/// Sizes are positive, and small enough that their products are found too large rather than overflow.
pub type Size = NonZeroU32;

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Config {
    Xent(Replicated),
    Infonce(Replicated),
    Norm(Features),
    Step(Network),
    NceStep(Network),
}

/// Features and a head.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Replicated {
    #[serde(flatten)]
    pub features: Features,
    /// Classes, or the projector's width.
    #[serde(rename = "K")]
    pub classes: Size,
}

/// Features of N examples: P patches, G groups of D channels.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub struct Features {
    pub n: Size,
    pub p: Size,
    pub g: Size,
    pub d: Size,
}

/// A LocalMixer.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Network {
    #[serde(rename = "N")]
    pub n: Size,
    /// Height, width, colours.
    pub image: [Size; 3],
    pub grid: Size,
    pub channels: Size,
    pub groups: Size,
    pub blocks: Size,
    pub classes: Size,
    pub norm: Norm,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    Local,
    Ln,
    Bn,
}

impl Norm {
    pub const ALL: [Norm; 3] = [Norm::Local, Norm::Ln, Norm::Bn];

    /// As fixtures and models spell it.
    pub fn name(self) -> &'static str {
        match self {
            Norm::Local => "local",
            Norm::Ln => "ln",
            Norm::Bn => "bn",
        }
    }
}

impl Config {
    /// Reads the text; what is wrong with it is said so that `its config ..` can stand before.
    pub fn parse(text: &str) -> Result<Config, String> {
        let config: Config = serde_json::from_str(text).map_err(|e| format!("is wrong: {e}"))?;
        match &config {
            Config::Step(network) | Config::NceStep(network) => network.check()?,
            Config::Xent(_) | Config::Infonce(_) | Config::Norm(_) => {}
        }
        Ok(config)
    }

    /// The number that labels stay below, where a case has labels.
    pub fn classes(&self) -> Option<Size> {
        match self {
            Config::Xent(sizes) => Some(sizes.classes),
            Config::Step(network) => Some(network.classes),
            Config::Infonce(_) | Config::Norm(_) | Config::NceStep(_) => None,
        }
    }
}

impl Network {
    fn check(&self) -> Result<(), String> {
        let [height, width, _] = self.image;
        for (whole, size, part, count) in
            [("channels", self.channels, "groups", self.groups), ("height", height, "grid", self.grid), ("width", width, "grid", self.grid)]
        {
            if size.get() % count.get() != 0 {
                return Err(format!("has {whole} {size}, which its {part} {count} does not divide"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, part: &str) {
        let error = Config::parse(text).expect_err(text);
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn kinds_and_sizes_are_read() {
        let text = r#"{"kind": "xent", "N": 3, "P": 4, "G": 2, "D": 5, "K": 6}"#;
        let Ok(Config::Xent(sizes)) = Config::parse(text) else { panic!("{text}") };
        assert_eq!([sizes.features.n, sizes.features.p, sizes.features.g, sizes.features.d, sizes.classes].map(Size::get), [3, 4, 2, 5, 6]);
        let text = r#"{"kind": "nce_step", "N": 3, "image": [4, 6, 3], "grid": 2, "channels": 12, "groups": 2, "blocks": 2, "classes": 6, "norm": "bn"}"#;
        assert!(matches!(Config::parse(text), Ok(Config::NceStep(Network { norm: Norm::Bn, .. }))));
    }

    #[test]
    fn wrong_configs_say_what_is_wrong() {
        refused("{", "EOF");
        refused(r#"{"N": 3}"#, "kind");
        refused(r#"{"kind": "conv"}"#, "`conv`");
        refused(r#"{"kind": "norm", "N": 3, "P": 4, "G": 2}"#, "missing field `D`");
        refused(r#"{"kind": "norm", "N": 0, "P": 4, "G": 2, "D": 1}"#, "nonzero");
        refused(r#"{"kind": "norm", "N": -1, "P": 4, "G": 2, "D": 1}"#, "-1");
        let step = |change: (&str, &str)| {
            r#"{"kind": "step", "N": 3, "image": [4, 6, 3], "grid": 2, "channels": 12, "groups": 2, "blocks": 2, "classes": 6, "norm": "ln"}"#
                .replace(change.0, change.1)
        };
        refused(&step((r#""groups": 2"#, r#""groups": 5"#)), "has channels 12, which its groups 5 does not divide");
        refused(&step(("[4, 6, 3]", "[4, 7, 3]")), "has width 7, which its grid 2 does not divide");
        refused(&step(("[4, 6, 3]", "[4, 6]")), "length");
        refused(&step(("ln", "group")), "`group`");
    }
}
