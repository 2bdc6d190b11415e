//! What `add` sends: a file or standard input, and what is known of it when the node goes away.
//!
//! A node stores nothing before it has everything. So if it goes away while bytes are still to be sent, nothing was stored; if
//! it goes away after the last one, nobody but the node can tell.

use std::{
    io::{self, Read},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use anyhow::Context;
use futures::{Stream, StreamExt, stream};
use mynet_node::{
    media::{SNIFF_BYTES, media_type},
    view::GroupView,
};
use reqwest::{
    Body, Method, header,
    multipart::{Form, Part},
};
use tokio::{fs::File, sync::mpsc};
use tokio_util::io::ReaderStream;

use super::add::wanted;
use crate::{
    args::{Add, WaitFor},
    client::{Client, query_duration},
    local,
    output::{Bar, Failure, Meter, Status, plain},
};

/// Bytes read at a time: few system calls, little memory.
const READ_BYTES: usize = 256 * 1024;
/// Pieces of standard input that wait to be sent; more would only take memory.
const PIECES: usize = 2;
/// The name of standard input, if the user gives none.
const STDIN_NAME: &str = "stdin";

/// One thing to store.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// `None` is standard input.
    path: Option<&'a Path>,
    /// What readers see.
    name: String,
}

impl<'a> Source<'a> {
    /// The file that was named on the command line, `-` being standard input; `name` is what readers see instead of its own.
    pub(super) fn new(file: &'a Path, name: Option<&str>) -> Self {
        let path = Some(file).filter(|file| !is_stdin(file));
        let own = || match path {
            Some(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None => STDIN_NAME.to_owned(),
        };
        Self { path, name: name.map_or_else(own, str::to_owned) }
    }

    /// What readers see.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// As the user named it.
    pub(super) fn shown(&self) -> String {
        self.path.map_or_else(|| plain(&self.name), |path| plain(&path.to_string_lossy()))
    }

    /// Opens it, to be sent.
    async fn open(&self, (sent, bar): (&Arc<Sent>, &Bar)) -> anyhow::Result<Body> {
        let body = match self.path {
            Some(path) => {
                let file = File::open(path).await.with_context(|| format!("open {}", path.display()))?;
                sent.body(ReaderStream::with_capacity(file, READ_BYTES), bar)
            }
            None => sent.body(standard_input(), bar),
        };
        Ok(body)
    }
}

/// Whether a word of the command line means standard input.
pub(super) fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// Reads standard input in a thread of its own, which nobody waits for: whoever writes into it may never end.
fn standard_input() -> impl Stream<Item = io::Result<Vec<u8>>> + Send {
    let (to, mut pieces) = mpsc::channel(PIECES);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut piece = vec![0; READ_BYTES];
            let read = match input.read(&mut piece) {
                Ok(0) => return,
                Ok(count) => {
                    piece.truncate(count);
                    Ok(piece)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            if to.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    stream::poll_fn(move |context| pieces.poll_recv(context))
}

/// How far an upload came.
#[derive(Debug, Default)]
struct Sent {
    /// Bytes handed to the connection.
    bytes: AtomicU64,
    /// Whether the end of what has no size known in advance was reached.
    ended: AtomicBool,
    /// Why no more could be read.
    unread: OnceLock<String>,
}

impl Sent {
    /// Bytes to send, counted here and shown.
    fn body<B>(self: &Arc<Self>, pieces: impl Stream<Item = io::Result<B>> + Send + 'static, bar: &Bar) -> Body
    where
        B: AsRef<[u8]> + Send + 'static,
        bytes::Bytes: From<B>,
    {
        let (sent, show) = (Arc::clone(self), bar.counter());
        let counted = pieces.inspect(move |piece| match piece {
            Ok(piece) => {
                let count = piece.as_ref().len() as u64;
                sent.bytes.fetch_add(count, Ordering::Relaxed);
                show(count);
            }
            Err(error) => drop(sent.unread.set(error.to_string())),
        });
        let sent = Arc::clone(self);
        let end = stream::poll_fn(move |_| {
            sent.ended.store(true, Ordering::Relaxed);
            std::task::Poll::Ready(None)
        });
        Body::wrap_stream(counted.chain(end))
    }

    /// What a failed request means for what was to be stored, `size` bytes if that is known.
    fn told(&self, (shown, size): (&str, Option<u64>), error: anyhow::Error) -> anyhow::Error {
        let Some(failure) = error.downcast_ref::<Failure>() else { return error.context(shown.to_owned()) };
        if let Some(why) = self.unread.get() {
            return anyhow::anyhow!("{shown} was not stored: it cannot be read: {why}");
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        // Nobody asks for the end of what has a size.
        let all = self.ended.load(Ordering::Relaxed) || size.is_some_and(|size| bytes >= size);
        let (told, hint) = match failure.code.as_str() {
            "unreachable" if all => (
                "was sent, and may be stored or not",
                "start the node again with `mynet run`; if `mynet ls` does not list it then, add it again",
            ),
            "unreachable" if bytes > 0 => ("was not stored", "start the node again with `mynet run`, and add it again"),
            "unreachable" => ("was not sent", failure.hint.as_str()),
            "invalid_filename" => ("was not stored", "give it another name with --name NAME"),
            _ => ("was not stored", failure.hint.as_str()),
        };
        let message = format!("{shown} {told}: {}", failure.message);
        let failed = Failure::new(failure.status, &failure.code, message, hint);
        Failure { request_id: failure.request_id.clone(), ..failed }.into()
    }
}

/// Uploads one thing; the node answers when it has come as far as `wait`.
pub(super) async fn upload(
    client: &Client,
    args: &Add,
    (source, meter): (&Source<'_>, Meter),
    wait: WaitFor,
) -> anyhow::Result<GroupView> {
    let sent = Arc::new(Sent::default());
    let size = source.path.map(local::readable).transpose()?;
    let stored = send(client, args, (source, size, meter), (wait, &sent)).await;
    stored.map_err(|error| sent.told((&source.shown(), size), error))
}

async fn send(
    client: &Client,
    args: &Add,
    (source, size, meter): (&Source<'_>, Option<u64>, Meter),
    (wait, sent): (WaitFor, &Arc<Sent>),
) -> anyhow::Result<GroupView> {
    let name = source.name().to_owned();
    let mut query = vec![
        ("filename", name.clone()),
        ("public", args.public.to_string()),
        ("publish", (!args.no_publish).to_string()),
        ("wait", wait.as_str().to_owned()),
        ("timeout", query_duration(args.timeout)),
    ];
    query.extend(args.content_type.map(|kind| ("type", kind.to_string())));
    query.extend(args.replicas.map(|count| ("replicas", count.to_string())));
    query.extend(args.tags.iter().map(|tag| ("tags", tag.clone())));
    if !args.grant.is_empty() {
        query.push(("grant", args.grant.join(",")));
    }
    let bar = meter.bytes(&name, size);
    let body = source.open((sent, &bar)).await?;
    let request = client.request(Method::POST, "content");
    let request = match args.preview.as_str() {
        choice @ ("auto" | "none") => {
            query.push(("preview", choice.to_owned()));
            let request = request.query(&query).body(body);
            match size {
                Some(size) => request.header(header::CONTENT_LENGTH, size),
                None => request,
            }
        }
        preview => {
            let preview = supplied_preview(Path::new(preview)).await?;
            let file = match size {
                Some(size) => Part::stream_with_length(body, size),
                None => Part::stream(body),
            };
            request.query(&query).multipart(Form::new().part("preview", preview).part("file", file.file_name(name)))
        }
    };
    client.json(request).await
}

/// The preview that the user supplies, as a part of a form. It names its media type: the node shows it as that.
async fn supplied_preview(path: &Path) -> anyhow::Result<Part> {
    let bytes = tokio::fs::read(path).await.with_context(|| format!("read the preview {}", path.display()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mime = media_type(&name, bytes.get(..SNIFF_BYTES).unwrap_or(&bytes));
    Part::bytes(bytes).file_name(name).mime_str(mime).context("name the media type of the preview")
}

/// Adds to an error what is good to know beside it.
pub(super) fn noted(error: anyhow::Error, note: &str) -> anyhow::Error {
    match error.downcast::<Failure>() {
        Ok(failure) => Failure { message: format!("{} ({note})", failure.message), ..failure }.into(),
        Err(error) => error.context(note.to_owned()),
    }
}

/// Finds what cannot be uploaded before anything is.
pub(super) fn check_files(args: &Add) -> anyhow::Result<()> {
    let refuse = |code: &str, message: &str, hint: &str| Err(Failure::new(Status::Usage, code, message, hint).into());
    if args.name.is_some() && args.files.len() > 1 {
        return refuse("one_name", "several files cannot have one name", "add them one by one, or leave out --name");
    }
    if args.files.iter().filter(|file| is_stdin(file)).count() > 1 {
        return refuse("one_input", "standard input can be read only once", "say `-` once");
    }
    for file in args.files.iter().filter(|file| !is_stdin(file)) {
        let read =
            local::readable_or(file, "write what comes out of it to a file first, or pipe it into `mynet add -`");
        // Whoever gives several wants to know about the others.
        read.map_err(|error| if args.files.len() > 1 { noted(error, "nothing was stored") } else { error })?;
    }
    if args.no_publish && wanted(args) != WaitFor::Stored {
        let message = "what is not published becomes neither durable nor certified";
        return refuse("invalid_wait", message, "leave out --no-publish, or say --wait stored");
    }
    if matches!(args.preview.as_str(), "auto" | "none") {
        return Ok(());
    }
    if args.public {
        return refuse(
            "invalid_preview",
            "public content has no preview: everybody may read the whole",
            "leave out --preview or --public",
        );
    }
    if local::readable(Path::new(&args.preview))? == 0 {
        let message = format!("the preview {} is empty", args.preview);
        return refuse("invalid_preview", &message, "say --preview none to have none");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::{Source, check_files, upload};
    use crate::{
        args::{Arguments, Command, WaitFor},
        client::Client,
        local::Access,
        output::{Failure, Meter, Status},
    };

    /// More than a connection takes before anybody reads from it.
    const MUCH: u64 = 256 << 20;

    fn arguments(line: &[&str]) -> Arguments {
        Arguments::read(line.iter().map(Into::into)).unwrap()
    }

    /// What becomes of a file of `size` when the node reads `reads` bytes at least, answers and goes away.
    async fn lost(size: u64, reads: usize, answer: &str) -> Failure {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("song.bin");
        std::fs::File::create(&path).unwrap().set_len(size).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.to_owned();
        let node = tokio::spawn(async move {
            let (connection, _) = listener.accept().await.unwrap();
            drop(listener);
            go_away(connection, reads, answer.as_bytes()).await;
        });
        rustls::crypto::ring::default_provider().install_default().ok();
        let path = path.to_str().unwrap();
        let Arguments { global, command } = arguments(&["mynet", "add", path]);
        let Command::Add(args) = command else { unreachable!("it is add") };
        let client = Client::of(Access { api, token: "t".to_owned(), is_local: false });
        let source = Source::new(Path::new(path), None);
        let failed = upload(&client, &args, (&source, Meter::new(&global)), WaitFor::Stored).await.unwrap_err();
        node.await.unwrap();
        failed.downcast().unwrap()
    }

    async fn go_away(mut connection: TcpStream, reads: usize, answer: &[u8]) {
        let (mut seen, mut part) = (Vec::new(), [0; 4096]);
        let head = |seen: &[u8]| seen.windows(4).position(|four| four == b"\r\n\r\n");
        while head(&seen).is_none_or(|head| seen.len() < head + 4 + reads) {
            let count = connection.read(&mut part).await.unwrap();
            assert!(count > 0, "the client went away first");
            seen.extend_from_slice(&part[..count]);
        }
        connection.write_all(answer).await.unwrap();
    }

    #[tokio::test]
    async fn a_node_that_goes_away_leaves_no_doubt_about_what_was_not_sent_whole() {
        let half = lost(MUCH, 100_000, "").await;
        assert_eq!((half.status, half.code.as_str()), (Status::Unreachable, "unreachable"));
        assert!(half.message.contains("song.bin was not stored: "), "{half}");
        assert!(half.hint.contains("add it again") && !half.hint.contains("mynet ls"), "{half}");

        let whole = lost(1000, 1000, "").await;
        assert_eq!((whole.status, whole.code.as_str()), (Status::Unreachable, "unreachable"));
        assert!(whole.message.contains("song.bin was sent, and may be stored or not: "), "{whole}");
        assert!(whole.hint.contains("mynet ls"), "{whole}");
    }

    #[tokio::test]
    async fn a_refused_file_is_named_with_the_reason() {
        let body = r#"{"code":"no_space","detail":"the disk is full","hint":"make room"}"#;
        let answer = format!("HTTP/1.1 507 Full\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let refused = lost(1000, 1000, &answer).await;
        assert_eq!((refused.code.as_str(), refused.hint.as_str()), ("no_space", "make room"));
        assert!(refused.message.ends_with("song.bin was not stored: the disk is full"), "{refused}");
    }

    #[test]
    fn standard_input_has_a_name_and_a_file_its_own_unless_another_is_given() {
        for (file, given, name) in [
            ("-", None, "stdin"),
            ("-", Some("song.flac"), "song.flac"),
            ("dir/a.bin", None, "a.bin"),
            ("dir/a.bin", Some("b.bin"), "b.bin"),
            ("./-", None, "-"),
        ] {
            let source = Source::new(Path::new(file), given);
            assert_eq!((source.name(), source.path.is_none()), (name, file == "-"), "{file} {given:?}");
        }
    }

    #[test]
    fn one_name_and_one_input_go_with_one_file() {
        for (line, code) in [
            (["mynet", "add", "-", "-"].as_slice(), "one_input"),
            (&["mynet", "add", "a", "b", "--name", "x"], "one_name"),
            (&["mynet", "add", "-", "--no-publish", "--wait", "durable"], "invalid_wait"),
        ] {
            let Command::Add(args) = arguments(line).command else { unreachable!("it is add") };
            let refused: Failure = check_files(&args).unwrap_err().downcast().unwrap();
            assert_eq!((refused.status, refused.code.as_str()), (Status::Usage, code), "{line:?}");
        }
        let Command::Add(args) = arguments(&["mynet", "add", "-", "--name", "x"]).command else {
            unreachable!("it is add")
        };
        check_files(&args).unwrap();
    }
}
