//! Kafka's default partitioner, so that records keyed by Java producers and by us meet in the same partition.

/// Java client's `Utils.murmur2`, bit for bit.
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut h: u32 = SEED ^ (data.len() as u32);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of `key` among `count` (at least 1) as Kafka's default partitioner chooses it.
/// A null key goes to partition 0 here; callers that want to spread null keys choose before they ask.
pub fn partition_of(key: Option<&[u8]>, count: i32) -> i32 {
    match key {
        Some(key) => ((murmur2(key) & 0x7fff_ffff) % (count.max(1) as u32)) as i32,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the Java client's own test.
    #[test]
    fn murmur2_agrees_with_java() {
        let cases: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (text, hash) in cases {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }
}
