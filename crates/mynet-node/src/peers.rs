//! Membership over the wire: who is let in, who is told of whom, and what each node announces of itself.
//!
//! Every two connected nodes tell each other all admissions and announcements they know; whatever is new to one of them
//! it tells on. Records are signed and checked, so it does not matter who passed them on.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use mynet_net::{
    Budget, Door, NetEvent, NodeAddr, Refusal,
    admission::{Present, Redeem, check_present, check_redeem},
    record_addrs,
};
use mynet_proto::node::io::Input;
use mynet_types::{
    AdmissionRecord, BoundedString, BoundedVec, ConsensusMessage, MembershipMessage, Message, NodeId, NodeRecord,
    RosterLink, Signed, SignedAdmission, SignedNodeRecord, VerifiedChain, WrapKey,
    rpc::{Knock, KnockRefusal, KnockReply, Welcome},
    wire::MEMBERS_PER_MESSAGE_MAX,
};
use tokio::sync::mpsc;

use crate::{
    compose::random,
    driver::wall_clock,
    events::{EventKind, EventView},
    members::Learned,
    renewal::end_of,
    shell::{Chain, Shell},
    ticket::Ticket,
};

/// How long an announcement holds; the most that others accept.
const RECORD_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How often this node announces itself again.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(3600);
/// Younger nodes have tight budgets.
const NEWCOMER: Duration = Duration::from_secs(24 * 3600);
/// Links in one message.
const LINKS_PER_MESSAGE: usize = 16;
/// First pause before a ticket is shown again; doubles up to [`REDEEM_RETRY_MAX`].
const REDEEM_RETRY: Duration = Duration::from_secs(1);
/// Longest pause: an inviter that was away is met within a minute, and one that refuses is not pestered.
const REDEEM_RETRY_MAX: Duration = Duration::from_secs(60);

/// The node's door.
pub(crate) struct NodeDoor(pub(crate) Arc<Shell>);

#[async_trait]
impl Door for NodeDoor {
    fn is_admitted(&self, node: &NodeId) -> bool {
        self.0.members.may_enter(node, wall_clock())
    }

    fn budget(&self, node: &NodeId) -> Budget {
        let admission = self.0.members.admission(node);
        let age = admission.map(|admission| wall_clock().since(admission.body.admitted_at)).unwrap_or_default();
        // Who was trusted at admission is no stranger.
        let trusted = self.0.members.admission(node).is_some_and(|admission| admission.body.trusted);
        if age < NEWCOMER && !trusted { Budget::Newcomer } else { Budget::Settled }
    }

    async fn knock(&self, from: NodeId, knock: Knock) -> KnockReply {
        let answer = match knock {
            Knock::Redeem { invite, wrap_key, roles, region, zone, weight, record } => {
                let redeem = Redeem { invite: &invite, roles, weight, record: &record };
                let place = (region, zone, weight);
                self.0.redeem(from, redeem, wrap_key, place).await
            }
            Knock::Present { admission, chain, record } => {
                let present = Present { admission: &admission, chain: &chain, record: &record };
                self.0.presented(from, present).await
            }
        };
        match answer {
            Ok(welcome) => KnockReply::Welcome(Box::new(welcome)),
            Err(refusal) => {
                tracing::info!(node = %from.short(), %refusal, "a stranger was refused");
                KnockReply::Refused(refusal)
            }
        }
    }
}

/// Where a newcomer stands.
type Place = (BoundedString<32>, BoundedString<64>, u16);

impl Shell {
    /// Admits whoever shows a good invitation of this node.
    async fn redeem(
        self: &Arc<Self>,
        from: NodeId,
        redeem: Redeem<'_>,
        wrap_key: WrapKey,
        (region, zone, weight): Place,
    ) -> Result<Welcome, KnockRefusal> {
        let (chain, now) = (self.members.chain(), wall_clock());
        check_redeem(&chain, (&self.me(), &from), redeem, now)?;
        if chain.newest().seat_of(&self.me()).is_none() {
            return Err(KnockRefusal::NotValidator);
        }
        // A node whose answer was lost shows its ticket again: it is let in as it was, and no use is counted.
        if self.members.is_admitted(&from, now) {
            return self.welcome(from, chain).ok_or(KnockRefusal::Busy);
        }
        let taken = self.meta.redeem_invite(&redeem.invite.body.id, now).await;
        taken.map_err(|error| self.refused_redemption(error))?;
        let admission = AdmissionRecord {
            node: from,
            wrap_key,
            roles: redeem.roles,
            trusted: redeem.invite.body.trusted,
            region,
            zone,
            weight,
            admitted_at: now,
            expires_at: end_of(now),
            epoch: chain.newest().epoch,
            issuer: self.me(),
            // Whoever comes back after its admission ended keeps its place.
            nonce: self.members.admission(&from).map_or_else(random, |known| known.body.nonce),
        };
        let admission = Signed::new(&self.network, admission, self.keys.node());
        self.learn_members(vec![admission], vec![redeem.record.clone()]).await;
        tracing::info!(node = %from.short(), "a node was admitted");
        self.welcome(from, chain).ok_or(KnockRefusal::Busy)
    }

