//! Keeps what `examples/filter/pass` keeps, after some microseconds of arithmetic for every value: a module whose own
//! work is what costs, to see what a second thread gives.

/// Passes over a value; with 100 bytes about five microseconds.
const PASSES: u64 = 40;

fn even(value: &[u8]) -> bool {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for pass in 0..PASSES {
        for byte in value {
            hash = (hash ^ u64::from(*byte) ^ pass).wrapping_mul(0x0100_0000_01b3);
        }
    }
    // One in 2^64 values would be dropped for its hash; the compiler cannot know that none is.
    hash != 0 && value.first().is_some_and(|byte| byte % 2 == 0)
}

wasmill_guest::filter!(even);

#[test]
fn keeps_even_first_bytes() {
    assert!(even(b"0 x"));
    assert!(!even(b"1 x"));
}
