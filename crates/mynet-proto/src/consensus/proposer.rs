//! The proposer: asks the newest roster to certify a value, and collects.
//!
//! ```text
//! Propose --> [roster too small] --> NotEnoughValidators --(roster grows)--+
//!    |                                                                     v
//!    +--> round: Persist(Proposal) --> Persisted --> Propose to every seat --> votes
//!              ^                                       | resend 1, 2, 4, 8, 16, 16 .. s
//!              |                                       v
//!              +-- expired, or the epoch ended -- Pending --timeout--> Undecided
//!                                                      \______________/
//!                                                         |        |
//!                                              accept quorum     reject quorum
//!                                                         v        v
//!                                                    Approved    Rejected        (absorbing)
//! ```
//!
//! For a head, the accept quorum is only the first round: it is sent to every seat as `AckRequest`, and a quorum of acks
//! makes `Approved`.
//!
//! 1. A proposal is durable before it is first sent, and is sent byte for byte the same after a restart.
//! 2. (C4) Only a reject quorum makes `Rejected`. The timeout ends the caller's wait, not the collection.
//! 3. (C7) A vote that contradicts one of the same seat is reported, as long as the proposal lives, decided or not.
//! 4. Votes count by their statement: what was cast for another node's proposal of the same value and claim counts too.
//! 5. This node proposes no second value for a version while the first is on its way, over restarts.
//! 6. (C6) A quorum of the first round of a head approves nothing.

use std::collections::{BTreeMap, BTreeSet};

use mynet_types::{
    AbstainReason, Abstention, Claim, ConsensusMessage, GroupId, HeadProof, ManifestHash, Mono, NodeId, OwnerKey,
    Phase, Proposal, ProposalId, QuorumCertificate, Signed, SignedManifest, SignedOwnerStatement, SignedProposal,
    SignedStatement, SlotKey, Verdict, Vote, VoteStatement,
    certificate::CertificateFile,
    vote::{attest_slot, is_head, slot_of},
    wire::Receipts,
};

use super::{
    Seat,
    io::{Event, OpenProposal, Outcome, Record, Tally, Timer},
    shared::Shared,
    step::{Step, Then},
    tally::{Added, Book},
};
use crate::reason::{Note, Reason};

/// Resends double up to this many times the first interval. Larger makes a validator that returns wait longer, smaller
/// costs messages to one that does not.
const RESEND_DOUBLINGS: u32 = 4;

/// What is asked for: one claim about one value.
pub(super) type CaseKey = (ManifestHash, Claim);

/// What a caller wants certified.
pub(super) struct Wish<'a> {
    pub(super) manifest: SignedManifest,
    pub(super) receipts: &'a Receipts,
    /// For a head.
    pub(super) previous: Option<HeadProof>,
}

/// A value of this node that is not decided.
pub(super) struct Case {
    manifest: SignedManifest,
    receipts: Receipts,
    previous: Option<HeadProof>,
    /// When the caller's wait is over, while it lasts.
    waits_until: Option<Mono>,
    /// `None` while the roster is too small.
    round: Option<Round>,
}

/// One proposal of a case.
struct Round {
    proposal: SignedProposal,
    announced: bool,
    resends: u32,
    /// The quorum of the first round of a head, once it is there: the second one runs.
    quorum: Option<Box<QuorumCertificate>>,
    /// Another value of the same head was told of.
    blocked: bool,
    /// Seats that said why they do not vote; news replaces the old.
    abstained: BTreeMap<NodeId, AbstainReason>,
}

impl Case {
    /// Whether this node can show what `claim` claims. Votes do not tell: those for another proposer's receipts count too.
    fn shows(&self, claim: Claim) -> bool {
        claim == Claim::Seen || self.receipts.len() >= usize::from(self.manifest.body.quorum).max(1)
    }

    /// The version of a group that this is about, if it is a head.
    fn head(&self) -> Option<(GroupId, u64)> {
        let manifest = &self.manifest.body;
        is_head(manifest.version).then_some((manifest.group_id, manifest.version))
    }
}

impl Round {
    fn new(proposal: SignedProposal) -> Self {
        Self { proposal, announced: false, resends: 0, quorum: None, blocked: false, abstained: BTreeMap::new() }
    }

