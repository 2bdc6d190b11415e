//! Every command used badly: the right exit status, one line that helps, the same for programs, and nothing left behind.
//!
//! Its sister over HTTP is `http_mistakes`.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use mynet_e2e::{
    content::{self, bytes},
    network::{Network, lonely},
    process::{Done, Node, command},
};
use serde_json::Value;

/// No group, no node and no key has this name.
const NOBODY: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A mistake: a command line, its exit status, the code for programs, and a part of the line that helps.
type Mistake<'a> = (&'a str, i32, &'a str, &'a str);

/// Runs commands in a directory of the user, with that of a node in their environment.
struct Bench<'a> {
    home: &'a Path,
    data_dir: &'a str,
}

impl Bench<'_> {
    fn run(&self, line: &str, more: &[&str]) -> Done {
        self.typed(line, more).output().unwrap().into()
    }

    /// A command line in which `_` stands for an empty word, and `NAME=value` in front for a variable.
    fn typed(&self, line: &str, more: &[&str]) -> Command {
        let mut command = command().unwrap();
        command.current_dir(self.home).env("MYNET_DATA_DIR", self.data_dir);
        let mut words = line.split_whitespace().map(|word| if word == "_" { "" } else { word }).peekable();
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            if name.starts_with('-') || !name.starts_with("MYNET_") {
                break;
            }
            command.env(name, value);
            words.next();
        }
        command.args(words).args(more);
        command
    }

    /// Makes a mistake twice: for a person, and for a program.
    fn make(&self, &(line, status, code, helps): &Mistake<'_>) {
        let before = tree(self.home);
        let told = self.run(line, &[]);
        assert_eq!(told.status, status, "{line}: {}", told.stderr);
        assert!(told.stdout.is_empty(), "{line}: {}", String::from_utf8_lossy(&told.stdout));
        assert_eq!(told.stderr.lines().count(), 1, "{line}: {}", told.stderr);
        assert!(told.stderr.starts_with("error: ") && told.stderr.contains(helps), "{line}: {}", told.stderr);
        assert!(!told.stderr.contains('\u{1b}'), "{line}: no colours without a terminal");

        let program = self.run(line, &["--json"]);
        assert_eq!(program.status, status, "{line}: {}", program.stderr);
        let error: Value =
            serde_json::from_str(&program.stderr).unwrap_or_else(|_| panic!("{line}: {}", program.stderr));
        assert_eq!(error["error"]["code"], code, "{line}: {error}");
        for member in ["message", "hint"] {
            assert!(error["error"][member].as_str().is_some_and(|text| !text.is_empty()), "{line}: {error}");
        }
        assert_eq!(tree(self.home), before, "{line} left something behind");
    }
}

/// Everything below a directory, with its bytes where it has any.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let bytes = if kind.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            found.insert(path.to_string_lossy().into_owned(), bytes);
            if kind.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

/// A home with something of everything that can be taken for a file.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    content::file(home.path(), "good", &bytes(90, 100)).unwrap();
    content::file(home.path(), "empty", b"").unwrap();
    fs::create_dir(home.path().join("dir")).unwrap();
    assert!(Command::new("mkfifo").arg(home.path().join("fifo")).status().unwrap().success());
    home
}

