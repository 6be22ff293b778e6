//! What targets put together from bytes: words, now and then any text, and lists.

use arbitrary::{Result, Unstructured};

pub fn word(u: &mut Unstructured<'_>, words: &[&str]) -> Result<String> {
    if u.ratio(1, 6)? {
        let length = u.int_in_range(0..=12)?;
        let bytes = u.bytes(length.min(u.len()))?;
        return Ok(String::from_utf8_lossy(bytes).into_owned());
    }
    Ok((*u.choose(words)?).to_owned())
}

/// `most` at most: bytes that are used up would never end a list.
pub fn list<T>(u: &mut Unstructured<'_>, most: usize, of: fn(&mut Unstructured<'_>) -> Result<T>) -> Result<Vec<T>> {
    let count = u.int_in_range(0..=most)?;
    (0..count).map(|_| of(u)).collect()
}
