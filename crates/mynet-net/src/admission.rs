//! Admission checks that need no network: what any node can verify offline about someone who knocks.
//!
//! The counterpart of the specification's NetworkSecurity, network layer. Pure functions; the node's door calls them,
//! keeps what they return and decides what only it can know (bans, used-up invitations, its own seat).
//!
//! **Invariants**
//! 1. A node is admitted by a record of a validator of some epoch of *this* node's chain, or of a chain that extends it
//!    link by link. A chain that contradicts a known link admits nobody, unless one of the two links is a recovery.
//! 2. Links that are known already are compared by hash, not verified again: a knock costs as many signature checks as
//!    it brings news.

use std::time::Duration;

use mynet_types::{
    LinkError, NodeId, Roles, RosterChain, RosterLink, SignatureError, SignedAdmission, SignedInvite, SignedNodeRecord,
    Timestamp, VerifiedChain,
    records::{AdmissionError, verify_admission},
    rpc::KnockRefusal,
};

/// How far ahead an announcement may claim to hold, as the record's definition says.
const RECORD_VALID_MAX: Duration = Duration::from_secs(24 * 3600);
/// How far clocks of honest nodes may differ.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);

/// What a node shows to be let in.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// The admission.
    pub admission: &'a SignedAdmission,
    /// The chain that came with it.
    pub chain: &'a RosterChain,
    /// Where the node is.
    pub record: &'a SignedNodeRecord,
}

/// What an inviter is shown.
#[derive(Debug, Clone, Copy)]
pub struct Redeem<'a> {
    /// The invitation.
    pub invite: &'a SignedInvite,
    /// Roles wanted.
    pub roles: Roles,
    /// Share of the data wanted.
    pub weight: u16,
    /// Where the node is.
    pub record: &'a SignedNodeRecord,
}

/// Why a node is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresentError {
    /// The first link does not follow this network's genesis.
    #[error("the chain belongs to another network")]
    OtherNetwork,
    /// The records are about another node than the one that shows them.
    #[error("the records name another node")]
    OtherNode,
    /// The chain has another roster in a known epoch: validators signed two.
    #[error("the chain contradicts the one known here in epoch {epoch}")]
    Fork {
        /// The first such epoch.
        epoch: u64,
    },
    /// A link does not follow.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The admission does not hold.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// The announcement is not signed by its node.
    #[error("the announcement: {0}")]
    Record(#[from] SignatureError),
    /// The announcement has ended, or claims to hold for more than a day.
    #[error("the announcement is valid until {0}, which is past or too far ahead")]
    RecordTime(Timestamp),
    /// No role, an unknown one, or `edge` beside another; or no weight.
    #[error("roles or weight make no sense")]
    Roles,
}

impl PresentError {
    /// What the stranger is told.
    #[must_use]
    pub fn refusal(&self) -> KnockRefusal {
        match self {
            Self::OtherNetwork => KnockRefusal::OtherNetwork,
            Self::OtherNode | Self::Record(_) | Self::RecordTime(_) => KnockRefusal::Malformed,
            Self::Fork { .. } | Self::Link(_) | Self::Admission(_) | Self::Roles => KnockRefusal::AdmissionInvalid,
        }
    }
}

/// Checks that `present` admits `from` at wall-clock time `now`, given the chain `known` here. Returns the verified
/// links beyond that chain, oldest first; they are worth keeping whether or not anything else is.
///
/// # Errors
/// The first defect found.
pub fn check_present(
    known: &VerifiedChain,
    from: &NodeId,
    present: Present<'_>,
    now: Timestamp,
) -> Result<Vec<RosterLink>, PresentError> {
    let Present { admission, chain, record } = present;
    if admission.body.node != *from {
        return Err(PresentError::OtherNode);
    }
    check_record(known, from, record, now)?;
    if !are_sound(admission.body.roles) || admission.body.weight == 0 {
        return Err(PresentError::Roles);
    }
    let news = news(known, chain)?;
    if news.is_empty() {
        verify_admission(admission, known, now)?;
        return Ok(news);
    }
    verify_admission(admission, &known.followed(&news)?, now)?;
    Ok(news)
}

