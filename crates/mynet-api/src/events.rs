//! Server-Sent Events: what happens on the node, as it happens.
//!
//! Each reader is one request whose answer does not end. It holds a position in the node's ring of events and one frame that is
//! being sent, so a reader that stops reading costs no memory and holds up nobody; after [`ApiSettings::write_stall`] its
//! connection ends. The stream ends when the node stops, so that readers do not hold up its shutdown.
//!
//! Source: WHATWG HTML, section 9.2 (server-sent events).
//!
//! [`ApiSettings::write_stall`]: crate::ApiSettings::write_stall

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt};
use mynet_node::events::EventView;

use crate::{
    problem::{Code, Problem},
    routes::App,
};

/// The last event that a reader saw.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Asks proxies that would otherwise gather the answer to pass it on as it comes.
const NO_BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// A comment is sent when nothing happened for so long: proxies commonly end connections that are silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a reader whose connection broke is asked to wait before it comes back.
const RETRY: Duration = Duration::from_secs(2);

/// `GET /api/v1/events`
pub(crate) async fn follow(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let Ok(permit) = Arc::clone(&app.readers).try_acquire_owned() else {
        let why = format!("{} readers follow the events already", app.settings.readers_max);
        return Err(Problem::new(Code::Busy, why));
    };
    let follower = app.node.follow(last_event_id(&headers)?)?;
    let begin = futures::stream::iter([Ok(Event::default().retry(RETRY))]);
    let events = futures::stream::unfold((follower, permit), async |(mut follower, permit)| {
        let event = follower.next().await;
        Some((Ok::<_, Infallible>(frame(&event)), (follower, permit)))
    });
    let until_stopped = begin.chain(events).take_until(app.closing.cancelled_owned());
    Ok(([NO_BUFFERING], answer(until_stopped)).into_response())
}

fn answer(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// One event as it is sent: its name, kind and object.
fn frame(event: &EventView) -> Event {
    let object = serde_json::to_value(event).expect("an object of texts and numbers always encodes");
    let kind = object.get("kind").and_then(|kind| kind.as_str()).unwrap_or_default();
    Event::default().id(&event.id).event(kind).data(object.to_string())
}

/// What a reader saw last, if it says so.
fn last_event_id(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let text = value.to_str().map_err(|_error| {
        Problem::new(Code::Invalid("last_event_id"), "Last-Event-ID is not made of visible ASCII characters")
    })?;
    // A reader that has seen nothing yet may say so with nothing.
    Ok(Some(text.trim()).filter(|text| !text.is_empty()))
}
