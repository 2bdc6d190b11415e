//! What README and the documents tell people to type does what they say.
//!
//! Every line that begins with `$ ` in a block of kind `console` is typed into a shell, page by page, in a directory with a song in it
//! and nothing else. The pages of a directory with an index go on where the one before ended, in the order of the index. `ID`, `HASH`, `NODE` and `TICKET` stand for what the commands before have printed, and addresses on this
//! machine for free ones. A comment `# exit N` says that a command ends with that status. What builds or tests the project
//! (`cargo`, `./scripts/..`) is not run from within its own tests; `scripts/test` runs it, and it is checked to be there.
//!
//! Commands that stand in a sentence (`mynet find HASH`) are not run, but they and their flags must exist.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use mynet_e2e::{
    content,
    process::{kill_group, program, run},
};

/// How long one command may take.
const COMMAND_MAX: Duration = Duration::from_secs(120);
/// Marks the end of a command in what the shell prints.
const MARK: &str = "@@ended";

/// The directory of the project.
fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every page that people read.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![project().join("README.md"), project().join("ARCHITECTURE.md")];
    let mut open = vec![project().join("docs")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path if path.extension().is_some_and(|extension| extension == "md") => pages.push(path),
                _ => {}
            }
        }
    }
    pages.sort();
    pages
}

/// The pages that are read one after the other, each by itself unless an index of their directory gives an order.
fn readings() -> Vec<Vec<PathBuf>> {
    let mut readings: Vec<Vec<PathBuf>> = Vec::new();
    for page in pages() {
        let dir = page.parent().unwrap();
        let index = dir.join("README.md");
        let Some(index) = fs::read_to_string(&index).ok().filter(|_| dir != project()) else {
            readings.push(vec![page]);
            continue;
        };
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        let place = |page: &PathBuf| index.find(&*page.file_name().unwrap().to_string_lossy());
        assert!(name == "README.md" || place(&page).is_some(), "{} is not in its index", page.display());
        match readings.iter_mut().find(|reading| reading[0].parent() == Some(dir)) {
            Some(reading) => {
                reading.push(page);
                reading.sort_by_key(place);
            }
            None => readings.push(vec![page]),
        }
    }
    readings
}

/// The commands of a page, with the numbers of their lines.
fn commands(page: &str) -> Vec<(usize, String)> {
    let mut commands: Vec<(usize, String)> = Vec::new();
    let (mut console, mut goes_on) = (false, false);
    for (index, line) in page.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("```") {
            console = kind == "console";
            goes_on = false;
        } else if console && goes_on {
            let (_, command) = commands.last_mut().unwrap();
            *command = format!("{} {}", command.trim_end_matches('\\').trim_end(), line.trim());
            goes_on = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| console) {
            commands.push((index + 1, command.trim_end().to_owned()));
            goes_on = line.ends_with('\\');
        }
    }
    commands
}

/// A shell in a directory of its own, and what has been printed so far.
struct Shell {
    child: Child,
    lines: Receiver<String>,
    /// What the placeholders stand for.
    known: BTreeMap<&'static str, String>,
    /// Free ports in the place of those that are written.
    ports: BTreeMap<String, u16>,
}

impl Shell {
    fn new(dir: &Path) -> Self {
        let bin = dir.join("bin");
        fs::create_dir(&bin).unwrap();
        symlink(program().unwrap(), bin.join("mynet")).unwrap();
        let work = dir.join("work");
        fs::create_dir(&work).unwrap();
        fs::write(work.join("song.flac"), content::wav(90, 12)).unwrap();
        fs::write(work.join("cover.jpg"), [b"\xff\xd8\xff\xe0".as_slice(), &content::bytes(91, 9000)].concat())
            .unwrap();
        let mut shell = Command::new("bash");
        shell.current_dir(&work).env_clear().env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        shell.env("HOME", dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own, so that all that it started can be ended with it.
        let mut child = shell.process_group(0).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"exec 2>&1\n").unwrap();
        let (to, lines) = channel();
        let from = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || from.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        Self { child, lines, known: BTreeMap::new(), ports: BTreeMap::new() }
    }

