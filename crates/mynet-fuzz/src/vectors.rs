//! The committed test vectors of `mynet-types`: one rightly signed record of each kind, and one valid file of each kind.

use std::sync::LazyLock;

use mynet_types::{CertificateFile, Genesis, GenesisFile, NetworkId, codec};

const COMMITTED: &str = include_str!("../../mynet-types/tests/vectors/wire-v1.txt");

/// The network in which the records are signed.
static NETWORK: LazyLock<NetworkId> = LazyLock::new(|| {
    let bytes = record("genesis").expect("the vectors hold a genesis");
    codec::decode::<Genesis>(&bytes, bytes.len()).expect("a committed genesis decodes").network_id()
});

/// The network in which the records are signed.
pub(crate) fn network() -> NetworkId {
    *NETWORK
}

/// The encoding of the record of that name, if there is one.
pub(crate) fn record(name: &str) -> Option<Vec<u8>> {
    bytes("record", name)
}

/// The bytes of the file of that name.
pub(crate) fn file(name: &str) -> Vec<u8> {
    bytes("file", name).expect("the vectors hold a file of each kind")
}

fn bytes(kind: &str, name: &str) -> Option<Vec<u8>> {
    COMMITTED.lines().find_map(|line| {
        let mut words = line.split(' ');
        let wanted = words.next() == Some(kind) && words.next() == Some(name);
        wanted.then(|| hex::decode(words.nth(1).expect("hash and bytes follow")).expect("bytes are hex"))
    })
}

/// The bytes of a valid certificate file.
pub(crate) fn certificate_bytes() -> Vec<u8> {
    file("certificate")
}

/// The bytes of the genesis file that it verifies against.
pub(crate) fn genesis_bytes() -> Vec<u8> {
    file("genesis")
}

/// A valid certificate.
pub(crate) fn certificate() -> CertificateFile {
    CertificateFile::decode(&certificate_bytes()).expect("a committed certificate decodes")
}

/// The genesis that it verifies against.
pub(crate) fn genesis() -> GenesisFile {
    GenesisFile::decode(&genesis_bytes()).expect("a committed genesis file decodes")
}
