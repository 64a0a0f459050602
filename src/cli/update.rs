//! Flags of the optimiser: which rule, what decays, how fast each parameter learns. Read [`UpdateFlags::settings`].

use pushforward_passes::update::{Decay, Factor, Pattern, Rule, Settings};

use super::failure::Failure;
use super::flags::{named, not_negative};

/// How gradients move parameters.
#[derive(clap::Args, Clone, Debug)]
pub struct UpdateFlags {
    /// How gradients move parameters: sgd, nesterov, lars, adamw [default: sgd]
    #[arg(long, value_name = "NAME", value_parser = optimizer)]
    optimizer: Option<Optimizer>,
    /// Of sgd, nesterov and lars [default: 0.9]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = below_one)]
    momentum: Option<f64>,
    /// Of lars: how far a layer moves in a step, as a share of its length [default: 0.001]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = positive)]
    trust: Option<f64>,
    /// Of adamw: what its mean of gradients keeps [default: 0.9]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = below_one)]
    beta1: Option<f64>,
    /// Of adamw: what its mean of squares keeps [default: 0.999]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = below_one)]
    beta2: Option<f64>,
    /// Of adamw: added to the root of the mean square [default: 1e-8]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = positive)]
    eps: Option<f64>,
    /// Pulls parameters towards 0 [default: 1e-4]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = not_negative)]
    weight_decay: Option<f64>,
    /// Which parameters --weight-decay pulls [default: weights]
    #[arg(long, value_name = "weights|all|none", value_parser = decay)]
    decay: Option<Decay>,
    /// A learning rate of their own, X times --lr, for the parameters whose names PATTERN matches (`*`: any characters, `?`: one); 0
    /// freezes them. May be given several times: the first that matches holds
    #[arg(long = "lr-factor", value_name = "PATTERN=X", value_parser = factor)]
    factors: Vec<Factor>,
}

/// The rules, by what a person calls them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Optimizer {
    Sgd,
    Nesterov,
    Lars,
    AdamW,
}

impl Optimizer {
    const ALL: [Optimizer; 4] = [Optimizer::Sgd, Optimizer::Nesterov, Optimizer::Lars, Optimizer::AdamW];
    const OF_MOMENTUM: &[Optimizer] = &[Optimizer::Sgd, Optimizer::Nesterov, Optimizer::Lars];

    fn name(self) -> &'static str {
        match self {
            Optimizer::Sgd => "sgd",
            Optimizer::Nesterov => "nesterov",
            Optimizer::Lars => "lars",
            Optimizer::AdamW => "adamw",
        }
    }

    fn of(rule: Rule) -> Optimizer {
        match rule {
            Rule::Sgd { nesterov: false, .. } => Optimizer::Sgd,
            Rule::Sgd { nesterov: true, .. } => Optimizer::Nesterov,
            Rule::Lars { .. } => Optimizer::Lars,
            Rule::AdamW { .. } => Optimizer::AdamW,
        }
    }
}

/// What holds where nothing is said.
const MOMENTUM: f64 = 0.9;
const TRUST: f64 = 0.001;
const BETAS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

