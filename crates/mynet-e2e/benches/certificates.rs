//! Certificates per second, end to end: four nodes of the real program on loopback, small uploads over HTTP from several
//! clients at once, each answered when its certificate is there.
//!
//! What is measured is the whole way of an upload: encryption, three fsynced copies, receipts, the votes of four validators, and the
//! certificate beside the group on the node that answers. Nodes, clients and this program share the processors and one disk.
//!
//! `MYNET_BIN` names the program to measure; without it, it is the debug build. Figures are in `docs/benchmarks.md`.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mynet_e2e::{content::bytes, http, network::Network};
use serde_json::Value;

/// Bytes of an upload: small, so that certificates are measured and not the disk.
const UPLOAD_BYTES: usize = 4 * 1024;
/// How many clients wait at the same time.
const CLIENTS: [usize; 4] = [1, 4, 16, 64];
/// Times that each number of clients is measured: the median of them is told, and the least and the most.
const ROUNDS: usize = 5;
/// How long a round is measured.
const MEASURED: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    // `cargo test --benches` runs every bench target to see that it starts; this one has nothing to show in a moment.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let network = Network::trusted(4, "")?;
    println!("clients  certificates/s, median (least to most)  half within  95 % within");
    for clients in CLIENTS {
        let (mut rates, mut waits) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (rate, round) = measure(&network, clients)?;
            rates.push(rate);
            waits.extend(round);
        }
        rates.sort_by(f64::total_cmp);
        waits.sort();
        let at = |share: usize| waits.get(waits.len() * share / 100).copied().unwrap_or_default().as_millis();
        let rate = |place: usize| rates.get(place).copied().unwrap_or_default();
        let (least, median, most) = (rate(0), rate(ROUNDS / 2), rate(ROUNDS - 1));
        println!("{clients:>7}  {median:8.1} ({least:.1} to {most:.1})  {} ms  {} ms", at(50), at(95));
    }
    // This program is a part of it; what exceeds it is others.
    println!(
        "load of the machine at the end: {}",
        fs::read_to_string("/proc/loadavg").context("read the load")?.trim()
    );
    Ok(())
}

/// Uploads from `clients` threads, spread over the nodes; certificates per second, and how long each upload took.
fn measure(network: &Network, clients: usize) -> Result<(f64, Vec<Duration>)> {
    /// Contents differ over all rounds: what is there already would be certified at once.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let tokens: Vec<String> = (0..clients).map(|client| token(network, client)).collect::<Result<_>>()?;
    let started = Instant::now();
    let waits: Vec<Result<Vec<Duration>>> = std::thread::scope(|scope| {
        let start = |(client, token)| scope.spawn(move || upload(network, (client, token), (&NEXT, started)));
        let clients: Vec<_> = tokens.iter().enumerate().map(start).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });
    let took = started.elapsed();
    let waits = waits.into_iter().collect::<Result<Vec<_>>>()?.concat();
    let certified = u32::try_from(waits.len()).context("count the certificates")?;
    Ok((f64::from(certified) / took.as_secs_f64(), waits))
}

/// An API key for a client.
fn token(network: &Network, client: usize) -> Result<String> {
    let node = network.nodes.get(client % network.nodes.len()).context("there are nodes")?;
    let key = node.json(&["token", "create", "--name", &format!("client-{client}"), "--scope", "write"])?;
    Ok(key["token"].as_str().context("a key has a token")?.to_owned())
}

/// One client: uploads until the time is over.
fn upload(
    network: &Network,
    (client, token): (usize, &String),
    (next, started): (&AtomicU64, Instant),
) -> Result<Vec<Duration>> {
    let node = network.nodes.get(client % network.nodes.len()).context("there are nodes")?;
    let http = http::client();
    let mut waits = Vec::new();
    while started.elapsed() < MEASURED {
        let body = bytes(next.fetch_add(1, Ordering::Relaxed), UPLOAD_BYTES);
        let begun = Instant::now();
        let url = format!("{}/api/v1/content?wait=certified&timeout=60s&filename=a.bin", node.api);
        let answer = http.post(url).bearer_auth(token).body(body).send().context("upload")?;
        let status = answer.status();
        let group: Value = answer.json().context("read the answer")?;
        ensure!(status.is_success() && group["consensus_achieved"] == true, "{status}: {group}");
        waits.push(begun.elapsed());
    }
    Ok(waits)
}
