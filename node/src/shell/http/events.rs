//! What happens, as it happens: server-sent events.
//!
//! Each reader has a bounded queue; one that does not keep up is told how many entries it missed,
//! and one that stops reading is let go.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use quorate_client::wire;
use serde_json::{Value, json};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::timeout,
};

use super::{super::feed::Entry, Refusal, Shared, Web};

/// Entries written and not yet sent.
const QUEUE: usize = 16;
/// Shows that the connection is alive, to both sides.
const BEAT: Duration = Duration::from_secs(5);
/// A reader that takes nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Refuses those who may not read. The node says who may, by answering.
async fn permit(web: &Web, headers: &HeaderMap) -> Result<(), Refusal> {
    let principal = web.principal(headers)?;
    web.ask(wire::Request::Ring, &principal).await.map(|_| ())
}

/// `/v1/events`: the last few, and nothing more.
pub(super) async fn recent(State(web): Shared, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    permit(&web, &headers).await?;
    let (kept, _) = web.host.feed.listen(0);
    let entries = kept.iter().map(|entry| serde_json::from_str(&entry.json));
    let entries: Vec<Value> = entries.filter_map(Result::ok).collect();
    Ok(Json(json!({ "events": entries })))
}

/// `/events`: the last few, and then the rest as it comes.
pub(super) async fn stream(State(web): Shared, headers: HeaderMap) -> Result<Response, Refusal> {
    permit(&web, &headers).await?;
    let place = web.streams.clone().try_acquire_owned();
    let Ok(place) = place else {
        web.host.metrics.refused("http_event_streams");
        return Err(Refusal::overloaded("http_event_streams"));
    };
    let after = headers.get("last-event-id");
    let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
    let (kept, rest) = web.host.feed.listen(after.unwrap_or(0));
    let (sender, body) = Channel::<Bytes, Infallible>::new(QUEUE);
    let stop = web.stop.clone();
    web.tasks.spawn(async move {
        let told = Box::pin(tell(sender, kept, rest));
        let _ = stop.run_until_cancelled(told).await;
        drop(place);
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::new(body)).into_response())
}

/// Until the reader has gone.
async fn tell(
    mut sender: Sender<Bytes, Infallible>,
    kept: Vec<Arc<Entry>>,
    mut rest: Receiver<Arc<Entry>>,
) -> Option<()> {
    send(&mut sender, "retry: 1000\n\n".to_owned()).await?;
    for entry in kept {
        send(&mut sender, text(&entry)).await?;
    }
    loop {
        let next = match timeout(BEAT, rest.recv()).await {
            Ok(Ok(entry)) => text(&entry),
            Ok(Err(RecvError::Lagged(missed))) => {
                format!("event: missed\ndata: {{\"missed\":{missed}}}\n\n")
            }
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => ": still here\n\n".to_owned(),
        };
        send(&mut sender, next).await?;
    }
}

fn text(entry: &Entry) -> String {
    format!("id: {}\ndata: {}\n\n", entry.number, entry.json)
}

async fn send(sender: &mut Sender<Bytes, Infallible>, text: String) -> Option<()> {
    let sent = timeout(PATIENCE, sender.send_data(text.into())).await;
    sent.ok()?.ok()
}
