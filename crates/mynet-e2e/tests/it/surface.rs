//! The surface: exit statuses, HTTP ranges, tokens, draining.

use mynet_e2e::{
    content::{self, bytes, hash},
    http::client,
    network::Network,
    process::run,
};

#[test]
fn errors_have_their_exit_status_and_say_what_why_and_what_to_try() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let missing = node.run(&["show", &"0".repeat(64)]).unwrap();
    assert_eq!(missing.status, 3, "{}", missing.stderr);
    assert_eq!(node.run(&["show", "not-an-id"]).unwrap().status, 2);
    assert_eq!(node.run(&["no-such-command"]).unwrap().status, 2);
    let unreachable = run(&["status", "--api", "http://127.0.0.1:9", "--token", "x"]).unwrap();
    assert_eq!(unreachable.status, 7, "{}", unreachable.stderr);
    let used = run(&["init", "--data-dir", node.dir_arg()]).unwrap();
    assert_eq!(used.status, 1);
    assert!(used.stderr.contains("there is a node in"), "{}", used.stderr);
    let told = node.run(&["show", &"0".repeat(64), "--json"]).unwrap();
    let error: serde_json::Value = serde_json::from_str(&told.stderr).unwrap();
    assert_eq!(error["error"]["code"], "not_found");
    assert!(error["error"]["hint"].is_string());
}

#[test]
fn an_upload_that_cannot_become_durable_says_so_with_status_4_and_is_kept() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let path = content::file(network.temp.path(), "data.bin", &bytes(10, 1000)).unwrap();
    let done = node.run(&["add", &path, "--timeout", "5s", "--json"]).unwrap();
    assert_eq!(done.status, 4, "{}", done.stderr);
    let view = done.json().unwrap();
    assert_eq!(view["wait_result"], "not_enough_targets", "{view}");
    let group = view["group_id"].as_str().unwrap();
    assert_eq!(node.bytes(&["get", group, "--state", "decrypted", "-o", "-"]).unwrap(), bytes(10, 1000));
}

#[test]
fn http_needs_a_token_and_serves_ranges_with_a_strong_etag() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let data = bytes(11, 150_000);
    let path = content::file(network.temp.path(), "data.bin", &data).unwrap();
    node.json(&["add", &path, "--no-publish"]).unwrap();
    let http = client();
    let url = format!("{}/api/v1/storage/{}", node.api, hash(&data));
    assert_eq!(http.get(&url).send().unwrap().status(), 404, "private content is not to be known");
    assert_eq!(http.get(format!("{}/api/v1/content", node.api)).send().unwrap().status(), 401);
    let token = node.json(&["token", "create", "--name", "t", "--scope", "read"]).unwrap();
    let token = token["token"].as_str().unwrap();
    let whole = http.get(&url).bearer_auth(token).send().unwrap();
    assert_eq!(whole.status(), 200);
    let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
    assert!(whole.bytes().unwrap() == data);
    let part = http.get(&url).bearer_auth(token).header("range", "bytes=65530-65545").send().unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 65530-65545/150000");
    assert!(part.bytes().unwrap() == data[65_530..65_546]);
    let past = http.get(&url).bearer_auth(token).header("range", "bytes=150000-").send().unwrap();
    assert_eq!(past.status(), 416);
    let known = http.get(&url).bearer_auth(token).header("if-none-match", &etag).send().unwrap();
    assert_eq!(known.status(), 304);
    let upload = http.post(format!("{}/api/v1/content", node.api)).bearer_auth(token).body("x").send().unwrap();
    assert_eq!(upload.status(), 403, "a read key may not upload");
}

#[test]
fn sigterm_drains_and_ends_with_status_0() {
    let mut network = Network::trusted(1, "").unwrap();
    assert_eq!(network.nodes[0].stop().unwrap(), 0);
    network.nodes[0].restart().unwrap();
}
