#![no_main]

use libfuzzer_sys::fuzz_target;
use parhelion::{config, hop, keys, prediction, protocol, tls, wire};

#[path = "../checks.rs"]
#[expect(dead_code, reason = "each target runs one of them")]
mod checks;

fuzz_target!(|bytes: &[u8]| checks::config(bytes));
