//! What the fuzz targets share. The checks are also run by `tests/stress`, over the seeds, with a stable
//! compiler and without cargo-fuzz.

pub mod checks;