    fn id(&self) -> ProposalId {
        self.proposal.body.id()
    }

    fn accept(&self) -> VoteStatement {
        self.proposal.body.statement(Verdict::Accept)
    }

    /// What an acceptance of this says in the round that counts.
    fn final_accept(&self) -> VoteStatement {
        let phase = if is_head(self.proposal.body.version) { Phase::Ack } else { Phase::Vote };
        VoteStatement { phase, ..self.accept() }
    }
}

/// The values of this node on their way to a certificate.
#[derive(Default)]
pub(super) struct Proposer {
    cases: BTreeMap<CaseKey, Case>,
    /// Open proposals.
    rounds: BTreeMap<ProposalId, CaseKey>,
    /// Votes seen, by slot and round; kept until the last proposal for the slot expires.
    books: BTreeMap<(SlotKey, Phase), Book>,
}

impl Proposer {
    /// Takes up proposals that were restored; nothing is sent before [`Self::start`].
    pub(super) fn restore(&mut self, proposals: impl IntoIterator<Item = OpenProposal>) {
        for OpenProposal { proposal, manifest, receipts, previous } in proposals {
            let key = (proposal.body.manifest_hash, proposal.body.claim);
            let round = Round::new(proposal);
            self.rounds.insert(round.id(), key);
            self.cases.insert(key, Case { manifest, receipts, previous, waits_until: None, round: Some(round) });
        }
    }

    /// Sends restored proposals again, or new ones where the old ones have expired or their epoch has ended.
    pub(super) fn start(&mut self, shared: &mut Shared, step: &mut Step<'_>) {
        let keys: Vec<CaseKey> = self.cases.keys().copied().collect();
        for key in keys {
            let Some(case) = self.cases.get_mut(&key) else { continue };
            case.waits_until = Some(step.now.mono.after(shared.config.timeout));
            let epoch = shared.roster().epoch;
            let alive =
                |round: &Round| round.proposal.body.epoch == epoch && round.proposal.body.expires_at > step.now.wall;
            match &case.round {
                Some(round) if alive(round) && !mynet_types::planted!(NewProposalAfterRestart) => {
                    let id = round.id();
                    self.open(shared, step, key);
                    self.announce(shared, step, id);
                }
                _ => self.begin_round(shared, step, key),
            }
            self.report(shared, step, &key);
        }
    }

    /// Certify `manifest`. Repeating it brings receipts that are new and begins the caller's wait anew. Answers with the
    /// certificate if receipts were all that it lacked.
    pub(super) fn propose(
        &mut self,
        shared: &mut Shared,
        step: &mut Step<'_>,
        key: CaseKey,
        wish: Wish<'_>,
    ) -> Option<CertificateFile> {
        let Wish { manifest, receipts, previous } = wish;
        if let Some(other) = self.value_under_way(&manifest, &key.0) {
            step.event(blocked(&manifest, (key.0, other), false));
            return None;
        }
        let known = self.cases.get(&key).map(|case| case.receipts.clone()).unwrap_or_default();
        let counting = shared.counting_receipts(known.iter().chain(receipts), (&key.0, &manifest.body), step.now.wall);
        let until = step.now.mono.after(shared.config.timeout);
        let case = self.cases.entry(key).or_insert_with(|| Case {
            manifest,
            receipts: Receipts::new(),
            previous: None,
            waits_until: None,
            round: None,
        });
        let news = case.receipts != counting || previous.is_some() && case.previous.is_none();
        case.receipts = counting;
        case.previous = case.previous.take().or(previous);
        case.waits_until = Some(until);
        match &case.round {
            None => self.begin_round(shared, step, key),
            Some(round) => {
                let id = round.id();
                step.timer(Timer::Timeout(id), shared.config.timeout);
                if news {
                    self.write(step, &key);
                }
                self.ask_for_acks(shared, step, &key);
            }
        }
        self.report(shared, step, &key);
        self.certify(shared, &key)
    }

    /// Another value of the same head that this node is having certified.
    fn value_under_way(&self, manifest: &SignedManifest, value: &ManifestHash) -> Option<ManifestHash> {
        let about = (manifest.body.group_id, manifest.body.version);
        if !is_head(about.1) {
            return None;
        }
        let rival = |(key, case): &(&CaseKey, &Case)| key.0 != *value && case.head() == Some(about);
        self.cases.iter().find(rival).map(|(key, _)| key.0)
    }

