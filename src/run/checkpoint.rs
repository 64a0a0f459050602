//! Checkpoints: named f32 tensors and the run that they belong to, as one safetensors file, the same bytes for the same contents.
//!
//! Never reads a model and never guesses: a file is read whole and checked, or refused with what is wrong. Read [`Checkpoint::to_bytes`]
//! first, then [`Checkpoint::check_matches`].
//!
//! The header's `__metadata__` holds `format`, `version`, `run` (a [`Meta`] as JSON) and `checksum` (of `run` and all data; not needed for
//! reading, so that other programs can write checkpoints).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};
use serde::{Deserialize, Serialize};

use super::{RunError, write_whole};

/// What `format` says in a file of ours.
pub const FORMAT: &str = "pushforward-checkpoint";
/// Goes up whenever an older program could misread the file.
pub const VERSION: &str = "1";

/// The state of a run between two epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub meta: Meta,
    /// Sorted by name after loading; in any order before saving.
    pub tensors: Vec<Tensor>,
}

/// A dense tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// What a checkpoint belongs to and how far it got. All but `epochs_done` and `steps_done` decides the bits of the remaining steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// The stem of the model's file.
    pub model: String,
    /// [`fingerprint`] of the model's printed, bound text.
    pub model_hash: String,
    pub preset: Option<String>,
    /// `--set NAME=VALUE`, in order.
    pub sets: Vec<(String, String)>,
    pub algorithm: String,
    /// Other flags that change the numbers, such as `--no-prune`, sorted; then those of the optimiser, in their order.
    pub flags: Vec<String>,
    pub seed: u32,
    pub batch: usize,
    pub epochs_planned: usize,
    pub epochs_done: usize,
    pub steps_done: u64,
    /// The highest rate; the schedule is among the flags.
    #[serde(with = "exact")]
    pub lr: f64,
    #[serde(with = "exact")]
    pub momentum: f64,
    #[serde(with = "exact")]
    pub weight_decay: f64,
    /// Name of the data set.
    pub data: String,
}

/// What a checkpoint is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To take the remaining steps: everything that decides their bits must agree.
    Continue,
    /// To look at the model: only the model must agree.
    Evaluate,
}

impl Checkpoint {
    /// Writes the file whole or not at all; on an error the previous checkpoint stays.
    pub fn save(&self, path: &Path) -> Result<(), RunError> {
        let bytes = self.to_bytes().map_err(|reason| RunError::Unsavable { path: path.into(), reason })?;
        write_whole(path, &bytes)
    }

