//! What scripts/compare makes of its figures; the measuring itself takes root and half an hour.

use crate::clients::{Tool, on_path};
use std::path::Path;
use std::process::Command;

#[test]
fn the_comparison_shows_its_figures_as_they_are() {
    let (Some(_), Some(python)) = (Tool::find("python3"), on_path("python3")) else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compare");
    let output = Command::new(python).args(["-B", "-m", "unittest", "checks"]).current_dir(folder).output();
    let output = output.expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("Ran 6 tests"), "{said}");
}
