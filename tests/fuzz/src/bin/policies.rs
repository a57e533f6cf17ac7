//! The fuzz target `policies`. Without the engine it runs the files that it is given, and panics at the first of which
//! something does not hold.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bulkhead_fuzz::policies::check(bytes));

#[cfg(not(fuzzing))]
fn main() {
    bulkhead_fuzz::run_files(bulkhead_fuzz::policies::check);
}