    /// What the owners signed that this node is having certified as this version.
    pub(super) fn signed_of(&self, about: &(GroupId, u64)) -> impl Iterator<Item = SignedOwnerStatement> {
        self.cases.values().filter(|case| case.head() == Some(*about)).map(|case| case.manifest.statement())
    }

    /// Makes a new proposal for a case under the newest roster, in place of an old one.
    fn begin_round(&mut self, shared: &mut Shared, step: &mut Step<'_>, key: CaseKey) {
        let nonce = shared.random();
        let Some(case) = self.cases.get_mut(&key) else { return };
        let group_id = case.manifest.body.group_id;
        let mut proposed = Reason::Proposed;
        if let Some(old) = case.round.take() {
            self.rounds.remove(&old.id());
            step.persist(Record::Closed(old.id()));
            proposed = Reason::ProposedAgain;
        }
        let (roster, manifest) = (shared.roster(), &case.manifest.body);
        if shared.quorum().is_none() {
            return step.note(Note::about(group_id, Reason::NotEnoughValidators).value(roster.validators.len()));
        }
        step.note(Note::about(group_id, proposed).value(roster.epoch));
        let body = Proposal {
            epoch: roster.epoch,
            roster: roster.hash(),
            proposer: shared.me,
            group_id: manifest.group_id,
            version: manifest.version,
            manifest_hash: key.0,
            claim: key.1,
            states: manifest.allowed(false),
            expires_at: step.now.wall.after(shared.config.lifetime),
            nonce,
        };
        let round = Round::new(Signed::new(&shared.network, body, &shared.node_key));
        self.rounds.insert(round.id(), key);
        case.round = Some(round);
        self.open(shared, step, key);
        self.write(step, &key);
    }

    /// Opens the book and sets the timers of a round.
    fn open(&mut self, shared: &Shared, step: &mut Step<'_>, key: CaseKey) {
        let Some(case) = self.cases.get_mut(&key) else { return };
        let Some(round) = &case.round else { return };
        let proposal = &round.proposal.body;
        let life = proposal.expires_at.since(step.now.wall).min(shared.config.lifetime);
        let until = step.now.mono.after(life);
        for phase in [Phase::Vote, round.final_accept().phase] {
            let slot = (round.accept().slot, phase);
            let book = self.books.entry(slot).or_insert_with(|| Book::new(proposal.epoch, until));
            if book.epoch != proposal.epoch {
                *book = Book::new(proposal.epoch, until);
            }
            book.ask(key.0, until);
        }
        step.timer(Timer::Expire(round.id()), life);
        if let Some(until) = case.waits_until {
            step.timer(Timer::Timeout(round.id()), until.since(step.now.mono));
        }
    }

    /// Writes a proposal; it is sent, again if need be, when it is durable.
    fn write(&self, step: &mut Step<'_>, key: &CaseKey) {
        let Some(case) = self.cases.get(key) else { return };
        let Some(round) = &case.round else { return };
        step.persist(Record::Proposal(OpenProposal {
            proposal: round.proposal.clone(),
            manifest: case.manifest.clone(),
            receipts: case.receipts.clone(),
            previous: case.previous.clone(),
        }));
        step.then(Then::Announce(round.id()));
    }

    /// A proposal is durable: it is sent, and sent again until every seat has voted.
    pub(super) fn announce(&mut self, shared: &mut Shared, step: &mut Step<'_>, id: ProposalId) {
        let wait = shared.jittered(shared.config.resend);
        let Some(key) = self.rounds.get(&id).copied() else { return };
        let Some(round) = self.cases.get_mut(&key).and_then(|case| case.round.as_mut()) else { return };
        if !std::mem::replace(&mut round.announced, true) {
            step.timer(Timer::Resend(id), wait);
        }
        // An earlier proposal of the value may have had its votes already.
        if !self.ask_for_acks(shared, step, &key) {
            self.send(shared, step, &id, None);
        }
    }

