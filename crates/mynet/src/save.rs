//! Saves what was downloaded: under which name, and never over anything by accident.
//!
//! The name that a node suggests is the word of whoever uploaded the content. It is therefore only ever a new, visible file in
//! the directory where the command runs; a file of the user's own choice (`-o`) is replaced whole, by rename, and keeps its
//! permissions. What is no file (a pipe, a device) is written into and stays what it is.

use std::{
    fs::{self, File, Permissions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::NamedTempFile;

use crate::output::{Failure, Status};

/// Bytes of a file name at most, as file systems have it.
const NAME_BYTES_MAX: usize = 255;

/// A file that appears whole at its place, or not at all; or something that is no file and takes bytes as they come.
#[derive(Debug)]
pub(crate) struct Save {
    path: PathBuf,
    to: To,
}

#[derive(Debug)]
enum To {
    /// Beside its place until it is whole. Replaces what has these permissions.
    Place { file: NamedTempFile, replaced: Option<Permissions>, replace: bool },
    /// A pipe, a device, a terminal.
    Stream(File),
}

impl Save {
    /// Will replace the file at `path`, which the user named.
    pub(crate) fn at(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            let message = format!("{} is a directory", path.display());
            return Err(Failure::new(Status::Usage, "is_a_directory", message, "name a file in it: -o FILE").into());
        }
        // What the path leads to; a link stays a link.
        match fs::metadata(path) {
            Ok(found) if found.is_file() => {
                let place = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
                Self::new(place, true, Some(found.permissions()))
            }
            Ok(_other) => {
                let file = File::options().write(true).open(path);
                let file = file.with_context(|| format!("write {}", path.display()))?;
                Ok(Self { path: path.to_owned(), to: To::Stream(file) })
            }
            Err(_absent) => Self::new(path.to_owned(), true, None),
        }
    }

    /// Will make a new file named as the uploader suggests, or `fallback`; what is there already is left alone. A part says in
    /// its name which one it is, so that nobody takes it for the whole.
    pub(crate) fn suggested(name: Option<&str>, fallback: &str, part: Option<&str>) -> anyhow::Result<Self> {
        let path = PathBuf::from(new_name(name, fallback, part));
        if path.symlink_metadata().is_ok() {
            return Err(exists(&path).into());
        }
        Self::new(path, false, None)
    }

    fn new(path: PathBuf, replace: bool, replaced: Option<Permissions>) -> anyhow::Result<Self> {
        let dir = directory(&path);
        fs::metadata(dir).with_context(|| format!("write in {}", dir.display()))?;
        // The error of the library names the temporary file, which tells a user nothing.
        let file = NamedTempFile::new_in(dir).map_err(|error| std::io::Error::from(error.kind()));
        let file = file.with_context(|| format!("write in {}", dir.display()))?;
        Ok(Self { path, to: To::Place { file, replaced, replace } })
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes more bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = match &mut self.to {
            To::Place { file, .. } => file.write_all(bytes),
            To::Stream(file) => file.write_all(bytes),
        };
        written.with_context(|| format!("write {}", self.path.display()))
    }

    /// Puts the whole file in place, fsynced.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let Self { path, to } = self;
        let (file, replaced, replace) = match to {
            To::Place { file, replaced, replace } => (file, replaced, replace),
            To::Stream(_) => return Ok(()),
        };
        let kept = replaced.map_or(Ok(()), |permissions| file.as_file().set_permissions(permissions));
        let whole = kept.and_then(|()| file.as_file().sync_all());
        whole.with_context(|| format!("write {}", path.display()))?;
        let placed = if replace { file.persist(&path) } else { file.persist_noclobber(&path) };
        match placed {
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => return Err(exists(&path).into()),
            Err(error) => return Err(error.error).with_context(|| format!("write {}", path.display())),
            Ok(_) => {}
        }
        let dir = directory(&path);
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.with_context(|| format!("write {}", path.display()))
    }
}

/// The directory that a file is in.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Something has the suggested name already.
fn exists(path: &Path) -> Failure {
    let message = format!("{} exists and was not touched", path.display());
    Failure::new(Status::Failed, "file_exists", message, "name another with -o FILE; -o replaces what is there")
}

/// The name of a new file in the current directory.
fn new_name(name: Option<&str>, fallback: &str, part: Option<&str>) -> String {
    // Behind the ending: no player opens it as what it is a part of.
    let part = part.map(|range| format!(".bytes-{range}")).unwrap_or_default();
    let room = NAME_BYTES_MAX.saturating_sub(part.len());
    let whole = name.and_then(|name| safe_name(name, room)).or_else(|| safe_name(fallback, room));
    whole.unwrap_or("content".into()) + &part
}

