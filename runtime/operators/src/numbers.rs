//! What an operator knows beside its stores, as numbers in a row of the task's store of times: so they are state, in the
//! same transaction as what was made of them.

use state::Stores;

/// First byte of these rows' keys, before the node's name.
const OPERATOR: u8 = b'o';

/// The place of an operator's numbers.
#[derive(Clone, Debug)]
pub struct Numbers {
    store: usize,
    key: Vec<u8>,
}

impl Numbers {
    /// `times` is the task's number of its store of times.
    pub fn of(times: usize, node: &str) -> Self {
        Self {
            store: times,
            key: [&[OPERATOR], node.as_bytes()].concat(),
        }
    }

    /// `start` where there are none yet.
    ///
    /// # Errors
    /// Those of the store; [`state::Error::Misuse`] where there are not as many.
    pub fn read<const N: usize>(&self, stores: &mut Stores, start: [i64; N]) -> Result<[i64; N], state::Error> {
        let decode = |bytes: &[u8]| {
            let (numbers, rest) = bytes.as_chunks::<8>();
            let numbers: [[u8; 8]; N] = numbers.try_into().ok()?;
            rest.is_empty().then(|| numbers.map(i64::from_be_bytes))
        };
        stores
            .read(self.store, &self.key, |bytes| bytes.map_or(Some(start), decode))?
            .ok_or_else(|| {
                let node = String::from_utf8_lossy(self.key.get(1..).unwrap_or_default()).into_owned();
                state::Error::Misuse(format!("the times of `{node}` make no sense"))
            })
    }

    /// `observed` is the operator's stream time.
    ///
    /// # Errors
    /// Those of the store.
    pub fn write<const N: usize>(
        &self,
        stores: &mut Stores,
        numbers: [i64; N],
        observed: i64,
    ) -> Result<(), state::Error> {
        stores.write(
            self.store,
            &self.key,
            Some(numbers.map(i64::to_be_bytes).as_flattened()),
            observed.max(0),
        )
    }
}
