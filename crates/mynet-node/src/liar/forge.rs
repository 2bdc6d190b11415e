//! What a liar can make with its own keys, and with what it heard: records that claim what is not so.
//!
//! Each function makes several of a kind, from almost right to absurd. None needs a key that a member does not have.

use ed25519_dalek::SigningKey;
use mynet_types::{
    BoundedVec, CertificateFile, Decision, Domain, Evidence, Manifest, ManifestHash, NetworkId, NodeId, OwnerKey,
    ProposalId, Roster, RosterHash, RosterKey, Signable, Signature, Signed, SignedDecision, SignedManifest,
    SignedProposal, SignedReceipt, SignedRosterKey, SignedStatement, SignedTombstone, SignedWrap, StatesMask,
    StorageReceipt, Timestamp, Tombstone, TxId, Validator, Verdict, Vote, VoteKey, VoteStatement, WrapKey, WrapRecord,
    signing::{sign_as, sign_hash},
    wire::Receipts,
};
use rand::RngExt;

/// Whose keys and which network.
pub(super) struct Forger<'a> {
    pub(super) network: NetworkId,
    pub(super) me: NodeId,
    pub(super) node_key: &'a SigningKey,
    pub(super) owner_key: &'a SigningKey,
}

/// `body` under a signature of any key, whoever it names.
fn signed<T: Signable>(network: &NetworkId, body: T, key: &SigningKey) -> Signed<T> {
    let signature = sign_hash(T::DOMAIN, network, &body.signed_hash(), key);
    Signed { body, signature }
}

fn nothing() -> Signature {
    Signature([0; 64])
}

/// The other answer about the same value.
pub(super) fn opposite(statement: &VoteStatement) -> VoteStatement {
    let verdict = if statement.verdict == Verdict::Accept { Verdict::Reject } else { Verdict::Accept };
    VoteStatement { verdict, ..*statement }
}

/// Another value in the same place.
pub(super) fn other_value(statement: &VoteStatement, rng: &mut impl RngExt) -> VoteStatement {
    VoteStatement { value: ManifestHash(rng.random()), verdict: Verdict::Accept, ..*statement }
}

/// `vote` with another statement, rightly signed by the seat.
pub(super) fn vote_on(network: &NetworkId, vote: &Vote, statement: VoteStatement, key: &SigningKey) -> Vote {
    let signature = sign_as(Domain::Vote, network, &statement, key);
    Vote { statement, signature, ..vote.clone() }
}

/// Votes that their signatures do not stand for.
pub(super) fn unsigned_votes(network: &NetworkId, vote: &Vote, seats: usize, rng: &mut impl RngExt) -> Vec<Vote> {
    let stranger = SigningKey::from_bytes(&rng.random());
    let others = (0..u16::try_from(seats).unwrap_or(u16::MAX)).filter(|seat| *seat != vote.seat);
    let of_others = others.map(|seat| Vote { seat, ..vote.clone() });
    let mut votes = vec![
        Vote { signature: nothing(), ..vote.clone() },
        vote_on(network, vote, vote.statement, &stranger),
        Vote { statement: opposite(&vote.statement), ..vote.clone() },
        Vote { seat: u16::MAX, ..vote.clone() },
        Vote { seat: u16::try_from(seats).unwrap_or(u16::MAX), ..vote.clone() },
    ];
    votes.extend(of_others);
    votes
}

/// Votes of the seat's key that are not about this proposal in this network.
pub(super) fn misplaced_votes(network: &NetworkId, vote: &Vote, key: &SigningKey, rng: &mut impl RngExt) -> Vec<Vote> {
    let statement = vote.statement;
    let elsewhere = NetworkId(rng.random());
    let mut votes = vec![
        vote_on(&elsewhere, vote, statement, key),
        Vote { signature: sign_as(Domain::Proposal, network, &statement, key), ..vote.clone() },
        vote_on(network, vote, VoteStatement { epoch: statement.epoch + 1, ..statement }, key),
        vote_on(network, vote, VoteStatement { epoch: statement.epoch.saturating_sub(1), ..statement }, key),
        vote_on(network, vote, VoteStatement { roster: RosterHash(rng.random()), ..statement }, key),
        vote_on(network, vote, VoteStatement { states: StatesMask::default(), ..statement }, key),
    ];
    votes.push(Vote { proposal_id: ProposalId(rng.random()), ..vote_on(&elsewhere, vote, statement, key) });
    votes
}