    pub fn load(path: &Path) -> Result<Checkpoint, RunError> {
        let bytes = fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => RunError::NoCheckpoint { path: path.into() },
            _ => RunError::read(path, source),
        })?;
        Checkpoint::from_bytes(path, &bytes)
    }

    /// The file's bytes: the same for the same contents, whatever the order of the tensors.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut tensors: Vec<&Tensor> = self.tensors.iter().collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let data: Vec<u8> = tensors.iter().flat_map(|tensor| &tensor.data).flat_map(|x| x.to_le_bytes()).collect();
        let run = serde_json::to_string(&self.meta).map_err(|e| e.to_string())?;
        let metadata = [("format", FORMAT), ("version", VERSION), ("checksum", &checksum(&run, &data)), ("run", &run)]
            .map(|(k, v)| (k.into(), v.into()));

        // The crate would keep `__metadata__` in a HashMap, whose order differs from process to process.
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".into(), serde_json::Value::Object(metadata.into_iter().collect()));
        let mut start = 0;
        for tensor in tensors {
            let count = tensor.shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
            if count != Some(tensor.data.len()) {
                return Err(format!("tensor `{}` of shape {:?} has {} values", tensor.name, tensor.shape, tensor.data.len()));
            }
            let end = start + tensor.data.len() * size_of::<f32>();
            let info = TensorInfo { dtype: Dtype::F32, shape: tensor.shape.clone(), data_offsets: (start, end) };
            let info = serde_json::to_value(info).map_err(|e| e.to_string())?;
            if header.insert(tensor.name.clone(), info).is_some() {
                return Err(format!("`{}` names two tensors, or is reserved", tensor.name));
            }
            start = end;
        }
        let mut header = serde_json::to_vec(&header).map_err(|e| e.to_string())?;
        header.resize(header.len().next_multiple_of(8), b' ');

        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(data);
        Ok(bytes)
    }

    /// Reads what [`Checkpoint::to_bytes`] wrote; `path` is for messages.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Checkpoint, RunError> {
        let (metadata, data) = split(path, bytes)?;
        let foreign = |reason: String| RunError::NotACheckpoint { path: path.into(), reason };
        let damaged = |reason: String| RunError::Damaged { path: path.into(), reason };

        let none = HashMap::new();
        let entries = metadata.metadata().as_ref().unwrap_or(&none);
        match entries.get("format").map(String::as_str) {
            Some(FORMAT) => {}
            Some(other) => return Err(foreign(format!("its format is `{other}`, expected `{FORMAT}`"))),
            None => return Err(foreign(format!("it is a safetensors file, but its metadata lacks `format`, expected `{FORMAT}`"))),
        }
        match entries.get("version").map(String::as_str) {
            Some(VERSION) => {}
            other => {
                let found = other.unwrap_or("(none)").to_string();
                return Err(RunError::Version { path: path.into(), found, expected: VERSION });
            }
        }
        let run = entries.get("run").ok_or_else(|| damaged("its metadata lacks `run`".into()))?;
        let meta: Meta = serde_json::from_str(run).map_err(|e| damaged(format!("`run` in its metadata is wrong: {e}")))?;
        if entries.get("checksum").is_some_and(|sum| *sum != checksum(run, data)) {
            return Err(damaged("its checksum does not fit its contents".into()));
        }

        let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(e.to_string()))?;
        let mut tensors = Vec::with_capacity(file.len());
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(damaged(format!("tensor `{name}` is {}, expected F32", view.dtype())));
            }
            let (values, _) = view.data().as_chunks();
            let data = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            tensors.push(Tensor { name: name.into(), shape: view.shape().to_vec(), data });
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Checkpoint { meta, tensors })
    }

    /// Whether this checkpoint, read from `path`, fits the run that `expected` and `tensors` (names and shapes) describe.
    ///
    /// If not, the error names the first tensor that differs and every setting that does, both sides each.
    pub fn check_matches(&self, path: &Path, purpose: Purpose, expected: &Meta, tensors: &[(String, Vec<usize>)]) -> Result<(), RunError> {
        let mut differences = self.differing_settings(purpose, expected);
        let mut differing = self.differing_tensors(tensors);
        let more = differing.len().saturating_sub(1);
        differing.truncate(1);
        if more > 0 {
            differing[0] += &format!(" (and {more} more tensor{})", if more == 1 { "" } else { "s" });
        }
        differences.append(&mut differing);
        let hint = match purpose {
            Purpose::Continue => "give the settings of that run, or choose another folder with -o",
            Purpose::Evaluate => "give the model and sizes of that run, or choose another folder with -o",
        };
        if differences.is_empty() { Ok(()) } else { Err(RunError::OtherRun { path: path.into(), differences, hint }) }
    }

    fn differing_settings(&self, purpose: Purpose, expected: &Meta) -> Vec<String> {
        let (there, here) = (&self.meta, expected);
        let preset = |meta: &Meta| meta.preset.clone().unwrap_or_else(|| "none".into());
        let sets = |meta: &Meta| list(meta.sets.iter().map(|(name, value)| format!("{name}={value}")));
        let mut rows = vec![
            ("model", there.model.clone(), here.model.clone()),
            ("preset", preset(there), preset(here)),
            ("sizes and options", sets(there), sets(here)),
        ];
        // If one of these differs, so does the text, and it says nothing more.
        if rows.iter().all(|(_, there, here)| there == here) {
            rows.push(("the model's text (by its hash)", there.model_hash.clone(), here.model_hash.clone()));
        }
        match purpose {
            Purpose::Evaluate => {}
            Purpose::Continue => rows.extend([
                ("algorithm", there.algorithm.clone(), here.algorithm.clone()),
                ("flags", list(there.flags.iter().cloned()), list(here.flags.iter().cloned())),
                ("data", there.data.clone(), here.data.clone()),
                ("seed", there.seed.to_string(), here.seed.to_string()),
                ("batch", there.batch.to_string(), here.batch.to_string()),
                ("epochs", there.epochs_planned.to_string(), here.epochs_planned.to_string()),
                ("learning rate", there.lr.to_string(), here.lr.to_string()),
                ("momentum", there.momentum.to_string(), here.momentum.to_string()),
                ("weight decay", there.weight_decay.to_string(), here.weight_decay.to_string()),
            ]),
        }
        rows.retain(|(_, there, here)| there != here);
        rows.into_iter().map(|(what, there, here)| format!("{what}: `{there}` in the file, `{here}` here")).collect()
    }

    fn differing_tensors(&self, expected: &[(String, Vec<usize>)]) -> Vec<String> {
        let there: BTreeMap<&str, &[usize]> = self.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
        let here: BTreeMap<&str, &[usize]> = expected.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        let wrong = expected.iter().filter_map(|(name, shape)| match there.get(name.as_str()) {
            None => Some(format!("tensor `{name}`: none in the file, {shape:?} here")),
            Some(found) if *found != shape => Some(format!("tensor `{name}`: {found:?} in the file, {shape:?} here")),
            Some(_) => None,
        });
        let extra = there
            .iter()
            .filter(|(name, _)| !here.contains_key(*name))
            .map(|(name, shape)| format!("tensor `{name}`: {shape:?} in the file, none here"));
        wrong.chain(extra).collect()
    }
}