    /// What a refused redemption means for the newcomer.
    fn refused_redemption(&self, error: mynet_store::meta::RedeemError) -> KnockRefusal {
        use mynet_store::meta::RedeemError;
        match error {
            RedeemError::Unknown => KnockRefusal::NotMyInvite,
            RedeemError::Expired => KnockRefusal::InviteExpired,
            RedeemError::UsedUp => KnockRefusal::InviteUsedUp,
            RedeemError::Meta(error) => {
                self.not_kept("redeem an invitation", error);
                KnockRefusal::Busy
            }
        }
    }

    /// Lets in whoever shows a good admission.
    async fn presented(self: &Arc<Self>, from: NodeId, present: Present<'_>) -> Result<Welcome, KnockRefusal> {
        let chain = self.members.chain();
        let news = check_present(&chain, &from, present, wall_clock()).map_err(|error| error.refusal())?;
        // The links are handed to the core as if the newcomer had sent them, and checked there again.
        self.hand_in_links(from, &news).await;
        let extended = chain.followed(&news).map_err(|_broken| KnockRefusal::AdmissionInvalid)?;
        self.roster_changed(extended);
        self.learn_members(vec![present.admission.clone()], vec![present.record.clone()]).await;
        self.welcome(from, self.members.chain()).ok_or(KnockRefusal::Busy)
    }

    /// Gives the core links that came outside of a message.
    async fn hand_in_links(&self, from: NodeId, links: &[RosterLink]) {
        for some in links.chunks(LINKS_PER_MESSAGE) {
            let links = BoundedVec::truncated(some.iter().cloned());
            let message = Message::Consensus(ConsensusMessage::RosterLinks(links));
            self.inbox.put(Input::Message { from, message }).await;
        }
    }

    /// What a node that was let in is told.
    fn welcome(&self, node: NodeId, chain: VerifiedChain) -> Option<Welcome> {
        Some(Welcome {
            admission: self.members.admission(&node)?,
            chain: chain.up_to(chain.newest().epoch),
            admissions: BoundedVec::truncated(self.members.admissions(wall_clock())),
            records: BoundedVec::truncated(self.members.records()),
        })
    }

    /// Takes over a longer chain, and what waited for it.
    pub(crate) fn roster_changed(self: &Arc<Self>, chain: VerifiedChain) {
        let ready = self.members.chain_grew(chain, wall_clock());
        if !ready.is_empty() {
            let shell = Arc::clone(self);
            self.tasks.spawn(async move { shell.keep_members(ready.clone(), &ready, Vec::new()).await });
        }
    }

    /// Checks admissions and announcements, keeps what is new and tells it on. What was begun ends, also if whoever called
    /// goes away.
    pub(crate) async fn learn_members(
        self: &Arc<Self>,
        admissions: Vec<SignedAdmission>,
        records: Vec<SignedNodeRecord>,
    ) {
        let shell = Arc::clone(self);
        let learned = self.tasks.spawn(async move {
            let now = wall_clock();
            let (mut fresh, mut newcomers) = (Vec::new(), Vec::new());
            for admission in admissions {
                match shell.members.learn(&admission, now) {
                    Learned::New => {
                        newcomers.push(admission.clone());
                        fresh.push(admission);
                    }
                    // It says the same, so what it may read was granted before.
                    Learned::Renewed => fresh.push(admission),
                    Learned::Known | Learned::Waiting => {}
                    Learned::Bad(error) => {
                        tracing::warn!(node = %admission.body.node.short(), %error, "an admission does not hold");
                    }
                }
            }
            let records = records.into_iter().filter(|record| shell.members.learn_record(record, now)).collect();
            shell.keep_members(fresh, &newcomers, records).await;
        });
        if let Err(error) = learned.await {
            tracing::error!(%error, "members were not learned");
        }
    }

