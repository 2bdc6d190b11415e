//! Commands that need no network: completions, manual pages, settings with their origins; and JSON from whatever has a result.

use std::{fs, path::Path, process::Command};

use mynet_e2e::{
    content::{self, bytes},
    network::{Network, lonely},
    process::{Node, command, json, program, run},
};
use serde_json::Value;

#[test]
fn every_shell_gets_completions_that_know_commands_flags_and_values() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).unwrap();
        let text = String::from_utf8(script.stdout).unwrap();
        assert_eq!((script.status, script.stderr.as_str()), (0, ""), "{shell}");
        for word in ["mynet", "roster", "approve", "allow-degraded-quorum", "certified"] {
            assert!(text.contains(word), "{shell} does not know {word}");
        }
        assert!(!text.contains("preview-worker"), "{shell} offers what is not for people");
        assert_eq!(json(&["completions", shell]).unwrap()["script"], text, "{shell}");
    }
    // One shell is here, and takes its script.
    let bin = program().unwrap();
    let typed = "source <(\"$0\" completions bash) && complete -p mynet";
    let taken = Command::new("bash").args(["--norc", "-c", typed]).arg(bin).output().unwrap();
    let told = String::from_utf8_lossy(&taken.stdout).into_owned();
    assert!(taken.status.success() && told.contains("-F _mynet"), "{told} {}", String::from_utf8_lossy(&taken.stderr));
}

#[test]
fn there_is_a_page_for_each_command() {
    let temp = tempfile::tempdir().unwrap();
    let page = run(&["man"]).unwrap();
    assert!(page.status == 0 && String::from_utf8_lossy(&page.stdout).contains(".TH mynet 1"));
    let told = json(&["man", "--dir", temp.path().to_str().unwrap()]).unwrap();
    let pages: Vec<&str> = told["pages"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), pages.len());
    for page in ["mynet.1", "mynet-add.1", "mynet-roster-recover-sign.1", "mynet-config-show.1"] {
        assert!(pages.contains(&page), "{pages:?}");
    }
    assert!(!pages.contains(&"mynet-preview-worker.1"));
    let add = fs::read_to_string(temp.path().join("mynet-add.1")).unwrap();
    assert!(add.contains("mynet\\-add") && add.contains("Example: mynet add"), "{add}");
}

#[test]
fn settings_are_shown_with_their_origins_and_without_secrets() {
    let network = Network::trusted(1, "\n[replication]\nreplicas = 5\n").unwrap();
    let node = &network.nodes[0];
    let file = node.dir.join("config.toml");
    let shown = |args: &[&str]| {
        let mut command = command().unwrap();
        command.env("MYNET_REPLICATION__LEASE", "7m").env("MYNET_DATA_DIR", node.dir_arg());
        let done = command.args(["config", "show"]).args(args).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let object: Value = serde_json::from_str(&shown(&["--json"])).unwrap();
    let setting = |key: &str| {
        let found = object["settings"].as_array().unwrap().iter().find(|setting| setting["key"] == key);
        found.unwrap_or_else(|| panic!("{key} in {object}")).clone()
    };
    let from_file = serde_json::json!({ "kind": "file", "name": file });
    let from_environment = |name: &str| serde_json::json!({ "kind": "environment", "name": name });
    assert_eq!(
        (&setting("replication.replicas")["value"], &setting("replication.replicas")["origin"]),
        (&5.into(), &from_file)
    );
    assert_eq!(setting("replication.lease")["value"], "7m");
    assert_eq!(setting("replication.lease")["origin"], from_environment("MYNET_REPLICATION__LEASE"));
    assert_eq!(setting("replication.quorum")["origin"], serde_json::json!({ "kind": "default" }));
    assert_eq!(object["data_dir"]["origin"], from_environment("MYNET_DATA_DIR"));
    assert_eq!(object["api"]["value"], node.api);
    assert_eq!(object["token"], serde_json::json!({ "origin": { "kind": "file", "name": node.dir.join("api.json") } }));

    let access: Value = serde_json::from_slice(&fs::read(node.dir.join("api.json")).unwrap()).unwrap();
    let secret = access["token"].as_str().unwrap();
    for told in [shown(&[]), shown(&["--json"]), shown(&["--token", "a-secret-of-mine"])] {
        assert!(!told.contains(secret) && !told.contains("a-secret-of-mine"), "{told}");
    }
    let flag: Value = serde_json::from_str(&shown(&["--json", "--token", "a-secret-of-mine"])).unwrap();
    assert_eq!(flag["token"]["origin"], serde_json::json!({ "kind": "flag" }));
}

#[test]
fn settings_of_a_directory_above_are_not_those_of_this_one() {
    let temp = tempfile::tempdir().unwrap();
    let below = temp.path().join("below");
    fs::create_dir_all(temp.path().join("node")).unwrap();
    fs::create_dir(&below).unwrap();
    fs::write(temp.path().join("node/config.toml"), "[replication]\nreplicas = 5\n").unwrap();
    let replicas = |dir: &Path| {
        let mut command = command().unwrap();
        let done = command.current_dir(dir).args(["config", "show", "--data-dir", "node"]).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("replication.replicas")).unwrap();
        line.split_whitespace().nth(1).map(str::to_owned)
    };
    assert_eq!(replicas(temp.path()).as_deref(), Some("5"));
    assert_eq!(replicas(&below).as_deref(), Some("3"));
}

