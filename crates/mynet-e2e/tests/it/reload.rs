//! SIGHUP: changed settings apply to a running node, and broken ones change nothing.

use std::{fs, time::Duration};

use mynet_e2e::{
    content::{self, bytes},
    network::Network,
    process::{Node, signal},
    wait::until,
};

/// Reading a small file and swapping a pointer, on a busy machine.
const RELOAD_MAX: Duration = Duration::from_secs(20);

/// Writes `text` as the node's settings, behind those it was made with, and asks it to reload.
fn reload(node: &Node, made_with: &str, text: &str) {
    fs::write(node.dir.join("config.toml"), format!("{made_with}\n{text}\n")).unwrap();
    signal(node.pid().unwrap(), "HUP").unwrap();
}

/// Waits until the node's log says all of `words` in one line.
fn logged(node: &Node, words: &[&str]) {
    until(&format!("{words:?} in the log"), RELOAD_MAX, || {
        let log = fs::read_to_string(node.log_path())?;
        anyhow::ensure!(log.lines().any(|line| words.iter().all(|word| line.contains(word))), "{}", node.log_tail());
        Ok(())
    })
    .unwrap();
}

#[test]
fn sighup_reloads_what_can_change_and_never_ends_the_node() {
    let mut network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let (pid, made_with) = (node.pid(), fs::read_to_string(node.dir.join("config.toml")).unwrap());
    let large = content::file(network.temp.path(), "large.bin", &bytes(30, 100_000)).unwrap();
    node.json(&["add", &large, "--no-publish"]).unwrap();

    reload(node, &made_with, "[limits]\nupload = \"50KiB\"\n[consensus]\ntimeout = \"9s\"");
    let refused = |node: &Node| {
        let done = node.run(&["add", &large, "--no-publish"])?;
        anyhow::ensure!(done.status == 1 && done.stderr.contains("51200 bytes"), "{} {}", done.status, done.stderr);
        Ok(())
    };
    until("large uploads to be refused", RELOAD_MAX, || refused(node)).unwrap();
    logged(node, &["WARN", "consensus.timeout", "restart"]);

    reload(node, &made_with, "[limits]\nupload = \"plenty\"");
    logged(node, &["ERROR", "limits.upload"]);
    reload(node, &made_with, "[limits]\nuplod = \"1GiB\"");
    logged(node, &["ERROR", "limits.uplod", "limits.upload"]);
    reload(node, &made_with, "[limits");
    logged(node, &["ERROR", "TOML parse error", "config.toml"]);
    reload(node, &made_with, "[network]\nbootstrap = [\"nobody\"]");
    logged(node, &["ERROR", "network.bootstrap", "nobody"]);
    refused(node).unwrap();

    reload(node, &made_with, "");
    until("large uploads to be taken again", RELOAD_MAX, || node.json(&["add", &large, "--no-publish"])).unwrap();
    assert_eq!(node.pid(), pid);
    assert_eq!(network.nodes[0].stop().unwrap(), 0);
}