    /// Makes new admissions and announcements known to disk, core, network and peers.
    /// `newcomers` are those of the admissions that say something new of their node.
    async fn keep_members(
        self: &Arc<Self>,
        admissions: Vec<SignedAdmission>,
        newcomers: &[SignedAdmission],
        records: Vec<SignedNodeRecord>,
    ) {
        if admissions.is_empty() && records.is_empty() {
            return;
        }
        for admission in newcomers {
            self.owe_grants(admission).await;
        }
        if let Err(error) = self.meta.put_members(&admissions, &records).await {
            self.not_kept("keep members", error);
        }
        if let Some(net) = self.net.get() {
            for record in &records {
                net.set_addrs(record.body.node, record_addrs(&record.body));
            }
        }
        for admission in &admissions {
            self.inbox.put(Input::Admitted(Box::new(admission.clone()))).await;
        }
        for admission in newcomers {
            self.grant_newcomer(admission.clone());
        }
        self.keep_peers();
        let up: Vec<NodeId> = self.members.up().into_iter().collect();
        self.tell(&up, &admissions, &records);
    }

    /// Has the network keep a connection to every node that may speak to this one.
    pub(crate) fn keep_peers(&self) {
        if let Some(net) = self.net.get() {
            let mut nodes = self.members.entitled(wall_clock());
            nodes.remove(&self.me());
            net.set_peers(&nodes);
        }
    }

    /// Sends members to nodes.
    fn tell(&self, to: &[NodeId], admissions: &[SignedAdmission], records: &[SignedNodeRecord]) {
        let rounds = admissions.len().max(records.len()).div_ceil(MEMBERS_PER_MESSAGE_MAX);
        for round in 0..rounds {
            let skip = round * MEMBERS_PER_MESSAGE_MAX;
            let message = Message::Membership(MembershipMessage::Members {
                admissions: BoundedVec::truncated(admissions.iter().skip(skip).cloned()),
                records: BoundedVec::truncated(records.iter().skip(skip).cloned()),
            });
            for node in to {
                self.send(*node, message.clone());
            }
        }
    }

    /// This node's announcement, newer than all before it.
    pub(crate) fn own_record(&self, listen: SocketAddr) -> SignedNodeRecord {
        let now = wall_clock();
        let texts = self.addresses(listen).into_iter().filter_map(|addr| addr.to_string().try_into().ok());
        let record = NodeRecord {
            node: self.me(),
            seq: now.0,
            addrs: BoundedVec::truncated(texts),
            program: BoundedString::try_from(env!("CARGO_PKG_VERSION")).unwrap_or_default(),
            groups: 0,
            bytes: 0,
            capacity: self.config().storage.capacity.as_u64(),
            valid_until: now.after(RECORD_LIFETIME),
        };
        Signed::new(&self.network, record, self.keys.node())
    }

    /// Where peers may reach this node: what the operator says, else the listening address, else this machine's.
    fn addresses(&self, listen: SocketAddr) -> Vec<SocketAddr> {
        if !self.config().p2p.advertise.is_empty() {
            return self.config().p2p.advertise.clone();
        }
        if !listen.ip().is_unspecified() {
            return vec![listen];
        }
        let mut found = Vec::new();
        // Connecting a UDP socket sends nothing; it asks the routing table which address would be used.
        let routed = std::net::UdpSocket::bind(("0.0.0.0", 0)).and_then(|socket| {
            socket.connect(("192.0.2.1", 9))?;
            socket.local_addr()
        });
        found.extend(routed.ok().map(|addr| SocketAddr::new(addr.ip(), listen.port())));
        found.push(SocketAddr::from(([127, 0, 0, 1], listen.port())));
        found
    }
}

