//! Previews by the real program: which files get one, and that a hostile file costs one preview and nothing else.

use std::{collections::BTreeSet, fs, io::Cursor, path::Path};

use image::{ImageFormat, RgbImage};
use mynet_e2e::{
    content::{self, bytes},
    http::client,
    network::Network,
    process::Node,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// Uploads of damaged files.
const HOSTILE: usize = 200;
/// What the node may take more after all of them than after the first few: its caches, not their bytes.
const GROWTH_MAX_KIB: u64 = 48 * 1024;

/// Tones that the previews' own tests use: MP3, Vorbis and AAC, which nothing here can write.
fn tone(name: &str) -> Vec<u8> {
    let media = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mynet-node/src/preview/tests/media");
    fs::read(media.join(name)).unwrap()
}

fn painting(format: ImageFormat) -> Vec<u8> {
    let grain = bytes(5, 400 * 300 * 3);
    let image = RgbImage::from_vec(400, 300, grain).unwrap();
    let mut encoded = Cursor::new(Vec::new());
    image.write_to(&mut encoded, format).unwrap();
    encoded.into_inner()
}

/// Every kind of file that has a preview, with the media type of that.
fn originals() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (audio, image) = ("audio/ogg; codecs=opus", "image/jpeg");
    vec![
        ("a.wav", content::wav(1, 3), audio),
        ("a.mp3", tone("tone.mp3"), audio),
        ("a.ogg", tone("tone.ogg"), audio),
        ("a.m4a", tone("tone.m4a"), audio),
        ("a.aac", tone("tone.aac"), audio),
        ("a.png", painting(ImageFormat::Png), image),
        ("a.jpg", painting(ImageFormat::Jpeg), image),
        ("a.gif", painting(ImageFormat::Gif), image),
        ("a.webp", painting(ImageFormat::WebP), image),
    ]
}

#[test]
fn audio_and_images_get_a_preview_of_at_most_a_third() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    for (name, original, mime) in originals() {
        let path = content::file(network.temp.path(), name, &original).unwrap();
        let view = node.json(&["add", &path, "--no-publish"]).unwrap();
        let states = view["states"].as_array().unwrap();
        let preview = states.iter().find(|state| state["state"] == "preview");
        let preview = preview.unwrap_or_else(|| panic!("{name} has no preview: {view}"));
        assert_eq!(preview["mime"], mime, "{name}");
        let got = node.bytes(&["get", view["group_id"].as_str().unwrap(), "--state", "preview", "-o", "-"]).unwrap();
        assert!(got.len() * 3 <= original.len(), "{name}: {} of {}", got.len(), original.len());
    }
}

/// Memory that the process of a node holds, its children not counted.
fn resident_kib(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[test]
fn two_hundred_hostile_files_cost_their_previews_and_nothing_else() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let token = node.json(&["token", "create", "--name", "t", "--scope", "write"]).unwrap();
    let (token, http, originals) = (token["token"].as_str().unwrap(), client(), originals());
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let (mut before, mut reasons) = (0, BTreeSet::new());
    for number in 0..HOSTILE {
        let (name, original, _) = &originals[number % originals.len()];
        let mut hostile = original.clone();
        // Numbers in headers first, then anywhere; some are cut off.
        let within = if number % 2 == 0 { 128 } else { hostile.len() };
        for _ in 0..=number % 40 {
            hostile[rng.random_range(0..within)] = rng.random();
        }
        if number % 7 == 0 {
            hostile.truncate(rng.random_range(1..hostile.len()));
        }
        let url = format!("{}/api/v1/content?filename={name}&publish=false&wait=stored", node.api);
        let answer = http.post(url).bearer_auth(token).body(hostile).send().unwrap();
        let status = answer.status();
        let view: Value = serde_json::from_slice(&answer.bytes().unwrap()).unwrap();
        assert_eq!(status, 201, "{number} {name}: {view}");
        // It has a preview, or the uploader hears why not.
        let has = view["states"].as_array().unwrap().iter().any(|state| state["state"] == "preview");
        let why = view["no_preview"]["code"].as_str();
        assert_eq!(has, why.is_none(), "{number} {name}: {view}");
        reasons.extend(why.map(str::to_owned));
        if number == HOSTILE / 10 {
            before = resident_kib(node);
        }
    }
    assert!(reasons.contains("preview_damaged") && reasons.len() >= 2, "{reasons:?}");
    let after = resident_kib(node);
    assert!(after < before + GROWTH_MAX_KIB, "{before} KiB, then {after} KiB");
    assert_eq!(http.get(format!("{}/readyz", node.api)).send().unwrap().status(), 200);
    let staging = Path::new(node.dir_arg()).join("staging");
    let left = fs::read_dir(&staging).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing is left in {}", staging.display());
    // It still makes previews.
    let path = content::file(network.temp.path(), "good.wav", &content::wav(2, 3)).unwrap();
    let view = node.json(&["add", &path, "--no-publish"]).unwrap();
    assert!(view["states"].as_array().unwrap().iter().any(|state| state["state"] == "preview"), "{view}");
}

#[test]
fn an_uploader_hears_why_there_is_no_preview_and_so_does_who_asks_later() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let cut = content::wav(3, 3)[..30].to_vec();
    for (name, bytes, want) in [
        ("words.txt", b"only words".to_vec(), Some("preview_unsupported")),
        ("short.wav", content::wav(3, 0), Some("preview_too_small")),
        ("cut.wav", cut, Some("preview_damaged")),
        ("song.wav", content::wav(3, 3), None),
    ] {
        let path = content::file(network.temp.path(), name, &bytes).unwrap();
        let view = node.json(&["add", &path, "--no-publish"]).unwrap();
        assert_eq!(view["no_preview"]["code"].as_str(), want, "{name}: {view}");
        let log = node.json(&["history", view["group_id"].as_str().unwrap()]).unwrap();
        let told = log.as_array().unwrap().iter().filter_map(|line| line["code"].as_str());
        let told: Vec<&str> = told.filter(|code| code.starts_with("preview_")).collect();
        assert_eq!(told, Vec::from_iter(want), "{name}: {log}");
        // One that was not asked for is not missed.
        let view = node.json(&["add", &path, "--no-publish", "--preview", "none"]).unwrap();
        assert!(view["no_preview"].is_null(), "{view}");
    }
}
