// SPDX-License-Identifier: MIT OR Apache-2.0
#![no_main]
#[path = "../targets/mod.rs"]
mod targets;
libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::named("module")(data));
