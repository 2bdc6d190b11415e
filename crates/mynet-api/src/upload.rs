//! `POST /api/v1/content`: one file in, one group out.
//!
//! The body is the file, or a form with a part `file` (see [`crate::multipart`]). It is handed to the node as it comes; the
//! node keeps nothing unless all of it came. The number of bodies that are received at once is bounded; the wait for
//! receipts and votes is not part of that, so slow networks do not keep others from uploading.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use mynet_node::{
    handle::{AddOptions, Grant, PreviewChoice},
    view::{GroupView, Wait},
};
use mynet_types::{ContentType, NodeId, manifest::TAGS_MAX, wire::WRAPS_MAX};

use crate::{
    body::BoundedBody,
    content::{replicas, timeout, wait},
    multipart,
    params::{Params, invalid},
    problem::{Code, Problem},
    routes::App,
};

/// Parameters of an upload.
pub(crate) const PARAMS: &[&str] =
    &["type", "filename", "public", "preview", "tags", "replicas", "grant", "publish", "wait", "timeout"];

/// Bytes of a file name at most: what file systems and the sealed part of a manifest hold.
const FILENAME_BYTES_MAX: usize = 255;

/// Bytes of a tag at most: what the sealed part of a manifest holds.
const TAG_BYTES_MAX: usize = 64;

/// The name of a file that came without one.
const FILENAME_DEFAULT: &str = "unnamed";

/// What an upload asks for, apart from what a form adds.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Options with the name that was asked for, or none yet.
    pub(crate) options: AddOptions,
    /// Whether the name was asked for; a form may name the file otherwise.
    pub(crate) named: bool,
    /// Whether a preview was ruled out.
    pub(crate) no_preview: bool,
}

/// `POST /api/v1/content`: 201 with the group and its `wait_result`, whatever the wait reached.
pub(crate) async fn upload(State(app): State<App>, params: Params, request: Request) -> Result<Response, Problem> {
    let upload = read(&params)?;
    let Ok(permit) = Arc::clone(&app.uploads).try_acquire_owned() else {
        return Err(Problem::new(Code::Busy, format!("{} uploads are being received", app.settings.uploads_max)));
    };
    let (parts, body) = request.into_parts();
    let (body, refusal) = BoundedBody::new(&parts.headers, body, app.node.upload_max(), app.settings.body_idle)?;
    let body = body.holding(permit);
    let added = match is_form(&parts.headers) {
        true => multipart::add(&app.node, parts, body, upload).await,
        false => app.node.add(body, upload.options).await.map_err(Problem::from),
    };
    // The node saw only that the stream broke; why it broke is what the client must know.
    added.map(created).map_err(|problem| refusal.or_else(|| problem))
}

fn created(group: GroupView) -> Response {
    let location = format!("/api/v1/content/{}", group.group_id);
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(group)).into_response()
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("multipart/form-data"))
}

/// Reads the parameters of an upload.
///
/// # Errors
/// [`Code::Invalid`] with the first parameter that makes no sense.
fn read(params: &Params) -> Result<Upload, Problem> {
    let named = params.one("filename", "a name of at most 255 bytes without directories", filename)?;
    let publish = params.flag("publish", true)?;
    let no_preview = params.one("preview", "auto or none", |text| match text {
        "auto" => Ok(false),
        "none" => Ok(true),
        _ => Err("there is no such choice; a preview file is a part of a form"),
    })?;
    let no_preview = no_preview.unwrap_or(false);
    let options = AddOptions {
        filename: named.clone().unwrap_or_else(|| FILENAME_DEFAULT.to_owned()),
        content_type: params.one("type", "audio, video, image or document", str::parse::<ContentType>)?,
        public: params.flag("public", false)?,
        preview: if no_preview { PreviewChoice::None } else { PreviewChoice::Auto },
        tags: tags(params)?,
        replicas: replicas(params)?,
        grant: grant(params)?,
        publish,
        wait: wait_of(params, publish)?,
        timeout: timeout(params)?,
    };
    Ok(Upload { options, named: named.is_some(), no_preview })
}

