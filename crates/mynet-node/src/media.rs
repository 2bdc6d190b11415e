//! Media types: what a file is, told by its bytes and its name.

/// Bytes at the start of a file that tell what it is; more are never looked at.
pub const SNIFF_BYTES: usize = 8192;

/// What is said of bytes that nothing tells anything about.
const UNKNOWN: &str = "application/octet-stream";

/// The media type of a file: by its first bytes, of which [`SNIFF_BYTES`] suffice, else by its name.
///
/// Bytes come first because names are the uploader's word.
#[must_use]
pub fn media_type(name: &str, head: &[u8]) -> &'static str {
    let by_bytes = infer::get(head).map(|kind| kind.mime_type());
    by_bytes.or_else(|| mime_guess::from_path(name).first_raw()).unwrap_or(UNKNOWN)
}

/// How names of files of a media type end, for the types that previews commonly have.
#[must_use]
pub fn ending(mime: &str) -> Option<&'static str> {
    Some(match mime.split(';').next().unwrap_or_default().trim() {
        "application/pdf" => "pdf",
        "audio/flac" => "flac",
        "audio/mpeg" => "mp3",
        "audio/ogg" => "ogg",
        "image/gif" => "gif",
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/webp" => "webp",
        "text/plain" => "txt",
        "video/mp4" => "mp4",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{ending, media_type};

    #[test]
    fn types_have_their_usual_endings() {
        for (mime, want) in [
            ("audio/ogg; codecs=opus", Some("ogg")),
            ("image/jpeg", Some("jpg")),
            ("image/png", Some("png")),
            ("application/octet-stream", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(ending(mime), want, "{mime}");
        }
    }

    #[test]
    fn bytes_win_over_names_and_names_over_nothing() {
        let png = b"\x89PNG\r\n\x1a\n";
        assert_eq!(media_type("cover.jpg", png), "image/png");
        assert_eq!(media_type("cover.jpg", b"?"), "image/jpeg");
        assert_eq!(media_type("cover", b"?"), "application/octet-stream");
        assert_eq!(media_type("", b""), "application/octet-stream");
    }
}
