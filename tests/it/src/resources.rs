//! What a process holds, as `/proc` says.

use std::fmt;
use std::fs;

/// What a process may hold more at the end than at first: allocators keep some, and pools of threads come and go.
const MEMORY_MIB_MAX: f64 = 24.0;
const THREADS_MAX: f64 = 2.0;
const FILES_MAX: f64 = 8.0;

#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    pub memory_mib: f64,
    threads: f64,
    files: f64,
}

impl Resources {
    pub fn of(process: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let number = |name: &str| -> f64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        Self {
            memory_mib: number("VmRSS:") / 1024.0,
            threads: number("Threads:"),
            files: fs::read_dir(format!("/proc/{process}/fd")).unwrap().count() as f64,
        }
    }

    pub fn mean(all: impl ExactSizeIterator<Item = Self>) -> Self {
        let count = all.len() as f64;
        let sum = all.fold(Self::default(), |sum, one| Self {
            memory_mib: sum.memory_mib + one.memory_mib,
            threads: sum.threads + one.threads,
            files: sum.files + one.files,
        });
        Self {
            memory_mib: sum.memory_mib / count,
            threads: sum.threads / count,
            files: sum.files / count,
        }
    }

    /// What is not flat, in words.
    pub fn grown(&self, before: &Self) -> impl Iterator<Item = String> {
        let grown = [
            ("memory in MiB", self.memory_mib, before.memory_mib, MEMORY_MIB_MAX),
            ("threads", self.threads, before.threads, THREADS_MAX),
            ("open files", self.files, before.files, FILES_MAX),
        ];
        let beyond = grown.into_iter().filter(|(_, now, then, most)| now - then > *most);
        beyond.map(|(what, now, then, _)| format!("{what} grew from {then:.0} to {now:.0}"))
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} MiB {:.0} threads {:.0} files",
            self.memory_mib, self.threads, self.files
        )
    }
}
