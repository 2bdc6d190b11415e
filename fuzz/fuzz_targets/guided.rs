//! Fuzzing guided by coverage: the engine feeds the target that `MYNET_FUZZ_TARGET` names. `scripts/fuzz` builds and runs it.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mynet_fuzz::{Target, find};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("MYNET_FUZZ_TARGET").expect("MYNET_FUZZ_TARGET names a target");
    find(&name).expect("MYNET_FUZZ_TARGET names a target that exists")
});

fuzz_target!(|bytes: &[u8]| TARGET.check(bytes));
