//! Compiled modules on disk.
//!
//! An artifact is native code that runs with all rights of this process, so everything here is about one question:
//! did we write these bytes? The directory belongs to this user alone, files are written aside and renamed, and what
//! is read must have the digest that stands beside it. This is the one place of the crate with `unsafe`.

#![allow(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::engine::{CACHED_ARTIFACTS_MAX, hex};
use crate::error::Error;

const ARTIFACT: &str = "cwasm";
const DIGEST: &str = "sha256";

/// A directory of artifacts, named `MODULE-ENGINE.cwasm` with `MODULE-ENGINE.sha256` beside each.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Creates the directory where it is not there yet.
    pub(crate) fn open(directory: PathBuf) -> Result<Self, Error> {
        let cache = Self { directory };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&cache.directory)
            .map_err(|e| cache.failed("cannot be created", &e))?;
        cache.check_private()?;
        Ok(cache)
    }

    /// `None`: not there, or not what was written; it is compiled anew then.
    pub(crate) fn load(&self, engine: &Engine, module: &str) -> Result<Option<Component>, Error> {
        self.check_private()?;
        let artifact_path = self.path(engine, module, ARTIFACT);
        let Ok(artifact) = fs::read(&artifact_path) else {
            return Ok(None);
        };
        let Ok(expected) = fs::read_to_string(self.path(engine, module, DIGEST)) else {
            return Ok(None);
        };
        if expected != digest_of(engine, module, &artifact) {
            tracing::warn!(path = %artifact_path.display(), "a compiled module does not have its digest; compiling it again");
            return Ok(None);
        }
        // SAFETY: the bytes are those that `save` wrote for this module and an engine with the same compatibility hash:
        // the digest covers all three, and nobody but this user can write to the directory (checked just now).
        // They are checked and used in the same memory, so a change of the file in between has no effect.
        let component = match unsafe { Component::deserialize(engine, &artifact) } {
            Ok(component) => component,
            Err(error) => {
                tracing::warn!(path = %artifact_path.display(), %error, "a compiled module is of no use; compiling it again");
                return Ok(None);
            }
        };
        // Last use, for the removal of old ones. A cache that cannot be touched is still a cache.
        let _ = File::options()
            .append(true)
            .open(&artifact_path)
            .and_then(|f| f.set_modified(SystemTime::now()));
        Ok(Some(component))
    }

    pub(crate) fn save(&self, engine: &Engine, module: &str, artifact: &[u8]) -> Result<(), Error> {
        self.check_private()?;
        let digest = digest_of(engine, module, artifact);
        self.write(&self.path(engine, module, ARTIFACT), artifact)
            .and_then(|()| self.write(&self.path(engine, module, DIGEST), digest.as_bytes()))
            .and_then(|()| self.remove_old())
            .map_err(|e| self.failed("cannot be written", &e))
    }

    /// A reader sees the old file or the whole new one.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let aside = self.directory.join(format!(".{}-{serial}.tmp", std::process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&aside, path));
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written
    }

    fn remove_old(&self) -> io::Result<()> {
        let mut artifacts = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == ARTIFACT) {
                let used = fs::metadata(&path)
                    .and_then(|m| m.modified())
                    .unwrap_or(SystemTime::UNIX_EPOCH);
                artifacts.push((used, path));
            }
        }
        artifacts.sort();
        let surplus = artifacts.len().saturating_sub(CACHED_ARTIFACTS_MAX);
        for (_, path) in artifacts.into_iter().take(surplus) {
            // Another process may have removed it already.
            let _ = fs::remove_file(path.with_extension(DIGEST));
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn check_private(&self) -> Result<(), Error> {
        let refused = |cause: String, hint: String| {
            Err(Error::Cache {
                path: self.directory.clone(),
                cause,
                hint,
            })
        };
        let found = fs::symlink_metadata(&self.directory).map_err(|e| self.failed("cannot be read", &e))?;
        if !found.is_dir() {
            return refused("is not a directory".into(), "name another one".into());
        }
        // SAFETY: `geteuid` has no preconditions and cannot fail.
        let user = unsafe { libc::geteuid() };
        if found.uid() != user {
            let cause = format!(
                "belongs to user {}, not to {user}: native code of others would run here",
                found.uid()
            );
            return refused(cause, "name a directory of your own".into());
        }
        if found.mode() & 0o077 != 0 {
            let cause = format!("is open to others (mode {:o})", found.mode() & 0o777);
            return refused(cause, format!("chmod 700 {}", self.directory.display()));
        }
        Ok(())
    }

    fn failed(&self, what: &str, error: &io::Error) -> Error {
        Error::Cache {
            path: self.directory.clone(),
            cause: format!("{what}: {error}"),
            hint: "name a directory that this user can write to".into(),
        }
    }

    fn path(&self, engine: &Engine, module: &str, extension: &str) -> PathBuf {
        let engine = hex(&fingerprint(engine));
        let engine = engine.get(..16).unwrap_or(&engine);
        self.directory.join(format!("{module}-{engine}.{extension}"))
    }
}

/// Bound to module and engine, so that a file under another's name is not taken for it.
fn digest_of(engine: &Engine, module: &str, artifact: &[u8]) -> String {
    let mut sha = Sha256::new();
    sha.update(module.as_bytes());
    sha.update(fingerprint(engine));
    sha.update(artifact);
    hex(&sha.finalize())
}

/// wasmtime's version, settings and target, as far as artifacts depend on them.
fn fingerprint(engine: &Engine) -> [u8; 32] {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut sha = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sha);
    sha.0.finalize().into()
}
