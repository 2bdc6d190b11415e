//! The node that took the upload is gone for good.

use std::fs;

use mynet_e2e::{
    content::{self, hash, wav},
    network::Network,
};

#[test]
fn trusted_nodes_still_serve_all_three_states_when_the_origin_is_destroyed() {
    let mut network = Network::trusted(4, "").unwrap();
    let song = wav(5, 6);
    let path = content::file(network.temp.path(), "song.wav", &song).unwrap();
    let view = network.nodes[3].json(&["add", &path, "--wait", "certified"]).unwrap();
    let group = view["group_id"].as_str().unwrap().to_owned();
    network.settled(3, &group).unwrap();

    let mut origin = network.nodes.pop().unwrap();
    origin.kill().unwrap();
    fs::remove_dir_all(&origin.dir).unwrap();
    drop(origin);

    for node in &network.nodes {
        for state in view["states"].as_array().unwrap() {
            let name = state["state"].as_str().unwrap();
            let got = node.bytes(&["get", &group, "--state", name, "-o", "-"]).unwrap();
            assert_eq!(hash(&got), state["hash"], "{name} from {}", node.id);
        }
    }
}
