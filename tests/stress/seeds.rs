//! The seeds of the fuzz targets, and with them everything that fuzzing has found, given to the same
//! checks without a fuzzer. A finding's input becomes a file among the seeds of its target.

use crate::checks;
use std::path::Path;

fn each_seed(target: &str, mut check: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus-seed").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // Shown only where the check fails.
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn line() {
    each_seed("line", checks::line::check);
}

#[test]
fn command() {
    each_seed("command", checks::command::check);
}

#[test]
fn host_port() {
    each_seed("host_port", checks::host_port::check);
}

#[test]
fn pathname() {
    each_seed("pathname", checks::pathname::check);
}

#[test]
fn glob() {
    each_seed("glob", checks::glob::check);
}

#[test]
fn reply() {
    each_seed("reply", checks::reply::check);
}

#[test]
fn listing() {
    each_seed("listing", checks::listing::check);
}

#[test]
fn ascii() {
    each_seed("ascii", checks::ascii::check);
}

#[test]
fn session() {
    let mut stage = checks::session::Stage::new();
    each_seed("session", |data| stage.check(data));
}
