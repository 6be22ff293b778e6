//! Which files changed: polling of sizes and modification times.
//!
//! Polling instead of the system's notifications: it is the same on every system and file system (containers, network
//! mounts, editors that replace files), needs no library, and a project of some hundred files costs well under a
//! millisecond a look. What it adds to the time from save to swap is bounded by [`LOOK`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Between two looks. A save is acted on at the second look that sees the same, so that a change of several files (a
/// checkout, a formatter) is one.
pub const LOOK: Duration = Duration::from_millis(80);
/// A folder with more was not meant to be watched.
const FILES_MAX: usize = 20_000;

type Seen = BTreeMap<PathBuf, (SystemTime, u64)>;

/// Files below a folder, as they were at the last look.
#[derive(Debug)]
pub struct Watch {
    folder: PathBuf,
    leave_out: Vec<PathBuf>,
    /// As of the last change that was reported.
    known: Seen,
    /// Differs from `known` and is not settled yet.
    moving: Option<Seen>,
}

/// Files that changed together.
#[derive(Debug, PartialEq)]
pub struct Changed {
    pub paths: Vec<PathBuf>,
    /// The last save; now for a file that was removed.
    pub at: SystemTime,
}

impl Watch {
    /// `leave_out`: folders whose files change by themselves.
    pub fn new(folder: &Path, leave_out: Vec<PathBuf>) -> Self {
        let mut watch = Self {
            folder: folder.to_owned(),
            leave_out,
            known: Seen::new(),
            moving: None,
        };
        watch.known = watch.look();
        watch
    }

    /// What changed and has been still since the look before.
    pub fn changed(&mut self) -> Option<Changed> {
        let now = self.look();
        if now == self.known {
            self.moving = None;
            return None;
        }
        if self.moving.as_ref() != Some(&now) {
            self.moving = Some(now);
            return None;
        }
        self.moving = None;
        let before = std::mem::replace(&mut self.known, now);
        let differs = |path: &&PathBuf| before.get(*path) != self.known.get(*path);
        let mut paths: Vec<PathBuf> = before
            .keys()
            .chain(self.known.keys())
            .filter(differs)
            .cloned()
            .collect();
        paths.sort();
        paths.dedup();
        let saved = paths
            .iter()
            .filter_map(|path| self.known.get(path).map(|(saved, _)| *saved))
            .max();
        let at = saved.unwrap_or_else(SystemTime::now);
        Some(Changed { paths, at })
    }

    fn look(&self) -> Seen {
        let mut seen = Seen::new();
        let mut folders = vec![self.folder.clone()];
        while let Some(folder) = folders.pop() {
            // Gone between two looks.
            let Ok(entries) = std::fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else {
                    continue;
                };
                if seen.len() >= FILES_MAX || self.is_noise(&path) {
                    continue;
                }
                if metadata.is_dir() {
                    folders.push(path);
                } else {
                    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    seen.insert(path, (modified, metadata.len()));
                }
            }
        }
        seen
    }

    /// What builds and editors write beside sources.
    fn is_noise(&self, path: &Path) -> bool {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        name.starts_with(['.', '#'])
            || name.ends_with('~')
            || matches!(name.as_str(), "target" | "node_modules" | "__pycache__" | "Cargo.lock")
            || self.leave_out.iter().any(|folder| path.starts_with(folder))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn names(changed: Option<Changed>) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        changed.map(|c| c.paths.iter().map(name).collect()).unwrap_or_default()
    }

    #[test]
    fn a_change_is_told_once_it_is_still() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("src/a.rs", "a");
        let mut watch = Watch::new(dir.path(), vec![dir.path().join("data")]);
        assert_eq!(watch.changed(), None);
        write("src/a.rs", "ab");
        assert_eq!(watch.changed(), None, "it may not be all yet");
        write("src/b.rs", "b");
        assert_eq!(watch.changed(), None);
        assert_eq!(names(watch.changed()), ["a.rs", "b.rs"]);
        assert_eq!(watch.changed(), None, "once");
        fs::remove_file(dir.path().join("src/b.rs")).unwrap();
        watch.changed();
        assert_eq!(names(watch.changed()), ["b.rs"]);
        for noise in ["target/x", ".git/x", "src/a.rs~", "data/x", "src/.a.rs.swp"] {
            write(noise, "x");
        }
        watch.changed();
        assert_eq!(watch.changed(), None, "noise");
    }
}
