//! New settings for a running node.
//!
//! What is read where it is used changes at once. What the cores, the sockets or the admission were made with stays, and is
//! named, so that an operator knows what waits for a restart.

use std::sync::Arc;

use crate::{
    config::Config,
    peers,
    service::{RunningNode, StartError, bootstrap_nodes},
};

impl RunningNode {
    /// Takes new settings over. Returns the keys whose change needs a restart; those stay as they were.
    ///
    /// # Errors
    /// [`StartError::Setting`] for a value that cannot be used; nothing was changed then.
    pub async fn reload(&self, new: Config) -> Result<Vec<&'static str>, StartError> {
        let bootstrap = bootstrap_nodes(&new)?;
        let shell = &self.shell;
        let (config, restart) = shell.config().reloaded(new);
        let (knock, announce) = {
            let old = shell.config();
            let announced = |config: &Config| (config.p2p.advertise.clone(), config.storage.capacity);
            (old.network.bootstrap != config.network.bootstrap, announced(&old) != announced(&config))
        };
        shell.replace_config(config);
        let Some(listen) = shell.net.get().map(mynet_net::Net::local_addr) else { return Ok(restart) };
        if announce {
            shell.learn_members(Vec::new(), vec![shell.own_record(listen)]).await;
        }
        if knock && !bootstrap.is_empty() {
            shell.tasks.spawn(peers::bootstrap(Arc::clone(shell), listen, bootstrap));
        }
        Ok(restart)
    }
}
