//! What the vocabulary promises, shown on the public interface: encodings, signatures, rosters, certificates, texts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: what fails here fails the test, and clippy sees tests only where they are marked"
)]

mod admission;
mod certificate;
mod encoding;
mod evidence;
mod forgery;
mod head;
mod mutation;
mod network;
mod recovery;
mod roster;
mod samples;
mod tape;
mod texts;
mod vectors;
mod verifier;
