//! `config`: what applies here, and where each value comes from.

use clap::parser::ValueSource;
use mynet_node::config::{Config as Settings, Origin, Setting};
use serde::Serialize;

use super::node::bad_settings;
use crate::{
    args::{Config, Global},
    local::{self, Access},
    output::{self, Column, table},
};

/// The object of `config show`.
#[derive(Debug, Serialize)]
struct Shown {
    /// The node's directory.
    data_dir: Told,
    /// The API that commands speak to; absent if there is none to be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<Told>,
    /// The key that they show: where it is, and never what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Secret>,
    /// The settings of the node.
    settings: Vec<Setting>,
}

/// A value and its origin.
#[derive(Debug, Serialize)]
struct Told {
    value: String,
    origin: Origin,
}

/// The origin of a value that is nobody's business.
#[derive(Debug, Serialize)]
struct Secret {
    origin: Origin,
}

/// Carries out a command about settings.
pub(crate) fn config(global: &Global, args: Config) -> anyhow::Result<()> {
    match args {
        Config::Show => show(global),
    }
}

fn show(global: &Global) -> anyhow::Result<()> {
    let dir = local::data_dir(global)?;
    let settings = Settings::settings(&dir, &toml::Table::new()).map_err(|error| bad_settings(&error))?;
    let origins = global.origins;
    let file = || Origin::File(Access::path(&dir));
    let access = Access::find(global).ok();
    let shown = Shown {
        data_dir: Told {
            value: dir.display().to_string(),
            origin: origin(origins.data_dir, "MYNET_DATA_DIR", || Origin::Default),
        },
        api: access
            .as_ref()
            .map(|access| Told { value: access.api.clone(), origin: origin(origins.api, "MYNET_API", file) }),
        token: access.as_ref().map(|_| Secret { origin: origin(origins.token, "MYNET_TOKEN", file) }),
        settings,
    };
    if global.json { output::object(&shown) } else { print(&shown) }
}

/// The origin of what a flag, a variable or something else gives.
fn origin(source: Option<ValueSource>, variable: &str, other: impl Fn() -> Origin) -> Origin {
    match source {
        Some(ValueSource::CommandLine) => Origin::Flag,
        Some(ValueSource::EnvVariable) => Origin::Environment(variable.to_owned()),
        _ => other(),
    }
}

fn print(shown: &Shown) -> anyhow::Result<()> {
    let row = |key: &str, value: &str, origin: &Origin| vec![key.to_owned(), value.to_owned(), origin.to_string()];
    let mut rows = vec![row("data_dir", &shown.data_dir.value, &shown.data_dir.origin)];
    rows.extend(shown.api.iter().map(|api| row("api", &api.value, &api.origin)));
    rows.extend(shown.token.iter().map(|token| row("token", "(not shown)", &token.origin)));
    rows.extend(shown.settings.iter().map(|setting| row(&setting.key, &setting.value.to_string(), &setting.origin)));
    table(&[Column::key("SETTING"), Column::text("VALUE"), Column::text("ORIGIN")], &rows)
}
