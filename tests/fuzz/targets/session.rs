//! See `checks/session.rs`.
#![no_main]

use plimsoll_fuzz::checks::session::{Stage, descriptors};
use std::sync::{LazyLock, Mutex};

static STAGE: LazyLock<Mutex<Stage>> = LazyLock::new(|| Mutex::new(Stage::new()));

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut stage = STAGE.lock().unwrap();
    let before = descriptors();
    stage.check(data);
    assert_eq!(descriptors(), before, "descriptors are left open");
});