/// What goes wrong before any node is asked.
const WITHOUT_A_NODE: &[Mistake<'static>] = &[
    // Words that do not exist, with the nearest that do.
    ("pers", 2, "usage", "'peers'"),
    ("roster aprove", 2, "usage", "'approve'"),
    ("status --jsn", 2, "usage", "'--json'"),
    ("add good --wait durble", 2, "usage", "'durable'"),
    ("get x --state preveiw", 2, "usage", "'preview'"),
    ("add good --type vidoe", 2, "usage", "'video'"),
    ("completions bsh", 2, "usage", "'bash'"),
    ("get x --force", 2, "usage", "--output"),
    ("status --color sometimes", 2, "usage", "auto, always, never"),
    ("MYNET_REPLICATION__REPLCAS=3 config show", 1, "bad_settings", "MYNET_REPLICATION__REPLCAS; did you mean"),
    // Values that are missing or of the wrong kind.
    ("add", 2, "usage", "<FILES>"),
    ("add good --wait", 2, "usage", "'--wait"),
    ("add good --replicas many", 2, "usage", "a whole number from 1 to 16"),
    ("add good --replicas 0", 2, "usage", "'0'"),
    ("add good --timeout soon", 2, "usage", "90s, 24h or 7d"),
    ("add good --tag a,b", 2, "usage", "--tag once for each"),
    ("add good --no-publish --wait durable", 2, "invalid_wait", "--wait stored"),
    ("ls --limit -1", 2, "usage", "'-1'"),
    ("get ../status", 2, "usage", "letters, digits"),
    ("get x --range 5-2", 2, "usage", "A <= B"),
    ("peers xyz", 2, "usage", "64 hex digits"),
    ("trust xyz", 2, "usage", "64 hex digits"),
    ("roster approve xyz", 2, "usage", "64 hex digits"),
    ("invite --uses 0", 2, "usage", "'0'"),
    ("invite --role king", 2, "usage", "storage, index, validator"),
    ("invite --expires never", 2, "usage", "90s, 24h or 7d"),
    ("token create", 2, "usage", "--name"),
    ("token create --name a --scope root", 2, "usage", "read, write, admin"),
    ("demo --nodes 99", 2, "usage", "from 4 to 8"),
    ("init --capacity lots", 2, "usage", "100GiB"),
    ("init --api-listen here", 2, "usage", "127.0.0.1:8420"),
    ("status --token _", 2, "usage", "--token"),
    ("MYNET_TOKEN= status", 2, "usage", "--token"),
    ("status --api _", 2, "usage", "--api"),
    ("status --data-dir _", 2, "usage", "--data-dir"),
    ("MYNET_API__LISTEN=here config show", 1, "bad_settings", "api.listen: it is not an address such as"),
    ("MYNET_REPLICATION__REPLICAS=x config show", 1, "bad_settings", "'x' is not a whole number up to 16"),
    ("MYNET_STORAGE__GRACE=x config show", 1, "bad_settings", "'x' is not a duration such as"),
    ("MYNET_REPLICATION__QUORUM=9 config show", 1, "bad_settings", "between 1 and"),
    // Files that are none, or not what they should be.
    ("add gone", 1, "failed", "check the path"),
    ("add good gone", 1, "failed", "nothing was stored"),
    ("add good dir", 2, "not_a_file", "nothing was stored"),
    ("add dir", 2, "not_a_file", "one by one"),
    ("add fifo", 2, "not_a_file", "`mynet add -`"),
    ("add - -", 2, "one_input", "once"),
    ("add good dir --name x", 2, "one_name", "--name"),
    ("add good --preview gone", 1, "failed", "check the path"),
    ("add good --preview fifo", 2, "not_a_file", "to a file first"),
    ("add good --preview empty", 2, "invalid_preview", "--preview none"),
    ("add good --public --preview good", 2, "invalid_preview", "no preview"),
    ("preview x dir", 2, "not_a_file", "one by one"),
    ("demo fifo", 2, "not_a_file", "to a file first"),
    ("demo good --dir dir/../dir/../good", 1, "failed", "good"),
    ("verify gone --genesis good", 1, "failed", "check the path"),
    ("verify dir --genesis good", 1, "failed", "name a file"),
    ("roster recover show empty", 5, "unreadable", "its first bytes are wrong"),
    ("roster recover sign good --key good -o out", 5, "unreadable", "its first bytes are wrong"),
    ("roster recover propose gone -o out", 1, "failed", "check the path"),
    ("roster recover combine good", 2, "usage", "2"),
    ("roster recover submit empty", 5, "unreadable", "its first bytes are wrong"),
    ("man --dir good", 1, "failed", "name another place"),
    // Directories and nodes that are not there.
    ("init --data-dir dir/../good", 1, "used_data_dir", "is a file"),
    ("init --data-dir .", 1, "used_data_dir", "is not empty: there is"),
    ("rm 0123456789", 2, "usage", "give the whole one"),
    ("join nonsense", 2, "bad_ticket", "mynet invite"),
    ("join _", 2, "bad_ticket", "mynet invite"),
    ("run", 1, "no_node", "mynet init"),
    ("run --data-dir good", 1, "no_node", "mynet init"),
    ("status", 7, "no_node", "`mynet init` or `mynet join TICKET`"),
    ("doctor", 7, "no_node", "--data-dir"),
    ("status --data-dir good", 7, "no_node", "--data-dir"),
    ("status --api nonsense --token x", 2, "bad_api", "http://HOST:PORT"),
    ("status --api ftp://x --token x", 2, "bad_api", "http://HOST:PORT"),
    ("status --api http://127.0.0.1:9 --token x", 7, "unreachable", "mynet run"),
];

