//! What a row of a table takes out of a group and what it adds, in one value.
//!
//! The layout is that of Kafka Streams' repartition topics of grouped tables (KIP-904): the old value and a 0; the new
//! value and a 1; or the length of the new value as Kafka's variable-length number, the new value, the old one, and a 2.

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
            let mut bytes = Vec::with_capacity(LENGTH_BYTES_MAX + new.len() + old.len() + 1);
            write_length(u32::try_from(new.len()).ok()?, &mut bytes);
            bytes.extend_from_slice(new);
            bytes.extend_from_slice(old);
            (bytes, BOTH)
        }
    };
    bytes.push(flag);
    Some(bytes)
}

/// Seven bits a byte.
const LENGTH_BYTES_MAX: usize = 5;

/// As `ByteUtils.writeVarint`: twice the number, for the lowest bit is the sign; seven bits a byte, the lowest first, all
/// bytes but the last with their highest bit set.
fn write_length(length: u32, to: &mut Vec<u8>) {
    let mut left = u64::from(length) << 1;
    while left >= 0x80 {
        to.push(left as u8 | 0x80);
        left >>= 7;
    }
    to.push(left as u8);
}

/// The length and what follows it; `None`: there is none.
fn read_length(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut doubled = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(LENGTH_BYTES_MAX) {
        doubled |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            // A negative length is none.
            let length = (doubled & 1 == 0).then_some(doubled >> 1)?;
            return Some((u32::try_from(length).ok()?, bytes.get(index + 1..)?));
        }
    }
    None
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
            let (length, rest) = read_length(rest)?;
            let (new, old) = rest.split_at_checked(length as usize)?;
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

    /// Bytes that `ChangedSerializer` of Kafka Streams 4.3.1 wrote.
    #[test]
    fn the_layout_is_kafkas() {
        let long = vec![b'y'; 300];
        type Part<'a> = Option<&'a [u8]>;
        let rows: [(Part<'_>, Part<'_>, Vec<u8>); 6] = [
            (Some(b"nn"), Some(b"o"), b"\x04nno\x02".to_vec()),
            (Some(b"nn"), None, b"nn\x01".to_vec()),
            (None, Some(b"o"), b"o\0".to_vec()),
            (Some(b""), Some(b""), b"\0\x02".to_vec()),
            (Some(b""), None, b"\x01".to_vec()),
            (Some(&long), Some(b"o"), [b"\xd8\x04", &long[..], b"o\x02"].concat()),
        ];
        for (new, old, bytes) in rows {
            let change = Change { old, new };
            assert_eq!(encode(change).unwrap(), bytes);
            assert_eq!(decode(&bytes), Some(change));
        }
        // More than there is; a negative length; one without an end.
        for bytes in [&b"\x12nno\x02"[..], b"\x03nno\x02", b"\xff\xff\xff\xff\xff\x02"] {
            assert_eq!(decode(bytes), None);
        }
    }
}