impl Forger<'_> {
    /// A receipt that is rightly signed; whether the bytes are there it does not say.
    pub(super) fn receipt(&self, manifest_hash: ManifestHash, states: StatesMask, until: Timestamp) -> SignedReceipt {
        SignedReceipt::new(
            &self.network,
            StorageReceipt { manifest_hash, states, holder: self.me, until },
            self.node_key,
        )
    }

    /// Receipts that count for nothing, made from one that would.
    pub(super) fn bad_receipts(
        &self,
        good: &SignedReceipt,
        other: NodeId,
        rng: &mut impl RngExt,
    ) -> Vec<SignedReceipt> {
        let body = &good.body;
        let resigned = |body: StorageReceipt| signed(&self.network, body, self.node_key);
        vec![
            Signed { body: body.clone(), signature: nothing() },
            resigned(StorageReceipt { manifest_hash: ManifestHash(rng.random()), ..body.clone() }),
            resigned(StorageReceipt { holder: other, ..body.clone() }),
            resigned(StorageReceipt { until: Timestamp(1), ..body.clone() }),
            resigned(StorageReceipt { states: StatesMask::default(), ..body.clone() }),
            signed(&NetworkId(rng.random()), body.clone(), self.node_key),
            Signed { body: StorageReceipt { until: Timestamp(u64::MAX), ..body.clone() }, signature: good.signature },
        ]
    }

    /// A decision about a transaction of `coordinator`: in its name, and in this node's own.
    pub(super) fn decisions(
        &self,
        (tx, attempt): (TxId, u32),
        manifest_hash: ManifestHash,
        coordinator: NodeId,
    ) -> Vec<SignedDecision> {
        let mut decisions = Vec::new();
        for commit in [false, true] {
            for named in [coordinator, self.me] {
                let decision = Decision { tx, attempt, manifest_hash, commit, coordinator: named };
                decisions.push(signed(&self.network, decision, self.node_key));
            }
        }
        decisions
    }

    /// Tombstones of a group by everybody but its owner.
    pub(super) fn tombstones(&self, manifest: &Manifest, now: Timestamp) -> Vec<SignedTombstone> {
        let group_id = manifest.group_id;
        let mine = OwnerKey(self.owner_key.verifying_key().to_bytes());
        let tombstone = |owner| Tombstone { group_id, owner, deleted_at: now };
        let mut tombstones = vec![
            signed(&self.network, tombstone(manifest.owner), self.owner_key),
            signed(&self.network, tombstone(manifest.owner), self.node_key),
            Signed { body: tombstone(manifest.owner), signature: nothing() },
        ];
        if mine != manifest.owner {
            tombstones.push(signed(&self.network, tombstone(mine), self.owner_key));
        }
        tombstones
    }

    /// Wraps of a group that hold no key.
    pub(super) fn wraps(
        &self,
        manifest: &Manifest,
        (recipient, recipient_key): (NodeId, WrapKey),
        rng: &mut impl RngExt,
    ) -> Vec<SignedWrap> {
        let mut ciphertext = [0; 48];
        rng.fill(&mut ciphertext);
        let (group_id, version, enc) = (manifest.group_id, manifest.version, rng.random());
        let mine = OwnerKey(self.owner_key.verifying_key().to_bytes());
        let wrap = |owner| WrapRecord { group_id, version, recipient, recipient_key, enc, ciphertext, owner };
        [manifest.owner, mine].map(|owner| signed(&self.network, wrap(owner), self.owner_key)).to_vec()
    }

    /// What another node proposed, proposed by this one with a part exchanged.
    pub(super) fn proposals(
        &self,
        (proposal, manifest, receipts): (&SignedProposal, &SignedManifest, &Receipts),
        rng: &mut impl RngExt,
    ) -> Vec<(SignedProposal, SignedManifest, Receipts)> {
        let mut own = proposal.body.clone();
        (own.proposer, own.nonce) = (self.me, rng.random());
        let own = signed(&self.network, own, self.node_key);
        let mut others = own.clone();
        others.body.proposer = proposal.body.proposer;
        let others = signed(&self.network, others.body, self.node_key);
        let mut grown = manifest.clone();
        grown.body.created_at = Timestamp(manifest.body.created_at.0 ^ 1);
        let mut of_grown = own.body.clone();
        of_grown.manifest_hash = grown.body.hash();
        let of_grown = signed(&self.network, of_grown, self.node_key);
        let unowned = SignedManifest { body: manifest.body.clone(), signature: nothing() };
        let foreign = receipts.iter().map(|receipt| signed(&self.network, receipt.body.clone(), self.node_key));
        let foreign = BoundedVec::truncated(foreign);
        vec![
            (others, manifest.clone(), receipts.clone()),
            (own.clone(), unowned, receipts.clone()),
            (own.clone(), manifest.clone(), foreign),
            (own.clone(), grown.clone(), receipts.clone()),
            (of_grown, grown, receipts.clone()),
            (proposal.clone(), manifest.clone(), Receipts::default()),
        ]
    }

    /// Vote keys that are nobody's to offer, and one of this node that is badly signed.
    pub(super) fn offers(&self, roster: &Roster, other: NodeId, rng: &mut impl RngExt) -> Vec<SignedRosterKey> {
        let vote_key = VoteKey(SigningKey::from_bytes(&rng.random()).verifying_key().to_bytes());
        let (epoch, prev) = (roster.epoch + 1, roster.hash());
        let offer = |epoch, prev, node| RosterKey { epoch, prev, seat: Validator { vote_key, node } };
        vec![
            signed(&self.network, offer(epoch, prev, other), self.node_key),
            signed(&self.network, offer(epoch + 7, prev, self.me), self.node_key),
            signed(&self.network, offer(epoch, RosterHash(rng.random()), self.me), self.node_key),
            Signed { body: offer(epoch, prev, self.me), signature: nothing() },
        ]
    }

    /// A next roster in which `victim` has no seat and this node has a key.
    pub(super) fn roster_without(&self, victim: &NodeId, roster: &Roster, rng: &mut impl RngExt) -> Roster {
        let fresh = VoteKey(SigningKey::from_bytes(&rng.random()).verifying_key().to_bytes());
        let kept = roster.validators.iter().filter(|validator| validator.node != *victim);
        let seat = |validator: &Validator| {
            let mine = validator.node == self.me;
            Validator { node: validator.node, vote_key: if mine { fresh } else { validator.vote_key } }
        };
        let mut validators: Vec<Validator> = kept.map(seat).collect();
        validators.sort_by_key(|validator| validator.vote_key.0);
        Roster {
            epoch: roster.epoch + 1,
            prev: roster.hash(),
            validators: BoundedVec::truncated(validators),
            ..roster.clone()
        }
    }
}