#[test]
fn bad_usage_without_a_node_is_told_apart_and_leaves_nothing_behind() {
    let home = home();
    let bench = Bench { home: home.path(), data_dir: "none" };
    let long = "x".repeat(300);
    let long_name = format!("init --network {long}");
    for mistake in WITHOUT_A_NODE {
        bench.make(mistake);
    }
    bench.make(&(&long_name, 2, "too_long", "at most 64"));
    let both = bench.run("get x -o -", &["--json"]);
    assert_eq!((both.status, both.stderr.contains("one_output")), (2, true), "{}", both.stderr);
    // Whoever gives no command wants to see which there are.
    for (line, usage) in
        [("", "Usage: mynet [OPTIONS] <COMMAND>"), ("roster", "Usage: mynet roster [OPTIONS] <COMMAND>")]
    {
        let nothing = bench.run(line, &[]);
        assert_eq!((nothing.status, nothing.stdout.len()), (2, 0), "{line}");
        assert!(nothing.stderr.contains(usage), "{line}: {}", nothing.stderr);
        let program = bench.run(line, &["--json"]);
        assert!(program.status == 2 && program.stderr.contains("a command is missing"), "{line}: {}", program.stderr);
    }
}

#[test]
fn bad_usage_of_a_node_is_told_apart_and_changes_nothing() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let home = home();
    let bench = Bench { home: home.path(), data_dir: node.dir_arg() };
    let before = kept(node);
    let with = |line: &str| line.replace("NOBODY", NOBODY);
    let mistakes: &[Mistake<'_>] = &[
        ("show not-an-id", 2, "invalid_id", "not-an-id"),
        ("show NOBODY", 3, "not_found", "mynet ls"),
        ("why NOBODY", 3, "not_found", "mynet ls"),
        ("history NOBODY", 3, "not_found", "mynet ls"),
        ("get NOBODY", 3, "not_found", "mynet ls"),
        ("get NOBODY -o out", 3, "not_found", "mynet ls"),
        ("get NOBODY -o gone/out", 1, "failed", "check the path"),
        ("get NOBODY -o dir", 2, "is_a_directory", "-o FILE"),
        ("cert NOBODY -o out", 3, "not_found", "mynet ls"),
        ("publish NOBODY", 3, "not_found", "mynet ls"),
        ("publish NOBODY --dry-run", 3, "not_found", "mynet ls"),
        ("preview NOBODY good", 3, "not_found", "mynet ls"),
        ("propose NOBODY", 3, "not_found", "mynet ls"),
        ("rm NOBODY", 3, "not_found", "mynet ls"),
        ("peers 0", 3, "not_found", "whole id"),
        ("show 0123456789", 3, "not_found", "whole id"),
        ("trust 0123456789", 2, "usage", "64 hex digits"),
        ("peers NOBODY", 3, "not_found", "mynet peers"),
        ("trust NOBODY", 3, "not_found", "mynet peers"),
        ("untrust NOBODY", 3, "not_found", "mynet peers"),
        ("roster approve NOBODY", 3, "not_found", "mynet peers"),
        ("token revoke nobody", 3, "not_found", "mynet token ls"),
        ("find not-a-hash", 2, "invalid_hash", "not-a-hash"),
        ("add good --grant xyz", 2, "invalid_grant", "64 hex digits"),
        ("add good --grant NOBODY", 2, "invalid_grant", "not admitted"),
        ("add good --public --grant none", 2, "invalid_grant", "everybody may read it"),
        ("add good --replicas 200", 2, "usage", "200"),
        ("token create --name _", 2, "invalid_name", "1 to 64 bytes"),
        ("roster recover submit good", 5, "unreadable", "its first bytes are wrong"),
        ("genesis -o dir", 2, "is_a_directory", "-o FILE"),
        ("status --token wrong", 6, "unauthorized", "mynet token create"),
        ("init", 1, "used_data_dir", "there is a node in"),
        ("join nonsense", 2, "bad_ticket", "mynet invite"),
        ("run -q", 1, "data_dir_in_use", "stop that process"),
    ];
    for &(line, status, code, helps) in mistakes {
        bench.make(&(&with(line), status, code, helps));
    }
    // A node that runs takes no ticket: its next start would take it away unread.
    let ticket = node.json(&["invite"]).unwrap()["ticket"].as_str().unwrap().to_owned();
    bench.make(&(&format!("join {ticket}"), 1, "data_dir_in_use", "mynet status"));
    assert!(!node.dir.join("ticket").exists());
    // Whoever may only read is told so, and the file is not stored.
    let reader = node.json(&["token", "create", "--name", "reader"]).unwrap();
    let (reader, id) = (reader["token"].as_str().unwrap(), reader["id"].as_str().unwrap());
    bench.make(&(&format!("add good --token {reader}"), 6, "forbidden", ";"));
    bench.make(&(&format!("trust {NOBODY} --token {reader}"), 6, "forbidden", ";"));
    node.json(&["token", "revoke", id]).unwrap();
    assert_eq!(kept(node), before);
}

