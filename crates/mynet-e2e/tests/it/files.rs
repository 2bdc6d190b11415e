//! Files of the user: what goes in comes out, and nothing of theirs is overwritten.

use std::fs;

use mynet_e2e::{
    content::{self, bytes, hash},
    network::Network,
    process::{Done, Node, command},
};

/// Runs a command against a node, in a directory of its own.
fn run_in(dir: &std::path::Path, node: &Node, args: &[&str]) -> Done {
    let args = [args, &["--data-dir", node.dir_arg()]].concat();
    command().unwrap().current_dir(dir).args(args).output().unwrap().into()
}

#[test]
fn a_supplied_preview_is_served_byte_for_byte_by_another_node() {
    let network = Network::trusted(2, "").unwrap();
    let song = content::file(network.temp.path(), "song.bin", &bytes(20, 300_000)).unwrap();
    let cover = [b"\x89PNG\r\n\x1a\n".as_slice(), &bytes(21, 70_000)].concat();
    let preview = content::file(network.temp.path(), "cover", &cover).unwrap();
    let view = network.nodes[0].json(&["add", &song, "--preview", &preview]).unwrap();
    assert_eq!(view["wait_result"], "durable", "{view}");
    let states = view["states"].as_array().unwrap();
    let state = states.iter().find(|state| state["state"] == "preview").unwrap();
    assert_eq!((&state["hash"], &state["mime"]), (&hash(&cover).into(), &"image/png".into()));
    let group = view["group_id"].as_str().unwrap();
    let got = network.nodes[1].bytes(&["get", group, "--state", "preview", "-o", "-"]).unwrap();
    assert!(got == cover);
}

#[test]
fn get_takes_the_uploaders_name_only_for_a_new_visible_file() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let secret = bytes(22, 5_000);
    let path = content::file(network.temp.path(), ".bashrc", &secret).unwrap();
    let group = node.json(&["add", &path, "--no-publish"]).unwrap()["group_id"].as_str().unwrap().to_owned();
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(".bashrc"), "mine").unwrap();

    let first = run_in(home.path(), node, &["get", &group, "--json"]);
    assert_eq!(first.status, 0, "{}", first.stderr);
    assert_eq!(first.json().unwrap()["path"], "bashrc");
    assert_eq!(fs::read(home.path().join("bashrc")).unwrap(), secret);
    assert_eq!(fs::read(home.path().join(".bashrc")).unwrap(), b"mine");

    fs::write(home.path().join("bashrc"), "mine too").unwrap();
    let second = run_in(home.path(), node, &["get", &group]);
    assert_eq!(second.status, 1, "{}", second.stderr);
    assert!(second.stderr.contains("exists") && second.stderr.contains("-o FILE"), "{}", second.stderr);
    assert_eq!(fs::read(home.path().join("bashrc")).unwrap(), b"mine too");

    let asked = run_in(home.path(), node, &["get", &group, "-o", "bashrc"]);
    assert_eq!(asked.status, 0, "{}", asked.stderr);
    assert_eq!(fs::read(home.path().join("bashrc")).unwrap(), secret);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "nothing is left beside the files");

    // A part cannot be taken for the whole, neither by its name nor by replacing what has that of the whole.
    let part = run_in(home.path(), node, &["get", &group, "--range", "10-"]);
    assert_eq!(part.status, 0, "{}", part.stderr);
    assert_eq!(fs::read(home.path().join("bashrc.bytes-10-4999")).unwrap(), secret[10..]);
    assert_eq!(fs::read(home.path().join("bashrc")).unwrap(), secret);
    fs::remove_file(home.path().join("bashrc")).unwrap();
    let whole = run_in(home.path(), node, &["get", &group, "--range", "0-"]);
    assert_eq!(whole.status, 0, "{}", whole.stderr);
    assert_eq!(fs::read(home.path().join("bashrc")).unwrap(), secret, "all of its bytes are no part");
}