    /// Sends a proposal to the seats that have not voted, or the second round of a head to those that have not acked; or to
    /// `only` one of them.
    fn send(&self, shared: &Shared, step: &mut Step<'_>, id: &ProposalId, only: Option<&NodeId>) {
        let Some(case) = self.rounds.get(id).and_then(|key| self.cases.get(key)) else { return };
        let Some(round) = case.round.as_ref().filter(|round| round.announced) else { return };
        let wanted = if round.quorum.is_some() { round.final_accept() } else { round.accept() };
        let book = self.books.get(&(wanted.slot, wanted.phase));
        let message = match (&round.quorum, case.head()) {
            (Some(certificate), Some((group_id, version))) => {
                ConsensusMessage::AckRequest { group_id, version, certificate: certificate.clone() }
            }
            _ => ConsensusMessage::Propose {
                proposal: round.proposal.clone(),
                manifest: Box::new(case.manifest.clone()),
                receipts: case.receipts.clone(),
                previous: case.previous.clone().map(Box::new),
            },
        };
        for (seat, node) in (0_u16..).zip(shared.roster().nodes()) {
            let voted = book.is_some_and(|book| book.has_voted(seat, &wanted));
            if !voted && only.is_none_or(|only| *only == node) {
                step.tell(node, message.clone());
            }
        }
    }

    /// Goes to the second round of a head if the first has its quorum now; `false` if it has not, or had it before.
    fn ask_for_acks(&mut self, shared: &Shared, step: &mut Step<'_>, key: &CaseKey) -> bool {
        let Some(certificate) = self.first_round(shared, key) else { return false };
        let Some(round) = self.cases.get_mut(key).and_then(|case| case.round.as_mut()) else { return false };
        round.quorum = Some(Box::new(certificate));
        let id = round.id();
        self.send(shared, step, &id, None);
        true
    }

    /// The quorum of the first round of a head whose second one has not begun.
    fn first_round(&self, shared: &Shared, key: &CaseKey) -> Option<QuorumCertificate> {
        let case = self.cases.get(key).filter(|case| case.head().is_some() && case.shows(key.1))?;
        let statement = case.round.as_ref().filter(|round| round.quorum.is_none())?.accept();
        let book = self.books.get(&(statement.slot, statement.phase))?;
        let quorum = shared.quorum()?;
        let enough = book.tally(&statement, quorum, true).accepts >= quorum.accept();
        enough.then(|| QuorumCertificate { statement, signers: book.signers(&statement) })
    }

    /// A validator came back: it need not wait for the next resend.
    pub(super) fn on_peer_up(&self, shared: &Shared, step: &mut Step<'_>, node: &NodeId) {
        for id in self.rounds.keys() {
            self.send(shared, step, id, Some(node));
        }
    }

    /// Sends again to the silent, ever less often. A wall clock that was set right may show long before the timer that
    /// nobody votes on the proposal any more; a new one takes its place then.
    pub(super) fn on_resend(&mut self, shared: &mut Shared, step: &mut Step<'_>, id: ProposalId) {
        let Some(key) = self.rounds.get(&id) else { return };
        let Some(round) = self.cases.get_mut(key).and_then(|case| case.round.as_mut()) else { return };
        if round.proposal.body.expires_at <= step.now.wall {
            return self.on_expire(shared, step, id);
        }
        round.resends = (round.resends + 1).min(RESEND_DOUBLINGS);
        let wait = shared.config.resend * 2_u32.pow(round.resends);
        step.timer(Timer::Resend(id), shared.jittered(wait));
        self.send(shared, step, &id, None);
    }

    /// The caller's wait is over, unless it began anew meanwhile.
    pub(super) fn on_timeout(&mut self, shared: &Shared, step: &mut Step<'_>, id: ProposalId) {
        let Some(key) = self.rounds.get(&id).copied() else { return };
        let Some(case) = self.cases.get_mut(&key) else { return };
        if case.waits_until.is_some_and(|until| until <= step.now.mono) {
            case.waits_until = None;
            let group_id = case.manifest.body.group_id;
            if let Some(tally) = self.tally_of(shared, &key) {
                step.note(Note::about(group_id, Reason::Undecided).value(tally.accepts + tally.rejects));
            }
            self.report(shared, step, &key);
        }
    }

