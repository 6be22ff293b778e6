//! `wasmill:state/key-value`: the task's stores, in columns and pages.

use arrow_array::{Array, BinaryArray};
use wasmtime::{Result, bail};

use crate::bindings::wasmill::data::columns::ColumnResult;
use crate::bindings::wasmill::state::key_value as wit;
use crate::columns::{self, Lowered};
use crate::host::{Host, Phase, size};

/// Entries of one page; `state` bounds its bytes as well. Enough that the cost of the call does not count.
const PAGE_ROWS_MAX: u32 = 10_000;

/// Key and value of an entry together: a record of the changelog, which a default broker takes up to 1,048,588 bytes.
const ENTRY_BYTES_MAX: usize = 1_000_000;

/// So many rows are read or written before the time of the call is looked at again: below a millisecond.
const ROWS_UNCHECKED_MAX: usize = 1_024;

impl Host {
    /// The number among the task's stores of the store `index` of the module's description.
    fn store(&self, import: &str, index: u32) -> Result<usize> {
        self.allow(import, |phase| !matches!(phase, Phase::Migrate | Phase::Close))?;
        match self.context.store_of.get(index as usize) {
            Some(number) if (index as usize) < self.stores.len() => Ok(*number),
            _ => bail!(
                "`{import}`: there is no store {index}, the module declares {}",
                self.stores.len()
            ),
        }
    }

    fn writable_store(&self, import: &str, index: u32) -> Result<usize> {
        let number = self.store(import, index)?;
        match self.stores.get(index as usize) {
            Some(store) if store.read_only => {
                bail!("`{import}`: store `{}` is shared and can only be read", store.name)
            }
            _ => Ok(number),
        }
    }

    fn check_entries(&self, import: &str, store: u32, keys: &BinaryArray, values: &BinaryArray) -> Result<()> {
        if keys.values().len() + values.values().len() <= ENTRY_BYTES_MAX {
            return Ok(());
        }
        // Columns of different lengths are refused where they are written.
        for row in 0..keys.len().min(values.len()) {
            let bytes = (keys.value_length(row) + values.value_length(row)) as usize;
            if bytes > ENTRY_BYTES_MAX {
                let name = self.stores.get(store as usize).map_or("", |store| &store.name);
                bail!(
                    "`{import}`: an entry of {} for store `{name}`, which takes {}",
                    size(bytes as u64),
                    size(ENTRY_BYTES_MAX as u64)
                );
            }
        }
        Ok(())
    }

    /// Misuse traps the guest; what the host's storage suffers ends the call as a failure of the host.
    fn stored<T>(&mut self, import: &str, result: Result<T, state::Error>) -> Result<T> {
        match result {
            Ok(value) => Ok(value),
            Err(state::Error::Misuse(cause)) => bail!("`{import}`: {cause}"),
            Err(error) => {
                self.suffered = Some(error.to_string());
                bail!("`{import}`: {error}")
            }
        }
    }
}

fn lift(import: &str, what: &str, column: ColumnResult) -> Result<BinaryArray> {
    columns::lift(what, column).or_else(|broken| bail!("`{import}`: {broken}"))
}

impl wit::Host for Host {
    fn get(&mut self, store: u32, keys: ColumnResult) -> Result<wit::Entries> {
        const IMPORT: &str = "key-value.get";
        let number = self.store(IMPORT, store)?;
        let columns = lift(IMPORT, "keys", keys)?;
        if columns.null_count() > 0 {
            bail!("`{IMPORT}`: a null key");
        }
        let spec = self.context.stores.spec(number).map(|spec| spec.timestamped);
        let mut values = Values::new(columns.len(), self.stored(IMPORT, spec)?);
        let bytes_max = self.limits.memory_bytes.min(i32::MAX as u64) as usize;
        for row in 0..columns.len() {
            if row % ROWS_UNCHECKED_MAX == ROWS_UNCHECKED_MAX - 1 {
                self.check_time()?;
            }
            let read = self
                .context
                .stores
                .read(number, columns.value(row), |stored| values.push(row, stored));
            self.stored(IMPORT, read)?;
            if values.data.len() > bytes_max {
                bail!(
                    "`{IMPORT}`: the values take more than {} (`limits.memory`)",
                    size(bytes_max as u64)
                );
            }
        }
        Ok(values.finish(Lowered::new(&columns).into_result()))
    }

    fn put(&mut self, index: u32, entries: wit::Entries) -> Result<()> {
        const IMPORT: &str = "key-value.put";
        let number = self.writable_store(IMPORT, index)?;
        let keys = lift(IMPORT, "keys", entries.keys)?;
        let values = lift(IMPORT, "values", entries.values)?;
        let timestamps = (!entries.timestamps.is_empty()).then_some(entries.timestamps);
        self.count_written(keys.values().len() + values.values().len())?;
        self.check_entries(IMPORT, index, &keys, &values)?;
        let entries = state::Entries {
            keys,
            values,
            timestamps,
        };
        if entries.keys.len() <= ROWS_UNCHECKED_MAX {
            let put = self.context.stores.put(number, &entries);
            return self.stored(IMPORT, put);
        }
        for part in parts(&entries) {
            self.check_time()?;
            let put = self.context.stores.put(number, &part);
            self.stored(IMPORT, put)?;
        }
        Ok(())
    }

