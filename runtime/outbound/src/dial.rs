//! Connections of one grant: the name resolved, the addresses checked, TCP, and TLS where the origin is `https`.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use topology::{Host, HttpGrant};

use crate::address;

/// Addresses of one name that are tried: more are alternatives of the same service.
const ADDRESSES_MAX: usize = 4;

/// The addresses of a name.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// How names become addresses: the machine's resolver, or a test's.
pub trait Resolve: Send + Sync + fmt::Debug {
    fn resolve(&self, name: &str) -> Lookup;
}

/// The machine's.
#[derive(Debug)]
pub(crate) struct System;

impl Resolve for System {
    fn resolve(&self, name: &str) -> Lookup {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    Failed(String),
    #[error("no connection within {0} ms (`connect-timeout`)")]
    Timeout(u64),
}

/// Makes the connections of one grant; the URI that the client hands over says nothing that the grant does not.
#[derive(Clone)]
pub(crate) struct Dialer {
    grant: Arc<HttpGrant>,
    resolve: Arc<dyn Resolve>,
}

impl Dialer {
    pub(crate) fn new(grant: Arc<HttpGrant>, resolve: Arc<dyn Resolve>) -> Self {
        Self { grant, resolve }
    }

    async fn dial(self) -> Result<TokioIo<Stream>, DialError> {
        let deadline = Instant::now() + Duration::from_millis(self.grant.connect_ms);
        let timeout = || DialError::Timeout(self.grant.connect_ms);
        let addresses = timeout_at(deadline, self.addresses()).await.map_err(|_| timeout())??;
        let tcp = self.tcp(&addresses, deadline).await?;
        // Requests are small and wait for their answers.
        drop(tcp.set_nodelay(true));
        if !self.grant.origin.secure {
            return Ok(TokioIo::new(Stream::Plain(tcp)));
        }
        let failed = |cause: &dyn fmt::Display| DialError::Failed(format!("TLS with {}: {cause}", self.grant.origin));
        let name = match &self.grant.origin.host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|e| failed(&e))?,
            Host::Address(address) => ServerName::from(*address),
        };
        let connector = TlsConnector::from(tls().map_err(DialError::Failed)?);
        let stream = timeout_at(deadline, connector.connect(name, tcp))
            .await
            .map_err(|_| timeout())?
            .map_err(|e| failed(&e))?;
        Ok(TokioIo::new(Stream::Tls(Box::new(stream))))
    }

    /// Those that the grant allows, of all that its host has now.
    async fn addresses(&self) -> Result<Vec<IpAddr>, DialError> {
        let name = match &self.grant.origin.host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let found = self.resolve.resolve(name).await;
        let found = found.map_err(|e| DialError::Failed(format!("`{name}` cannot be resolved: {e}")))?;
        let mut refused = None;
        let mut allowed = Vec::new();
        for address in found {
            match address::refusal(&self.grant, address) {
                None => allowed.push(address),
                Some(why) => refused = refused.or(Some(why)),
            }
        }
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(why)) => Err(DialError::Denied(why)),
            (true, None) => Err(DialError::Failed(format!("`{name}` has no address"))),
        }
    }

    /// The first that answers; each has its share of the time that is left.
    async fn tcp(&self, addresses: &[IpAddr], deadline: Instant) -> Result<TcpStream, DialError> {
        let count = addresses.len().min(ADDRESSES_MAX);
        let mut last = DialError::Timeout(self.grant.connect_ms);
        for (tried, address) in addresses.iter().take(count).enumerate() {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / u32::try_from(count - tried).unwrap_or(1);
            let at = SocketAddr::new(*address, self.grant.origin.port);
            match timeout_at(now + share, TcpStream::connect(at)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = DialError::Failed(format!("no connection to {at}: {error}")),
                Err(_) => last = DialError::Timeout(self.grant.connect_ms),
            }
        }
        Err(last)
    }
}

impl tower_service::Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}

/// With the certificates that the machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), read at the first use.
fn tls() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let cause = found.errors.first().map(|e| format!(": {e}")).unwrap_or_default();
            return Err(format!(
                "this machine has no certificates to trust{cause}\nhint: install `ca-certificates`, or set SSL_CERT_FILE"
            ));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS cannot start: {e}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    });
    config.clone()
}

/// A connection, with TLS or without.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