/// What a node keeps, as far as it tells.
fn kept(node: &Node) -> Value {
    let status = node.json(&["status"]).unwrap();
    let lists = ["ls", "peers", "proposals", "evidence"].map(|list| node.json(&[list]).unwrap());
    let tokens = node.json(&["token", "ls"]).unwrap();
    let tokens = tokens.as_array().unwrap().iter().filter(|token| token["revoked_at"].is_null());
    let tokens: Vec<&Value> = tokens.collect();
    serde_json::json!({ "content": status["content"], "roster": status["roster"], "lists": lists, "tokens": tokens })
}

#[test]
fn what_is_lost_or_damaged_in_a_data_directory_is_named_with_what_to_do() {
    let home = home();
    let dir = home.path().join("node");
    lonely(&dir).unwrap();
    let bench = Bench { home: home.path(), data_dir: "node" };
    // Less than a page would be an empty database.
    let noise = "x".repeat(8192);
    for (name, bytes, code, helps) in [
        ("node.key", None, "bad_key_file", "node.key is missing; put a copy of it back"),
        ("owner.key", Some(noise.as_str()), "bad_key_file", "owner.key is not an undamaged owner key"),
        ("kek.key", None, "bad_key_file", "kek.key is missing"),
        ("genesis", None, "bad_genesis", "genesis is missing; `mynet genesis -o FILE` on any other node"),
        ("genesis", Some(""), "bad_genesis", "`mynet genesis -o FILE` on any other node"),
        ("votes.db", Some(&noise), "damaged", "never replaced by an old copy"),
    ] {
        let (path, kept) = (dir.join(name), home.path().join("kept"));
        fs::rename(&path, &kept).unwrap();
        if let Some(bytes) = bytes {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        bench.make(&("run -q", 1, code, helps));
        bench.make(&("doctor", 1, code, helps));
        bench.make(&("init", 1, "used_data_dir", "there is a node in node already"));
        fs::rename(&kept, &path).unwrap();
    }
    let others = |mode| fs::set_permissions(dir.join("owner.key"), fs::Permissions::from_mode(mode)).unwrap();
    others(0o640);
    bench.make(&("run -q", 1, "bad_key_file", "can be read or changed by others (mode 0640); run `chmod 600` on it"));
    others(0o600);
    let mut node = Node::start(&dir, &[]).unwrap();
    assert_eq!(node.stop().unwrap(), 0, "with everything back it is as it was");
    let (database, kept) = (dir.join("mynet.db"), home.path().join("kept.db"));
    fs::rename(&database, &kept).unwrap();
    // What is in the log would mend it.
    for file in ["mynet.db-wal", "mynet.db-shm"] {
        drop(fs::rename(dir.join(file), home.path().join(file)));
    }
    fs::write(&database, &noise).unwrap();
    // It counts as a start, so the directory is not quite as it was.
    let told = bench.run("run -q", &[]);
    assert!(told.status == 1 && told.stderr.contains("for a damaged mynet.db put a copy back"), "{}", told.stderr);
    fs::rename(&kept, &database).unwrap();
    for file in ["mynet.db-wal", "mynet.db-shm"] {
        drop(fs::rename(home.path().join(file), dir.join(file)));
    }
    let config = dir.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replacen("[node]\n", "[node]\nroles = [\"storage\"]\n", 1)).unwrap();
    let mut node = Node::start(&dir, &[]).unwrap();
    let log = fs::read_to_string(node.log_path()).unwrap();
    assert!(log.contains("not what this node was admitted with") && log.contains("node.roles"), "{log}");
    node.stop().unwrap();
    for file in ["mynet.db", "mynet.db-wal", "mynet.db-shm"] {
        drop(fs::remove_file(dir.join(file)));
    }
    let mut node = Node::start(&dir, &[]).unwrap();
    assert!(fs::read_to_string(node.log_path()).unwrap().contains("the database is gone and a new one begins"));
    node.stop().unwrap();
}

