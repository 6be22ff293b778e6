//! libFuzzer at one target, named by `WASMILL_FUZZ_TARGET`. Built and called by `tests/fuzz.sh`.
#![no_main]

use std::sync::LazyLock;

#[expect(clippy::expect_used, reason = "a wrong name must end the process at once")]
static TARGET: LazyLock<fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("WASMILL_FUZZ_TARGET").expect("WASMILL_FUZZ_TARGET names a target");
    fuzz::target(&name).expect("there is no such target")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
