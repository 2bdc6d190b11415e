//! One function per command.

mod add;
mod care;
mod config;
mod content;
mod govern;
mod lookup;
mod network;
mod node;
mod recover;
mod setup;
mod shell;
mod upload;
mod verify;
mod why;

use std::process::ExitCode;

use crate::{
    args::{Arguments, Command, Global, Token},
    demo,
};

/// Carries out a command. Its exit status is success unless the function says otherwise.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { global, command } = arguments;
    let global = &global;
    match command {
        Command::Add(args) => return add::add(global, args).await,
        Command::Find(args) => return network::find(global, args).await,
        Command::Publish(args) => return content::publish(global, args).await,
        Command::Preview(args) => return content::preview(global, args).await,
        Command::Propose(args) => return govern::propose(global, args).await,
        Command::Verify(args) => return verify::verify(global, &args),
        Command::Doctor(args) => return care::doctor(global, args).await,
        Command::Demo(args) => return demo::run(args, global.json).await,
        Command::Init(args) => setup::init(global, args).await?,
        Command::Join(args) => setup::join(global, args).await?,
        Command::Run(args) => node::run(global, args).await?,
        Command::Ls(args) => content::ls(global, args).await?,
        Command::Show(args) => content::show(global, args).await?,
        Command::Get(args) => content::get(global, args).await?,
        Command::Cert(args) => content::cert(global, args).await?,
        Command::Why(args) => why::why(global, args).await?,
        Command::History(args) => why::history(global, args).await?,
        Command::Rm(args) => care::rm(global, args).await?,
        Command::Gc(args) => care::gc(global, args).await?,
        Command::Invite(args) => network::invite(global, args).await?,
        Command::Genesis(args) => network::genesis(global, args).await?,
        Command::Status => network::status(global).await?,
        Command::Peers(args) => network::peers(global, args).await?,
        Command::Trust(args) => network::trust(global, args, "trust").await?,
        Command::Untrust(args) => network::trust(global, args, "untrust").await?,
        Command::Roster(args) => govern::roster(global, args).await?,
        Command::Evidence => govern::evidence(global).await?,
        Command::Proposals => govern::proposals(global).await?,
        Command::Config(args) => config::config(global, args)?,
        Command::Completions(args) => shell::completions(global, args)?,
        Command::Man(args) => shell::man(global, args)?,
        Command::Token(token) => run_token(global, token).await?,
        Command::PreviewWorker(_) => unreachable!("main runs the worker before anything else"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The commands about API keys.
async fn run_token(global: &Global, token: Token) -> anyhow::Result<()> {
    match token {
        Token::Create { name, scope, expires } => network::token_create(global, &name, scope, expires).await,
        Token::Ls => network::token_ls(global).await,
        Token::Revoke { id } => network::token_revoke(global, &id).await,
    }
}
