//! Files of the user: what goes in comes out, and nothing of theirs is overwritten.

use std::{
    fs,
    io::Write,
    process::{Child, Stdio},
    time::Duration,
};

use mynet_e2e::{
    content::{self, bytes, hash},
    network::Network,
    process::{Done, Node, command},
    wait::until,
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

/// Starts `add -` on a node, with more arguments.
fn add_input(node: &Node, more: &[&str]) -> Child {
    let args = [&["add", "-", "--no-publish", "--data-dir", node.dir_arg()], more].concat();
    let mut command = command().unwrap();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn standard_input_is_stored_under_a_name() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let data = bytes(23, 700_000);
    let cover = [b"\x89PNG\r\n\x1a\n".as_slice(), &bytes(24, 7_000)].concat();
    let cover = content::file(network.temp.path(), "cover", &cover).unwrap();
    for (more, name) in [
        ([].as_slice(), "stdin"),
        (&["--name", "song.bin"], "song.bin"),
        // A form, in which the size cannot be told in advance either.
        (&["--name", "covered.bin", "--preview", &cover], "covered.bin"),
    ] {
        let mut child = add_input(node, &[more, &["--json"]].concat());
        child.stdin.take().unwrap().write_all(&data).unwrap();
        let done: Done = child.wait_with_output().unwrap().into();
        assert_eq!(done.status, 0, "{}", done.stderr);
        let group = done.json().unwrap();
        assert_eq!(group["filename"], name, "{group}");
        assert!(node.bytes(&["get", group["group_id"].as_str().unwrap(), "-o", "-"]).unwrap() == data);
    }
}

#[test]
fn what_was_being_added_when_the_node_died_is_named_and_not_there() {
    let mut network = Network::trusted(1, "").unwrap();
    let mut child = add_input(&network.nodes[0], &["--name", "song.bin"]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(&bytes(25, 300_000)).unwrap();
    let staging = network.nodes[0].dir.join("staging");
    until("the node to receive it", Duration::from_secs(30), || {
        anyhow::ensure!(fs::read_dir(&staging)?.next().is_some(), "nothing is staged");
        Ok(())
    })
    .unwrap();
    network.nodes[0].kill().unwrap();
    // The end of the input is not why it ends.
    let status = child.wait().unwrap();
    drop(input);
    let done: Done = child.wait_with_output().unwrap().into();
    assert_eq!(status.code(), Some(7), "{}", done.stderr);
    assert!(
        done.stderr.contains("song.bin was not stored: ") && done.stderr.contains("add it again"),
        "{}",
        done.stderr
    );
    network.nodes[0].restart().unwrap();
    assert_eq!(network.nodes[0].json(&["ls"]).unwrap().as_array().map(Vec::len), Some(0));
}
