//! `mynet doctor` on columns that somebody spoiled in the database: it says which, and writes again what receipts and certificate
//! say, while the node runs and while it does not.

use std::path::Path;

use mynet_e2e::{
    content::{self, bytes},
    network::Network,
    process::Node,
};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use serde_json::{Value, json};

/// Columns of `stored_content` that follow from receipts and certificate, and the moment of the last change, which does not.
const COLUMNS: &str = "id, my_network_enabled, replica_count, replication_status, consensus_achieved, replicated_on_peers, \
    last_sync_timestamp, network_metadata";
/// What nothing but a person with the database open would write.
const SPOIL: [&str; 2] = [
    "UPDATE stored_content SET replica_count = 77, replication_status = 'failed', consensus_achieved = 0, \
     replicated_on_peers = '[]', my_network_enabled = 0",
    "UPDATE mynet_groups SET replica_count = 0, status = 'pending'",
];

/// The database of a node, beside the program.
struct Rows {
    runtime: tokio::runtime::Runtime,
    db: DatabaseConnection,
}

impl Rows {
    fn of(dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("sqlite:{}", dir.join("mynet.db").display());
        let db = runtime.block_on(Database::connect(ConnectOptions::new(url))).unwrap();
        Self { runtime, db }
    }

    fn spoil(&self) {
        for sql in SPOIL {
            let done = self.runtime.block_on(self.db.execute_unprepared(sql)).unwrap();
            assert!(done.rows_affected() > 0, "nothing to spoil: {sql}");
        }
    }

    /// The columns as one text for each row.
    fn columns(&self) -> Vec<String> {
        let text = |name: &str| format!("quote({name})");
        let all = COLUMNS.split(", ").map(|name| text(name.trim())).collect::<Vec<_>>().join(" || ' ' || ");
        let sql = format!("SELECT {all} AS line FROM stored_content ORDER BY id");
        let query = Statement::from_string(self.db.get_database_backend(), sql);
        let rows = self.runtime.block_on(self.db.query_all_raw(query)).unwrap();
        rows.iter().map(|row| row.try_get("", "line").unwrap()).collect()
    }

    fn close(self) {
        self.runtime.block_on(self.db.close()).unwrap();
    }
}

/// What the doctor says, and its exit status.
fn doctor(node: &Node, extra: &[&str]) -> (i32, Value) {
    let done = node.run(&[&["doctor", "--json"], extra].concat()).unwrap();
    let said = done.json().unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
    (done.status, said)
}

/// Spoils the columns, and has the doctor find that and nothing else, say it, and put it right.
fn is_cured(node: &Node, right: &[String]) {
    let rows = Rows::of(&node.dir);
    rows.spoil();
    let spoiled = rows.columns();
    assert_ne!(spoiled, right);
    // Nobody else has the file open meanwhile.
    rows.close();

    let (status, told) = doctor(node, &["--dry-run"]);
    assert_eq!((status, &told["repaired"]), (5, &json!(0)), "{told}");
    let findings = told["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["code"] == "extension_differs"), "{told}");
    // One for each row, and one for the group.
    assert_eq!(findings.len(), right.len() + 1, "{told}");
    let rows = Rows::of(&node.dir);
    assert_eq!(rows.columns(), spoiled, "it was only to say what it would do");
    rows.close();

    let (status, told) = doctor(node, &[]);
    assert_eq!((status, &told["found"]), (0, &told["repaired"]), "{told}");
    assert_eq!(told["found"], right.len() + 1, "{told}");
    let rows = Rows::of(&node.dir);
    assert_eq!(rows.columns(), right);
    rows.close();
    assert_eq!(doctor(node, &[]).1["found"], 0);
}

#[test]
fn spoiled_columns_are_found_and_rebuilt_from_receipts_also_while_the_node_does_not_run() {
    let mut network = Network::trusted(3, "").unwrap();
    let path = content::file(network.temp.path(), "data.bin", &bytes(61, 100_000)).unwrap();
    let added = network.nodes[0].json(&["add", &path, "--wait", "certified"]).unwrap();
    let group = added["group_id"].as_str().unwrap().to_owned();
    network.settled(0, &group).unwrap();
    let node = &mut network.nodes[0];
    assert_eq!(
        doctor(node, &[]),
        (
            0,
            json!({ "dry_run": false, "groups": 1, "blobs": 1, "files": 1, "found": 0, "repaired": 0, "findings": [] })
        )
    );
    let rows = Rows::of(&node.dir);
    let right = rows.columns();
    rows.close();
    assert!(right.iter().all(|line| line.contains("'replicated'")), "{right:?}");

    is_cured(node, &right);

    assert_eq!(node.stop().unwrap(), 0);
    is_cured(node, &right);
    let spoken = node.run(&["doctor"]).unwrap();
    let told = String::from_utf8_lossy(&spoken.stdout).into_owned();
    assert!(told.contains("the node does not run") && told.contains(node.dir_arg()), "{told}");
    // Whoever names an API means that node.
    let api = node.api.clone();
    let elsewhere = node.run(&["doctor", "--api", &api, "--token", "x"]).unwrap();
    assert_eq!(elsewhere.status, 7, "{}", elsewhere.stderr);

    // That counted as starts that ended: the node is a validator as before.
    node.restart().unwrap();
    network.formed(3).unwrap();
    let shown = network.nodes[0].json(&["roster", "show"]).unwrap();
    assert_eq!(shown["votes"], true, "{shown}");
    let view = network.nodes[0].json(&["show", &group]).unwrap();
    assert_eq!((&view["replication_status"], &view["replica_count"]), (&json!("replicated"), &json!(3)), "{view}");
}

#[test]
fn the_doctor_of_a_node_that_is_not_there_says_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().to_str().unwrap();
    let done = mynet_e2e::process::run(&["doctor", "--data-dir", dir]).unwrap();
    assert_eq!(done.status, 7, "{}", done.stderr);
    assert!(done.stderr.contains("there is no node in") && done.stderr.contains("--data-dir"), "{}", done.stderr);
}
