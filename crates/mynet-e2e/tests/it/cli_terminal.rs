//! What a person sees at a terminal, and a pipe does not: bars, colours, short ids, tables that fit.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
};

use mynet_e2e::{
    content::{self, bytes, hash},
    network::Network,
    process::{Node, command},
};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// Runs a command on a terminal of `columns`; returns its status and all that was written to the terminal.
fn on_terminal(mut command: Command, columns: u16) -> (i32, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let path = OsStr::from_bytes(name.to_bytes());
    let terminal = File::from(open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap());
    tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    command.env("TERM", "xterm").stdin(Stdio::null());
    command.stdout(terminal.try_clone().unwrap()).stderr(terminal);
    let mut child = command.spawn().unwrap();
    // The command holds the terminal's other side as well; the end of the text comes when nobody holds it.
    drop(command);
    let (mut seen, mut part, mut master) = (Vec::new(), [0; 4096], File::from(master));
    // A terminal that nobody has open any more is an error on Linux, not an end.
    while let Ok(count @ 1..) = master.read(&mut part) {
        seen.extend_from_slice(&part[..count]);
    }
    (child.wait().unwrap().code().unwrap_or(-1), String::from_utf8_lossy(&seen).into_owned())
}

fn of(node: &Node, args: &[&str]) -> Command {
    let mut command = command().unwrap();
    command.args(args).args(["--data-dir", node.dir_arg()]);
    command
}

/// What is left of a text without colours and the like.
fn uncoloured(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest)
    })
}

#[test]
fn progress_is_for_terminals_and_a_pipe_gets_none_of_it() {
    let network = Network::trusted(3, "").unwrap();
    let node = &network.nodes[0];
    let data = bytes(95, 6_000_000);
    let song = content::file(network.temp.path(), "song.bin", &data).unwrap();

    let (status, seen) = on_terminal(of(node, &["add", &song, "--preview", "none"]), 160);
    assert_eq!(status, 0, "{seen}");
    for part in ["song.bin", "/5.72 MiB", "iB/s", "ETA", "copies ", "votes "] {
        assert!(seen.contains(part), "no {part:?} in {seen}");
    }
    let last = uncoloured(seen.trim_end().rsplit(['\r', '\n']).next().unwrap_or_default());
    assert!(last.ends_with("song.bin  durable"), "{seen}");
    let group = last.trim().get(..64).unwrap().to_owned();

    let out = network.temp.path().join("out");
    let out = out.to_str().unwrap();
    let (status, seen) = on_terminal(of(node, &["get", &group, "-o", out]), 100);
    assert_eq!(status, 0, "{seen}");
    assert!(seen.contains("ETA") && seen.contains("/5.72 MiB"), "{seen}");
    assert!(std::fs::read(out).unwrap() == data);

    for silent in [["add", &song, "-q"].as_slice(), &["add", &song, "--json"]] {
        let (status, seen) = on_terminal(of(node, silent), 100);
        assert_eq!(status, 0, "{seen}");
        assert!(!seen.contains("ETA") && !seen.contains('\u{1b}'), "{silent:?}: {seen}");
    }
    for args in [["add", &song].as_slice(), &["get", &group, "-o", out]] {
        let piped = node.run(args).unwrap();
        assert_eq!((piped.status, piped.stderr.as_str()), (0, ""), "{args:?}");
        assert!(!piped.stdout.contains(&0x1b), "{args:?}");
    }
}

