//! Stores whose schema changes with a version (design §11): their entries go through the new code's `migrate` in the
//! transaction that the switch begins, so that they change with it or not at all.

use arrow_array::{Array, BinaryArray};
use state::{Bounds, NO_TIME, join, split};

use crate::error::Error;
use crate::plan::Work;
use crate::processor::Failure;
use crate::task::Task;

/// Bytes of keys and values that one store of a task may hold to be migrated: old and new entries are in memory until
/// the transaction is committed, and all of them are part of it.
pub const MIGRATED_BYTES_MAX: usize = 64 << 20;
/// Entries that one call of `migrate` gets.
const PAGE_ENTRIES_MAX: usize = 1_000;
/// A page ends early when its entries hold more than this.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// A store that a switch writes anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub step: String,
    /// Its number in the module's description.
    pub store: u32,
    /// What its entries are before.
    pub from_schema: u32,
}

type Entry = (Vec<u8>, Vec<u8>);

impl Task {
    /// Takes the entries of each of these stores through the processors that are in place now. All of it is uncommitted,
    /// and undone by a savepoint like every write.
    pub(crate) fn rewrite(&mut self, rewrites: &[Rewrite]) -> Result<(), Error> {
        for rewrite in rewrites {
            let place = self.plan.nodes.iter().enumerate().find_map(|(node, n)| match &n.work {
                Work::Module { stores, .. } if *n.name == *rewrite.step => {
                    Some((node, stores.get(rewrite.store as usize).copied()))
                }
                _ => None,
            });
            // A step of another sub-topology.
            let Some((node, store)) = place else { continue };
            let store = store.ok_or_else(|| {
                Error::Contract(format!(
                    "step `{}` has no store {} to migrate",
                    rewrite.step, rewrite.store
                ))
            })?;
            self.rewrite_store(node, store, rewrite)?;
        }
        Ok(())
    }

    fn rewrite_store(&mut self, node: usize, store: usize, rewrite: &Rewrite) -> Result<(), Error> {
        let old = self.all_entries(store)?;
        let mut new = Vec::new();
        for page in pages(&old) {
            new.extend(self.migrate_page(node, store, page, rewrite)?);
            if bytes_of(&new) > MIGRATED_BYTES_MAX {
                return Err(self.too_large(store));
            }
        }
        for (key, _) in &old {
            self.context.stores.write(store, key, None, NO_TIME)?;
        }
        for (key, value) in new {
            self.context.stores.write(store, &key, Some(&value), NO_TIME)?;
        }
        Ok(())
    }

    fn all_entries(&mut self, store: usize) -> Result<Vec<Entry>, Error> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        self.context
            .stores
            .scan(store, &Bounds::all(), false, &mut |key, value| {
                bytes += key.len() + value.len();
                entries.push((key.to_vec(), value.to_vec()));
                bytes <= MIGRATED_BYTES_MAX
            })?;
        if bytes > MIGRATED_BYTES_MAX {
            return Err(self.too_large(store));
        }
        Ok(entries)
    }

    /// New entries as they are stored.
    fn migrate_page(
        &mut self,
        node: usize,
        store: usize,
        page: &[Entry],
        rewrite: &Rewrite,
    ) -> Result<Vec<Entry>, Error> {
        let timestamped = self.context.stores.spec(store)?.timestamped;
        let times: Vec<i64> = page.iter().map(|(_, value)| split(value).0).collect();
        let plain = |value: &'_ Entry| match timestamped {
            true => split(&value.1).1.to_vec(),
            false => value.1.clone(),
        };
        let keys: BinaryArray = page.iter().map(|(key, _)| Some(key.as_slice())).collect();
        let values: BinaryArray = page.iter().map(|entry| Some(plain(entry))).collect();
        let Some(Some(processor)) = self.processors.get_mut(node) else {
            return Err(Error::Contract(format!(
                "task {} has no module at node {node}",
                self.id
            )));
        };
        let migrated = processor.migrate(rewrite.store, rewrite.from_schema, &keys, &values);
        let (keys, values) = migrated.map_err(|failure| self.stop(node, None, failure))?;
        if keys.len() != values.len() || keys.null_count() + values.null_count() > 0 {
            let broken = "the answer of `migrate` has nulls, or columns of different lengths";
            return Err(self.stop(node, None, Failure::Contract(broken.to_owned())));
        }
        // `migrate` knows no timestamps: one entry for each keeps each one's, else the newest of the page stands.
        let newest = times.iter().copied().max().unwrap_or_default();
        let same = keys.len() == times.len();
        let entry = |row: usize| {
            let time = times.get(row).copied().filter(|_| same).unwrap_or(newest);
            let value = match timestamped {
                true => join(time, values.value(row)),
                false => values.value(row).to_vec(),
            };
            (keys.value(row).to_vec(), value)
        };
        Ok((0..keys.len()).map(entry).collect())
    }

    fn too_large(&self, store: usize) -> Error {
        let name = self.plan.stores.get(store).map(|s| s.name.as_str()).unwrap_or_default();
        Error::Contract(format!(
            "store `{name}` of task {} holds more than {} MiB, which is what a swap migrates at most\n\
             hint: apply the new version as a new pipeline",
            self.id,
            MIGRATED_BYTES_MAX >> 20
        ))
    }
}

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().map(|(key, value)| key.len() + value.len()).sum()
}

fn pages(entries: &[Entry]) -> Vec<&[Entry]> {
    let (mut pages, mut rest) = (Vec::new(), entries);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(PAGE_ENTRIES_MAX).take_while(|(key, value)| {
            let first = bytes == 0;
            bytes += key.len() + value.len() + 1;
            first || bytes <= PAGE_BYTES_MAX
        });
        let (page, more) = rest.split_at(fits.count().max(1));
        pages.push(page);
        rest = more;
    }
    pages
}
