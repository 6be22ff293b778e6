//! A response as the guest gets it: read to its end within its bounds, and without the secrets of the request.

use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use memchr::memmem;
use sandbox::{Cause, Problem, Response};
use topology::HttpGrant;

use crate::exchange::of_hyper;
use crate::request::{Injected, Target};

/// Shorter secrets occur by chance; a secret worth its name is longer.
const SECRET_BYTES_MIN: usize = 8;

/// Reads all of it, unless it is larger than the grant or what is left of the call's memory allows.
pub(crate) async fn read(
    answer: http::Response<Incoming>,
    target: &Target,
    grant: &HttpGrant,
    left_of_call: &AtomicU64,
) -> Result<Response, Problem> {
    let (head, mut incoming) = answer.into_parts();
    let too_large = |limit: u64| {
        let message = format!(
            "the response of {} has more than {limit} bytes (`response-bytes`)",
            grant.origin
        );
        Problem::new(Cause::TooLarge, message)
    };
    if incoming.size_hint().lower() > grant.response_bytes {
        return Err(too_large(grant.response_bytes));
    }
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| of_hyper(&error, grant))?;
        let Ok(data) = frame.into_data() else {
            continue; // trailers
        };
        let bytes = data.len() as u64;
        if body.len() as u64 + bytes > grant.response_bytes {
            return Err(too_large(grant.response_bytes));
        }
        let take = |left: u64| left.checked_sub(bytes);
        if left_of_call
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_err()
        {
            let message = "the responses of this call take more memory than the module may have (`limits.memory`)";
            return Err(Problem::new(Cause::TooLarge, message));
        }
        body.extend_from_slice(&data);
    }
    Ok(Response {
        status: head.status.as_u16(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect(),
        body,
        url: target.url(),
    })
}

/// Keeps back a response that repeats a secret, as echo services and error pages do, and a problem that quotes one. It
/// finds the value as it is; what the far side encodes or cuts is its own: it was trusted with the secret.
pub(crate) fn without_secrets(answer: Result<Response, Problem>, injected: &[Injected]) -> Result<Response, Problem> {
    let long = |secret: &&Injected| secret.value.len() >= SECRET_BYTES_MIN;
    for secret in injected.iter().filter(long) {
        let finder = memmem::Finder::new(secret.value.as_bytes());
        let holds = |text: &[u8]| finder.find(text).is_some();
        let found = match &answer {
            Ok(response) => {
                let mut headers = response.headers.iter();
                holds(&response.body)
                    || holds(response.url.as_bytes())
                    || headers.any(|(name, value)| holds(value) || holds(name.as_bytes()))
            }
            // A host's name is in lower case there.
            Err(problem) => {
                let (message, value) = (problem.message.to_lowercase(), secret.value.to_lowercase());
                message.contains(&value)
            }
        };
        if found {
            let message = format!(
                "the response repeats the value of the secret `{}`, which a module must not see",
                secret.name
            );
            return Err(Problem::new(Cause::Denied, message));
        }
    }
    answer
}
