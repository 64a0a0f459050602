//! A folder of files that belong together, written whole or not at all. Never deletes a file that it does not know by name.
//! Read [`write_folder`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::RunError;
use super::dir::blocking_file;

/// Writes `files` (paths below `path`, and contents) as the folder `path`. An empty folder may be there already. With `force` a folder that
/// holds only files that `ours` knows (by path below it) gives way to the new one; any other is refused.
///
/// The files go to a new folder beside it, which takes the name at the end.
pub fn write_folder(path: &Path, files: &[(PathBuf, Vec<u8>)], force: bool, ours: fn(&Path) -> bool) -> Result<(), RunError> {
    if let Some(path) = blocking_file(path) {
        return Err(RunError::NotAFolder { path });
    }
    let failed = |source| RunError::write(path, source);
    let old = if path.exists() { list(path).map_err(|source| RunError::read(path, source))? } else { Vec::new() };
    let foreign: Vec<&PathBuf> = old.iter().filter(|file| !ours(file)).collect();
    if let Some(file) = foreign.first().copied().or(old.first().filter(|_| !force)) {
        let hint = match foreign.is_empty() {
            true => "replace it with --force, or choose another folder with -o",
            false => "choose another folder with -o",
        };
        return Err(RunError::Occupied { dir: path.into(), holds: file.display().to_string(), hint });
    }

    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(failed)?;
    // Dropped on an early return, and all that is in it.
    let part = tempfile::Builder::new().prefix(".pushforward-").suffix(".part").tempdir_in(parent);
    // Its own name is nothing to a user: of the error the kind alone is kept.
    let part = part.map_err(|source| failed(source.kind().into()))?;
    let new = part.path().join("new");
    fs::create_dir(&new).map_err(failed)?;
    for (file, bytes) in files {
        let to = new.join(file);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&to, bytes).map_err(|source| RunError::write(path.join(file), source))?;
    }
    if path.exists() {
        fs::rename(path, part.path().join("old")).map_err(failed)?;
    }
    if let Err(source) = fs::rename(&new, path) {
        // Back to what was there; if that fails too, nothing is lost but its name.
        let _ = fs::rename(part.path().join("old"), path);
        return Err(failed(source));
    }
    Ok(())
}

/// Every file below a folder, by its path below it.
fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder))? {
            let entry = entry?;
            let below = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() { folders.push(below) } else { files.push(below) }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(file: &Path) -> bool {
        file.extension().is_some_and(|e| e == "ours")
    }

    fn files(content: &str) -> Vec<(PathBuf, Vec<u8>)> {
        ["a.ours", "inner/b.ours"].map(|f| (f.into(), content.into())).to_vec()
    }

    #[test]
    fn written_whole_and_replaced_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/out");
        write_folder(&path, &files("one"), false, ours).unwrap();
        assert_eq!(list(&path).unwrap(), ["a.ours", "inner/b.ours"].map(PathBuf::from));
        let refused = write_folder(&path, &files("two"), false, ours).unwrap_err().to_string();
        assert!(refused.contains("a.ours") && refused.contains("--force"), "{refused}");
        fs::write(path.join("stale.ours"), "").unwrap();
        write_folder(&path, &files("two"), true, ours).unwrap();
        assert_eq!(fs::read(path.join("inner/b.ours")).unwrap(), b"two");
        assert_eq!(list(&path).unwrap().len(), 2);

        fs::write(path.join("mine.txt"), "mine").unwrap();
        let refused = write_folder(&path, &files("three"), true, ours).unwrap_err().to_string();
        assert!(refused.contains("mine.txt") && !refused.contains("--force"), "{refused}");
        assert_eq!(fs::read(path.join("a.ours")).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path().join("deep")).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_folder_will_do_and_a_file_will_not() {
        let dir = tempfile::tempdir().unwrap();
        write_folder(dir.path().join("x").as_path(), &[], false, ours).unwrap();
        write_folder(dir.path().join("x").as_path(), &files("one"), false, ours).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let refused = write_folder(dir.path().join("file").as_path(), &files("one"), true, ours).unwrap_err().to_string();
        assert!(refused.contains("is not a folder"), "{refused}");
        let refused = write_folder(dir.path().join("file/inner").as_path(), &files("one"), true, ours).unwrap_err().to_string();
        assert!(refused.contains("file` is not a folder"), "{refused}");
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let clash = vec![("a".into(), vec![1]), ("a/b".into(), vec![2])];
        assert!(write_folder(&path, &clash, false, ours).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
