//! What granted modules reach of the world outside the log: HTTP, variables of the environment, clocks, randomness.
//!
//! [`Outbound`] is one per process. [`Outbound::step`] gives the [`sandbox::Outside`] of one step, shared by its tasks: its
//! connections, its bound on concurrent requests and its counts. The only place that dials for a guest, and the only one
//! that holds the value of a secret.
//!
//! How a request is kept on its list: the URL is read by the same strict reader as the grant (`topology::Origin`) and
//! must have the origin of a grant; the connection is then made to the *grant's* host and port, never to what stands in
//! the URL; the name is resolved for each connection, and only addresses that pass [`address`] are dialled, so a name that
//! resolves elsewhere is refused however often it changes its mind.

mod address;
mod counts;
mod dial;
mod exchange;
mod request;
mod response;
mod secrets;
mod step;

pub use counts::Counts;
pub use dial::{Lookup, Resolve};
pub use secrets::{SecretSources, Secrets};
pub use step::{Options, Outbound};
