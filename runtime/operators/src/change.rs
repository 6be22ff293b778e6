//! What a row of a table takes out of a group and what it adds, in one value.
//!
//! The layout is that of Kafka Streams' repartition topics of grouped tables (KIP-904): the old value and a 0; the new
//! value and a 1; or the length of the new value in 4 bytes big-endian, the new value, the old one, and a 2.

const OLD: u8 = 0;
const NEW: u8 = 1;
const BOTH: u8 = 2;

/// What is taken out and what is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    pub old: Option<&'a [u8]>,
    pub new: Option<&'a [u8]>,
}

/// `None` where there is neither.
pub fn encode(change: Change<'_>) -> Option<Vec<u8>> {
    let (mut bytes, flag) = match (change.old, change.new) {
        (None, None) => return None,
        (Some(old), None) => (old.to_vec(), OLD),
        (None, Some(new)) => (new.to_vec(), NEW),
        (Some(old), Some(new)) => {
            let mut bytes = Vec::with_capacity(4 + new.len() + old.len() + 1);
            bytes.extend_from_slice(&u32::try_from(new.len()).ok()?.to_be_bytes());
            bytes.extend_from_slice(new);
            bytes.extend_from_slice(old);
            (bytes, BOTH)
        }
    };
    bytes.push(flag);
    Some(bytes)
}

/// `None` for bytes that are no change.
pub fn decode(bytes: &[u8]) -> Option<Change<'_>> {
    let (flag, rest) = bytes.split_last()?;
    Some(match *flag {
        OLD => Change {
            old: Some(rest),
            new: None,
        },
        NEW => Change {
            old: None,
            new: Some(rest),
        },
        BOTH => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (new, old) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            Change {
                old: Some(old),
                new: Some(new),
            }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_was_encoded_is_read(old: Option<Vec<u8>>, new: Option<Vec<u8>>) {
            let change = Change { old: old.as_deref(), new: new.as_deref() };
            match encode(change) {
                Some(bytes) => proptest::prop_assert_eq!(decode(&bytes), Some(change)),
                None => proptest::prop_assert!(old.is_none() && new.is_none()),
            }
        }

        #[test]
        fn other_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn the_layout_is_kafkas() {
        let both = Change {
            old: Some(b"o"),
            new: Some(b"nn"),
        };
        assert_eq!(encode(both).unwrap(), b"\0\0\0\x02nno\x02");
        assert_eq!(decode(b"\0\0\0\x09nno\x02"), None);
    }
}