#[test]
fn a_wait_at_a_terminal_ends_as_it_does_in_a_pipe() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let song = content::file(network.temp.path(), "song.bin", &bytes(94, 300_000)).unwrap();
    for (args, status, says) in [
        ([].as_slice(), 4, "too few nodes may hold it"),
        (&["--wait", "certified"], 4, "too few nodes may hold it"),
        (&["--wait", "stored"], 0, "stored"),
        (&["--no-publish"], 0, "stored"),
    ] {
        let args = &[&["add", &song, "--preview", "none"], args].concat();
        let (at_terminal, seen) = on_terminal(of(node, args), 240);
        let piped = node.run(args).unwrap();
        assert_eq!((at_terminal, piped.status), (status, status), "{args:?}: {seen} {}", piped.stderr);
        let last = uncoloured(seen.trim_end().rsplit(['\r', '\n']).next().unwrap_or_default());
        let told = String::from_utf8(piped.stdout).unwrap();
        assert!(told.contains(says), "{args:?}: {told}");
        // Each has its own group, and says the same about it.
        assert_eq!(last.trim().get(64..), told.trim_end().get(64..), "{args:?}: {seen}");
    }
    // Also what the answer to the upload alone says.
    let (_, seen) = on_terminal(of(node, &["add", &song]), 240);
    assert!(seen.contains("it has no preview: "), "{seen}");
    let group = node.json(&["add", &song, "--no-publish"]).unwrap()["group_id"].as_str().unwrap().to_owned();
    let (status, seen) = on_terminal(of(node, &["publish", &group]), 100);
    assert_eq!(status, 4, "{seen}");
    assert!(seen.contains("copies 0/2"), "{seen}");
}

#[test]
fn tables_fit_the_terminal_and_are_whole_in_a_pipe() {
    let network = Network::trusted(2, "").unwrap();
    let node = &network.nodes[0];
    let data = bytes(96, 1000);
    let name = "a rather long name of a song that no narrow terminal has room for.bin";
    let song = content::file(network.temp.path(), name, &data).unwrap();
    let added = node.json(&["add", &song]).unwrap();
    let group = added["group_id"].as_str().unwrap();
    let (other, hash) = (network.nodes[1].id.as_str(), hash(&data));
    let tables: &[(&[&str], &str)] = &[
        (&["ls"], group),
        (&["peers"], other),
        (&["roster", "show"], other),
        (&["proposals"], "GROUP"),
        (&["evidence"], "WHO"),
        (&["token", "ls"], "local commands"),
        (&["find", &hash], node.id.as_str()),
        (&["publish", group, "--dry-run"], other),
        (&["config", "show"], "replication.receiving_lease"),
    ];
    for (args, whole) in tables {
        let piped = node.bytes(args).unwrap();
        let piped = String::from_utf8_lossy(&piped);
        assert!(piped.contains(whole), "{args:?}: {piped}");
        assert!(!piped.contains('\u{1b}') && !piped.contains('\u{2026}'), "{args:?}: {piped}");
        for columns in [80, 40] {
            let (status, seen) = on_terminal(of(node, args), columns);
            assert_eq!(status, 0, "{args:?}: {seen}");
            let text = uncoloured(&seen);
            let table = text.lines().skip_while(|line| !line.contains(heading(args)));
            let wide = table
                .take_while(|line| !line.contains(": "))
                .find(|line| line.trim_end().chars().count() > columns.into());
            assert_eq!(wide, None, "{args:?} on {columns} columns: {text}");
            assert!(whole.len() != 64 || !text.contains(whole) && text.contains(&whole[..10]), "{args:?}: {text}");
        }
    }
    // What a table shortens, commands that only look take back.
    let (short, peer) = (&group[..10], &other[..10]);
    for (args, whole) in [
        (["show", short].as_slice(), group),
        (&["why", short], group),
        (&["publish", short], group),
        (&["peers", peer], other),
    ] {
        let (_, seen) = on_terminal(of(node, args), 80);
        assert!(seen.contains(whole), "{args:?}: {seen}");
    }
    assert!(node.bytes(&["get", short, "-o", "-"]).unwrap() == data);
    for line in String::from_utf8(node.bytes(&["ls"]).unwrap()).unwrap().lines().skip(1) {
        assert!(line.ends_with(name), "{line}");
    }
}

/// A word in the first line of the table that a command prints.
fn heading(args: &[&str]) -> &'static str {
    match args {
        ["ls" | "proposals"] => "GROUP",
        ["evidence"] => "WHO",
        ["token", _] => "ID",
        ["publish", ..] => "TARGET",
        ["config", _] => "SETTING",
        _ => "NODE",
    }
}

