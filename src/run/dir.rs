//! The folder of a run: where its files lie, who may overwrite what, and how a file is written whole or not at all.
//!
//! Never deletes or overwrites a file that it does not know by name. Read [`write_whole`] first: every file of a run goes through it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::RunError;

const CHECKPOINT: &str = "checkpoint.safetensors";
const METRICS: &str = "metrics.csv";
const CURVE: &str = "curve.svg";

/// A file in the making is named `.pushforward-XXXXXX.part`, beside its target.
const PART: (&str, &str) = (".pushforward-", ".part");

/// Writes a file whole or not at all: on an error the file that was there before stays as it was, and nothing else is left.
///
/// The bytes go to a new file in the same folder, to the disk, and only then take the name. A device (`/dev/stdout`) is written as it is.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    write_with(path, |file| file.write_all(bytes)).map_err(|source| RunError::write(path, source))
}

/// Keeps other processes from training into a folder, until it is dropped.
#[must_use = "the folder is held as long as this lives"]
#[derive(Debug)]
pub struct Held {
    /// Locked.
    _folder: Option<File>,
}

/// A folder that belongs to one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// `runs/<model>-<algorithm>-<seed>`; characters that some file system refuses in a name become `-`.
    pub fn default_path(model: &str, algorithm: &str, seed: u32) -> PathBuf {
        let safe = |c: char| if c.is_alphanumeric() || "._+=-".contains(c) { c } else { '-' };
        let name: String = format!("{model}-{algorithm}-{seed}").chars().map(safe).collect();
        Path::new("runs").join(name)
    }

    /// A folder for a new run, made if it is not there. One that holds a run is refused, or with `force` taken as it is: the first
    /// checkpoint of the new run replaces the old one, and [`RunDir::forget_epochs`] the rest.
    pub fn create(path: &Path, force: bool) -> Result<RunDir, RunError> {
        let dir = RunDir { path: path.to_path_buf() };
        if let Some(path) = blocking_file(path) {
            return Err(RunError::NotAFolder { path });
        }
        let held: Vec<PathBuf> = [dir.checkpoint(), dir.metrics()].into_iter().filter(|file| file.exists()).collect();
        if !held.is_empty() && !force {
            let names: Vec<_> = held.iter().filter_map(|file| file.file_name()).map(|name| name.to_string_lossy()).collect();
            return Err(RunError::Exists { dir: dir.path, holds: names.join(", ") });
        }
        fs::create_dir_all(path).map_err(|source| RunError::write(path, source))?;
        drop(dir.check_writable()?);
        Ok(dir)
    }

    /// Takes away what an older run said of its epochs. Not before the new run's first checkpoint is whole: until then the old run is.
    pub fn forget_epochs(&self) -> Result<(), RunError> {
        for file in [self.metrics(), self.curve()] {
            match fs::remove_file(&file) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(RunError::write(file, source)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The folder of a run that left a checkpoint. For going on with it, ask [`RunDir::check_writable`] too; looking needs no more.
    pub fn resume(path: &Path) -> Result<RunDir, RunError> {
        let dir = RunDir { path: path.to_path_buf() };
        if let Some(path) = blocking_file(path) {
            return Err(RunError::NotAFolder { path });
        }
        let nothing = |why, hint| Err(RunError::NothingToResume { dir: path.to_path_buf(), why, hint });
        if !path.exists() {
            return nothing("it does not exist", "give the folder of the run with -o, or train without --resume");
        }
        if !dir.checkpoint().exists() {
            return match dir.metrics().exists() {
                true => nothing("it has metrics but no checkpoint", "it ended before its first epoch did: start anew with --force"),
                false => nothing("it has no checkpoint", "give the folder of the run with -o, or train without --resume"),
            };
        }
        Ok(dir)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT)
    }

    pub fn metrics(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    pub fn curve(&self) -> PathBuf {
        self.path.join(CURVE)
    }

    /// Better now than after the first epoch. Sweeps up what a killed process left in the making; a process that is alive keeps the folder to
    /// itself as long as it has what this gives.
    pub fn check_writable(&self) -> Result<Held, RunError> {
        let failed = |source| RunError::write(&self.path, source);
        let held = self.hold()?;
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(PART.0) && name.ends_with(PART.1)) {
                let file = self.path.join(name);
                fs::remove_file(&file).map_err(|source| RunError::write(file, source))?;
            }
        }
        new_part(&self.path).and_then(tempfile::NamedTempFile::close).map_err(failed)?;
        Ok(held)
    }

    /// Only Unix opens a folder as a file, and not every file system knows locks: where there are none, nothing is held and nobody refused.
    fn hold(&self) -> Result<Held, RunError> {
        if !cfg!(unix) {
            return Ok(Held { _folder: None });
        }
        let folder = File::open(&self.path).map_err(|source| RunError::write(&self.path, source))?;
        match folder.try_lock() {
            Ok(()) => Ok(Held { _folder: Some(folder) }),
            Err(TryLockError::WouldBlock) => Err(RunError::InUse { dir: self.path.clone() }),
            Err(TryLockError::Error(_)) => Ok(Held { _folder: None }),
        }
    }
}

