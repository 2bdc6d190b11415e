//! Targets of the upper crates: frames and kinds on the wire, tickets and settings typed by people.

use std::path::Path;

use mynet_net::{
    frame::{HEADER_BYTES, Header, frame, read_answer},
    hello::Hello,
    knock::KnockRequest,
    table::{self, Body},
};
use mynet_node::{config::Config, ticket::Ticket};
use mynet_types::{
    BoundedVec, SignedInvite, codec,
    rpc::{Request, Response},
    wire::WIRE_VERSION,
};

use crate::{
    target::{Bound, Target, drawn},
    vectors,
};

/// A frame holds its body beside what is decoded from it.
const FRAME: Bound = Bound { per_byte: 24, constant: 16 * 1024 };
/// A ticket is decoded from base64 first.
const TICKET: Bound = Bound { per_byte: 24, constant: 16 * 1024 };
/// Settings are merged from several sources, each a tree of tagged values, and an unknown key is compared with every known
/// one.
const SETTINGS: Bound = Bound { per_byte: 4096, constant: 1024 * 1024 };

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target::encoded::<Hello>("hello"),
    Target::encoded::<KnockRequest>("knock-request"),
    Target { name: "frame", bound: FRAME, check: check_frame, seeds: frame_seeds },
    Target { name: "kind", bound: FRAME, check: check_kind, seeds: kind_seeds },
    Target { name: "ticket", bound: TICKET, check: check_ticket, seeds: ticket_seeds },
    Target { name: "settings", bound: SETTINGS, check: check_settings, seeds: settings_seeds },
];

/// The kind whose answers are read.
const KIND: u16 = 0x0100;
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: u32 = 16 * 1024;

fn check_frame(target: &Target, bytes: &[u8]) {
    let mut rest = bytes;
    let answer = target.bounded(bytes.len(), || {
        futures::executor::block_on(read_answer::<Response, _>(&mut rest, KIND, ANSWER_BYTES_MAX))
    });
    if let Ok(answer) = answer {
        let read = bytes.len() - rest.len();
        assert!(frame(KIND, &answer) == bytes[..read], "{answer:?} has another frame than was read");
    }
}

fn frame_seeds() -> Vec<Vec<u8>> {
    let answers = drawn::<Response>();
    let header = |len: usize| Header { version: WIRE_VERSION, kind: KIND, len: len.try_into().unwrap_or(u32::MAX) };
    answers.into_iter().map(|body| [&header(body.len()).to_bytes()[..], &body].concat()).collect()
}

/// Reads a frame of any kind as a server does: the header, then the body by the decoder of its kind.
fn check_kind(target: &Target, bytes: &[u8]) {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return };
    let header = Header::from_bytes(*header);
    let Some(kind) = table::find(header.kind) else { return };
    let Ok(decoded) = target.bounded(body.len(), || (kind.decode)(kind, body)) else { return };
    let (of, encoded) = match &decoded {
        Body::Hello(hello) => (table::of_hello(), codec::encode(hello)),
        Body::Request(request) => (table::of_request(request), codec::encode(request)),
        Body::Knock(request) => (table::of_knock(&request.knock), codec::encode(&**request)),
    };
    assert!(of == kind && encoded == body, "{decoded:?} is no {} message, or has another encoding", kind.name);
    assert!(body.len() <= usize::try_from(kind.request_bytes_max).unwrap_or(usize::MAX));
}

fn kind_seeds() -> Vec<Vec<u8>> {
    let framed = |kind: &table::Kind, body: &[u8]| {
        let len = body.len().try_into().unwrap_or(u32::MAX);
        [&Header { version: WIRE_VERSION, kind: kind.number, len }.to_bytes()[..], body].concat()
    };
    let requests = drawn::<Request>().into_iter().filter_map(|body| {
        let request: Request = codec::decode(&body, body.len()).ok()?;
        Some(framed(table::of_request(&request), &body))
    });
    let knocks = drawn::<KnockRequest>().into_iter().filter_map(|body| {
        let request: KnockRequest = codec::decode(&body, body.len()).ok()?;
        Some(framed(table::of_knock(&request.knock), &body))
    });
    let hello = framed(table::of_hello(), &codec::encode(&Hello { instance: 7 }));
    requests.chain(knocks).chain([hello]).collect()
}

fn check_ticket(target: &Target, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ticket) = target.bounded(bytes.len(), || Ticket::decode(text)) {
        assert_eq!(ticket.encode(), text.trim(), "a ticket has one text");
        drop(ticket.addresses());
    }
}

fn ticket_seeds() -> Vec<Vec<u8>> {
    let invite = vectors::record("invite").expect("the vectors hold an invitation");
    let invite: SignedInvite = codec::decode(&invite, invite.len()).expect("a committed invitation decodes");
    let addrs = ["192.0.2.1:4520", "[2001:db8::1]:4520", "nonsense"].map(|addr| addr.try_into().expect("short"));
    let full = Ticket { genesis: vectors::genesis(), invite, addrs: BoundedVec::truncated(addrs) };
    let none = Ticket { addrs: BoundedVec::new(), ..full.clone() };
    [full, none].map(|ticket| ticket.encode().into_bytes()).to_vec()
}

fn check_settings(target: &Target, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // The text as TOML is not ours to read; what it may say is.
    let Ok(table) = text.parse::<toml::Table>() else { return };
    if let Ok(config) = target.bounded(bytes.len(), || Config::load(Path::new("/nonexistent"), &table)) {
        let again = toml::Table::try_from(&config).expect("settings are a table");
        let again = Config::load(Path::new("/nonexistent"), &again);
        assert_eq!(again.ok(), Some(config), "settings that were read are written as the same settings");
    }
}

fn settings_seeds() -> Vec<Vec<u8>> {
    let default = toml::to_string(&Config::default()).expect("settings are a table");
    let some = "[replication]\nreplicas = 5\nquorum = 3\nlease = \"90s\"\n[storage]\ncapacity = \"5 GiB\"\n";
    let roles =
        "[node]\nregion = \"eu\"\nroles = [\"storage\", \"index\"]\n[p2p]\nadvertise = [\"203.0.113.7:4520\"]\n";
    let wrong = "[replication]\nreplica = 3\nquorum = 9\n[nodes]\n";
    [default.as_str(), some, roles, wrong, ""].map(|text| text.as_bytes().to_vec()).to_vec()
}
