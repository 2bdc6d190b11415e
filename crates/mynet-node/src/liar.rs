//! A node that lies on purpose, for tests of what the others make of it. Nothing of it is compiled without the feature `liar`,
//! which no shipped build has.
//!
//! The core inside stays honest: what it hears, what it says and what is answered to peers is twisted on the way, with this
//! node's own keys, so that every lie is one that the protocol lets a member tell. `LIAR` in the environment names the lies
//! (`docs/protocol/lies.md` lists them), or `all`; `LIAR_SEED` chooses among them, and is printed.

#[cfg(feature = "liar")]
mod forge;
#[cfg(any(test, feature = "liar"))]
#[cfg_attr(not(feature = "liar"), expect(dead_code, reason = "the other build uses it; its tests run in every build"))]
mod lies;
#[cfg(feature = "liar")]
mod mouth;
#[cfg(feature = "liar")]
mod service;

#[cfg(feature = "liar")]
pub(crate) use self::{lies::arm, mouth::Liar, service::service};

#[cfg(not(feature = "liar"))]
mod honest {
    use std::{collections::BTreeMap, sync::Arc};

    use mynet_net::Service;
    use mynet_proto::node::{NodeCore, io::Input, io::Output};
    use mynet_types::VoteSecret;

    use crate::{serve::NodeService, shell::Shell};

    #[expect(clippy::unnecessary_wraps, reason = "the other build can fail here")]
    pub(crate) fn arm() -> Result<(), String> {
        Ok(())
    }

    pub(crate) fn service(service: NodeService) -> Arc<dyn Service> {
        Arc::new(service)
    }

    /// Nobody.
    pub(crate) struct Liar;

    impl Liar {
        pub(crate) fn new(_shell: &Arc<Shell>, _keys: &BTreeMap<u64, VoteSecret>) -> Self {
            Self
        }

        #[expect(clippy::unused_self, reason = "the other build remembers what it hears")]
        pub(crate) fn hears(&mut self, _core: &NodeCore, _input: &Input) -> bool {
            true
        }

        #[expect(clippy::unused_self, reason = "the other build twists it")]
        pub(crate) fn twist(&mut self, _core: &NodeCore, _outputs: &mut Vec<Output>) {}
    }
}

#[cfg(not(feature = "liar"))]
pub(crate) use honest::{Liar, arm, service};
