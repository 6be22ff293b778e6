//! The whole, as a user meets it: one file here is one story.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod absurd;
mod cluster;
mod dead_letters;
mod dev;
mod encrypted;
mod fire;
mod globals;
mod grants;
mod guarded;
mod limits;
mod looking;
mod outbound;
mod poison;
mod races;
mod reset;
mod standbys;
mod start;
mod swap;
mod word_count;
mod wrong_file;
mod wrong_module;
mod zoo;
