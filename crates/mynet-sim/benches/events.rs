//! How many events the simulator gets through in a second, with every checker on, on all processors.

use divan::{Bencher, counter::ItemsCount};
use mynet_sim::Suite;

fn main() {
    divan::main();
}

/// The same twenty seeds each time, which are the same events each time.
#[divan::bench(args = ["consensus", "replication", "node"], sample_count = 3, sample_size = 1)]
fn events(bencher: Bencher<'_, '_>, suite: &str) {
    let suite = Suite::ALL.into_iter().find(|known| known.as_str() == suite).expect("the suite exists");
    let run = || mynet_sim::run(suite, 0..=19, 1);
    let events = run().events();
    bencher.counter(ItemsCount::new(events)).bench(|| {
        let report = run();
        assert!(report.failures().is_empty(), "{report}");
        report.events()
    });
}
