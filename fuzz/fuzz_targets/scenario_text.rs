#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| realtime_sim::fuzz::scenario_text(data));
