//! One request of a guest from its first byte to the end of the answer, redirects included.

use std::error::Error as _;
use std::sync::atomic::AtomicU64;

use http::StatusCode;
use http::header::LOCATION;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use sandbox::{Cause, Problem, Request, Response};
use tokio::time::{Instant, timeout_at};
use topology::HttpGrant;

use crate::dial::{DialError, Dialer};
use crate::request::{Injected, Message, Target};
use crate::response;
use crate::step::{Line, Lines};

/// Hops of one request. More is a circle.
const REDIRECTS_MAX: usize = 5;

pub(crate) type HttpClient = Client<Dialer, Full<Bytes>>;

/// What the requests of one call share.
pub(crate) struct Call {
    pub deadline: Instant,
    /// The call's whole time, for messages.
    pub call_ms: u128,
    pub body_bytes_left: AtomicU64,
}

/// Sends it when its turn comes.
pub(crate) async fn run(lines: &Lines, call: &Call, request: Request) -> Result<Response, Problem> {
    let target = Target::read(&request.url, lines.only())?;
    let line = lines.of(&target.origin, "is not granted")?;
    let used_up = |what: &str| {
        let message = format!(
            "{what}: the call's {} ms for requests are over (`limits.http`)",
            call.call_ms
        );
        Problem::new(Cause::Timeout, message)
    };
    let turn = timeout_at(call.deadline, line.turns.acquire()).await;
    let _turn = turn.map_err(|_| used_up("it did not get its turn"))?;
    let own = std::time::Duration::from_millis(line.grant.timeout_ms);
    let own = request.timeout.map_or(own, |asked| asked.min(own));
    let deadline = call.deadline.min(Instant::now() + own);
    let origin = target.origin.to_string();
    let mut injected = Vec::new();
    let answer = timeout_at(deadline, hops(lines, call, target, request, &mut injected)).await;
    let answer = answer.unwrap_or_else(|_| {
        if deadline == call.deadline {
            return Err(used_up(&format!("no whole answer of {origin}")));
        }
        let message = format!("no whole answer of {origin} within {} ms", own.as_millis());
        Err(Problem::new(Cause::Timeout, message))
    });
    response::without_secrets(answer, &injected)
}

/// `injected`: every secret that was sent on the way, since any hop may repeat that of another.
async fn hops(
    lines: &Lines,
    call: &Call,
    mut target: Target,
    request: Request,
    injected: &mut Vec<Injected>,
) -> Result<Response, Problem> {
    let follow = request.follow && matches!(request.method.as_str(), "GET" | "HEAD");
    let mut message = Message::read(request)?;
    let mut line = lines.of(&target.origin, "is not granted")?;
    for _ in 0..=REDIRECTS_MAX {
        let answer = send(lines, line, &target, &message, injected).await?;
        let Some(next) = follow.then(|| redirect(&answer, &target)).flatten() else {
            return response::read(answer, &target, &line.grant, &call.body_bytes_left).await;
        };
        let next = next?;
        if next.origin != target.origin {
            let from = format!("is where {} redirects to, and it is not granted", target.origin);
            line = lines.of(&next.origin, &from)?;
            message.without_credentials();
        }
        target = next;
    }
    let text = format!("{} redirects more than {REDIRECTS_MAX} times", target.origin);
    Err(Problem::new(Cause::Protocol, text))
}

async fn send(
    lines: &Lines,
    line: &Line,
    target: &Target,
    message: &Message,
    injected: &mut Vec<Injected>,
) -> Result<http::Response<hyper::body::Incoming>, Problem> {
    let (request, secrets) = message.with_grant(target, &line.grant, &lines.secrets)?;
    injected.extend(secrets);
    let answer = line.client.request(request).await;
    answer.map_err(|error| of_client(&error, &line.grant))
}

/// Where the answer leads, if it is a redirect that can be followed.
fn redirect(answer: &http::Response<hyper::body::Incoming>, from: &Target) -> Option<Result<Target, Problem>> {
    let redirects = matches!(
        answer.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = answer.headers().get(LOCATION).filter(|_| redirects)?;
    // Not quoted: what stands there is the far side's, and may be cut.
    let broken = || {
        Problem::new(
            Cause::Protocol,
            format!("{} redirects to what is no URL of HTTP", from.origin),
        )
    };
    let target = location
        .to_str()
        .ok()
        .and_then(|location| from.redirected(location).ok());
    Some(target.ok_or_else(broken))
}

fn of_client(error: &hyper_util::client::legacy::Error, grant: &HttpGrant) -> Problem {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(dial) = cause.downcast_ref::<DialError>() {
            let cause = match dial {
                DialError::Denied(_) => Cause::Denied,
                DialError::Failed(_) => Cause::Connection,
                DialError::Timeout(_) => Cause::Timeout,
            };
            return Problem::new(cause, dial.to_string());
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
            return of_hyper(hyper, grant);
        }
        source = cause.source();
    }
    Problem::new(Cause::Other, format!("request to {}: {error}", grant.origin))
}

pub(crate) fn of_hyper(error: &hyper::Error, grant: &HttpGrant) -> Problem {
    let words = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    if error.is_parse() {
        let text = format!("{} answers with what is no HTTP: {words}", grant.origin);
        return Problem::new(Cause::Protocol, text);
    }
    Problem::new(Cause::Connection, format!("{} broke off: {words}", grant.origin))
}
