//! Four trusted nodes and a stranger's copy: every state from every node, whole and by ranges.

use std::time::Duration;

use mynet_e2e::{
    content::{self, bytes, hash, wav},
    http::client,
    network::{Network, Trust},
    wait::until,
};
use serde_json::Value;

/// A chunk of the content encryption; ranges must cross its borders.
const CHUNK: usize = 64 * 1024;

fn state<'a>(view: &'a Value, name: &str) -> &'a Value {
    view["states"].as_array().unwrap().iter().find(|state| state["state"] == name).unwrap()
}

#[test]
fn every_trusted_node_serves_all_three_states_whole_and_by_ranges() {
    let network = Network::trusted(4, "").unwrap();
    let song = wav(1, 12);
    let path = content::file(network.temp.path(), "song.wav", &song).unwrap();
    let view = network.nodes[0].json(&["add", &path, "--wait", "certified", "--tag", "rock"]).unwrap();
    assert_eq!(view["wait_result"], "certified", "{view}");
    assert_eq!(view["consensus"]["outcome"], "approved", "{view}");
    assert_eq!(state(&view, "decrypted")["hash"], hash(&song));
    let group = view["group_id"].as_str().unwrap();
    let settled = network.settled(0, group).unwrap();
    assert_eq!(settled["replica_count"], 3);

    let encrypted = network.nodes[0].bytes(&["get", group, "--state", "encrypted", "-o", "-"]).unwrap();
    let preview = network.nodes[0].bytes(&["get", group, "--state", "preview", "-o", "-"]).unwrap();
    assert_eq!(hash(&encrypted), state(&view, "encrypted")["hash"]);
    assert_eq!(hash(&preview), state(&view, "preview")["hash"]);
    assert!(preview.starts_with(b"OggS") && preview.len() * 3 <= song.len());
    assert!(!encrypted.windows(64).any(|window| window == &song[CHUNK..CHUNK + 64]), "plaintext shows through");

    let cuts = [(0, 1), (CHUNK - 1, CHUNK + 1), (3 * CHUNK - 5, 5 * CHUNK + 7), (song.len() - 3, song.len())];
    for node in &network.nodes {
        for (name, whole) in [("encrypted", &encrypted), ("decrypted", &song), ("preview", &preview)] {
            let got = node.bytes(&["get", group, "--state", name, "-o", "-"]).unwrap();
            assert!(got == *whole, "{name} from {} differs", node.id);
            for (from, to) in cuts.iter().filter(|(_, to)| *to <= whole.len()) {
                let range = format!("{from}-{}", to - 1);
                let got = node.bytes(&["get", group, "--state", name, "--range", &range, "-o", "-"]).unwrap();
                assert!(got == whole[*from..*to], "{name} {range} from {} differs", node.id);
            }
        }
    }
}

#[test]
fn an_untrusted_node_serves_encrypted_and_preview_and_never_decrypted() {
    let mut network = Network::trusted(4, "").unwrap();
    network.join(Trust::Untrusted, &["--role", "storage,index"]).unwrap();
    network.formed(4).unwrap();
    // Five nodes, five copies wanted: the untrusted one is a holder for certain.
    let song = wav(2, 6);
    let path = content::file(network.temp.path(), "song.wav", &song).unwrap();
    let view = network.nodes[1].json(&["add", &path, "--replicas", "5", "--wait", "certified"]).unwrap();
    let group = view["group_id"].as_str().unwrap();
    network.settled(1, group).unwrap();

    let stranger = &network.nodes[4];
    for name in ["encrypted", "preview"] {
        let got = stranger.bytes(&["get", group, "--state", name, "-o", "-"]).unwrap();
        assert_eq!(hash(&got), state(&view, name)["hash"]);
    }
    let refused = stranger.run(&["get", group, "--state", "decrypted", "-o", "-"]).unwrap();
    assert_eq!(refused.status, 6, "{}", refused.stderr);
    assert!(refused.stdout.is_empty());
    let seen = stranger.json(&["show", group]).unwrap();
    assert_eq!(state(&seen, "decrypted")["held"], "no");
    assert!(state(&seen, "decrypted").get("hash").is_none(), "the plaintext hash leaked: {seen}");
    assert!(seen.get("filename").is_none(), "the file name leaked: {seen}");
    assert_eq!(state(&seen, "encrypted")["held"], "blob");

    // The owner's node may change its mind: trust wraps the keys of old groups too.
    let id = stranger.id.clone();
    network.nodes[1].json(&["trust", &id]).unwrap();
    until("the newly trusted node to read", Duration::from_secs(30), || {
        let got = network.nodes[4].bytes(&["get", group, "--state", "decrypted", "-o", "-"])?;
        anyhow::ensure!(got == song, "it serves other bytes");
        Ok(())
    })
    .unwrap();
}

#[test]
fn sizes_around_every_border_survive_the_round_trip() {
    let network = Network::trusted(4, "").unwrap();
    let sizes = [0, 1, 15, 16 * 1024, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 1024 * 1024 + 17];
    for (seed, size) in sizes.into_iter().enumerate() {
        let data = bytes(seed as u64, size);
        let path = content::file(network.temp.path(), "data.bin", &data).unwrap();
        let view = network.nodes[seed % 4].json(&["add", &path, "--type", "document"]).unwrap();
        assert_eq!(view["wait_result"], "durable", "{size} bytes: {view}");
        let group = view["group_id"].as_str().unwrap();
        let got = network.nodes[(seed + 1) % 4].bytes(&["get", group, "--state", "decrypted", "-o", "-"]).unwrap();
        assert!(got == data, "{size} bytes differ");
    }
}

#[test]
fn public_content_is_one_plain_state_that_every_node_serves_without_a_token() {
    let network = Network::trusted(4, "").unwrap();
    let data = bytes(9, 200_000);
    let path = content::file(network.temp.path(), "free.bin", &data).unwrap();
    let view = network.nodes[0].json(&["add", &path, "--public", "--wait", "certified"]).unwrap();
    assert_eq!(view["states"].as_array().unwrap().len(), 1);
    for node in &network.nodes {
        let url = format!("{}/api/v1/storage/{}", node.api, hash(&data));
        let answer = client().get(&url).send().unwrap();
        assert_eq!(answer.status(), 200, "{}", node.id);
        assert!(answer.bytes().unwrap() == data);
    }
}
