use std::time::Duration;

use super::super::database::Database;
use super::*;
use crate::clock::{Clock, SystemClock};

fn database(path: &Path) -> Database {
    let soon = SystemClock.elapsed();
    Database::open(path, soon.plus(Duration::from_secs(30))).expect("opens")
}

/// The locks that a process without open files finds.
fn locked(path: &Path) -> [bool; 2] {
    let locked = |path: &Path, bytes| {
        let file = File::open(path).expect("opened");
        ofd::locked_by_others(&file, bytes).expect("asked") == Some(Mode::Shared)
    };
    [locked(path, SHARED), locked(&beside(path, "-shm"), DMS)]
}

#[test]
fn u1_locks_outlive_reads_and_other_connections_and_end_with_the_last() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("locks.db");
    let (first, second) = (database(&path), database(&path));
    for suffix in ["", "-wal", "-shm"] {
        fs::read(beside(&path, suffix)).expect("read");
    }
    assert_eq!(locked(&path), [true; 2]);
    drop(first);
    assert_eq!(locked(&path), [true; 2]);
    drop(second);
    assert_eq!(locked(&path), [false; 2]);
    let open = open_files();
    assert!(
        open.iter()
            .all(|open| !open.files.real.starts_with(directory.path()))
    );
}

/// Descriptors of their own would drop SQLite's locks of the others when they are closed.
#[test]
fn u1_all_connections_share_the_descriptors_of_the_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("locks.db");
    drop(database(&path));
    let held = || entered(&path, refuses).expect("it has its log").0;
    let (first, second) = (held(), held());
    assert!(Arc::ptr_eq(&first.0, &second.0));
    drop(first);
    let third = held();
    assert!(Arc::ptr_eq(&second.0, &third.0));
    drop(second);
    assert_eq!(locked(&path), [true; 2]);
}

fn refuses(_: &Path) -> Result<(), Problem> {
    Err(Problem::Fatal(configuration("prepared")))
}

fn is_busy<T>(entered: &Result<T, Problem>) -> bool {
    matches!(entered, Err(Problem::Busy(_)))
}

/// Waits a moment: a process that another test starts has our descriptors until it runs its program.
fn within_a_moment<T>(ask: impl Fn() -> T, is_done: impl Fn(&T) -> bool) -> T {
    let limit = SystemClock.elapsed().plus(Duration::from_millis(200));
    loop {
        let answer = ask();
        if is_done(&answer) || SystemClock.elapsed() >= limit {
            return answer;
        }
        std::thread::yield_now();
    }
}

fn entered(
    path: &Path,
    prepare: fn(&Path) -> Result<(), Problem>,
) -> Result<(Held, Gate), Problem> {
    within_a_moment(|| enter(path, prepare), |entered| !is_busy(entered))
}

#[test]
fn only_a_file_without_a_log_that_nobody_has_open_is_prepared() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("locks.db");
    let enter = |prepare: fn(&Path) -> Result<(), Problem>| entered(&path, prepare);
    assert!(matches!(enter(refuses), Err(Problem::Fatal(_))));
    // It is used only once it has a log.
    assert!(is_busy(&enter(|_| Ok(()))));
    drop(database(&path));
    drop(enter(refuses).expect("it has its log"));

    // A journal is left to those that have the file open.
    fs::write(beside(&path, "-journal"), "left").expect("written");
    assert!(matches!(enter(refuses), Err(Problem::Fatal(_))));
    let mut options = OpenOptions::new();
    let other = options.read(true).write(true).open(&path).expect("opened");
    let lock = |mode| {
        let ask = || ofd::try_lock(&other, SHARED, mode).expect("asked");
        within_a_moment(ask, |granted| *granted)
    };
    assert!(lock(Mode::Shared));
    assert!(is_busy(&enter(refuses)));
    fs::remove_file(beside(&path, "-journal")).expect("removed");

    // Another program has it for itself, and may be at work on its header.
    assert!(lock(Mode::Exclusive));
    other.write_all_at(&[0; 100], 0).expect("written");
    assert!(is_busy(&enter(refuses)));
}

#[test]
fn shared_memory_is_for_the_users_of_the_database() {
    let directory = tempfile::tempdir().expect("a directory");
    let [path, shm] = ["locks.db", "locks.db-shm"].map(|name| directory.path().join(name));
    fs::write(&path, "").expect("written");
    let permit = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permitted");
    };
    let opened = || {
        let database = fs::metadata(&path).expect("there");
        let shm = open_shm(&shm, &database).expect("opened");
        shm.metadata().expect("there").mode() & 0o777
    };
    // Whatever the umask says of a new file, and whoever has made an empty one.
    for mode in [0o666, 0o640, 0o600] {
        permit(&path, mode);
        assert_eq!(opened(), mode);
        permit(&shm, 0o620);
        assert_eq!(opened(), mode);
        fs::remove_file(&shm).expect("removed");
    }
    // The mode of one in use is its owner's, and nobody else could change it.
    fs::write(&shm, "in use").expect("written");
    permit(&shm, 0o620);
    assert_eq!(opened(), 0o620);
}

#[test]
fn a_lock_file_in_log_mode_is_known_by_its_header() {
    let header = |application: i64, versions: [u8; 2]| {
        let mut header = [0; 100];
        let application = u32::try_from(application).expect("four bytes");
        header[68..72].copy_from_slice(&application.to_be_bytes());
        header[18..20].copy_from_slice(&versions);
        header
    };
    let is_known = |bytes: &[u8]| {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(bytes, 0).expect("written");
        is_in_log_mode(&file).expect("read")
    };
    assert!(is_known(&header(APPLICATION, [2, 2])));
    for versions in [[1, 1], [1, 2], [2, 1]] {
        assert!(!is_known(&header(APPLICATION, versions)));
    }
    assert!(!is_known(&header(APPLICATION + 1, [2, 2])), "another's");
    assert!(!is_known(&header(APPLICATION, [2, 2])[..99]), "too short");
    assert!(!is_known(&[]));
}
