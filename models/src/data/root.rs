//! Where tests find the full data sets, which are not in the repository. A user names a folder instead: nothing else calls this.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folder that holds `mnist/` and `cifar-10/`: `PUSHFORWARD_DATA`, or else `../shared/data` beside the repository. For tests.
///
/// A relative `PUSHFORWARD_DATA` is looked up from the working folder, then from the root of the repository, because `cargo test`
/// starts the tests of a crate in the crate's own folder.
pub fn data_root() -> Option<PathBuf> {
    root_from(env::var_os("PUSHFORWARD_DATA"))
}

/// One full set, say `mnist`, for a test that wants it. Without it the test is skipped, and says so; where `CI` is set it fails.
pub fn full_set_for_test(name: &str) -> Option<PathBuf> {
    let found = data_root().map(|root| root.join(name)).filter(|dir| dir.is_dir());
    if found.is_none() {
        let message = format!("no folder `{name}` under PUSHFORWARD_DATA or ../shared/data");
        assert!(env::var_os("CI").is_none(), "{message}, and CI is set: the full sets must be there");
        eprintln!("skipped: {message}");
    }
    found
}

fn root_from(variable: Option<OsString>) -> Option<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let repository = manifest.parent().unwrap_or(manifest);
    let tried = match variable.filter(|value| !value.is_empty()).map(PathBuf::from) {
        Some(given) => vec![given.clone(), repository.join(given)],
        None => vec![repository.join("../shared/data")],
    };
    tried.into_iter().find(|dir| dir.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_wins_and_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(root_from(Some(dir.path().into())), Some(dir.path().into()));
        assert_eq!(root_from(Some(dir.path().join("absent").into())), None);
    }

    #[test]
    fn relative_variable_from_the_repository() {
        let found = root_from(Some("models/data".into())).unwrap();
        assert!(found.join("mnist-10k").is_dir());
    }
}
