//! How identifiers, times and sets look to people and in JSON.

use std::time::Duration;

use mynet_types::{
    Blake3Root, ContentHash, ContentId, ContentState, ContentType, GroupId, Mono, NodeId, ParseIdError,
    RelationshipKind, StatesMask, Timestamp,
};
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use crate::network::{NOON, mask};

#[test]
fn a_time_is_rfc_3339_in_utc() {
    let table = [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (1_010, "1970-01-01T00:00:01.010Z"),
        (NOON.0, "2026-01-02T03:04:05.678Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ];
    for (millis, text) in table {
        assert_eq!(Timestamp(millis).to_string(), text);
        let json = format!("\"{text}\"");
        assert_eq!(serde_json::to_string(&Timestamp(millis)).unwrap(), json);
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), Timestamp(millis));
    }
}

#[test]
fn a_time_past_the_calendar_is_printed_as_its_end() {
    for millis in [253_402_300_800_000, u64::MAX] {
        assert_eq!(Timestamp(millis).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp(millis).to_utc(), None);
    }
}

#[test]
fn a_time_is_read_with_any_offset_and_rounded_down_to_milliseconds() {
    let read = |text: &str| serde_json::from_str::<Timestamp>(&format!("\"{text}\"")).ok();
    assert_eq!(read("2026-01-02T05:04:05.678+02:00"), Some(NOON));
    assert_eq!(read("2026-01-02T03:04:05.678999999Z"), Some(NOON));
    assert_eq!(read("1970-01-01T00:30:00+00:30"), Some(Timestamp(0)));
    for bad in ["1969-12-31T23:59:59.9999Z", "2026-01-02", "2026-01-02T03:04:05", "1767323045678", "", "now"] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

#[test]
fn times_neither_overflow_nor_run_backwards() {
    let second = Duration::from_secs(1);
    assert_eq!(Timestamp::MAX.after(second), Timestamp::MAX);
    assert_eq!(Timestamp(0).after(Duration::MAX), Timestamp::MAX);
    assert_eq!(NOON.after(second).since(NOON), second);
    assert_eq!(NOON.since(NOON.after(second)), Duration::ZERO);
    assert_eq!(Mono(u64::MAX).after(second), Mono(u64::MAX));
    assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
    assert_eq!(Mono(1_005).since(Mono(5)), second);
}

#[test]
fn a_content_id_is_a_uuid_in_hyphenated_text() {
    let text = "0198c0de-1234-7abc-8def-0123456789ab";
    let id: ContentId = text.parse().unwrap();
    assert_eq!(id.to_string(), text);
    assert_eq!(format!("{id:?}"), format!("ContentId({text})"));
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<ContentId>(&format!("\"{text}\"")).unwrap(), id);
    assert_eq!(text.to_uppercase().parse::<ContentId>().unwrap(), id);
    assert_eq!(ContentId::from(id.as_uuid()), id);
    for bad in ["", "0198c0de", "0198c0de-1234-7abc-8def-0123456789ag"] {
        assert!(matches!(bad.parse::<ContentId>(), Err(ParseIdError::Uuid(_))), "{bad}");
        assert!(serde_json::from_str::<ContentId>(&format!("\"{bad}\"")).is_err());
    }
}

#[test]
fn identifiers_print_with_their_prefix_and_read_with_or_without() {
    let bare = "ab".repeat(32);
    assert_eq!(ContentHash([0xab; 32]).to_string(), format!("sha256:{bare}"));
    assert_eq!(Blake3Root([0xab; 32]).to_string(), format!("blake3:{bare}"));
    assert_eq!(NodeId([0xab; 32]).to_string(), bare);
    assert_eq!(format!("sha256:{bare}").parse(), Ok(ContentHash([0xab; 32])));
    assert_eq!(bare.parse(), Ok(ContentHash([0xab; 32])));
    assert_eq!(bare.to_uppercase().parse(), Ok(NodeId([0xab; 32])));
    for bad in [format!("blake3:{bare}"), format!("sha256:sha256:{bare}"), format!(" {bare}"), "é".repeat(32)] {
        assert!(bad.parse::<ContentHash>().is_err(), "{bad}");
        assert!(bad.parse::<NodeId>().is_err(), "{bad}");
    }
    assert_eq!((NodeId([0xab; 32]).short(), GroupId([0xcd; 32]).short()), ("ab".repeat(5), "cd".repeat(5)));
}