#[test]
fn lines_about_one_group_fit_the_terminal_and_cut_nothing() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let data = bytes(92, 1000);
    let song = content::file(network.temp.path(), "song.bin", &data).unwrap();
    let mut add = of(node, &["add", "song.bin", "-q"]);
    add.current_dir(network.temp.path());
    let (status, seen) = on_terminal(add, 80);
    assert_eq!(status, 4, "{seen}");
    assert!(seen.contains("song.bin\r\n  stored here; too few nodes"), "{seen}");
    let group = seen.trim_start().get(..64).unwrap().to_owned();
    let mut pages = vec![seen];
    for args in [["show", &group].as_slice(), &["why", &group], &["history", &group], &["status"]] {
        let (status, seen) = on_terminal(of(node, args), 80);
        assert_eq!(status, 0, "{seen}");
        pages.push(seen);
    }
    let (status, seen) = on_terminal(of(node, &["show", &"0".repeat(64)]), 80);
    assert!(status == 3 && seen.contains("error:") && seen.lines().count() > 1, "{seen}");
    pages.push(seen);
    assert!(pages[1].contains(&hash(&data)), "{}", pages[1]);
    for page in pages {
        let page = uncoloured(&page);
        let wide = page.lines().find(|line| line.trim_end().chars().count() > 80);
        assert_eq!(wide, None, "{page}");
    }
    let piped = String::from_utf8(node.bytes(&["show", &group]).unwrap()).unwrap();
    let state = format!("decrypted 1000 B  application/octet-stream  held as a view  {}", hash(&data));
    assert!(piped.lines().any(|line| line == state), "{piped}");
    assert_eq!(
        node.run(&["add", &song, "--no-publish"]).unwrap().stdout.iter().filter(|byte| **byte == b'\n').count(),
        2
    );
}

#[test]
fn what_is_no_text_is_kept_from_a_terminal_and_not_from_a_pipe() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let add = |name: &str, data: &[u8]| {
        let path = content::file(network.temp.path(), name, data).unwrap();
        node.json(&["add", &path, "--no-publish"]).unwrap()["group_id"].as_str().unwrap().to_owned()
    };
    let (song, text) =
        (add("song.bin", &[b"ID3\0".as_slice(), &bytes(93, 5000)].concat()), add("text.txt", "слова\n".as_bytes()));
    let (status, seen) = on_terminal(of(node, &["get", &song, "-o", "-"]), 200);
    assert_eq!(status, 2, "{seen}");
    assert!(uncoloured(&seen).starts_with("error: the content is not text"), "{seen}");
    assert!(seen.contains("-o FILE") && seen.contains("--force"), "{seen}");
    let (status, seen) = on_terminal(of(node, &["get", &song, "-o", "-", "--force"]), 200);
    assert_eq!((status, seen.starts_with("ID3\0")), (0, true), "{seen}");
    let (status, seen) = on_terminal(of(node, &["get", &text, "-o", "-"]), 200);
    assert_eq!((status, seen.as_str()), (0, "слова\r\n"));
    let (status, seen) = on_terminal(of(node, &["genesis"]), 200);
    assert_eq!((status, seen.contains("is not text") && seen.contains("-o FILE")), (2, true), "{seen}");
    assert!(!node.bytes(&["genesis"]).unwrap().is_empty());
}

#[test]
fn colours_obey_the_flag_then_the_environment_then_the_terminal() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let coloured = |args: &[&str], no_color: bool| {
        let mut command = of(node, args);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let (_, seen) = on_terminal(command, 80);
        seen.contains('\u{1b}')
    };
    assert!(coloured(&["token", "ls"], false));
    assert!(!coloured(&["token", "ls"], true));
    assert!(!coloured(&["token", "ls", "--color", "never"], false));
    assert!(coloured(&["token", "ls", "--color=always"], true), "the flag wins over the environment");
    assert!(coloured(&["no-such-command"], false));
    assert!(!coloured(&["no-such-command", "--color", "never"], false));
    assert!(node.run(&["token", "ls", "--color", "always"]).unwrap().stdout.contains(&0x1b), "in a pipe as well");
    let error = node.run(&["show", "not-an-id", "--color", "always"]).unwrap();
    assert!(error.stderr.contains('\u{1b}'), "{}", error.stderr);
}
