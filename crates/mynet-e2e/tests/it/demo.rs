//! The demo tells what held, to people and to programs, and leaves nothing behind, whatever ends it.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use mynet_e2e::{
    process::{command, signal},
    wait::until,
};
use serde_json::Value;

/// Nodes start one after the other, a second or two each on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);
/// Draining four nodes, and killing those that do not.
const END_MAX: Duration = Duration::from_secs(40);

/// Processes that were started with `text` in their arguments. Those that ended and wait for their parent have none.
fn processes_with(text: &str) -> Vec<u32> {
    let named = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(text)
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(named).collect()
}

/// Starts a demo in `dir` and waits until `nodes` of its nodes serve.
fn start(dir: &Path, nodes: usize) -> Child {
    let mut command = command().unwrap();
    command.args(["demo", "--dir", dir.to_str().unwrap()]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut demo = command.spawn().unwrap();
    let started = until("the nodes to serve", START_MAX, || {
        anyhow::ensure!(demo.try_wait()?.is_none(), "the demo ended");
        let ready = fs::read_dir(dir)?.filter(|entry| {
            entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "ready"))
        });
        anyhow::ensure!(ready.count() >= nodes);
        Ok(())
    });
    if started.is_err() {
        demo.kill().unwrap();
    }
    started.unwrap();
    demo
}

/// Ends a demo by `name` while it has `nodes` nodes, and looks for what is left.
fn ended_by(name: &str, nodes: usize) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("demo");
    let mut demo = start(&dir, nodes);
    assert!(processes_with(dir.to_str().unwrap()).len() > nodes, "the nodes run");
    signal(demo.id(), name).unwrap();
    let ended = until("the demo to end", END_MAX, || demo.try_wait()?.ok_or_else(|| anyhow::anyhow!("it still runs")));
    if ended.is_err() {
        demo.kill().unwrap();
    }
    // Where a signal can be heard the demo itself ends its nodes; the kernel is for the one that cannot.
    let code = (name != "KILL").then_some(1);
    assert_eq!(ended.unwrap().code(), code, "a story that was cut off is no success");
    until("the nodes to end", END_MAX, || {
        let left = processes_with(dir.to_str().unwrap());
        anyhow::ensure!(left.is_empty(), "{left:?} still run");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_terminated_demo_takes_its_nodes_with_it() {
    ended_by("TERM", 4);
}

#[test]
fn a_demo_whose_terminal_goes_away_takes_its_nodes_with_it() {
    ended_by("HUP", 1);
}

#[test]
fn a_killed_demo_takes_its_nodes_with_it() {
    ended_by("KILL", 2);
}

#[test]
fn a_program_gets_every_step_with_its_promise_and_numbers_in_one_object() {
    let temp = tempfile::tempdir().unwrap();
    let text = temp.path().join("words.txt");
    fs::write(&text, "a document has no preview\n").unwrap();
    let dir = temp.path().join("demo");
    let mut demo = command().unwrap();
    demo.args(["demo", text.to_str().unwrap(), "--exit", "--json", "--dir", dir.to_str().unwrap()]);
    let told = demo.output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["held"], true);
    assert_eq!(told["nodes"].as_array().unwrap().len(), 4);
    let steps = told["steps"].as_array().unwrap();
    assert!(steps.len() >= 10, "{told}");
    for step in steps {
        let some = |field: &str| step[field].as_str().is_some_and(|text| !text.is_empty());
        assert!(some("title") && some("promised"), "{step}");
        assert!(!step["happened"].as_array().unwrap().is_empty(), "{step}");
        assert!(!step["numbers"].as_object().unwrap().is_empty(), "{step}");
        assert!(step["seconds"].as_f64().unwrap() >= 0.0, "{step}");
    }
    let number = |name: &str| steps.iter().find_map(|step| step["numbers"][name].as_u64());
    assert_eq!((number("validators"), number("quorum"), number("rejects")), (Some(4), Some(3), Some(0)));
    assert!(number("copies") >= number("copies_wanted"), "{told}");
    assert_eq!((number("states"), number("public_states")), (Some(2), Some(0)));
    assert!(processes_with(dir.to_str().unwrap()).is_empty(), "its nodes have ended");
}

#[test]
fn a_promise_that_does_not_hold_is_told_and_fails() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("demo");
    let mut demo = command().unwrap();
    demo.args(["demo", "--exit", "--json", "--dir", dir.to_str().unwrap()]);
    demo.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = demo.spawn().unwrap();
    let node = dir.join("node-a.ready");
    // The node that takes the upload ends as soon as it serves.
    let pid = until("the first node", START_MAX, || {
        let told: Value = serde_json::from_slice(&fs::read(&node)?)?;
        told["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).ok_or_else(|| anyhow::anyhow!("no pid in {told}"))
    });
    let ended = pid.and_then(|pid| signal(pid, "KILL"));
    if ended.is_err() {
        demo.kill().unwrap();
    }
    ended.unwrap();
    let ended = demo.wait_with_output().unwrap();
    assert_ne!(ended.status.code(), Some(0));
    let told: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(told["held"], false);
    let error: Value = serde_json::from_slice(&ended.stderr).unwrap();
    assert!(error["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
}
