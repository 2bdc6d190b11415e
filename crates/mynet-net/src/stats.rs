//! Counters: what happened since the start, by cause. Each is counted in one place.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Live counters.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// What happened since the start. Each number only grows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct NetStats {
            $($(#[$doc])* pub $name: u64,)*
            /// Connections open now, strangers included.
            pub connections: u64,
        }

        impl Counters {
            /// All numbers, each read once; not of one moment.
            pub(crate) fn snapshot(&self, connections: u64) -> NetStats {
                NetStats { $($name: self.$name.get(),)* connections }
            }
        }
    };
}

counters! {
    /// Connections dialed and greeted.
    dials,
    /// Dials that failed, for whatever reason.
    dials_failed,
    /// Connections accepted from admitted nodes.
    accepted,
    /// Connections closed because the other of two was kept.
    duplicates,
    /// Connections of nodes that are not admitted, closed with that reason.
    not_admitted,
    /// Connections refused because of a limit: too many in all, or strangers too often.
    refused,
    /// Handshakes that did not end in time, or failed.
    handshakes_failed,
    /// Knocks answered.
    knocks,
    /// Knocks that name another node than the one that knocks, or do not verify.
    knocks_forged,
    /// Requests answered.
    requests,
    /// Frames of a kind that is not known here.
    unknown_kinds,
    /// Frames of another wire version.
    other_versions,
    /// Frames longer than their kind allows.
    oversized,
    /// Frames whose body is not the encoding of their kind.
    malformed,
    /// Requests of a kind that the sender may not send on that connection.
    forbidden,
    /// Requests refused because their sender sends too many.
    throttled,
    /// Streams that were too slow: no first byte, no whole message, or no answer in time.
    timed_out,
    /// Bulk streams that fell below the least speed.
    stalled,
    /// Ranges answered with a stream.
    ranges,
    /// Messages that the other side took.
    messages_delivered,
    /// Messages dropped because the queue of their peer was full.
    messages_overflowed,
    /// Messages dropped because their peer could not be reached, or the connection broke before it answered.
    messages_lost,
    /// Messages that the other side answered with anything but `Delivered`.
    messages_refused,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    /// That many more.
    pub(crate) fn add_many(&self, count: u64) {
        // Relaxed: counters order nothing.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