/// A short hash for equality only (FNV-1a, 64 bits, in hex); no defence against anyone who wants two texts to agree.
pub fn fingerprint(bytes: &[u8]) -> String {
    format!("{:016x}", fnv(FNV_START, bytes))
}

fn checksum(run: &str, data: &[u8]) -> String {
    format!("{:016x}", fnv(fnv(FNV_START, run.as_bytes()), data))
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The header of a whole safetensors file, and its data. Done here, and not by the crate, to tell a cut file from a foreign one.
fn split<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Metadata, &'a [u8]), RunError> {
    let foreign = |reason: String| RunError::NotACheckpoint { path: path.into(), reason };
    let cut = |needed| RunError::CutShort { path: path.into(), found: bytes.len(), needed };

    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| cut(8))?;
    let end = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| length.checked_add(8));
    let end = match (end, rest.first()) {
        (Some(end), None | Some(b'{')) => end,
        _ => return Err(foreign("it is no safetensors file".into())),
    };
    let header = bytes.get(8..end).ok_or_else(|| cut(end))?;
    let metadata: Metadata = serde_json::from_slice(header).map_err(|e| foreign(format!("its safetensors header is wrong: {e}")))?;
    let needed = end.checked_add(metadata.data_len()).ok_or_else(|| foreign("its safetensors header is wrong".into()))?;
    match bytes.len().cmp(&needed) {
        std::cmp::Ordering::Less => Err(cut(needed)),
        std::cmp::Ordering::Equal => Ok((metadata, &bytes[end..])),
        std::cmp::Ordering::Greater => {
            let reason = format!("it has {} bytes, its header promises {needed}", bytes.len());
            Err(RunError::Damaged { path: path.into(), reason })
        }
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "none".into() } else { items.join(" ") }
}

