//! The gate: how many strangers, and how often from one address.
//!
//! Whether a connection is a stranger's is known only after its handshake, so an address is charged then, when it is also
//! proven. Before the handshake an address that was charged too often is refused, unless a known node lives there.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    config::Limits,
    rate::{Bucket, Rate},
};

/// Addresses remembered at a time: 256 KiB. When all are in use, unknown addresses are refused until buckets fill up.
const ADDRESSES_MAX: usize = 4_096;
/// A customer's network is at least a /64 in IPv6; its owner has all addresses in it.
const IPV6_PREFIX: u128 = !((1 << 64) - 1);

/// Counts strangers.
#[derive(Debug)]
pub(crate) struct Gate {
    rate: Rate,
    slots: Arc<Semaphore>,
    buckets: Mutex<BTreeMap<IpAddr, Bucket>>,
}

/// What is charged: an IPv4 address or an IPv6 network.
fn key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & IPV6_PREFIX).into(),
    }
}

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            rate: limits.strangers_per_ip,
            slots: Arc::new(Semaphore::new(limits.strangers)),
            buckets: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Bucket>> {
        // A panic under this lock cannot leave the map half changed: every change is one call.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an address was charged so often that it must wait.
    pub(crate) fn is_exhausted(&self, ip: IpAddr, now: Instant) -> bool {
        let mut buckets = self.lock();
        match buckets.get_mut(&key(ip)) {
            Some(bucket) => bucket.is_empty(self.rate, now),
            None => buckets.len() >= ADDRESSES_MAX && !make_room(&mut buckets, self.rate, now),
        }
    }

    /// Charges an address for one stranger; false if it had nothing left.
    pub(crate) fn charge(&self, ip: IpAddr, now: Instant) -> bool {
        let mut buckets = self.lock();
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&key(ip)) && !make_room(&mut buckets, self.rate, now)
        {
            return false;
        }
        buckets.entry(key(ip)).or_insert_with(|| Bucket::full(self.rate, now)).take(self.rate, now)
    }

    /// A place for one stranger, if one is free.
    pub(crate) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }
}

/// Forgets full buckets; says whether there is room now.
fn make_room(buckets: &mut BTreeMap<IpAddr, Bucket>, rate: Rate, now: Instant) -> bool {
    buckets.retain(|_, bucket| !bucket.is_full(rate, now));
    buckets.len() < ADDRESSES_MAX
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use tokio::time::Instant;

    use super::{ADDRESSES_MAX, Gate};
    use crate::{config::Limits, rate::Rate};

    fn gate() -> Gate {
        let rate = Rate { burst: 2, tokens: 1, per: Duration::from_secs(1) };
        Gate::new(&Limits { strangers: 1, strangers_per_ip: rate, ..Limits::default() })
    }

    #[test]
    fn an_address_is_refused_until_its_bucket_refills() {
        let (gate, now) = (gate(), Instant::now());
        let ip: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        assert!(gate.charge(ip, now) && gate.charge(neighbour, now));
        assert!(!gate.charge(ip, now), "one /64 is one address");
        assert!(gate.is_exhausted(neighbour, now));
        assert!(!gate.is_exhausted("2001:db8:0:1::1".parse().unwrap(), now));
        assert!(!gate.is_exhausted(ip, now + Duration::from_secs(1)));
    }

    #[test]
    fn remembered_addresses_are_bounded() {
        let (gate, now) = (gate(), Instant::now());
        for last in 0..u32::try_from(ADDRESSES_MAX).unwrap() {
            assert!(gate.charge(std::net::Ipv4Addr::from_bits(last).into(), now));
        }
        let fresh: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(gate.is_exhausted(fresh, now) && !gate.charge(fresh, now));
        assert!(gate.charge(fresh, now + Duration::from_secs(2)), "full buckets make room");
    }

    #[test]
    fn strangers_at_a_time_are_bounded() {
        let gate = gate();
        let first = gate.enter();
        assert!(first.is_some() && gate.enter().is_none());
        drop(first);
        assert!(gate.enter().is_some());
    }
}
