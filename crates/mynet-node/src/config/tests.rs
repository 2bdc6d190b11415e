//! Settings: their layers, their places, and what is refused.

use super::{Config, ConfigError, Origin, SuccessMode};

fn load(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), text).unwrap();
    Config::load(dir.path(), &toml::Table::new())
}

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(load("").unwrap(), Config::default());
}

#[test]
fn values_of_the_file_replace_defaults_one_by_one() {
    let config = load("[replication]\nlease = \"3s\"\n[storage]\ncapacity = \"10GiB\"").unwrap();
    assert_eq!(config.replication.lease, std::time::Duration::from_secs(3));
    assert_eq!(config.replication.replicas, 3);
    assert_eq!(config.storage.capacity, bytesize::ByteSize::gib(10));
}

#[test]
fn an_unknown_key_is_refused_and_the_nearest_one_named() {
    match load("[replication]\nreplcas = 3") {
        Err(ConfigError::UnknownKey { key, origin, nearest, .. }) => {
            assert_eq!((key.as_str(), nearest.as_str()), ("replication.replcas", "replication.replicas"));
            assert!(matches!(&origin, Origin::File(path) if path.ends_with("config.toml")), "{origin:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_the_rest() {
    let old = load("[node]\nzone = \"a\"").unwrap();
    let new = load(
        "[node]\nzone = \"b\"\n[replication]\nreplicas = 4\nmode = \"all\"\nlease = \"3s\"\n\
         [limits]\nupload = \"1KiB\"\nconnections = 7\n[api]\nlisten = \"127.0.0.1:1\"",
    )
    .unwrap();
    let (config, restart) = old.reloaded(new.clone());
    assert_eq!(restart, ["node.zone", "api.listen", "replication.lease", "limits.connections"]);
    assert_eq!((config.replication.replicas, config.replication.mode), (4, SuccessMode::All));
    assert_eq!(config.limits.upload, bytesize::ByteSize::kib(1));
    assert_eq!((config.node.clone(), config.api.clone()), (old.node.clone(), old.api.clone()));
    // What waits for a restart is named again by the next reload.
    assert_eq!(config.reloaded(new).1, restart);
    assert!(old.reloaded(old.clone()).1.is_empty());
}

#[test]
fn a_bad_value_is_told_on_one_line_with_its_key_and_its_place() {
    for (text, begins, ends) in [
        ("\n[replication]\nreplicas = \"x\"", "replication.replicas: 'x' is not a whole number up to 16 in ", "line 3"),
        ("[replication]\nreplicas = -1", "replication.replicas: -1 is not a whole number up to 16 in ", "line 2"),
        ("[replication]\nlease = \"soon\"", "replication.lease: 'soon' is not a duration such as 90s, 24h ", "line 2"),
        (
            "[storage]\ncapacity = \"lots\"",
            "storage.capacity: 'lots' is not a size such as 500MB ",
            "config.toml, line 2",
        ),
        ("[node]\nroles = \"edge\"", "node.roles: 'edge' is not a list in ", "config.toml, line 2"),
        (
            "[limits]\nconnections = []",
            "limits.connections: sequence is not a positive whole number in ",
            "config.toml, line 2",
        ),
        ("[api]\nlisten = \"here\"", "api.listen: it is not an address such as 127.0.0.1:8420 ", "config.toml, line 2"),
        ("api.listen = \"here\"", "api.listen: it is not an address ", "config.toml, line 1"),
        ("x = [", "TOML parse error at line 1, column 6: unclosed array", "config.toml"),
        ("# mine\nx = 1", "unknown setting 'x' in ", "; did you mean 'storage.grace'?"),
        (
            "[storage]\n[replication]\n\nreplcas = 3",
            "unknown setting 'replication.replcas' in ",
            "config.toml, line 4; did you mean 'replication.replicas'?",
        ),
        (
            "[replication]\nquorum = 9",
            "settings contradict each other: replication.quorum is 9 in ",
            "config.toml, line 2 but must lie between 1 and replication.replicas, 3",
        ),
    ] {
        let told = load(text).unwrap_err().to_string();
        assert!(told.starts_with(begins) && told.ends_with(ends) && !told.contains('\n'), "{told}");
    }
}

#[test]
fn roles_that_exclude_each_other_are_refused_before_anybody_is_asked_for_them() {
    for (text, ends) in [
        (
            "[node]\nroles = [\n  \"edge\",\n  \"storage\",\n]",
            "config.toml, line 2: an edge only caches and holds no copies, so 'edge' stands alone",
        ),
        (
            "[node]\nroles = []",
            "config.toml, line 2: a node needs at least one role: storage, index, validator, or edge alone",
        ),
        (
            "[node]\nroles = [\"king\"]",
            "line 2: unknown role 'king', expected a list of: storage, index, validator, or edge alone",
        ),
    ] {
        let refused = load(text).unwrap_err();
        assert!(matches!(refused, ConfigError::Roles { .. }) && refused.to_string().ends_with(ends), "{refused}");
    }
    for good in ["[\"edge\"]", "[\"storage\"]", "[\"index\", \"validator\", \"storage\"]"] {
        assert!(load(&format!("[node]\nroles = {good}")).is_ok(), "{good}");
    }
}

#[test]
fn every_setting_tells_its_origin() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "[replication]\nreplicas = 4\nquorum = 3\n[node]\nroles = [\"index\"]").unwrap();
    let flags = toml::from_str("[replication]\nquorum = 1").unwrap();
    let settings = Config::settings(dir.path(), &flags).unwrap();
    let of = |key: &str| settings.iter().find(|setting| setting.key == key).unwrap();
    assert_eq!(
        (&of("replication.replicas").value, &of("replication.replicas").origin),
        (&4.into(), &Origin::File(file.clone()))
    );
    assert_eq!(of("node.roles").origin, Origin::File(file), "a list too");
    assert_eq!((&of("replication.quorum").value, &of("replication.quorum").origin), (&1.into(), &Origin::Flag));
    assert_eq!((&of("replication.lease").value, &of("replication.lease").origin), (&"10m".into(), &Origin::Default));
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    assert_eq!(settings.len(), super::keys(&defaults).len(), "none is left out");
}

#[test]
fn what_stands_in_the_place_of_the_file_is_not_taken_for_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Config::load(dir.path(), &toml::Table::new()).is_ok(), "there need not be one");
    std::fs::create_dir(dir.path().join("config.toml")).unwrap();
    let refused = Config::load(dir.path(), &toml::Table::new()).unwrap_err();
    assert!(matches!(&refused, ConfigError::NotAFile(path) if path.ends_with("config.toml")), "{refused}");
}

#[test]
fn more_copies_than_are_ever_made_are_refused() {
    for replicas in [0, 17, 200] {
        let told = load(&format!("[replication]\nreplicas = {replicas}")).unwrap_err().to_string();
        assert!(told.contains("config.toml, line 2 but must lie between 1 and 16"), "{told}");
    }
    assert_eq!(load("[replication]\nreplicas = 16").unwrap().replication.replicas, 16);
}

#[test]
fn a_quorum_above_the_replicas_is_refused() {
    assert!(matches!(load("[replication]\nquorum = 4"), Err(ConfigError::Contradiction(_))));
}