#[test]
fn a_node_that_cannot_start_says_why_and_leaves_its_directory_as_it_was() {
    let network = Network::trusted(1, "").unwrap();
    let running = &network.nodes[0];
    let status = running.json(&["status"]).unwrap();
    let api = running.api.strip_prefix("http://").unwrap();
    let p2p = status["p2p"].as_str().unwrap();
    let home = home();
    let dir = home.path().join("node");
    lonely(&dir).unwrap();
    let config = dir.join("config.toml");
    let good = fs::read_to_string(&config).unwrap();
    let bench = Bench { home: home.path(), data_dir: "node" };
    for (text, code, helps) in [
        (
            good.clone() + "\n[replication]\nreplcas = 3\n",
            "bad_settings",
            "node/config.toml, line 11; did you mean 'replication.replicas'?",
        ),
        (
            good.replacen("[node]\n", "[node]\nroles = [\"edge\", \"storage\"]\n", 1),
            "bad_settings",
            "holds no copies, so 'edge' stands alone; say [\"edge\"]",
        ),
        (good.clone() + "\nx = [", "bad_settings", "unclosed array"),
        (good.clone() + "\n[replication]\nquorum = 9\n", "bad_settings", "between 1 and"),
        (
            good.replacen("[api]\nlisten = \"127.0.0.1:0\"", &format!("[api]\nlisten = \"{api}\""), 1),
            "api_listen",
            "api.listen",
        ),
        (
            good.replacen("[p2p]\nlisten = \"127.0.0.1:0\"", &format!("[p2p]\nlisten = \"{p2p}\""), 1),
            "p2p_listen",
            "p2p.listen",
        ),
    ] {
        assert_ne!(text, good, "{code} has its mistake in {good}");
        fs::write(&config, &text).unwrap();
        let told = bench.run("run -q", &[]);
        assert_eq!((told.status, told.stderr.lines().count()), (1, 1), "{}", told.stderr);
        assert!(told.stderr.contains(helps), "{}", told.stderr);
        let program = bench.run("run -q --json", &[]);
        let error: Value = serde_json::from_str(&program.stderr).unwrap();
        assert_eq!(error["error"]["code"], code, "{error}");
    }
    // A ticket of another network does not make it a node of that one.
    fs::write(&config, &good).unwrap();
    let invite = running.json(&["invite"]).unwrap();
    let ticket = invite["ticket"].as_str().unwrap();
    bench.make(&(&format!("join {ticket}"), 1, "other_network", "--data-dir"));
    let mut node = Node::start(&dir, &[]).unwrap();
    assert_eq!(node.stop().unwrap(), 0, "none of it was for good");
}
