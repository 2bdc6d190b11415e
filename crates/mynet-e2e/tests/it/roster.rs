//! Who gets a seat: by itself up to four, then by the word of the operators.

use std::time::Duration;

use anyhow::ensure;
use mynet_e2e::{
    content::{self, bytes},
    network::{Network, Trust},
    wait::until,
};

#[test]
fn a_fifth_validator_sits_once_a_quorum_of_operators_approved_it() {
    let mut network = Network::trusted(4, "").unwrap();
    network.join(Trust::Trusted, &[]).unwrap();
    network.formed(4).unwrap();
    let fifth = network.nodes[4].id.clone();
    let show = |network: &Network, index: usize| network.nodes[index].json(&["roster", "show"]).unwrap();
    let before = show(&network, 0);
    assert_eq!((&before["quorum"], &before["tolerates"], &before["votes"]), (&3.into(), &1.into(), &true.into()));
    assert_eq!(before["seats"].as_array().unwrap().len(), 4);
    assert_eq!(
        (&before["waiting"][0]["node_id"], &before["waiting"][0]["approved"]),
        (&fifth.clone().into(), &false.into())
    );

    // Two of four are too few: a whole publication later nothing has changed.
    for index in [0, 1] {
        let said = network.nodes[index].json(&["roster", "approve", &fifth]).unwrap();
        assert_eq!(said["waiting"][0]["approved"], true, "{said}");
    }
    let path = content::file(network.temp.path(), "song.bin", &bytes(41, 200_000)).unwrap();
    let added = network.nodes[0].json(&["add", &path, "--wait", "certified"]).unwrap();
    assert_eq!(added["consensus"]["validators"], 4, "{added}");
    assert_eq!(show(&network, 0)["epoch"], before["epoch"]);

    // An approval outlives the process that took it.
    network.nodes[1].kill().unwrap();
    network.nodes[1].restart().unwrap();
    network.formed(4).unwrap();
    assert_eq!(show(&network, 1)["waiting"][0]["approved"], true);
    network.nodes[2].json(&["roster", "approve", &fifth]).unwrap();
    network.formed(5).unwrap();
    let after = show(&network, 4);
    assert_eq!(
        (&after["quorum"], &after["votes"], after["waiting"].as_array().unwrap().len()),
        (&4.into(), &true.into(), 0)
    );

    // The new roster certifies, the newcomer among those who may have signed; four of five are needed.
    let path = content::file(network.temp.path(), "tune.bin", &bytes(42, 200_000)).unwrap();
    let added = network.nodes[4].json(&["add", &path, "--wait", "certified"]).unwrap();
    assert_eq!((&added["consensus"]["validators"], &added["consensus"]["quorum"]), (&5.into(), &4.into()), "{added}");
    until("every proposal to be decided", Duration::from_secs(60), || {
        let open = network.nodes[4].json(&["proposals"])?;
        ensure!(open.as_array().is_some_and(Vec::is_empty), "{open}");
        Ok(())
    })
    .unwrap();
    assert_eq!(network.nodes[0].json(&["evidence"]).unwrap(), serde_json::json!([]));

    let seated = network.nodes[0].run(&["roster", "approve", &fifth]).unwrap();
    assert_eq!(seated.status, 2, "{}", seated.stderr);
    let stranger = network.nodes[0].run(&["roster", "approve", &"ab".repeat(32)]).unwrap();
    assert_eq!(stranger.status, 3, "{}", stranger.stderr);
}