/// Checks a file name. It ends up on disks of others, so it never names a directory.
fn filename(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("it is empty"),
        "." | ".." => Err("it names a directory"),
        _ if text.len() > FILENAME_BYTES_MAX => Err("it is too long"),
        _ if text.contains(['/', '\\']) => Err("it holds a directory"),
        _ if text.contains(char::is_control) => Err("it holds control characters"),
        _ => Ok(text.to_owned()),
    }
}

/// The file name that a form gives. Directories in it are dropped, as RFC 7578 section 4.2 asks.
///
/// # Errors
/// [`Code::Invalid`] if what is left is no name.
pub(crate) fn filename_of_form(text: &str) -> Result<String, Problem> {
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    filename(last).map_err(|why| invalid("filename", last, &why, "a name of at most 255 bytes without directories"))
}

fn tags(params: &Params) -> Result<Vec<String>, Problem> {
    let tags = params.many("tags");
    let expected = format!("at most {TAGS_MAX} tags of at most {TAG_BYTES_MAX} bytes, separated by commas");
    if tags.len() > TAGS_MAX {
        return Err(invalid("tags", &tags.len().to_string(), &"there are too many", &expected));
    }
    match tags.iter().find(|tag| tag.len() > TAG_BYTES_MAX || tag.contains(char::is_control)) {
        Some(tag) => Err(invalid("tags", tag, &"it is too long or holds control characters", &expected)),
        None => Ok(tags.into_iter().map(str::to_owned).collect()),
    }
}

fn grant(params: &Params) -> Result<Grant, Problem> {
    let expected = format!("trusted, none, or at most {WRAPS_MAX} node ids, separated by commas");
    match params.many("grant").as_slice() {
        [] | ["trusted"] => Ok(Grant::Trusted),
        ["none"] => Ok(Grant::None),
        words if words.contains(&"none") || words.contains(&"trusted") => {
            Err(invalid("grant", &words.join(","), &"'none' and 'trusted' stand alone", &expected))
        }
        nodes if nodes.len() > WRAPS_MAX => {
            Err(invalid("grant", &nodes.len().to_string(), &"there are too many", &expected))
        }
        nodes => {
            let parse = |text: &&str| text.parse::<NodeId>().map_err(|why| invalid("grant", text, &why, &expected));
            nodes.iter().map(parse).collect::<Result<_, _>>().map(Grant::Nodes)
        }
    }
}

/// How far to wait. What is not published cannot become durable, so waiting for it would always time out.
fn wait_of(params: &Params, publish: bool) -> Result<Wait, Problem> {
    match (wait(params)?, publish) {
        (None, true) => Ok(Wait::Durable),
        (None | Some(Wait::Stored), false) => Ok(Wait::Stored),
        (Some(_), false) => Err(Problem::new(Code::Invalid("wait"), "publish=false never gets further than 'stored'")
            .with_hint("leave out wait, or publish")),
        (Some(wait), true) => Ok(wait),
    }
}

