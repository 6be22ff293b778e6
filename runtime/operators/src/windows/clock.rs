//! What a windowed operator knows of time, as a row of the task's store of times.

use state::Stores;

/// First byte of these rows' keys, before the node's name.
const OPERATOR: u8 = b'o';
const NUMBERS: usize = 4;

/// Milliseconds; -1 where there was nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The operator's stream time.
    pub observed: i64,
    /// How far closed windows were sent on: the last start of a time window, the last end of a session.
    pub closed: i64,
    /// No entry of the store is older: its start, or the end of a session.
    pub oldest: i64,
    /// No session that is open ends earlier.
    pub next: i64,
}

impl Clock {
    pub fn key(node: &str) -> Vec<u8> {
        [&[OPERATOR], node.as_bytes()].concat()
    }

    pub fn read(stores: &mut Stores, (store, key): &(usize, Vec<u8>)) -> Result<Self, state::Error> {
        let start = Self {
            observed: -1,
            closed: -1,
            oldest: i64::MAX,
            next: i64::MAX,
        };
        stores
            .read(*store, key, |bytes| bytes.map_or(Some(start), Self::decode))?
            .ok_or_else(|| {
                state::Error::Misuse(format!("the times of `{}` make no sense", String::from_utf8_lossy(key)))
            })
    }

    pub fn write(&self, stores: &mut Stores, (store, key): &(usize, Vec<u8>)) -> Result<(), state::Error> {
        let numbers = [self.observed, self.closed, self.oldest, self.next];
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        stores.write(*store, key, Some(&bytes), self.observed.max(0))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers: [[u8; 8]; NUMBERS] = numbers.try_into().ok()?;
        let [observed, closed, oldest, next] = numbers.map(i64::from_be_bytes);
        rest.is_empty().then_some(Self {
            observed,
            closed,
            oldest,
            next,
        })
    }
}