#[test]
fn words_are_read_as_they_are_written() {
    for state in ContentState::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
        assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
    }
    for kind in [RelationshipKind::Encrypted, RelationshipKind::Decrypted, RelationshipKind::Preview] {
        assert_eq!(kind.as_str().parse(), Ok(kind));
        assert_eq!(kind.as_str(), kind.child_state().as_str());
    }
    for kind in [ContentType::Audio, ContentType::Video, ContentType::Image, ContentType::Document] {
        assert_eq!(kind.as_str().parse(), Ok(kind));
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
    let error = "Preview".parse::<ContentState>().unwrap_err();
    assert_eq!(error.to_string(), "unknown state 'Preview', expected one of: encrypted, decrypted, preview");
}

#[test]
fn a_states_mask_is_a_set_of_three_bits() {
    use ContentState::{Decrypted, Encrypted, Preview};
    let table: [(&[ContentState], u8); 5] =
        [(&[], 0), (&[Encrypted], 1), (&[Decrypted], 2), (&[Preview], 4), (&[Preview, Encrypted, Preview], 5)];
    for (states, bits) in table {
        assert_eq!(mask(states).bits(), bits);
        assert_eq!(StatesMask::from_bits(bits), Some(mask(states)));
    }
    for bits in 8..=u8::MAX {
        assert_eq!(StatesMask::from_bits(bits), None);
    }
    assert_eq!(mask(&[Preview, Encrypted]).iter().collect::<Vec<_>>(), [Encrypted, Preview]);
    assert_eq!(format!("{:?}", mask(&[Preview, Encrypted])), "{Encrypted, Preview}");
}

proptest! {
    #[test]
    fn states_masks_follow_the_laws_of_sets(left in 0..8u8, right in 0..8u8) {
        let (a, b) = (StatesMask::from_bits(left).unwrap(), StatesMask::from_bits(right).unwrap());
        prop_assert_eq!(a.iter().collect::<StatesMask>(), a);
        prop_assert_eq!(a.is_empty(), a == StatesMask::EMPTY);
        prop_assert_eq!(a.covers(b), b.iter().all(|state| a.contains(state)));
        prop_assert!(a.covers(a.intersect(b)) && b.covers(a.intersect(b)));
        for state in ContentState::ALL {
            prop_assert!(a.with(state).contains(state) && !a.without(state).contains(state));
            prop_assert_eq!(a.intersect(b).contains(state), a.contains(state) && b.contains(state));
        }
    }

    #[test]
    fn every_time_of_the_calendar_survives_its_text(millis in 0..=253_402_300_799_999u64) {
        let text = serde_json::to_string(&Timestamp(millis)).unwrap();
        prop_assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), Timestamp(millis));
    }

    #[test]
    fn every_identifier_survives_its_text(bytes: [u8; 32], uuid: [u8; 16]) {
        prop_assert_eq!(ContentHash(bytes).to_string().parse(), Ok(ContentHash(bytes)));
        prop_assert_eq!(NodeId(bytes).to_string().parse(), Ok(NodeId(bytes)));
        prop_assert_eq!(ContentId(uuid).to_string().parse(), Ok(ContentId(uuid)));
        let json = serde_json::to_string(&Blake3Root(bytes)).unwrap();
        prop_assert_eq!(serde_json::from_str::<Blake3Root>(&json).unwrap(), Blake3Root(bytes));
    }

    #[test]
    fn parsing_any_text_never_panics(text in ".{0,80}") {
        drop((text.parse::<ContentHash>(), text.parse::<ContentId>(), mynet_types::Roles::parse(&text)));
        drop(serde_json::from_value::<Timestamp>(text.into()));
    }
}
