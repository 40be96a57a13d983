//! See `checks/host_port.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| plimsoll_fuzz::checks::host_port::check(data));