#[test]
fn every_result_can_be_had_as_json() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let temp = network.temp.path();
    let path = content::file(temp, "data.bin", &bytes(97, 1000)).unwrap();
    let group = node.json(&["add", &path, "--no-publish"]).unwrap();
    let group = group["group_id"].as_str().unwrap();
    let out = temp.join("out");
    let out = out.to_str().unwrap();
    for args in [
        ["status"].as_slice(),
        &["peers"],
        &["proposals"],
        &["evidence"],
        &["ls"],
        &["token", "ls"],
        &["roster", "show"],
        &["invite"],
        &["show", group],
        &["why", group],
        &["history", group],
        &["publish", group, "--dry-run"],
        &["get", group, "-o", out],
        &["genesis"],
        &["genesis", "-o", out],
        &["config", "show"],
        &["gc", "--dry-run"],
        &["doctor", "--dry-run"],
        &["roster", "recover", "offer", "-o", out],
        &["rm", group],
    ] {
        let told = node.json(args).unwrap();
        assert!(told.is_object() || told.is_array(), "{args:?}: {told}");
    }
    let genesis = node.json(&["genesis"]).unwrap();
    assert_eq!(genesis["hex"], hex::encode(node.bytes(&["genesis"]).unwrap()));
    // What was stored before another file failed is not lost sight of.
    let other = content::file(temp, "other.bin", &bytes(98, 1000)).unwrap();
    let done = node.run(&["add", &path, &other, "--no-publish", "--json"]).unwrap();
    assert_eq!(done.json().unwrap().as_array().map(Vec::len), Some(2));
}

#[test]
fn commands_need_no_settings_of_the_node_that_they_speak_to() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let path = content::file(network.temp.path(), "data.bin", &bytes(99, 1000)).unwrap();
    let group = node.json(&["add", &path, "--no-publish"]).unwrap()["group_id"].as_str().unwrap().to_owned();
    let config = node.dir.join("config.toml");
    let good = fs::read_to_string(&config).unwrap();
    let lines = good.lines().count();
    for (mistake, says) in [
        ("x = [", format!("line {}, column 6", lines + 1)),
        ("[replication]\nreplcas = 3", format!("config.toml, line {}; did you mean", lines + 2)),
        ("[replication]\nreplicas = \"x\"", format!("config.toml, line {}", lines + 2)),
    ] {
        fs::write(&config, format!("{good}{mistake}\n")).unwrap();
        for args in
            [["status"].as_slice(), &["ls"], &["peers"], &["show", &group], &["doctor", "--dry-run"], &["token", "ls"]]
        {
            let done = node.run(args).unwrap();
            assert_eq!((done.status, done.stderr.as_str()), (0, ""), "{mistake}: {args:?}");
        }
        let shown = node.run(&["config", "show"]).unwrap();
        assert_eq!(shown.status, 1, "{mistake}");
        assert!(shown.stderr.contains(&says), "{mistake}: {}", shown.stderr);
    }
}

#[test]
fn a_start_removes_what_a_killed_set_up_left() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("node");
    lonely(&dir).unwrap();
    let (beside, within) = (temp.path().join(".node.new-1"), dir.join(".new-1"));
    for left in [&beside, &within] {
        fs::create_dir(left).unwrap();
        fs::write(left.join("node.key"), "k").unwrap();
    }
    let node = Node::start(&dir, &[]).unwrap();
    assert!(!beside.exists() && !within.exists(), "{}", node.log_tail());
}