/// The links of `chain` beyond `known`, not yet verified, after the common part was found equal.
fn news(known: &VerifiedChain, chain: &RosterChain) -> Result<Vec<RosterLink>, PresentError> {
    let genesis = known.genesis().first_roster();
    if chain.links.first().is_some_and(|first| first.roster.epoch != 1 || first.roster.prev != genesis.hash()) {
        return Err(PresentError::OtherNetwork);
    }
    let mut epochs = 1..;
    let mut news = Vec::new();
    for (link, epoch) in chain.links.iter().zip(&mut epochs) {
        match known.roster(epoch) {
            Some(roster) if *roster == link.roster => {}
            Some(_) => return fork(known, &chain.links, epoch),
            None => news.push(link.clone()),
        }
    }
    Ok(news)
}

/// The links from `epoch` on, where `links` lead to another roster: news if they overrule what is known, none if a recovery
/// keeps them from it, as at whoever was away during one.
fn fork(known: &VerifiedChain, links: &[RosterLink], epoch: u64) -> Result<Vec<RosterLink>, PresentError> {
    let Some((index, own)) = known.divergence(links) else { return Ok(Vec::new()) };
    if known.overruled_by(links).is_some() {
        return Ok(links.split_at(index).1.to_vec());
    }
    let recovery = own.is_recovery() || links.get(index).is_some_and(RosterLink::is_recovery);
    if recovery { Ok(Vec::new()) } else { Err(PresentError::Fork { epoch }) }
}

/// Checks an announcement: that `from` signed it for this network, and that it holds now.
///
/// # Errors
/// The first defect found.
pub fn check_record(
    known: &VerifiedChain,
    from: &NodeId,
    record: &SignedNodeRecord,
    now: Timestamp,
) -> Result<(), PresentError> {
    if record.body.node != *from {
        return Err(PresentError::OtherNode);
    }
    let until = record.body.valid_until;
    if until <= now || until > now.after(RECORD_VALID_MAX).after(CLOCK_SKEW_MAX) {
        return Err(PresentError::RecordTime(until));
    }
    Ok(record.verify(&known.genesis().network_id())?)
}

/// Whether a set of roles makes sense: at least one, known ones only, and an edge is nothing else.
fn are_sound(roles: Roles) -> bool {
    let all = Roles::NAMED.iter().fold(Roles::default(), |all, (role, _)| all.union(*role));
    roles != Roles::default() && all.contains(roles) && (!roles.contains(Roles::EDGE) || roles == Roles::EDGE)
}

/// Checks what a stateless inviter can check of a redemption: its own signature, the time, the roles, the announcement.
/// How often the invitation was used, and whether this node may admit at all, the caller knows.
///
/// # Errors
/// What the stranger is told.
pub fn check_redeem(
    known: &VerifiedChain,
    (inviter, from): (&NodeId, &NodeId),
    redeem: Redeem<'_>,
    now: Timestamp,
) -> Result<(), KnockRefusal> {
    let Redeem { invite, roles, weight, record } = redeem;
    if invite.body.inviter != *inviter || invite.verify(&known.genesis().network_id()).is_err() {
        return Err(KnockRefusal::NotMyInvite);
    }
    if invite.body.expires_at <= now {
        return Err(KnockRefusal::InviteExpired);
    }
    if !are_sound(roles) || !invite.body.roles.contains(roles) {
        return Err(KnockRefusal::RolesNotInvited);
    }
    if weight == 0 {
        return Err(KnockRefusal::Malformed);
    }
    check_record(known, from, record, now).map_err(|error| error.refusal())
}

#[cfg(test)]
#[path = "admission/tests.rs"]
mod tests;
