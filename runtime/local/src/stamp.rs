//! The data directory: whose it is, which format it has, and that one process has it.
//!
//! A directory holds `wasmill-log` (the stamp: format, cluster id, whether it was completely made), `lock`, and the
//! database in `db`. Nothing is written into a directory before it is known to be empty or ours.

use broker::{Error, ErrorKind};
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind as Io, Write};
use std::path::{Path, PathBuf};

const FORMAT: &str = "1";
const STAMP: &str = "wasmill-log";
const LOCK: &str = "lock";
/// The stamp while it is written.
const NEXT_STAMP: &str = "lock.stamp";
const DATABASE: &str = "db";

/// A directory that this process has for itself until this is dropped.
pub(crate) struct Directory {
    path: PathBuf,
    pub cluster_id: String,
    /// The database is not there yet.
    pub fresh: bool,
    /// Holds the lock, which the system lets go with the process however that ends.
    _lock: File,
}

impl Directory {
    /// Takes `path`: an empty or missing directory becomes ours.
    pub fn take(path: &Path) -> Result<Self, Error> {
        let doing = format!("open the log in `{}`", path.display());
        let io = |e: std::io::Error| Error::new(ErrorKind::Configuration, doing.as_str(), e);
        let names = match fs::read_dir(path) {
            Ok(entries) => entries
                .map(|e| e.map(|e| e.file_name()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(io)?,
            Err(e) if e.kind() == Io::NotFound => Vec::new(),
            Err(e) => return Err(io(e)),
        };
        let stamped = names.iter().any(|n| n == STAMP);
        // A lock without a stamp is what a process that was killed at its very start leaves.
        if !stamped && names.iter().any(|n| n != LOCK && n != NEXT_STAMP) {
            let cause = format!("it holds other files and no `{STAMP}`\nhint: name an empty directory");
            return Err(Error::new(ErrorKind::Configuration, doing, cause));
        }
        if stamped {
            // Before the lock file is touched: a directory of another format stays as it is.
            read_stamp(path, &doing)?;
        }
        fs::create_dir_all(path).map_err(io)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(io)?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => {
                Error::new(ErrorKind::Configuration, doing.as_str(), "another process has it open")
            }
            TryLockError::Error(e) => io(e),
        })?;
        // Read again under the lock: another process may just have made it.
        let (cluster_id, fresh) = match path.join(STAMP).exists() {
            true => read_stamp(path, &doing)?,
            false => (uuid::Uuid::new_v4().to_string(), true),
        };
        let directory = Self {
            path: path.to_owned(),
            cluster_id,
            fresh,
            _lock: lock,
        };
        if fresh {
            directory.write_stamp("making").map_err(io)?;
        } else if !directory.database().join("CURRENT").exists() {
            let cause = format!("`{}` is gone or damaged", directory.database().display());
            return Err(Error::new(ErrorKind::Corrupt, doing, cause));
        }
        Ok(directory)
    }

    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// The database is there: from now on it must be.
    pub fn made(&self) -> Result<(), Error> {
        let doing = || format!("stamp the log in `{}`", self.path.display());
        self.write_stamp("made")
            .map_err(|e| Error::new(ErrorKind::Configuration, doing(), e))
    }

    fn write_stamp(&self, state: &str) -> std::io::Result<()> {
        let next = self.path.join(NEXT_STAMP);
        let mut file = File::create(&next)?;
        write!(file, "format {FORMAT}\ncluster {}\nstate {state}\n", self.cluster_id)?;
        file.sync_all()?;
        fs::rename(&next, self.path.join(STAMP))?;
        File::open(&self.path)?.sync_all()
    }
}

/// Cluster id, and whether the database is still to be made.
fn read_stamp(path: &Path, doing: &str) -> Result<(String, bool), Error> {
    let corrupt = |cause: String| Error::new(ErrorKind::Corrupt, doing, cause);
    let text = fs::read_to_string(path.join(STAMP)).map_err(|e| corrupt(format!("`{STAMP}`: {e}")))?;
    let of = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    match of("format") {
        Some(FORMAT) => {}
        Some(other) => {
            let cause = format!("its format is {other}, this program reads {FORMAT}");
            return Err(Error::new(ErrorKind::Configuration, doing, cause));
        }
        None => return Err(corrupt(format!("`{STAMP}` names no format"))),
    }
    match (of("cluster"), of("state")) {
        (Some(id), Some("made")) if !id.is_empty() => Ok((id.to_owned(), false)),
        (Some(id), Some("making")) if !id.is_empty() => Ok((id.to_owned(), true)),
        _ => Err(corrupt(format!("`{STAMP}` makes no sense"))),
    }
}