/// Evidence against the seat that signed `real`, from its one signature and others that are not its own; and two statements of
/// it that do not contradict each other.
pub(super) fn evidence(network: &NetworkId, seat: u16, real: &SignedStatement, key: &SigningKey) -> Vec<Evidence> {
    let pair = |one: SignedStatement, two: SignedStatement| {
        let (first, second) = if one.statement <= two.statement { (one, two) } else { (two, one) };
        Evidence { seat, first, second }
    };
    let against = opposite(&real.statement);
    let forged = SignedStatement { statement: against, signature: sign_as(Domain::Vote, network, &against, key) };
    let copied = SignedStatement { statement: against, signature: real.signature };
    let mine = SignedStatement { signature: sign_as(Domain::Vote, network, &real.statement, key), ..*real };
    let wrong_order = pair(*real, forged);
    vec![
        pair(*real, forged),
        pair(*real, copied),
        pair(mine, forged),
        Evidence { seat, first: *real, second: *real },
        Evidence { seat, first: wrong_order.second, second: wrong_order.first },
    ]
}

/// Certificates made from one that stands: with the verdict turned, for another value, and with signatures moved.
pub(super) fn certificates(file: &CertificateFile, rng: &mut impl RngExt) -> Vec<CertificateFile> {
    let mut turned = file.clone();
    turned.certificate.statement = opposite(&file.certificate.statement);
    let mut other = file.clone();
    other.certificate.statement.value = ManifestHash(rng.random());
    let mut moved = file.clone();
    let mut signatures = moved.certificate.signers.signatures.clone().into_vec();
    signatures.rotate_left(1);
    moved.certificate.signers.signatures = BoundedVec::truncated(signatures);
    let mut fewer = file.clone();
    fewer.certificate.signers.seats = 1;
    let first = fewer.certificate.signers.signatures.iter().take(1).copied().collect::<Vec<_>>();
    fewer.certificate.signers.signatures = BoundedVec::truncated(first);
    let mut later = file.clone();
    later.manifest.body.version += 1;
    vec![turned, other, moved, fewer, later]
}
