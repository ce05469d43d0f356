#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| realtime_sim::fuzz::decode_binary(data));
