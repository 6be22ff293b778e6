//! A node: everything behind `wasmill serve`.
//!
//! [`Server::start`] opens the log, the registry and the sandbox, starts the pipelines that the registry says are
//! running, and serves REST. The command line links this crate for `serve`, `run` and `check`, and talks REST otherwise.
//! tokio is here and nowhere below.

pub mod api;
pub mod config;
mod node;
pub mod refusal;
mod registry;
mod rest;
pub mod text;
mod tls;

pub use config::Config;
pub use node::{authorities, probe as probe_brokers};
pub use refusal::{Fault, Refusal};
pub use registry::check_record as check_control_record;
pub use rest::token;

pub use config::Tls;
use node::Node;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use topology::Topology;

/// How long requests that run may take to end at a stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long answers that are ready may take to be read; those that go on for ever are cut off then.
const ANSWERS: Duration = Duration::from_millis(500);

/// A running node with its REST interface.
pub struct Server {
    node: Arc<Node>,
    runtime: Runtime,
    address: SocketAddr,
    secure: bool,
    stop: watch::Sender<bool>,
    /// Ends after `stop`, when every answer is read.
    served: tokio::task::JoinHandle<()>,
    watcher: std::thread::JoinHandle<()>,
}

impl Server {
    /// `modules` are components that are going to be added: they are compiled while the brokers are waited for. What is
    /// wrong with one is said when it is added.
    ///
    /// # Errors
    /// A data directory, broker or address that cannot be used, with what to do.
    pub fn start(config: Config, modules: Vec<PathBuf>) -> Result<Self, Refusal> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .build()
            .map_err(|e| Refusal::ours(format!("failed to start the runtime: {e}")))?;
        let listen = config.listen;
        let token = rest::Token::of(&config)?;
        let tls = config.tls.is_on().then(|| tls::config(&config.tls)).transpose()?;
        check_reach(&config, token.is_some(), tls.is_some())?;
        // Bound first: a second node on the same address must not touch anything.
        let listener = runtime.block_on(tokio::net::TcpListener::bind(listen)).map_err(|e| {
            let hint = "hint: is another node running? choose another address with --listen";
            Refusal::invalid("listen", format!("failed to listen on {listen}: {e}\n{hint}"))
        })?;
        let address = listener.local_addr().unwrap_or(listen);
        // Where others reach this node: with port 0 only known now.
        let config = Config {
            listen: address,
            ..config
        };
        let node = Node::start(config, runtime.handle().clone(), modules)?;
        let (stop, stopped) = watch::channel(false);
        let router = rest::router(node.clone(), token);
        let secure = tls.is_some();
        let served = runtime.spawn(async move {
            let mut stopped = stopped;
            let shutdown = async move {
                // An error means that the server is gone, which ends this too.
                drop(stopped.wait_for(|stop| *stop).await);
            };
            let served = match tls {
                Some(tls) => {
                    let listener = tls::Listener::new(listener, address, tls);
                    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
                }
                None => axum::serve(listener, router).with_graceful_shutdown(shutdown).await,
            };
            if let Err(error) = served {
                tracing::error!(%error, "REST ended");
            }
        });
        let watched = node.clone();
        let watcher = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || watched.watch())
            .map_err(|e| Refusal::ours(format!("failed to start a thread: {e}")))?;
        Ok(Self {
            node,
            runtime,
            address,
            secure,
            stop,
            served,
            watcher,
        })
    }

    /// Where this process reaches it.
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until SIGINT or SIGTERM, then stops clean.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn wait(self) -> std::io::Result<()> {
        self.wait_or(Duration::from_secs(3600), || None::<()>).map(|_| ())
    }

    /// As [`Server::wait`], but also ends when `check`, asked every `every`, gives something.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn wait_or<T>(self, every: Duration, mut check: impl FnMut() -> Option<T>) -> std::io::Result<Option<T>> {
        let mut signals = {
            let _in_runtime = self.runtime.enter();
            use tokio::signal::unix::{SignalKind, signal};
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let found = loop {
            let signalled = self.runtime.block_on(async {
                tokio::select! {
                    _ = signals.0.recv() => true,
                    _ = signals.1.recv() => true,
                    () = self.node.ended.notified() => true,
                    () = tokio::time::sleep(every) => false,
                }
            });
            if signalled {
                break None;
            }
            if let Some(found) = check() {
                break Some(found);
            }
        };
        self.stop();
        Ok(found)
    }

    /// Commits, closes and ends. Pipelines go on where they stopped at the next start.
    pub fn stop(self) {
        tracing::info!("stopping");
        self.stop.send_replace(true);
        self.node.stop();
        self.watcher.thread().unpark();
        if self.watcher.join().is_err() {
            tracing::error!("the watcher panicked");
        }
        let answered = async { tokio::time::timeout(ANSWERS, self.served).await };
        if self.runtime.block_on(answered).is_err() {
            tracing::debug!("answers were cut off");
        }
        self.runtime.shutdown_timeout(DRAIN);
    }
}

/// Checks a pipeline file without a node. `modules`: path as it stands in the file → file.
///
/// # Errors
/// Every problem of the file with its place, or a module that cannot be used.
pub fn check(request: &api::ApplyRequest, modules: &BTreeMap<String, PathBuf>) -> Result<Topology, Refusal> {
    let describe = |module: &pipeline::ModuleRef| match module {
        pipeline::ModuleRef::File(path) => {
            let file = modules.get(path).map_or_else(|| Path::new(path), PathBuf::as_path);
            let bytes = std::fs::read(file)
                .map_err(|e| undescribed(format!("`{}`: {e}", file.display()), "`wasmill build` makes it"))?;
            node::described(&bytes).map_err(|refusal| undescribed(refusal.message, "see `wasmill build --help`"))
        }
        pipeline::ModuleRef::Registered { .. } => Err(undescribed(
            "only a node knows it".to_owned(),
            "`wasmill plan` asks the node",
        )),
    };
    node::parsed(request, &describe)
}

fn undescribed(message: String, hint: &str) -> pipeline::Undescribed {
    pipeline::Undescribed {
        message,
        hint: Some(hint.to_owned()),
        known: Vec::new(),
    }
}

/// The pipeline file that `run` uses for a bare module.
///
/// # Errors
/// A module that cannot be used.
pub fn file_for_module(bytes: &[u8], module: &Path) -> Result<String, Refusal> {
    Ok(node::file_for(&node::described(bytes)?, module))
}

/// An address that other machines reach wants a token and TLS.
fn check_reach(config: &Config, token: bool, tls: bool) -> Result<(), Refusal> {
    if config.listen.ip().is_loopback() || config.insecure || (token && tls) {
        return Ok(());
    }
    let lacking = match (token, tls) {
        (false, false) => "without a token and in plain text",
        (false, true) => "without a token",
        _ => "in plain text",
    };
    Err(Refusal::invalid(
        "listen",
        format!(
            "other machines reach {}, and this node would answer them {lacking}\n\
             hint: set `token-file` (or WASMILL_TOKEN) and `[tls]`, or `insecure = true` behind a proxy or in a closed network",
            config.listen
        ),
    ))
}