    /// What is typed for a written command.
    fn typed(&mut self, written: &str) -> String {
        let mut typed = String::new();
        // Words are cut where a placeholder or an address may end.
        for word in written.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || ".:_-$".contains(c))) {
            let end = word.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || ".:_-$".contains(c)));
            let rest = &word[end.len()..];
            match (self.known.get(end), end.strip_prefix("127.0.0.1:").filter(|port| *port != "0")) {
                (Some(value), _) => typed.push_str(value),
                (None, Some(port)) => {
                    let free = self.ports.entry(port.to_owned()).or_insert_with(free_port);
                    typed.push_str(&format!("127.0.0.1:{free}"));
                }
                (None, None) => typed.push_str(end),
            }
            typed.push_str(rest);
        }
        typed
    }

    /// Types a command and waits for its end. What it printed, and its status.
    fn run(&mut self, typed: &str) -> (Vec<String>, i32) {
        // On a line of its own, also if the command does not end its last one.
        let script = format!("{typed}\nprintf '\\n{MARK} %s\\n' $?\n");
        self.child.stdin.as_mut().unwrap().write_all(script.as_bytes()).unwrap();
        let mut printed = Vec::new();
        loop {
            let line = self.lines.recv_timeout(COMMAND_MAX).unwrap_or_else(|_| panic!("'{typed}' does not end"));
            match line.strip_prefix(MARK) {
                Some(status) => return (printed, status.trim().parse().unwrap()),
                None => printed.push(line),
            }
        }
    }

    /// Takes what later commands may refer to out of what `command` printed.
    fn learn(&mut self, command: &str, printed: &[String]) {
        let text = printed.join("\n");
        let first_word = |line: &str| line.split_whitespace().next().map(str::to_owned);
        if command.contains("mynet add") {
            self.known.extend(text.lines().filter_map(first_word).find(|word| word.len() == 64).map(|id| ("ID", id)));
        }
        if command.contains("mynet invite") {
            let ticket = text.lines().filter_map(first_word).find(|word| word.starts_with("mynet1"));
            self.known.extend(ticket.map(|ticket| ("TICKET", ticket)));
        }
        // A node says so in the background, when it is ready.
        let ready = text.lines().filter_map(|line| line.strip_prefix("ready node=")).filter_map(first_word).next_back();
        self.known.extend(ready.map(|node| ("NODE", node)));
        // As tables print it, and objects, whose manifests have hashes too.
        let hash = [" sha256:", "\"hash\":\"sha256:"].iter().find_map(|before| text.split_once(before));
        self.known.extend(hash.and_then(|(_, rest)| rest.get(..64)).map(|hex| ("HASH", format!("sha256:{hex}"))));
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(kill_group(self.child.id()));
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether a command is the project's own tooling, which cannot be run from within its tests.
fn is_tooling(command: &str) -> bool {
    let words = command.split_whitespace().skip_while(|word| word.contains('=')).collect::<Vec<_>>();
    let Some(first) = words.first() else { return false };
    if *first == "cargo" || first.starts_with("target/") {
        return true;
    }
    let script = first.trim_start_matches("./");
    script.starts_with("scripts/") && {
        assert!(project().join(script).is_file(), "{script} does not exist");
        true
    }
}

/// The status that the page says a command ends with.
fn expected(command: &str) -> i32 {
    let told = command.rsplit_once("# exit ").and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
    told.map_or(0, |status| status.parse().unwrap())
}

#[test]
fn what_the_documents_tell_people_to_type_does_what_they_say() {
    let mut ran = 0;
    for reading in readings() {
        let temp = tempfile::tempdir().unwrap();
        let mut shell = Shell::new(temp.path());
        for page in reading {
            let text = fs::read_to_string(&page).unwrap();
            for (line, command) in commands(&text).into_iter().filter(|(_, command)| !is_tooling(command)) {
                let typed = shell.typed(&command);
                let (printed, status) = shell.run(&typed);
                let place = format!("{}:{line}", page.strip_prefix(project()).unwrap().display());
                let told = printed.join("\n");
                assert_eq!(status, expected(&command), "{place}: {command}\ntyped as: {typed}\n{told}");
                shell.learn(&command, &printed);
                ran += 1;
            }
        }
    }
    assert!(ran > 40, "{ran} commands");
}

/// The code spans of a page that begin with the program's name.
fn spans(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut prose = String::new();
    for line in page.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.push_str(line);
            prose.push(' ');
        }
    }
    let spans = prose.split('`').skip(1).step_by(2).map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "));
    spans.filter(|span| span.starts_with("mynet ")).collect()
}

/// What a command says of itself.
fn help_of(known: &mut BTreeMap<String, String>, path: &[&str]) -> String {
    let ask = || String::from_utf8(run(&[path, &["--help"]].concat()).unwrap().stdout).unwrap();
    known.entry(path.join(" ")).or_insert_with(ask).clone()
}

/// Whether a command's help lists another command.
fn has_command(help: &str, word: &str) -> bool {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.strip_prefix("  ")).any(|line| line.split(' ').next() == Some(word))
}

#[test]
fn commands_that_documents_speak_of_exist_with_their_flags() {
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut looked = 0;
    for page in pages() {
        for span in spans(&fs::read_to_string(&page).unwrap()) {
            let place = format!("{}: `{span}`", page.strip_prefix(project()).unwrap().display());
            let words: Vec<&str> = span.split(' ').skip(1).collect();
            let lower = |word: &&&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            let named = words.iter().take_while(|word| lower(word) && !word.starts_with('-'));
            let mut path: Vec<&str> = Vec::new();
            let mut help = help_of(&mut helps, &path);
            for word in named {
                // What is no command of this one is a value.
                if !has_command(&help, word) {
                    assert!(!path.is_empty(), "{place}: there is no such command");
                    break;
                }
                path.push(word);
                help = help_of(&mut helps, &path);
            }
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let flag = flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                let flag = flag.split('=').next().unwrap();
                assert!(help.contains(flag), "{place}: there is no {flag}");
            }
            looked += 1;
        }
    }
    assert!(looked > 20, "{looked} commands");
}
