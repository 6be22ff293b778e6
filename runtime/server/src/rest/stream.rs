//! Answers that go on: JSON lines in chunks, until the reader goes or there is nothing more.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Chunks that wait for the reader: beyond them the writer waits, and what it reads from has a bound of its own.
const CHUNKS_MAX: usize = 4;
/// An empty line after so long a silence: how either side learns that the other is gone.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// The writing end. It fails once the reader is gone.
#[derive(Debug)]
pub struct Lines(mpsc::Sender<Bytes>);

/// The reader is gone.
#[derive(Debug)]
pub struct Gone;

impl Lines {
    /// One line each, in one chunk.
    pub async fn send<T: Serialize>(&self, items: impl IntoIterator<Item = T>) -> Result<(), Gone> {
        let mut chunk = Vec::new();
        for item in items {
            // What goes over REST has texts as keys, so writing it as JSON cannot fail.
            chunk.extend(serde_json::to_vec(&item).unwrap_or_default());
            chunk.push(b'\n');
        }
        if chunk.is_empty() {
            Ok(())
        } else {
            self.write(chunk).await
        }
    }

    pub async fn heartbeat(&self) -> Result<(), Gone> {
        self.write(b"\n".to_vec()).await
    }

    async fn write(&self, chunk: Vec<u8>) -> Result<(), Gone> {
        self.0.send(chunk.into()).await.map_err(|_| Gone)
    }
}

struct Chunks(mpsc::Receiver<Bytes>);

impl Stream for Chunks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(Ok))
    }
}

/// The answer, and where to write it.
pub fn lines() -> (Lines, Response) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (
        Lines(sender),
        (kind, Body::from_stream(Chunks(receiver))).into_response(),
    )
}