    fn range(
        &mut self,
        store: u32,
        lower: Option<Vec<u8>>,
        upper: Option<Vec<u8>>,
        after: bool,
        descending: bool,
        limit: u32,
    ) -> Result<wit::Page> {
        const IMPORT: &str = "key-value.range";
        let number = self.store(IMPORT, store)?;
        let limit = limit.min(PAGE_ROWS_MAX) as usize;
        let stores = &mut self.context.stores;
        let page = stores.range(number, lower.as_deref(), upper.as_deref(), after, descending, limit);
        self.stored(IMPORT, page).map(lower_page)
    }

    fn prefix(
        &mut self,
        store: u32,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        descending: bool,
        limit: u32,
    ) -> Result<wit::Page> {
        const IMPORT: &str = "key-value.prefix";
        let number = self.store(IMPORT, store)?;
        let limit = limit.min(PAGE_ROWS_MAX) as usize;
        let page = self
            .context
            .stores
            .prefix(number, &prefix, after.as_deref(), descending, limit);
        self.stored(IMPORT, page).map(lower_page)
    }

    fn delete_range(&mut self, store: u32, lower: Vec<u8>, upper: Vec<u8>) -> Result<()> {
        const IMPORT: &str = "key-value.delete-range";
        let number = self.writable_store(IMPORT, store)?;
        let mut from = lower;
        let mut after = false;
        loop {
            self.check_time()?;
            let stores = &mut self.context.stores;
            let page = stores.range(number, Some(&from), Some(&upper), after, false, ROWS_UNCHECKED_MAX);
            let page = self.stored(IMPORT, page)?;
            let keys = page.entries.keys;
            self.count_written(keys.values().len())?;
            for key in keys.iter().flatten() {
                let deleted = self.context.stores.write(number, key, None, state::NO_TIME);
                self.stored(IMPORT, deleted)?;
            }
            match keys.iter().flatten().next_back() {
                Some(last) if page.more => (from, after) = (last.to_vec(), true),
                _ => return Ok(()),
            }
        }
    }
}

/// Pieces of [`ROWS_UNCHECKED_MAX`] rows; one piece where the columns do not fit each other, which is refused whole.
fn parts(entries: &state::Entries) -> Vec<state::Entries> {
    let rows = entries.keys.len();
    let times = entries.timestamps.as_ref().map_or(rows, Vec::len);
    if entries.values.len() != rows || times != rows {
        return vec![entries.clone()];
    }
    (0..rows)
        .step_by(ROWS_UNCHECKED_MAX)
        .map(|from| {
            let count = ROWS_UNCHECKED_MAX.min(rows - from);
            let times = entries.timestamps.as_ref();
            state::Entries {
                keys: entries.keys.slice(from, count),
                values: entries.values.slice(from, count),
                timestamps: times.map(|times| times.iter().skip(from).take(count).copied().collect()),
            }
        })
        .collect()
}

fn lower_page(page: state::Page) -> wit::Page {
    let entries = wit::Entries {
        keys: Lowered::new(&page.entries.keys).into_result(),
        values: Lowered::new(&page.entries.values).into_result(),
        timestamps: page.entries.timestamps.unwrap_or_default(),
    };
    wit::Page {
        entries,
        more: page.more,
    }
}

/// Values written as they are read, straight into the contract's form.
struct Values {
    data: Vec<u8>,
    offsets: Vec<u32>,
    validity: Vec<u8>,
    nulls: bool,
    timestamps: Option<Vec<i64>>,
}

impl Values {
    fn new(rows: usize, timestamped: bool) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            data: Vec::new(),
            offsets,
            validity: vec![0; rows.div_ceil(8)],
            nulls: false,
            timestamps: timestamped.then(|| Vec::with_capacity(rows)),
        }
    }

    fn push(&mut self, row: usize, stored: Option<&[u8]>) {
        let mut timestamp = 0;
        match (stored, self.validity.get_mut(row / 8)) {
            (Some(stored), Some(bits)) => {
                *bits |= 1 << (row % 8);
                let value = match self.timestamps {
                    Some(_) => {
                        let (time, value) = state::split(stored);
                        timestamp = time;
                        value
                    }
                    None => stored,
                };
                self.data.extend_from_slice(value);
            }
            _ => self.nulls = true,
        }
        // Bounded by the caller below 2^31 before the next row.
        self.offsets.push(u32::try_from(self.data.len()).unwrap_or(u32::MAX));
        if let Some(timestamps) = &mut self.timestamps {
            timestamps.push(timestamp);
        }
    }

    fn finish(self, keys: ColumnResult) -> wit::Entries {
        let validity = self.nulls.then_some(self.validity);
        let values = ColumnResult {
            data: self.data,
            offsets: self.offsets,
            validity,
        };
        wit::Entries {
            keys,
            values,
            timestamps: self.timestamps.unwrap_or_default(),
        }
    }
}
