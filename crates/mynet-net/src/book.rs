//! The address book: where known nodes can be dialed. Filled by the node from announcements, never by strangers.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use mynet_types::{NodeId, NodeRecord};

/// Addresses kept per node; as many as an announcement holds.
pub const ADDRS_PER_NODE_MAX: usize = 8;

/// The addresses in a node's announcement that are addresses, in its order.
#[must_use]
pub fn record_addrs(record: &NodeRecord) -> Vec<SocketAddr> {
    record.addrs.iter().filter_map(|addr| addr.as_str().parse().ok()).collect()
}

/// Node to addresses.
#[derive(Debug, Default)]
pub(crate) struct Book {
    addrs: Mutex<BTreeMap<NodeId, Vec<SocketAddr>>>,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Vec<SocketAddr>>> {
        // A panic under this lock cannot leave the map half changed: every change is one call.
        self.addrs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the addresses of `node`, the first [`ADDRS_PER_NODE_MAX`] of them. Says whether that changed anything.
    pub(crate) fn set(&self, node: NodeId, mut addrs: Vec<SocketAddr>) -> bool {
        addrs.truncate(ADDRS_PER_NODE_MAX);
        let mut book = self.lock();
        if addrs.is_empty() {
            return book.remove(&node).is_some();
        }
        book.insert(node, addrs.clone()).is_none_or(|before| before != addrs)
    }

    /// Where `node` can be dialed.
    pub(crate) fn get(&self, node: &NodeId) -> Vec<SocketAddr> {
        self.lock().get(node).cloned().unwrap_or_default()
    }

    /// Whether any known node is at that address; its neighbours behind one router share its good name.
    pub(crate) fn knows_ip(&self, ip: IpAddr) -> bool {
        self.lock().values().flatten().any(|addr| addr.ip().to_canonical() == ip.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::NodeId;

    use super::{ADDRS_PER_NODE_MAX, Book};

    #[test]
    fn the_book_is_bounded_per_node_and_knows_addresses() {
        let book = Book::default();
        let addrs: Vec<_> = (1..20).map(|port| ([10, 0, 0, 1], port).into()).collect();
        assert!(book.set(NodeId([1; 32]), addrs.clone()));
        assert!(!book.set(NodeId([1; 32]), addrs));
        assert_eq!(book.get(&NodeId([1; 32])).len(), ADDRS_PER_NODE_MAX);
        assert!(book.knows_ip("10.0.0.1".parse().unwrap()));
        assert!(book.knows_ip("::ffff:10.0.0.1".parse().unwrap()));
        assert!(book.set(NodeId([1; 32]), Vec::new()));
        assert!(!book.knows_ip("10.0.0.1".parse().unwrap()));
    }
}
