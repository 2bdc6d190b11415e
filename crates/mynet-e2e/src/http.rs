//! HTTP as any program that talks to a node may use it: a plain client, and bytes on a socket for what no client sends.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use reqwest::blocking::Client;
use serde_json::Value;

/// How long an answer may pause before it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// A client without any state.
///
/// The program under test brings TLS into this build, so the client wants a provider for it, although nothing here speaks TLS.
#[must_use]
pub fn client() -> Client {
    // An error says that an earlier call has done it.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::new()
}

/// A connection to an API.
///
/// # Errors
/// If nobody listens there.
pub fn connect(api: &str) -> Result<TcpStream> {
    let addr = api.strip_prefix("http://").context("an API is an http address")?;
    let stream = TcpStream::connect(addr).context("connect")?;
    stream.set_read_timeout(Some(SILENCE_MAX)).context("bound the wait")?;
    Ok(stream)
}

/// An answer to bytes that were sent as they are.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Everything up to the empty line, in lower case.
    pub head: String,
    /// The rest, as text.
    pub body: String,
}

impl Answer {
    /// The object in the body; `Null` if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What a client does when it has sent what it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It waits.
    Wait,
    /// It says that no more will come.
    End,
}

/// Sends `bytes` and reads until the other side closes: ask it to with `Connection: close`.
///
/// # Errors
/// If no answer comes.
pub fn raw(api: &str, bytes: &[u8], then: Then) -> Result<Answer> {
    let mut stream = connect(api)?;
    stream.write_all(bytes).context("send the request")?;
    if then == Then::End {
        stream.shutdown(Shutdown::Write).context("end the request")?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read the answer")?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or_default();
    ensure!(status.len() == 3, "no status in {head}");
    let status = status.parse().context("a status is a number")?;
    Ok(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
}
