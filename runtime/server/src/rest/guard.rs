//! Who may ask: whoever shows the node's token.

use crate::config::Config;
use crate::refusal::{Fault, Refusal};
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The environment variable that goes before `token-file`, for the node and for the command line.
pub const TOKEN: &str = "WASMILL_TOKEN";
/// A token that can be guessed is none.
const BYTES_MIN: usize = 16;

/// The digest of a node's token: comparing digests tells nothing of how much of a wrong one was right.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// A node's token, from the environment, else from the file; `None` where neither says one.
///
/// # Errors
/// A file that cannot be read, a token that is too short.
pub fn token(config: &Config) -> Result<Option<String>, Refusal> {
    let invalid = |text: String| Refusal::invalid("token", text);
    let (text, whence) = match std::env::var(TOKEN) {
        Ok(text) if !text.is_empty() => (text, TOKEN.to_owned()),
        _ if config.token_file.as_os_str().is_empty() => return Ok(None),
        _ => {
            let path = config.token_file.display().to_string();
            let text = std::fs::read_to_string(&config.token_file);
            (
                text.map_err(|e| invalid(format!("read `{path}` for `token-file`: {e}")))?,
                path,
            )
        }
    };
    let token = text.lines().next().unwrap_or_default().trim();
    if token.len() < BYTES_MIN {
        return Err(invalid(format!(
            "the token of `{whence}` has {} bytes, and fewer than {BYTES_MIN} can be guessed\n\
             hint: `openssl rand -hex 32` makes one",
            token.len()
        )));
    }
    Ok(Some(token.to_owned()))
}

impl Token {
    /// # Errors
    /// Those of [`token`].
    pub fn of(config: &Config) -> Result<Option<Self>, Refusal> {
        Ok(token(config)?.map(|token| Self(Sha256::digest(token.as_bytes()).into())))
    }

    fn is(&self, shown: &[u8]) -> bool {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        self.0 == shown
    }
}

/// Lets requests with the token pass.
pub async fn check(State(token): State<Arc<Token>>, request: Request, next: Next) -> Result<Response, Refusal> {
    let shown = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    let shown = shown.and_then(|value| {
        value
            .strip_prefix(b"Bearer ")
            .or_else(|| value.strip_prefix(b"bearer "))
    });
    match shown {
        Some(shown) if token.is(shown) => Ok(next.run(request).await),
        shown => {
            let what = if shown.is_some() {
                "another token is wanted"
            } else {
                "a token is wanted"
            };
            Err(Refusal::new(
                Fault::Unauthorized,
                "unauthorized",
                format!("this node answers whoever shows its token: {what}\nhint: set {TOKEN} to it"),
            ))
        }
    }
}