impl UpdateFlags {
    /// What the flags say; an error if one of them is of another rule.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let optimizer = self.optimizer.unwrap_or(Optimizer::Sgd);
        let of = [
            ("--momentum", self.momentum, Optimizer::OF_MOMENTUM),
            ("--trust", self.trust, &[Optimizer::Lars]),
            ("--beta1", self.beta1, &[Optimizer::AdamW]),
            ("--beta2", self.beta2, &[Optimizer::AdamW]),
            ("--eps", self.eps, &[Optimizer::AdamW]),
        ];
        if let Some((flag, _, rules)) = of.into_iter().find(|(_, given, rules)| given.is_some() && !rules.contains(&optimizer)) {
            let rules: Vec<&str> = rules.iter().map(|r| r.name()).collect();
            return Err(Failure::usage(format!(
                "{flag} is of {}, and nothing to {}; hint: leave it out, or give --optimizer {}",
                rules.join(", "),
                optimizer.name(),
                rules[rules.len() - 1]
            )));
        }
        let momentum = self.momentum.unwrap_or(MOMENTUM);
        let rule = match optimizer {
            Optimizer::Sgd => Rule::Sgd { momentum, nesterov: false },
            Optimizer::Nesterov => Rule::Sgd { momentum, nesterov: true },
            Optimizer::Lars => Rule::Lars { momentum, trust: self.trust.unwrap_or(TRUST) },
            Optimizer::AdamW => {
                let (beta1, beta2) = (self.beta1.unwrap_or(BETAS[0]), self.beta2.unwrap_or(BETAS[1]));
                Rule::AdamW { beta1, beta2, eps: self.eps.unwrap_or(EPS) }
            }
        };
        let usual = Settings::default();
        Ok(Settings {
            rule,
            weight_decay: self.weight_decay.unwrap_or(usual.weight_decay),
            decay: self.decay.unwrap_or(usual.decay),
            factors: self.factors.clone(),
        })
    }

    /// What is not as usual, as the flags that say it; but momentum and weight decay, which checkpoints name.
    pub fn spelled(settings: &Settings) -> Vec<String> {
        let mut flags = Vec::new();
        let optimizer = Optimizer::of(settings.rule);
        if optimizer != Optimizer::Sgd {
            flags.push(format!("{OPTIMIZER}{}", optimizer.name()));
        }
        let mut number = |flag: &str, value: f64, usual: f64| {
            if value != usual {
                flags.push(format!("{flag}{value}"));
            }
        };
        match settings.rule {
            Rule::Sgd { .. } => {}
            Rule::Lars { trust, .. } => number(TRUST_FLAG, trust, TRUST),
            Rule::AdamW { beta1, beta2, eps } => {
                number(BETA1, beta1, BETAS[0]);
                number(BETA2, beta2, BETAS[1]);
                number(EPS_FLAG, eps, EPS);
            }
        }
        if settings.decay != Decay::Weights {
            flags.push(format!("{DECAY}{}", settings.decay.name()));
        }
        flags.extend(settings.factors.iter().map(|f| format!("{LR_FACTOR}{}={}", f.pattern, f.factor)));
        flags
    }

    /// The momentum of a rule that has it.
    pub fn momentum_of(rule: Rule) -> f64 {
        match rule {
            Rule::Sgd { momentum, .. } | Rule::Lars { momentum, .. } => momentum,
            Rule::AdamW { .. } => 0.0,
        }
    }

    /// Where these flags say nothing, those of a run that a checkpoint names: what [`UpdateFlags::spelled`] wrote, momentum and weight decay.
    pub fn or_spelled(self, flags: &[String], momentum: f64, weight_decay: f64) -> UpdateFlags {
        let word = |flag: &str| flags.iter().find_map(|f| f.strip_prefix(flag));
        let number = |flag: &str| word(flag).and_then(|x| x.parse::<f64>().ok());
        let there = word(OPTIMIZER).and_then(|name| optimizer(name).ok()).unwrap_or(Optimizer::Sgd);
        let mut all = self;
        all.weight_decay = all.weight_decay.or(Some(weight_decay));
        all.decay = all.decay.or_else(|| word(DECAY).and_then(|name| decay(name).ok()));
        if all.factors.is_empty() {
            all.factors = flags.iter().filter_map(|f| factor(f.strip_prefix(LR_FACTOR)?).ok()).collect();
        }
        // The numbers of another rule than the run's say nothing of this one: that they differ is found when the checkpoint is compared.
        if *all.optimizer.get_or_insert(there) == there {
            if Optimizer::OF_MOMENTUM.contains(&there) {
                all.momentum = all.momentum.or(Some(momentum));
            }
            all.trust = all.trust.or_else(|| number(TRUST_FLAG));
            all.beta1 = all.beta1.or_else(|| number(BETA1));
            all.beta2 = all.beta2.or_else(|| number(BETA2));
            all.eps = all.eps.or_else(|| number(EPS_FLAG));
        }
        all
    }
}

/// As they stand in a checkpoint's flags.
const OPTIMIZER: &str = "--optimizer=";
const TRUST_FLAG: &str = "--trust=";
const BETA1: &str = "--beta1=";
const BETA2: &str = "--beta2=";
const EPS_FLAG: &str = "--eps=";
const DECAY: &str = "--decay=";
const LR_FACTOR: &str = "--lr-factor=";

fn optimizer(text: &str) -> Result<Optimizer, String> {
    named("optimiser", text, Optimizer::ALL, |o| o.name())
}

fn decay(text: &str) -> Result<Decay, String> {
    named("kind of parameters", text, Decay::ALL, |d| d.name())
}