/// Follows what the network tells of peers, until the node stops.
pub(crate) async fn follow(shell: Arc<Shell>, listen: SocketAddr, mut events: mpsc::Receiver<NetEvent>) {
    let mut announce = tokio::time::interval(ANNOUNCE_INTERVAL);
    loop {
        tokio::select! {
            () = shell.cancel.cancelled() => return,
            _ = announce.tick() => {
                let record = shell.own_record(listen);
                shell.learn_members(Vec::new(), vec![record]).await;
                shell.renew_admissions(shell.members.up().into_iter().chain([shell.me()])).await;
            }
            event = events.recv() => match event {
                None => return,
                Some(NetEvent::PeerUp(node)) => {
                    tracing::info!(peer = %node.short(), "peer is up");
                    shell.members.set_up(node, true);
                    shell.events.tell(EventView::of_node(EventKind::PeerUp, node));
                    shell.tell(&[node], &shell.members.admissions(wall_clock()), &shell.members.records());
                    shell.inbox.put(Input::PeerUp(node)).await;
                    shell.refill.peer_up();
                    shell.renew_admissions([node]).await;
                    shell.unheard.add([node]);
                    shell.deletions.ask([node]);
                }
                Some(NetEvent::PeerDown(node)) => {
                    tracing::info!(peer = %node.short(), "peer is down");
                    shell.members.set_up(node, false);
                    shell.events.tell(EventView::of_node(EventKind::PeerDown, node));
                    shell.inbox.put(Input::PeerDown(node)).await;
                }
                Some(NetEvent::PeerRefused { node, reason }) => refused(&shell, listen, node, reason),
            },
        }
    }
}

/// A peer that does not know this node yet is shown its admission.
fn refused(shell: &Arc<Shell>, listen: SocketAddr, node: NodeId, reason: Refusal) {
    let me = shell.members.admission(&shell.me());
    let (Refusal::NotAdmitted, Some(admission)) = (reason, me) else {
        tracing::debug!(peer = %node.short(), %reason, "a peer refused the connection");
        return;
    };
    let shell = Arc::clone(shell);
    shell.tasks.clone().spawn(async move {
        let addrs = shell.members.record(&node).map(|record| record_addrs(&record.body)).unwrap_or_default();
        let chain = shell.members.chain();
        let chain = chain.up_to(chain.newest().epoch);
        let knock = Knock::Present { admission, chain, record: shell.own_record(listen) };
        shell.knock(NodeAddr { node, addrs }, knock).await;
    });
}

impl Shell {
    /// Knocks, and learns from a welcome; `true` if this node was let in.
    async fn knock(self: &Arc<Self>, door: NodeAddr, knock: Knock) -> bool {
        let Some(net) = self.net.get() else { return false };
        let node = door.node;
        match net.knock(door, knock).await {
            Ok(KnockReply::Welcome(welcome)) => {
                let Welcome { admission, chain, admissions, records } = *welcome;
                self.hand_in_links(node, &chain.links).await;
                match VerifiedChain::verify(self.members.chain().genesis().clone(), &chain) {
                    Ok(chain) => self.roster_changed(chain),
                    Err(error) => tracing::warn!(%error, "a welcome came with a broken chain"),
                }
                let admissions = admissions.into_vec().into_iter().chain([admission]).collect();
                self.learn_members(admissions, records.into_vec()).await;
                true
            }
            Ok(KnockReply::Refused(refusal)) => {
                tracing::warn!(peer = %node.short(), reason = %refusal, "not let in");
                false
            }
            Err(error) => {
                tracing::info!(peer = %node.short(), error = %Chain(&error), "a knock was not answered");
                false
            }
        }
    }
}

/// Shows the ticket until this node is admitted.
pub(crate) async fn redeem_ticket(
    shell: Arc<Shell>,
    listen: SocketAddr,
    ticket: Ticket,
    wish: (mynet_types::Roles, Place),
) {
    let (roles, (region, zone, weight)) = wish;
    let mut pause = REDEEM_RETRY;
    while !shell.members.is_admitted(&shell.me(), wall_clock()) {
        let door = NodeAddr { node: ticket.inviter(), addrs: ticket.addresses() };
        let knock = Knock::Redeem {
            invite: ticket.invite.clone(),
            wrap_key: shell.keys.wrap_secret().public(),
            roles,
            region: region.clone(),
            zone: zone.clone(),
            weight,
            record: shell.own_record(listen),
        };
        if shell.knock(door, knock).await {
            tracing::info!("this node was admitted");
        } else {
            tokio::select! {
                () = shell.cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(REDEEM_RETRY_MAX),
            }
        }
    }
}

/// Shows the own admission to nodes that the operator named; they may belong to a part of the network not known yet.
pub(crate) async fn bootstrap(shell: Arc<Shell>, listen: SocketAddr, nodes: Vec<NodeAddr>) {
    for node in nodes {
        let Some(admission) = shell.members.admission(&shell.me()) else { return };
        let chain = shell.members.chain();
        let chain = chain.up_to(chain.newest().epoch);
        let knock = Knock::Present { admission, chain, record: shell.own_record(listen) };
        shell.knock(node, knock).await;
    }
}
