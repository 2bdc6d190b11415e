//! What a new user gets wrong: each mistake has its exit status and a line that helps.

use std::{fs, time::Duration};

use mynet_e2e::{
    content::{self, bytes},
    network::Network,
    process::run,
    wait::until,
};

#[test]
fn mistakes_without_a_node_are_told_apart() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_str().unwrap();
    let file = content::file(temp.path(), "file", b"x").unwrap();
    let (gone, demo) = (format!("{dir}/gone"), format!("{dir}/demo"));
    let cases: &[(&[&str], i32, &str)] = &[
        (&["status", "--data-dir", dir], 7, "there is no node in"),
        (&["status", "--data-dir", &file], 7, "there is no node in"),
        (&["status", "--api", "nonsense", "--token", "x"], 2, "http://HOST:PORT"),
        (&["status", "--api", "http://127.0.0.1:9", "--token", "a\nb"], 2, "token"),
        (&["run", "--data-dir", dir], 1, "holds no node"),
        (&["demo", &gone, "--dir", &demo], 1, "check the path"),
        (&["demo", dir, "--dir", &demo], 2, "is not a file"),
        (&["verify", &gone, "--genesis", &file], 1, "check the path"),
        (&["verify", &file, "--genesis", &file], 5, ""),
        (&["join", "nonsense", "--data-dir", &gone], 2, "ticket"),
    ];
    for (args, status, says) in cases {
        let done = run(args).unwrap();
        assert_eq!(done.status, *status, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{args:?}: {}", done.stderr);
    }
    assert!(!fs::exists(&demo).unwrap(), "a demo without its file begins nothing");
    let told = run(&["show", "--json"]).unwrap();
    let error: serde_json::Value = serde_json::from_str(&told.stderr).unwrap();
    assert_eq!((told.status, &error["error"]["code"]), (2, &"usage".into()));
}

#[test]
fn mistakes_in_commands_change_nothing() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let temp = network.temp.path();
    let (good, empty) =
        (content::file(temp, "good", &bytes(50, 100)).unwrap(), content::file(temp, "empty", b"").unwrap());
    let (dir, gone) = (temp.to_str().unwrap(), temp.join("gone"));
    let gone = gone.to_str().unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["add", &good, gone], 1, "check the path"),
        (&["add", &good, dir], 2, "is not a file"),
        (&["add", &good, "--preview", gone], 1, "check the path"),
        (&["add", &good, "--preview", &empty], 2, "is empty"),
        (&["add", &good, "--public", "--preview", &good], 2, "no preview"),
        (&["add", &good, "--public", "--grant", "none"], 2, "everybody may read it"),
        (&["add", &good, "--tag", "a,b"], 2, "say --tag once for each"),
        (&["get", "../status"], 2, "letters, digits"),
        (&["get", "x", "--range", "5-2"], 2, "A <= B"),
        (&["get", "x", "-o", dir], 2, "is a directory"),
        (&["token", "revoke", "../tokens"], 2, "letters, digits"),
    ];
    for (args, status, says) in cases {
        let done = node.run(args).unwrap();
        assert_eq!(done.status, *status, "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{args:?}: {}", done.stderr);
    }
    assert_eq!(node.json(&["ls"]).unwrap().as_array().unwrap().len(), 0, "nothing was stored");
    let small = node.json(&["add", &good, "--public", "--wait", "stored", "--tag", "a", "--tag", "b"]).unwrap();
    assert_eq!(small["tags"], serde_json::json!(["a", "b"]), "{small}");
    let id = small["group_id"].as_str().unwrap();
    let beyond = node.run(&["get", id, "--range", "100-", "-o", "-"]).unwrap();
    assert_eq!(beyond.status, 2, "{}", beyond.stderr);
    assert!(
        beyond.stderr.contains("there are no bytes 100-") && !beyond.stderr.contains("Content-Range"),
        "{}",
        beyond.stderr
    );
    for (args, says) in [
        (["cert", id].as_slice(), "no certificate yet; `why` tells"),
        (&["get", id, "--state", "preview", "-o", "-"], "has no preview state; ask for one of its states"),
    ] {
        let absent = node.run(args).unwrap();
        assert_eq!(absent.status, 3, "{}", absent.stderr);
        assert!(absent.stderr.contains(says), "{}", absent.stderr);
    }
    let shown = String::from_utf8(node.bytes(&["show", id]).unwrap()).unwrap();
    assert!(shown.contains("\n          this node"), "{shown}");
    node.json(&["add", &good, "--public", "--no-publish"]).unwrap();
    let (one, all) = (node.run(&["ls", "--limit", "1"]).unwrap(), node.run(&["ls", "--limit", "2"]).unwrap());
    assert!(one.stderr.starts_with("note: these are the newest 1, and there are more"), "{}", one.stderr);
    assert_eq!(all.stderr, "");
    let genesis = node.dir.join("copy");
    let written = String::from_utf8(node.bytes(&["genesis", "-o", genesis.to_str().unwrap()]).unwrap()).unwrap();
    assert!(written.starts_with(genesis.to_str().unwrap()) && written.trim_end().ends_with('B'), "{written}");
    let tokens = node.json(&["token", "ls"]).unwrap();
    let own = tokens.as_array().unwrap().iter().find(|token| token["name"] == "local commands").unwrap();
    let nobody = node.run(&["find", &content::hash(b"nobody has this")]).unwrap();
    assert_eq!((nobody.status, nobody.stdout.as_slice()), (3, b"nobody has it\n".as_slice()));
    node.json(&["token", "revoke", own["id"].as_str().unwrap()]).unwrap();
    let revoked = node.run(&["status"]).unwrap();
    assert!(revoked.status == 6 && revoked.stderr.contains("start the node again"), "{}", revoked.stderr);
}

#[test]
fn an_upload_that_nobody_else_can_take_says_so_and_what_comes_next() {
    let mut network = Network::trusted(2, "").unwrap();
    network.nodes[1].kill().unwrap();
    let path = content::file(network.temp.path(), "data.bin", &bytes(51, 1000)).unwrap();
    let founder = &network.nodes[0];
    until("the other node to be missed", Duration::from_secs(60), || {
        let status = founder.json(&["status"])?;
        anyhow::ensure!(status["peers"]["alive"] == 0, "{status}");
        Ok(())
    })
    .unwrap();
    let done = founder.run(&["add", &path, "--timeout", "1s"]).unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status, 4, "{told} {}", done.stderr);
    assert!(told.contains("stored here; the wait is over") && told.contains("cannot be reached"), "{told}");
    let group = told.split_whitespace().next().unwrap().to_owned();
    network.nodes[1].restart().unwrap();
    // As it was told.
    until("the copy to be made", Duration::from_secs(60), || {
        let view = network.nodes[0].json(&["show", &group])?;
        anyhow::ensure!(view["replica_count"] == 2, "{view}");
        Ok(())
    })
    .unwrap();
}
