//! REST over TLS.

use crate::config::Tls;
use crate::refusal::Refusal;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// Whoever says nothing for so long has no business here.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that wait to be served.
const WAITING_MAX: usize = 64;
/// After an error of `accept`, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// # Errors
/// Files that cannot be read, or do not belong together.
pub(crate) fn config(tls: &Tls) -> Result<Arc<ServerConfig>, Refusal> {
    let invalid = |what: &str, path: &std::path::Path, cause: String| {
        Refusal::invalid("tls", format!("`tls.{what}`: `{}`: {cause}", path.display()))
    };
    let certs = CertificateDer::pem_file_iter(&tls.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| invalid("cert", &tls.cert, e.to_string()))?;
    if certs.is_empty() {
        return Err(invalid("cert", &tls.cert, "it holds no certificate in PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(|e| invalid("key", &tls.key, e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certs, key))
        .map_err(|e| invalid("key", &tls.key, e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Connections whose handshake is done. Each has a task for it, so that nobody waits for a slow one.
pub(crate) struct Listener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Listener {
    /// To be called in a runtime.
    pub(crate) fn new(listener: TcpListener, address: SocketAddr, config: Arc<ServerConfig>) -> Self {
        let (send, ready) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(config);
            while !send.is_closed() {
                let (stream, from) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::debug!(%error, "a connection was not accepted");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                };
                let (acceptor, send) = (acceptor.clone(), send.clone());
                tokio::spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => drop(send.send((stream, from)).await),
                        Ok(Err(error)) => tracing::debug!(%from, %error, "no TLS"),
                        Err(_) => tracing::debug!(%from, "no TLS in {HANDSHAKE:?}"),
                    }
                });
            }
        });
        Self { ready, address }
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The task ends with the runtime alone.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
