//! A plain HTTP client, as any program that talks to a node may use one.

use reqwest::blocking::Client;

/// A client without any state.
///
/// The program under test brings TLS into this build, so the client wants a provider for it, although nothing here speaks TLS.
#[must_use]
pub fn client() -> Client {
    // An error says that an earlier call has done it.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::new()
}