    /// A proposal has expired: if its value is undecided it is proposed again; votes nobody needs any more go.
    pub(super) fn on_expire(&mut self, shared: &mut Shared, step: &mut Step<'_>, id: ProposalId) {
        if let Some(key) = self.rounds.get(&id).copied() {
            self.begin_round(shared, step, key);
            self.report(shared, step, &key);
        }
        let now = step.now.mono;
        self.books.retain(|_, book| book.until > now);
    }

    /// The epoch of these votes turned out to be another one.
    pub(super) fn forget_votes(&mut self) {
        self.books.clear();
    }

    /// The roster changed: whatever is undecided is proposed to the new one.
    pub(super) fn roster_changed(&mut self, shared: &mut Shared, step: &mut Step<'_>) {
        let keys: Vec<CaseKey> = self.cases.keys().copied().collect();
        for key in keys {
            if let Some(case) = self.cases.get_mut(&key)
                && case.round.is_none()
            {
                case.waits_until = Some(step.now.mono.after(shared.config.timeout));
            }
            self.begin_round(shared, step, key);
            self.report(shared, step, &key);
        }
    }

    /// A vote came. Answers with the certificate if it completes one.
    pub(super) fn on_vote(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        (from, vote): (NodeId, Vote),
    ) -> Option<CertificateFile> {
        let (statement, spoken) = (vote.statement, Reason::vote(&vote));
        let slot = (statement.slot, statement.phase);
        let book = self.books.get_mut(&slot).filter(|book| book.epoch == statement.epoch)?;
        let roster = shared.chain.roster(book.epoch)?;
        let seat = roster.validators.get(usize::from(vote.seat))?;
        if seat.node != from || statement.roster != roster.hash() || book.knows(&vote) {
            return None;
        }
        let verified =
            if mynet_types::planted!(VoteSignatureUnchecked) { Ok(()) } else { vote.verify(&shared.network, roster) };
        if let Err(error) = verified {
            tracing::debug!(%from, %error, "vote ignored");
            return None;
        }
        match book.add(vote.clone()) {
            Added::Ignored => return None,
            Added::Contradicts(first) => {
                if let Some(case) = self.cases.get(&(statement.value, statement.claim)) {
                    let group_id = case.manifest.body.group_id;
                    step.note(Note::about(group_id, Reason::VoteContradicts).with(from));
                }
                step.accuse(&first, &vote);
                return None;
            }
            Added::Counted => {}
        }
        let other = book.other_of(vote.seat);
        let key = (statement.value, statement.claim);
        if let Some(other) = other {
            self.tell_blocked(step, slot.0, (from, other));
        }
        let group_id = self.cases.get(&key)?.manifest.body.group_id;
        step.note(Note::about(group_id, spoken).with(from));
        self.ask_for_acks(shared, step, &key);
        self.report(shared, step, &key);
        self.certify(shared, &key)
    }

    /// Looks whether a certificate carries a vote that contradicts one that its seat gave here. Nothing of it is believed: the
    /// one signature that matters is checked.
    pub(super) fn compare(&mut self, shared: &Shared, step: &mut Step<'_>, certificate: &QuorumCertificate) {
        let statement = certificate.statement;
        let of_epoch = |book: &&mut Book| book.epoch == statement.epoch;
        let slot = (statement.slot, statement.phase);
        let Some(book) = self.books.get_mut(&slot).filter(of_epoch) else { return };
        let Some(roster) = shared.chain.roster(statement.epoch) else { return };
        for (seat, signature) in certificate.signers.seats().zip(&certificate.signers.signatures) {
            let Ok(seat) = u16::try_from(seat) else { continue };
            let vote = Vote { statement, seat, signature: *signature, proposal_id: ProposalId([0; 32]), reason: None };
            if book.contradicted_by(&vote).is_some()
                && vote.verify(&shared.network, roster).is_ok()
                && let Added::Contradicts(first) = book.add(vote.clone())
            {
                step.accuse(&first, &vote);
            }
        }
    }

