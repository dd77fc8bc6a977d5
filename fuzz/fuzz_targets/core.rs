#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| event_buffer_fuzz::core::run(input));
