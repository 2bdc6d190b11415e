//! `completions` and `man`: what a shell and a manual make of the command line.

use std::{fs, path::Path};

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man as Page;
use serde_json::json;

use crate::{
    args::{Arguments, Completions, Global, Man},
    local, output,
};

/// Prints the completions of a shell.
pub(crate) fn completions(global: &Global, args: Completions) -> anyhow::Result<()> {
    let (mut command, mut script) = (visible(), Vec::new());
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    let script = String::from_utf8(script).context("write the completions")?;
    match global.json {
        true => output::object(&json!({ "shell": args.shell.to_string(), "script": script })),
        false => output::text(&script),
    }
}

/// Prints the page of the program, or writes the pages of all commands.
pub(crate) fn man(global: &Global, args: Man) -> anyhow::Result<()> {
    let mut command = visible();
    command.build();
    let Some(dir) = args.dir else {
        let page = String::from_utf8(page(command)?).context("write the page")?;
        return if global.json { output::object(&json!({ "page": page })) } else { output::text(&page) };
    };
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let mut pages = Vec::new();
    write_pages(command, &dir, &mut pages)?;
    match global.json {
        true => output::object(&json!({ "pages": pages })),
        false => output::line(&format!("{} pages are in {}", pages.len(), dir.display())),
    }
}

/// The command line as people see it: what the node starts by itself is no part of it.
fn visible() -> Command {
    let whole = Arguments::command();
    let below: Vec<Command> = whole.get_subcommands().filter(|below| !below.is_hide_set()).cloned().collect();
    let top = Command::new("mynet").version(env!("CARGO_PKG_VERSION")).args(whole.get_arguments().cloned());
    whole.get_about().into_iter().fold(top.subcommands(below), |top, about| top.about(about.clone()))
}

fn page(command: Command) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    Page::new(command).render(&mut page).context("write the page")?;
    Ok(page)
}

/// Writes the page of a command and of all below it.
fn write_pages(command: Command, dir: &Path, pages: &mut Vec<String>) -> anyhow::Result<()> {
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        write_pages(below.clone(), dir, pages)?;
    }
    let name = format!("{}.1", command.get_display_name().unwrap_or_else(|| command.get_name()));
    local::replace(&dir.join(&name), &page(command)?)?;
    pages.push(name);
    Ok(())
}
