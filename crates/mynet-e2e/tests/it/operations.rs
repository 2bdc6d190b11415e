//! Work that goes on by itself is looked at by its id, from the upload to the last copy and the certificate.

use std::time::Duration;

use anyhow::{Result, ensure};
use mynet_e2e::{
    content::{self, bytes},
    http::{Then, raw},
    network::{Network, Trust},
    process::Node,
    wait::until,
};
use serde_json::Value;

/// How long a group may take to be where it is wanted.
const SETTLE_MAX: Duration = Duration::from_secs(90);

/// The status of an operation's address, and the object there.
fn operation(node: &Node, id: &str) -> Result<(u16, Value)> {
    let token = node.json(&["token", "create", "--name", "operations"])?;
    let token = token["token"].as_str().unwrap_or_default();
    let request = format!(
        "GET /api/v1/operations/{id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let answer = raw(&node.api, request.as_bytes(), Then::Wait)?;
    Ok((answer.status, answer.json()))
}

fn succeeded(node: &Node, id: &str) -> Value {
    until("the operation", SETTLE_MAX, || {
        let (status, told) = operation(node, id)?;
        ensure!(status == 200 && told["state"] == "succeeded", "{status} {told}");
        Ok(told)
    })
    .unwrap()
}

#[test]
fn an_operation_waits_for_nodes_succeeds_with_them_and_makes_room_for_that_of_the_next_version() {
    let mut network = Network::trusted(1, "").unwrap();
    let song = content::file(network.temp.path(), "song.bin", &bytes(80, 200_000)).unwrap();
    let cover = content::file(network.temp.path(), "cover", &bytes(81, 5_000)).unwrap();
    let added = network.nodes[0].json(&["add", &song, "--preview", &cover, "--wait", "stored"]).unwrap();
    let id = added["operation_id"].as_str().unwrap().to_owned();
    until("the operation to say that nodes are missing", SETTLE_MAX, || {
        let (_, told) = operation(&network.nodes[0], &id)?;
        ensure!(told["state"] == "waiting", "{told}");
        Ok(())
    })
    .unwrap();

    for _ in 0..3 {
        network.join(Trust::Trusted, &[]).unwrap();
    }
    network.formed(4).unwrap();
    let origin = &network.nodes[0];
    let told = succeeded(origin, &id);
    assert!(told["copies_done"].as_u64().unwrap() >= 3, "{told}");
    assert_eq!((&told["copies_needed"], &told["copies_wanted"]), (&2.into(), &3.into()));
    // The node that came last may be asked for a copy as well.
    let targets = told["targets"].as_array().unwrap();
    let held: Vec<&Value> = targets.iter().filter(|target| target["state"] == "held").collect();
    assert!(held.len() >= 2 && held.iter().all(|copy| copy["bytes_done"] == copy["bytes_total"]), "{told}");
    assert!(told["bytes_done"].as_u64().unwrap() > 2 * 200_000, "{told}");
    assert_eq!(told["consensus"]["certificate"], true);

    let group = added["group_id"].as_str().unwrap();
    let view = origin.json(&["preview", group, &content::file(network.temp.path(), "new", &bytes(82, 9)).unwrap()]);
    let next = view.unwrap()["operation_id"].as_str().unwrap().to_owned();
    assert_eq!(next, format!("{group}-2"));
    assert_eq!(succeeded(origin, &next)["version"], 2);
    // Not the one of a version that is replaced, none that never was, and none of another node.
    for (node, unknown) in [(origin, id), (origin, format!("{group}-3")), (&network.nodes[1], next)] {
        let (status, told) = operation(node, &unknown).unwrap();
        assert_eq!((status, &told["code"]), (404, &"not_found".into()), "{told}");
    }
}