    /// The votes that `seat` gave here in `epoch`, those of the newest proposals first.
    pub(super) fn newest_votes_of(&self, seat: u16, epoch: u64) -> impl Iterator<Item = SignedStatement> {
        let mut books: Vec<&Book> = self.books.values().filter(|book| book.epoch == epoch).collect();
        books.sort_by_key(|book| std::cmp::Reverse(book.until));
        let signed = |vote: &Vote| SignedStatement { statement: vote.statement, signature: vote.signature };
        books.into_iter().flat_map(move |book| book.of_seat(seat).map(signed))
    }

    /// A seat holds its vote for another value of a head: that is told once per proposal.
    fn tell_blocked(&mut self, step: &mut Step<'_>, slot: SlotKey, (by, other): (NodeId, ManifestHash)) {
        for (key, case) in self.cases.iter_mut().filter(|(_, case)| case.head().is_some()) {
            let Some(round) = case.round.as_mut().filter(|round| round.accept().slot == slot) else { continue };
            if !std::mem::replace(&mut round.blocked, true) {
                let manifest = &case.manifest.body;
                step.note(Note::about(manifest.group_id, Reason::HeadRival).with(by).value(manifest.version));
                step.event(blocked(&case.manifest, (key.0, other), false));
            }
        }
    }

    /// Another value of a head is certified: those of this node for it are given up.
    pub(super) fn give_up_rivals(&mut self, step: &mut Step<'_>, file: &CertificateFile) {
        let (winner, manifest) = (file.certificate.statement.value, &file.manifest.body);
        let about = (manifest.group_id, manifest.version);
        let lost = |(key, case): &(&CaseKey, &Case)| key.0 != winner && case.head() == Some(about);
        let lost: Vec<CaseKey> = self.cases.iter().filter(lost).map(|(key, _)| *key).collect();
        for key in lost {
            if let Some(case) = self.cases.get(&key) {
                step.event(blocked(&case.manifest, (key.0, winner), true));
            }
            self.close(step, &key);
        }
    }

    /// A validator says why it does not vote; that changes nothing but what is told to people.
    pub(super) fn on_abstain(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        (from, abstention): (NodeId, Abstention),
    ) {
        let Some(key) = self.rounds.get(&abstention.proposal_id) else { return };
        let Some(case) = self.cases.get_mut(key) else { return };
        let Some(round) = case.round.as_mut() else { return };
        if shared.roster().seat_of(&from).is_some() {
            round.abstained.insert(from, abstention.reason);
            step.note(Note::about(case.manifest.body.group_id, Reason::abstained(abstention.reason)).with(from));
        }
    }

    /// The certificate of a case whose votes suffice.
    fn certify(&self, shared: &Shared, key: &CaseKey) -> Option<CertificateFile> {
        let case = self.cases.get(key)?;
        let round = case.round.as_ref()?;
        let statement = match self.tally_of(shared, key)?.outcome {
            Outcome::Approved => round.final_accept(),
            Outcome::Rejected => VoteStatement { verdict: Verdict::Reject, ..round.accept() },
            Outcome::Pending | Outcome::Undecided | Outcome::NotEnoughValidators => return None,
        };
        let signers = self.books.get(&(statement.slot, statement.phase))?.signers(&statement);
        Some(CertificateFile {
            manifest: case.manifest.clone(),
            certificate: QuorumCertificate { statement, signers },
            holdings: shared.holdings(&case.receipts),
            chain: shared.chain.up_to(shared.roster().epoch),
        })
    }

    /// Ends a case that is decided; its votes stay until the proposal expires.
    pub(super) fn close(&mut self, step: &mut Step<'_>, key: &CaseKey) {
        let Some(case) = self.cases.remove(key) else { return };
        if let Some(round) = case.round {
            self.rounds.remove(&round.id());
            step.persist(Record::Closed(round.id()));
        }
    }

    /// Ends the cases of a group that its owner deleted.
    pub(super) fn withdraw(&mut self, step: &mut Step<'_>, group_id: GroupId, owner: OwnerKey) {
        let of_group = |(key, case): (&CaseKey, &Case)| {
            let manifest = &case.manifest.body;
            ((manifest.group_id, manifest.owner) == (group_id, owner)).then_some(*key)
        };
        for key in self.cases.iter().filter_map(of_group).collect::<Vec<_>>() {
            self.close(step, &key);
        }
    }

    /// Whether `key` is open here.
    pub(super) fn is_open(&self, key: &CaseKey) -> bool {
        self.cases.contains_key(key)
    }