/// Whether a preview of the client can be taken, given what was asked for.
///
/// # Errors
/// [`Code::Invalid`] if previews were ruled out.
pub(crate) fn may_supply_preview(upload: &Upload) -> Result<(), Problem> {
    match upload.no_preview {
        false => Ok(()),
        true => Err(Problem::new(Code::Invalid("preview"), "preview=none contradicts the part 'preview'")
            .with_hint("leave out one of them")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mynet_node::{
        handle::{Grant, PreviewChoice},
        view::Wait,
    };
    use mynet_types::{ContentType, NodeId};

    use super::{PARAMS, Upload, filename_of_form, read};
    use crate::{params::Params, problem::Problem};

    fn upload(query: &str) -> Result<Upload, Problem> {
        read(&Params::of_query(&format!("/x?{query}").parse().unwrap(), PARAMS)?)
    }

    #[test]
    fn an_upload_is_private_published_and_waited_for_unless_said_otherwise() {
        let Upload { options, named, no_preview } = upload("").unwrap();
        assert!(!options.public && options.publish && !named && !no_preview);
        assert_eq!((options.wait, options.timeout), (Wait::Durable, Duration::from_secs(60)));
        assert_eq!((options.content_type, options.replicas, options.grant), (None, None, Grant::Trusted));
        assert!(matches!(options.preview, PreviewChoice::Auto));
        assert_eq!(options.filename, "unnamed");
    }

    #[test]
    fn every_parameter_reaches_the_node() {
        let query = "type=audio&filename=%D0%BF%D0%B5%D1%81%D0%BD%D1%8F.flac&public&preview=none&tags=a,b&tags=c\
                     &replicas=2&wait=certified&timeout=90s";
        let Upload { options, named, no_preview } = upload(query).unwrap();
        assert!(options.public && named && no_preview);
        assert_eq!(options.filename, "песня.flac");
        assert_eq!(options.content_type, Some(ContentType::Audio));
        assert_eq!(options.tags, ["a", "b", "c"]);
        assert_eq!(options.replicas, Some(2));
        assert_eq!((options.wait, options.timeout), (Wait::Certified, Duration::from_secs(90)));
        assert!(matches!(options.preview, PreviewChoice::None));
    }

    #[test]
    fn grants_are_words_or_lists_of_nodes() {
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        assert_eq!(upload("grant=none").unwrap().options.grant, Grant::None);
        assert_eq!(upload("grant=trusted").unwrap().options.grant, Grant::Trusted);
        for query in [format!("grant={a},{b}"), format!("grant={a}&grant={b}")] {
            assert_eq!(upload(&query).unwrap().options.grant, Grant::Nodes(vec![a, b]));
        }
        for query in ["grant=everybody".to_owned(), format!("grant=none,{a}"), "grant=none,trusted".to_owned()] {
            let refused = upload(&query).unwrap_err();
            assert_eq!(refused.code().name(), "invalid_grant", "{query}");
            assert_eq!(refused.detail().contains("stand alone"), query.contains(','), "{query}: {}", refused.detail());
        }
    }

    #[test]
    fn what_is_not_published_is_not_waited_for() {
        assert_eq!(upload("publish=false").unwrap().options.wait, Wait::Stored);
        assert_eq!(upload("publish=false&wait=stored").unwrap().options.wait, Wait::Stored);
        assert_eq!(upload("publish=false&wait=durable").unwrap_err().code().name(), "invalid_wait");
    }

    #[test]
    fn senseless_parameters_are_refused_by_name() {
        let long_tag = format!("tags={}", "x".repeat(65));
        let many_tags = format!("tags={}", "x,".repeat(33));
        let long_name = format!("filename={}", "x".repeat(256));
        for (query, want) in [
            ("type=poem", "invalid_type"),
            ("filename=", "invalid_filename"),
            ("filename=..", "invalid_filename"),
            ("filename=a%2Fb", "invalid_filename"),
            ("filename=a%5Cb", "invalid_filename"),
            ("filename=a%00b", "invalid_filename"),
            (&long_name, "invalid_filename"),
            ("public=maybe", "invalid_public"),
            ("preview=file", "invalid_preview"),
            (&long_tag, "invalid_tags"),
            (&many_tags, "invalid_tags"),
            ("wait=forever", "invalid_wait"),
            ("typ=audio", "unknown_parameter"),
        ] {
            assert_eq!(upload(query).unwrap_err().code().name(), want, "{query}");
        }
    }

    #[test]
    fn directories_of_a_form_are_dropped() {
        for (given, want) in [("a.txt", "a.txt"), ("/etc/passwd", "passwd"), ("C:\\x\\y.doc", "y.doc")] {
            assert_eq!(filename_of_form(given).unwrap(), want);
        }
        assert_eq!(filename_of_form("dir/").unwrap_err().code().name(), "invalid_filename");
    }
}
