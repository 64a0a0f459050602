//! Ctrl-C (and a request to terminate) as a flag that the training loop asks for. Never touches a file and never stops training by
//! itself, but for a second Ctrl-C, which ends the process at once. Read [`install`] first. And the signal that says that a file grew past a
//! limit, which would end the process in the middle of a write: [`survive_size_limits`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::RunError;

/// What a shell reports for a program that Ctrl-C ended.
pub const EXIT_CODE: i32 = 130;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on the first Ctrl-C sets the flag of [`interrupted`] and the second exits with [`EXIT_CODE`]. Again is harmless.
///
/// The second may fall into the writing of a file: the old file stays whole, and the next run in the folder sweeps up the rest.
pub fn install() -> Result<(), RunError> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(EXIT_CODE);
        }
    };
    match ctrlc::set_handler(handler) {
        Err(ctrlc::Error::MultipleHandlers) if INSTALLED.get().is_some() => Ok(()),
        Err(source) => Err(RunError::Interrupt { source }),
        Ok(()) => {
            INSTALLED.get_or_init(|| ());
            Ok(())
        }
    }
}

/// From here on a write past the limit on file sizes (`ulimit -f`) fails with an error, as on a full disk, and does not end the process.
pub fn survive_size_limits() -> Result<(), RunError> {
    #[cfg(unix)]
    {
        let unheard = std::sync::Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGXFSZ, unheard).map_err(|source| RunError::SizeSignal { source })?;
    }
    Ok(())
}

/// Whether Ctrl-C was pressed. Ask after each step; save nothing half done, then exit with [`EXIT_CODE`].
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    const CHILD: &str = "PUSHFORWARD_TEST_INTERRUPT_CHILD";

    /// The test starts itself as a child, since the flag belongs to a whole process and other tests train in this one.
    #[test]
    fn first_sets_the_flag_and_second_exits_130() {
        if std::env::var_os(CHILD).is_some() {
            return child();
        }
        let test = std::env::current_exe().unwrap();
        let name = format!("{}::first_sets_the_flag_and_second_exits_130", module_path!().split_once("::").unwrap().1);
        let mut child = Command::new(test).args([&name, "--exact", "--nocapture"]).env(CHILD, "1").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let signal = |pid: u32| Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status().unwrap();
        assert!(lines.by_ref().any(|line| line.ends_with("ready: false")));
        assert!(signal(child.id()).success());
        assert!(lines.by_ref().any(|line| line.ends_with("flag: true")));
        assert!(signal(child.id()).success());
        assert_eq!(child.wait().unwrap().code(), Some(EXIT_CODE));
    }

    fn child() {
        install().unwrap();
        install().unwrap();
        println!("ready: {}", interrupted());
        while !interrupted() {
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("flag: {}", interrupted());
        std::thread::sleep(Duration::from_secs(60));
    }
}
