//! Bytes that are mostly short: keys and aggregates of up to 22 bytes live without an allocation of their own.

use std::cmp::Ordering;
use std::fmt;

const INLINE_MAX: usize = 22;

/// Owned bytes, ordered as unsigned bytes.
#[derive(Clone)]
pub struct Bytes(Form);

#[derive(Clone)]
enum Form {
    Inline { length: u8, data: [u8; INLINE_MAX] },
    Heap(Box<[u8]>),
}

impl Bytes {
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        let mut data = [0; INLINE_MAX];
        match data.get_mut(..bytes.len()) {
            Some(head) => {
                head.copy_from_slice(bytes);
                Self(Form::Inline {
                    length: bytes.len() as u8,
                    data,
                })
            }
            None => Self(Form::Heap(bytes.into())),
        }
    }

    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Form::Inline { length, data } => data.get(..usize::from(*length)).unwrap_or_default(),
            Form::Heap(bytes) => bytes,
        }
    }

    /// Bytes outside of the value itself.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Inline { .. } => 0,
            Form::Heap(bytes) => bytes.len(),
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= INLINE_MAX {
            Self::new(&bytes)
        } else {
            Self(Form::Heap(bytes.into()))
        }
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Bytes {}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl std::borrow::Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}