    /// Tells how far a case came.
    fn report(&self, shared: &Shared, step: &mut Step<'_>, key: &CaseKey) {
        let Some(case) = self.cases.get(key) else { return };
        let Some(tally) = self.tally_of(shared, key) else { return };
        let group_id = case.manifest.body.group_id;
        step.event(Event::Progress { group_id, manifest_hash: key.0, claim: key.1, tally });
    }

    /// How far an open case came.
    pub(super) fn tally_of(&self, shared: &Shared, key: &CaseKey) -> Option<Tally> {
        let case = self.cases.get(key)?;
        let validators = shared.roster().validators.len();
        let too_few = Tally { outcome: Outcome::NotEnoughValidators, accepts: 0, rejects: 0, quorum: 0, validators };
        let (Some(round), Some(quorum)) = (&case.round, shared.quorum()) else { return Some(too_few) };
        let (accept, last, waits) = (round.accept(), round.final_accept(), case.waits_until.is_some());
        let tally = self.books.get(&(accept.slot, accept.phase))?.tally(&accept, quorum, waits);
        let last = self.books.get(&(last.slot, last.phase))?.tally(&last, quorum, waits).outcome;
        let outcome = match (last, tally.outcome) {
            (Outcome::Approved, _) if case.shows(key.1) => Outcome::Approved,
            (_, Outcome::Rejected) => Outcome::Rejected,
            _ if waits => Outcome::Pending,
            _ => Outcome::Undecided,
        };
        Some(Tally { outcome, ..tally })
    }

    /// The open cases with the abstentions that came, in the order of their values.
    pub(super) fn open_cases(&self) -> impl Iterator<Item = (&CaseKey, &SignedManifest, Vec<(NodeId, AbstainReason)>)> {
        self.cases.iter().map(|(key, case)| {
            let abstained = case.round.iter().flat_map(|round| &round.abstained).map(|(node, why)| (*node, *why));
            (key, &case.manifest, abstained.collect())
        })
    }

    /// What the seats of the newest roster said about a value, as far as this node asked them.
    pub(super) fn seats(&self, shared: &Shared, value: &ManifestHash) -> Vec<Seat> {
        let roster = shared.roster();
        let cases = [Claim::Seen, Claim::Durable, Claim::Verified].map(|claim| self.cases.get(&(*value, claim)));
        let manifest = cases.iter().flatten().map(|case| &case.manifest.body).next();
        let slot = manifest.map_or_else(|| attest_slot(value), |it| slot_of(&it.group_id, it.version, value));
        // What a seat acked it had voted for, so the second round says more.
        let books = [Phase::Vote, Phase::Ack].map(|phase| self.books.get(&(slot, phase)));
        let books: Vec<&Book> = books.into_iter().flatten().filter(|book| book.epoch == roster.epoch).collect();
        let rounds: Vec<&Round> = cases.into_iter().flatten().filter_map(|case| case.round.as_ref()).collect();
        let said = |seat, node: &NodeId| {
            let votes = books.iter().flat_map(|book| book.of_seat(seat));
            let vote = votes.filter(|vote| vote.statement.value == *value).last().map(Reason::vote);
            let abstained =
                || rounds.iter().find_map(|round| round.abstained.get(node)).map(|why| Reason::abstained(*why));
            vote.or_else(abstained)
        };
        (0_u16..).zip(roster.nodes()).map(|(seat, node)| Seat { node, said: said(seat, &node) }).collect()
    }

    /// Those who are told of a certificate: the holders it names and the newest roster, but not this node.
    pub(super) fn audience(shared: &Shared, file: &CertificateFile) -> BTreeSet<NodeId> {
        let holders = file.holdings.iter().map(|holding| holding.receipt.body.holder);
        holders.chain(shared.roster().nodes()).filter(|node| *node != shared.me).collect()
    }
}

/// That `other` stands against `value`.
fn blocked(manifest: &SignedManifest, (value, other): (ManifestHash, ManifestHash), certified: bool) -> Event {
    let (group_id, version) = (manifest.body.group_id, manifest.body.version);
    Event::HeadBlocked { group_id, version, manifest_hash: value, other, certified }
}