/// Floats as text: shortest text that reads back to the same bits, NaN and infinities too (JSON numbers promise neither).
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(x)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let meta = Meta {
            model: "localmixer".into(),
            model_hash: fingerprint(b"model"),
            preset: Some("M/1/16".into()),
            sets: vec![("norm".into(), "ln".into())],
            algorithm: "lg-fg-a".into(),
            flags: vec![],
            seed: 7,
            batch: 128,
            epochs_planned: 10,
            epochs_done: 3,
            steps_done: 237,
            lr: 0.1 + 0.2,
            momentum: 0.9,
            weight_decay: 1e-4,
            data: "mnist-10k".into(),
        };
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, f32::from_bits(0xffc0_1234), 1.0];
        Checkpoint {
            meta,
            tensors: vec![
                Tensor { name: "cls.w".into(), shape: vec![2, 4], data: odd.to_vec() },
                Tensor { name: "block0.fc.w".into(), shape: vec![5, 3], data: (0..15).map(|i| i as f32 / 7.0).collect() },
                Tensor { name: "empty".into(), shape: vec![0, 3], data: vec![] },
                Tensor { name: "scalar".into(), shape: vec![], data: vec![0.5] },
            ],
        }
    }

    fn shapes(checkpoint: &Checkpoint) -> Vec<(String, Vec<usize>)> {
        checkpoint.tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect()
    }

    fn bits(checkpoint: &Checkpoint) -> BTreeMap<String, (Vec<usize>, Vec<u32>)> {
        let bits = |t: &Tensor| t.data.iter().map(|x| x.to_bits()).collect();
        checkpoint.tensors.iter().map(|t| (t.name.clone(), (t.shape.clone(), bits(t)))).collect()
    }

    fn read(bytes: &[u8]) -> Result<Checkpoint, RunError> {
        Checkpoint::from_bytes(Path::new("run/checkpoint.safetensors"), bytes)
    }

    #[track_caller]
    fn says<T: std::fmt::Debug>(result: Result<T, RunError>, parts: &[&str]) {
        let message = result.unwrap_err().to_string();
        for part in parts.iter().chain(&["; hint: "]) {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    /// Bytes of a file with this header and these data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn round_trips_every_bit() {
        let before = sample();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        before.save(&path).unwrap();
        let after = Checkpoint::load(&path).unwrap();
        assert_eq!(after.meta, before.meta);
        assert_eq!(bits(&after), bits(&before));
        assert_eq!(after.tensors.iter().find(|t| t.name == "scalar").unwrap().data, [0.5]);
    }

    #[test]
    fn settings_round_trip_even_if_not_finite() {
        for x in [f64::NAN, f64::INFINITY, -0.0, 5e-324, 0.1 + 0.2, f64::MAX, f64::from_bits(0x3f84_7ae1_47ae_147c)] {
            let before = Checkpoint { meta: Meta { lr: x, ..Meta::default() }, tensors: vec![] };
            assert_eq!(read(&before.to_bytes().unwrap()).unwrap().meta.lr.to_bits(), x.to_bits());
        }
    }

    #[test]
    fn bytes_depend_on_contents_only() {
        let mut shuffled = sample();
        shuffled.tensors.reverse();
        assert_eq!(shuffled.to_bytes().unwrap(), sample().to_bytes().unwrap());
        // A known answer: the same bytes in every process, and on every machine.
        assert_eq!(fingerprint(&sample().to_bytes().unwrap()), "c5f0020af29d6769");
        assert_eq!(fingerprint(b""), "cbf29ce484222325");
        assert_eq!(fingerprint(b"foobar"), "85944171f73967e8");
    }

    #[test]
    fn is_plain_safetensors() {
        let bytes = sample().to_bytes().unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("block0.fc.w").unwrap().shape(), [5, 3]);
        let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header % 8, 0);
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], FORMAT);
    }

    #[test]
    fn every_cut_is_refused() {
        let mut long = sample();
        long.tensors[1] = Tensor { name: "long".into(), shape: vec![4000], data: vec![0.25; 4000] };
        let bytes = long.to_bytes().unwrap();
        for kept in (0..bytes.len()).step_by(97).chain(0..64).chain([bytes.len() - 1]) {
            says(read(&bytes[..kept]), &["run/checkpoint.safetensors` is cut short", &format!("it has {kept} bytes")]);
        }
    }

    #[test]
    fn every_flipped_byte_is_refused_or_harmless() {
        let bytes = sample().to_bytes().unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for at in 0..bytes.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut wrong = bytes.clone();
                wrong[at] ^= mask;
                let result = read(&wrong);
                if at >= header {
                    says(result, &["is damaged", "checksum"]);
                } else if let Ok(found) = result {
                    // The name of a tensor, or of the checksum: the first is caught by `check_matches`.
                    assert!(bits(&found) != bits(&sample()) || found.meta == sample().meta);
                }
            }
        }
    }

    #[test]
    fn foreign_files_are_refused() {
        says(read(b"epoch,step,lr,train_loss\n1,79,0.01,2.3\n"), &["not a pushforward checkpoint", "no safetensors file"]);
        says(read(&[0xff; 64]), &["no safetensors file"]);
        says(read(&file("{\"a\":", b"")), &["safetensors header is wrong"]);
        says(read(&file("{}", b"")), &["lacks `format`", FORMAT]);
        says(read(&file(r#"{"__metadata__":{"format":"pt"}}"#, b"")), &["its format is `pt`", FORMAT]);
        says(read(&file(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#, &[0; 4])), &["header is wrong"]);
        says(read(&file(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, &[0; 8])), &["header is wrong"]);
        let huge = format!(r#"{{"a":{{"dtype":"F32","shape":[{0},{0}],"data_offsets":[0,4]}}}}"#, u64::MAX);
        says(read(&file(&huge, &[0; 4])), &["header is wrong"]);
        says(read(&file(&"[".repeat(100_000).replacen('[', "{", 1), b"")), &["header is wrong"]);
    }

    #[test]
    fn other_versions_are_refused() {
        let text = |version: &str| format!(r#"{{"__metadata__":{{"format":"{FORMAT}"{version}}}}}"#);
        says(read(&file(&text(r#","version":"2""#), b"")), &["format version 2", "reads version 1", "the pushforward that wrote it"]);
        says(read(&file(&text(""), b"")), &["format version (none)", "reads version 1"]);
    }

    #[test]
    fn damage_is_named() {
        let bytes = sample().to_bytes().unwrap();
        says(read(&[&bytes[..], b"more"].concat()), &["is damaged", &format!("its header promises {}", bytes.len())]);
        let ours = format!(r#""format":"{FORMAT}","version":"1""#);
        says(read(&file(&format!(r#"{{"__metadata__":{{{ours}}}}}"#), b"")), &["is damaged", "lacks `run`"]);
        says(read(&file(&format!(r#"{{"__metadata__":{{{ours},"run":"{{}}"}}}}"#), b"")), &["`run` in its metadata", "model"]);
        let run = serde_json::to_string(&serde_json::to_string(&Meta::default()).unwrap()).unwrap();
        let double = format!(r#"{{"__metadata__":{{{ours},"run":{run}}},"a":{{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}}}"#);
        says(read(&file(&double, &[0; 8])), &["tensor `a` is F64, expected F32"]);
        // Without a checksum, as another program might write it.
        assert!(read(&file(&double.replace("F64", "F32").replace("[1]", "[2]"), &[0; 8])).is_ok());
    }

    #[test]
    fn missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        says(Checkpoint::load(&dir.path().join("none")), &["none` does not exist", "-o"]);
        says(Checkpoint::load(dir.path()), &["cannot read"]);
    }

    #[test]
    fn failing_save_leaves_the_old_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        sample().save(&path).unwrap();
        let before = fs::read(&path).unwrap();
        let mut wrong = sample();
        wrong.tensors[0].shape = vec![3, 3];
        says(wrong.save(&path), &["c.safetensors", "tensor `cls.w` of shape [3, 3] has 8 values"]);
        wrong = sample();
        wrong.tensors[0].name = "scalar".into();
        says(wrong.save(&path), &["`scalar` names two tensors"]);
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn full_disk_is_named() {
        if Path::new("/dev/full").exists() {
            says(sample().save(Path::new("/dev/full")), &["cannot write `/dev/full`", "the disk is full"]);
        }
    }

    #[test]
    fn the_own_run_matches_wherever_it_is() {
        let mut here = sample().meta;
        (here.epochs_done, here.steps_done) = (0, 0);
        for purpose in [Purpose::Continue, Purpose::Evaluate] {
            sample().check_matches(Path::new("c"), purpose, &here, &shapes(&sample())).unwrap();
        }
    }

    #[test]
    fn another_size_names_tensor_and_settings() {
        let mut here = sample().meta;
        (here.preset, here.model_hash) = (Some("S/1/1".into()), fingerprint(b"other"));
        let mut expected = shapes(&sample());
        expected[1].1 = vec![5, 4];
        expected[0].1 = vec![4, 2];
        let parts = [
            "checkpoint `c` belongs to another run",
            "preset: `M/1/16` in the file, `S/1/1` here",
            "tensor `cls.w`: [2, 4] in the file, [4, 2] here (and 1 more tensor)",
        ];
        for purpose in [Purpose::Continue, Purpose::Evaluate] {
            let result = sample().check_matches(Path::new("c"), purpose, &here, &expected);
            assert!(!result.as_ref().unwrap_err().to_string().contains("hash"));
            says(result, &parts);
        }
    }

    #[test]
    fn missing_and_extra_tensors_are_named() {
        let mut expected = shapes(&sample());
        let gone = expected.pop().unwrap();
        let check = |expected: &[_]| sample().check_matches(Path::new("c"), Purpose::Continue, &sample().meta, expected);
        says(check(&expected), &["tensor `scalar`: [] in the file, none here; hint"]);
        expected.push(gone);
        expected.push(("head0.w".into(), vec![3]));
        says(check(&expected), &["tensor `head0.w`: none in the file, [3] here; hint"]);
    }

    /// A part of the message, and what brings it about.
    type Change = (&'static str, fn(&mut Meta));

    #[test]
    fn other_settings_matter_to_training_only() {
        let changes: [Change; 9] = [
            ("algorithm: `lg-fg-a` in the file, `bp` here", |m| m.algorithm = "bp".into()),
            ("flags: `none` in the file, `--no-prune` here", |m| m.flags = vec!["--no-prune".into()]),
            ("data: `mnist-10k` in the file, `mnist` here", |m| m.data = "mnist".into()),
            ("seed: `7` in the file, `8` here", |m| m.seed = 8),
            ("batch: `128` in the file, `64` here", |m| m.batch = 64),
            ("epochs: `10` in the file, `20` here", |m| m.epochs_planned = 20),
            ("learning rate: `0.30000000000000004` in the file, `0.3` here", |m| m.lr = 0.3),
            ("momentum: `0.9` in the file, `0` here", |m| m.momentum = 0.0),
            ("weight decay: `0.0001` in the file, `0` here", |m| m.weight_decay = 0.0),
        ];
        for (part, change) in changes {
            let mut here = sample().meta;
            change(&mut here);
            let check = |purpose| sample().check_matches(Path::new("c"), purpose, &here, &shapes(&sample()));
            says(check(Purpose::Continue), &[part]);
            check(Purpose::Evaluate).unwrap();
        }
        let models: [Change; 3] = [
            ("model: `localmixer` in the file, `tanh_mlp` here", |m| m.model = "tanh_mlp".into()),
            ("sizes and options: `norm=ln` in the file, `none` here", |m| m.sets.clear()),
            ("the model's text (by its hash): `", |m| m.model_hash = fingerprint(b"edited")),
        ];
        for (part, change) in models {
            let mut here = sample().meta;
            change(&mut here);
            for purpose in [Purpose::Continue, Purpose::Evaluate] {
                says(sample().check_matches(Path::new("c"), purpose, &here, &shapes(&sample())), &[part]);
            }
        }
    }
}