/// A name that is one visible file in the current directory and no option of any command, cut to `room` bytes; `None` if nothing
/// is left of it.
fn safe_name(name: &str, room: usize) -> Option<String> {
    // Besides control characters, those that turn the direction of text: `exe.gpj` must not read as `jpg.exe`.
    let hostile =
        |c: char| c.is_control() || matches!(c, '/' | '\\' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain: String = name.chars().map(|c| if hostile(c) { '_' } else { c }).collect();
    let visible = plain.trim_start_matches(['.', '-', ' ']).trim_end();
    let end = visible.floor_char_boundary(room);
    visible.get(..end).filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The file name in a `Content-Disposition`: the UTF-8 one if there is one.
///
/// Source: RFC 6266 section 4.3, RFC 8187 section 3.2.
pub(crate) fn name_in_disposition(value: &str) -> Option<String> {
    let parameter = |key: &str| value.split(';').find_map(|part| part.trim().strip_prefix(key));
    if let Some(name) = parameter("filename*=UTF-8''").and_then(percent_decoded) {
        return Some(name);
    }
    // Quoted names may hold semicolons, so this one is not cut at them.
    let (_, quoted) = value.split_once("filename=\"")?;
    quoted.split('"').next().map(str::to_owned)
}

/// Which bytes a `Content-Range` says that an answer has, as `A-B`; `None` if those are all there are, or it says something else.
///
/// Source: RFC 9110 section 14.4.
pub(crate) fn part_in_content_range(value: &str) -> Option<&str> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    let whole = first == 0 && size.parse::<u64>().is_ok_and(|size| size == last.saturating_add(1));
    (!whole).then_some(range)
}

/// Undoes percent-encoding; `None` if it is none or no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, more)) = rest.split_first() {
        rest = more;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, more) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = more;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{NAME_BYTES_MAX, Save, name_in_disposition, new_name, part_in_content_range, safe_name};
    use crate::output::{Failure, Status};

    #[test]
    fn a_suggested_name_is_one_visible_file_here() {
        for (suggested, wanted) in [
            ("song.flac", Some("song.flac")),
            ("песня 1.flac", Some("песня 1.flac")),
            (".bashrc", Some("bashrc")),
            ("../../.ssh/authorized_keys", Some("_.._.ssh_authorized_keys")),
            ("/etc/passwd", Some("_etc_passwd")),
            ("a\\b", Some("a_b")),
            ("a\nb\u{1b}[2J", Some("a_b_[2J")),
            ("photo\u{202e}gpj.exe", Some("photo_gpj.exe")),
            ("-", None),
            ("-rf", Some("rf")),
            ("..", None),
            (" ", None),
            ("", None),
        ] {
            assert_eq!(safe_name(suggested, NAME_BYTES_MAX).as_deref(), wanted, "{suggested:?}");
        }
        assert_eq!(safe_name(&"я".repeat(200), NAME_BYTES_MAX).unwrap().len(), 254, "cut between characters");
    }

    #[test]
    fn a_part_is_never_named_as_the_whole() {
        assert_eq!(new_name(Some("song.flac"), "id.flac", None), "song.flac");
        assert_eq!(new_name(Some("song.flac"), "id.flac", Some("0-9")), "song.flac.bytes-0-9");
        assert_eq!(new_name(None, "id-preview.ogg", Some("5-7")), "id-preview.ogg.bytes-5-7");
        let long = new_name(Some(&"я".repeat(200)), "id.bin", Some("0-9"));
        assert!(long.ends_with(".bytes-0-9") && long.len() <= NAME_BYTES_MAX, "{long}");
    }

    #[test]
    fn a_range_that_is_everything_is_no_part() {
        for (header, wanted) in [
            ("bytes 0-9/100", Some("0-9")),
            ("bytes 90-99/100", Some("90-99")),
            ("bytes 0-9/*", Some("0-9")),
            ("bytes 0-99/100", None),
            ("bytes */100", None),
            ("bytes ../x-9/100", None),
            ("items 0-9/100", None),
        ] {
            assert_eq!(part_in_content_range(header), wanted, "{header}");
        }
    }

    #[test]
    fn a_name_is_read_from_either_form_of_the_header() {
        for (header, wanted) in [
            ("inline; filename=\"a.ogg\"", Some("a.ogg")),
            ("attachment; filename=\"a;b.bin\"", Some("a;b.bin")),
            ("inline; filename=\"____.ogg\"; filename*=UTF-8''%D1%8F.ogg", Some("я.ogg")),
            ("inline; filename=\"_.ogg\"; filename*=UTF-8''%FF.ogg", Some("_.ogg")),
            ("inline; filename=\"_.ogg\"; filename*=UTF-8''%2", Some("_.ogg")),
            ("inline", None),
        ] {
            assert_eq!(name_in_disposition(header).as_deref(), wanted, "{header}");
        }
    }

    #[test]
    fn a_file_of_the_users_choice_is_replaced_whole_and_only_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "old").unwrap();
        let mut save = Save::at(&path).unwrap();
        save.write(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        drop(save);
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "a download that broke off changes nothing");
        let mut save = Save::at(&path).unwrap();
        save.write(b"new").unwrap();
        save.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut save = Save::new(path.clone(), false, None).unwrap();
        save.write(b"new").unwrap();
        std::fs::write(&path, "theirs").unwrap();
        let refused = save.finish().unwrap_err();
        let refused = refused.downcast_ref::<Failure>().unwrap();
        assert_eq!((refused.status, refused.code.as_str()), (Status::Failed, "file_exists"));
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
    }

    #[test]
    fn what_is_no_file_stays_what_it_is_and_links_and_permissions_are_kept() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| std::fs::read(&pipe).unwrap());
            let mut save = Save::at(&pipe).unwrap();
            save.write(b"through").unwrap();
            save.finish().unwrap();
            assert_eq!(reader.join().unwrap(), b"through");
        });
        assert!(!std::fs::metadata(&pipe).unwrap().is_file());
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut save = Save::at(&link).unwrap();
        save.write(b"new").unwrap();
        save.finish().unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_directory_is_no_place_for_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let refused = Save::at(dir.path()).unwrap_err();
        assert_eq!(refused.downcast_ref::<Failure>().unwrap().status, Status::Usage);
    }
}