fn factor(text: &str) -> Result<Factor, String> {
    let example = "expected a pattern, `=`, and a factor: `--lr-factor 'cls.*=0.1'`";
    let (pattern, factor) = text.rsplit_once('=').filter(|(pattern, _)| !pattern.is_empty()).ok_or(example)?;
    let pattern =
        Pattern::new(pattern).map_err(|e| format!("`{pattern}` is no pattern: {e}; hint: `*` stands for any run of characters"))?;
    Ok(Factor { pattern, factor: not_negative(factor)? })
}

/// What a step keeps of the last one; with all of it, or more, no run comes to rest.
fn below_one(text: &str) -> Result<f64, String> {
    match not_negative(text)? {
        x if (x as f32) < 1.0 => Ok(x),
        _ => Err("expected a number from 0 to less than 1".into()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match not_negative(text)? {
        x if (x as f32) > 0.0 => Ok(x),
        _ => Err(format!("expected a number above 0, and not below {:e}", f32::from_bits(1))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        update: UpdateFlags,
    }

    fn flags(line: &str) -> UpdateFlags {
        Line::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).unwrap_or_else(|e| panic!("{e}")).update
    }

    fn settings(line: &str) -> Settings {
        flags(line).settings().unwrap_or_else(|_| panic!("{line} is refused"))
    }

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(settings(""), Settings::default());
        assert!(UpdateFlags::spelled(&Settings::default()).is_empty());
    }

    /// What a checkpoint says of a run brings the same run back.
    #[test]
    fn what_is_spelled_is_read_back() {
        for line in [
            "",
            "--momentum 0 --weight-decay 0.5",
            "--optimizer nesterov --momentum 0.5",
            "--optimizer LARS --trust 0.02 --decay all",
            "--optimizer adamw --beta1 0.8 --beta2 0.99 --eps 1e-3 --weight-decay 0 --decay none",
            "--optimizer adamw --lr-factor cls.*=0.1 --lr-factor block?.fc.w=0 --lr-factor *=2",
        ] {
            let here = settings(line);
            let stored = UpdateFlags::spelled(&here);
            let back = flags("").or_spelled(&stored, UpdateFlags::momentum_of(here.rule), here.weight_decay);
            assert_eq!(back.settings().ok(), Some(here), "{line}: {stored:?}");
        }
        // What the command line says wins, and numbers of another rule are not taken over.
        let lars = UpdateFlags::spelled(&settings("--optimizer lars --trust 0.5"));
        assert_eq!(flags("--optimizer adamw").or_spelled(&lars, 0.3, 1e-4).settings().ok(), Some(settings("--optimizer adamw")));
        let other = flags("--trust 0.25").or_spelled(&lars, 0.3, 1e-4).settings().ok();
        assert_eq!(other, Some(settings("--optimizer lars --trust 0.25 --momentum 0.3")));
    }

    #[test]
    fn flags_of_other_rules_are_refused() {
        for (line, told) in [
            ("--beta1 0.5", "--beta1 is of adamw, and nothing to sgd; hint: leave it out, or give --optimizer adamw"),
            ("--optimizer adamw --momentum 0.5", "--momentum is of sgd, nesterov, lars, and nothing to adamw"),
            ("--optimizer nesterov --trust 1", "--trust is of lars, and nothing to nesterov"),
        ] {
            match flags(line).settings() {
                Err(Failure::Usage(message)) => assert!(message.starts_with(told), "{message}"),
                _ => panic!("`{line}` is let through"),
            }
        }
    }

    #[test]
    fn values_are_checked() {
        assert!(optimizer("adam").unwrap_err().ends_with("did you mean `adamw`?"));
        assert!(decay("weight").unwrap_err().ends_with("did you mean `weights`?"));
        assert_eq!(below_one("0.99"), Ok(0.99));
        assert!(below_one("1").is_err() && below_one("nan").is_err() && below_one("0.99999999999").is_err());
        assert!(positive("0").is_err() && positive("1e-60").is_err() && positive("1e-8").is_ok());
        assert_eq!(factor("a=b*=0.5").map(|f| f.factor), Ok(0.5));
        for wrong in ["cls.*", "=1", "cls=x", "cls=-1", "[=1", "cls="] {
            assert!(factor(wrong).is_err(), "{wrong}");
        }
    }
}