/// [`write_whole`] with the writing left to `fill`.
fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return fill(&mut File::options().write(true).open(path)?);
    }
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    // Dropped on an early return, and its file with it.
    let mut part = new_part(dir)?;
    fill(part.as_file_mut())?;
    part.as_file().sync_all()?;
    part.persist(path)?;
    sync_folder(dir);
    Ok(())
}

/// Opened as any new file is: readable for others too if the umask lets them, and errors are the system's own.
fn new_part(dir: &Path) -> io::Result<tempfile::NamedTempFile> {
    let open = |path: &Path| File::options().write(true).create_new(true).open(path);
    tempfile::Builder::new().prefix(PART.0).suffix(PART.1).make_in(dir, open)
}

/// Brings the new name to the disk. Not every system can, and the file is whole either way.
fn sync_folder(dir: &Path) {
    if cfg!(unix) {
        let _ = File::open(dir).and_then(|dir| dir.sync_all());
    }
}

/// The first part of `path` that exists and is no folder.
pub(super) fn blocking_file(path: &Path) -> Option<PathBuf> {
    let mut parts: Vec<&Path> = path.ancestors().collect();
    parts.reverse();
    parts.into_iter().find(|part| fs::metadata(part).is_ok_and(|found| !found.is_dir())).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[track_caller]
    fn says<T: std::fmt::Debug>(result: Result<T, RunError>, parts: &[&str]) {
        let message = result.unwrap_err().to_string();
        for part in parts.iter().chain(&["; hint: "]) {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    #[test]
    fn writes_and_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.txt");
        write_whole(&file, b"one").unwrap();
        write_whole(&file, b"two, longer").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two, longer");
        assert_eq!(names(dir.path()), ["a.txt"]);
    }

    #[test]
    fn failing_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.txt");
        write_whole(&file, b"old").unwrap();
        let broken = write_with(&file, |part| {
            part.write_all(b"half of the n")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&file).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a.txt"]);
    }

    #[test]
    fn failing_rename_leaves_no_part() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).unwrap();
        says(write_whole(&taken, b"x"), &["cannot write", "taken"]);
        assert_eq!(names(dir.path()), ["taken"]);
        let gone = write_whole(&dir.path().join("gone/a.txt"), b"x");
        assert!(!gone.as_ref().unwrap_err().to_string().contains(PART.1));
        says(gone, &["gone/a.txt", "the folder is gone"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn full_disk() {
        let device = Path::new("/dev/full");
        if !device.exists() {
            return eprintln!("skipped: no /dev/full here");
        }
        says(write_whole(device, b"x"), &["`/dev/full`", "No space left", "the disk is full: free some space"]);
        assert!(device.exists());
    }

    #[test]
    #[cfg(unix)]
    fn read_only_folder() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
        if File::create(dir.path().join("probe")).is_ok() {
            return eprintln!("skipped: this user may write everywhere");
        }
        says(RunDir::create(dir.path(), false), &["cannot write", "make the folder writable"]);
        says(RunDir::create(&dir.path().join("inner"), false), &["inner", "make the folder writable"]);
        says(write_whole(&dir.path().join("a"), b"x"), &["make the folder writable"]);
    }

    #[test]
    fn every_cause_has_its_hint() {
        for (kind, hint) in [
            (io::ErrorKind::StorageFull, "the disk is full"),
            (io::ErrorKind::QuotaExceeded, "the disk is full"),
            (io::ErrorKind::PermissionDenied, "make the folder writable"),
            (io::ErrorKind::ReadOnlyFilesystem, "this disk is read-only"),
            (io::ErrorKind::NotFound, "was it moved"),
            (io::ErrorKind::Other, "choose another folder"),
        ] {
            says(Err::<(), _>(RunError::write("runs/x", kind.into())), &["`runs/x`", hint]);
        }
    }

    #[test]
    #[cfg(unix)]
    fn others_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        fs::write(&plain, b"x").unwrap();
        let whole = dir.path().join("whole");
        write_whole(&whole, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&whole), mode(&plain));
    }

    #[test]
    fn existing_run_is_refused_without_force() {
        for held in [CHECKPOINT, METRICS] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a/b");
            RunDir::create(&path, false).unwrap();
            RunDir::create(&path, false).unwrap();
            fs::write(path.join(held), b"old").unwrap();
            fs::write(path.join("notes.txt"), b"mine").unwrap();
            says(RunDir::create(&path, false), &["already holds a run", held, "--resume", "--force", "-o"]);
            assert_eq!(fs::read(path.join(held)).unwrap(), b"old");
            fs::write(path.join(CURVE), b"old").unwrap();
            let dir = RunDir::create(&path, true).unwrap();
            assert_eq!(fs::read(path.join(held)).unwrap(), b"old");
            dir.forget_epochs().unwrap();
            dir.forget_epochs().unwrap();
            let left = if held == CHECKPOINT { vec![CHECKPOINT, "notes.txt"] } else { vec!["notes.txt"] };
            assert_eq!(names(&path), left);
        }
    }

    #[test]
    fn file_instead_of_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"mine").unwrap();
        for path in [file.clone(), file.join("inner/run")] {
            says(RunDir::create(&path, true), &["file` is not a folder", "-o"]);
            says(RunDir::resume(&path), &["file` is not a folder", "-o"]);
        }
        assert_eq!(fs::read(&file).unwrap(), b"mine");
    }

    #[test]
    fn resume_needs_a_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        says(RunDir::resume(&path), &["no run to resume", "does not exist", "-o"]);
        assert!(!path.exists());
        let run = RunDir::create(&path, false).unwrap();
        says(RunDir::resume(&path), &["it has no checkpoint"]);
        fs::write(run.metrics(), b"").unwrap();
        says(RunDir::resume(&path), &["metrics but no checkpoint", "--force"]);
        fs::write(run.checkpoint(), b"").unwrap();
        assert_eq!(RunDir::resume(&path).unwrap(), run);
    }

    #[test]
    fn sweeps_up_after_a_killed_process() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".pushforward-a1B2c3.part"), b"half").unwrap();
        fs::write(dir.path().join("other.part"), b"mine").unwrap();
        RunDir::create(dir.path(), false).unwrap();
        assert_eq!(names(dir.path()), ["other.part"]);
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_is_held_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), false).unwrap();
        let held = run.check_writable().unwrap();
        fs::write(dir.path().join(".pushforward-a1B2c3.part"), b"of the run that is alive").unwrap();
        says(run.check_writable(), &["is in use", "another process", "-o"]);
        says(RunDir::create(dir.path(), true), &["is in use"]);
        assert_eq!(names(dir.path()), [".pushforward-a1B2c3.part"]);
        drop(held);
        drop(run.check_writable().unwrap());
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn default_path_is_one_folder_under_runs() {
        assert_eq!(RunDir::default_path("localmixer", "lg-fg-a", 3), Path::new("runs/localmixer-lg-fg-a-3"));
        assert_eq!(RunDir::default_path("../x y", "lg-fg-a/own", 0), Path::new("runs/..-x-y-lg-fg-a-own-0"));
    }
}
