//! The order in which an epoch visits the images. Integers only, so it is the same on every machine; never the system's random numbers.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood 2014), used as a counter: draw `i` of a key is `mix(key + (i + 1) * GOLDEN)` and
//! depends on no other draw. The key of an epoch is `mix(seed * 2^32 + epoch)`: mixed, since keys that differ by little would
//! otherwise be neighbours in one sequence. The shuffle is Fisher and Yates', from the end, with `j = floor(draw * (i + 1) / 2^64)`
//! in 128-bit integers; no draw is rejected, and the bias is below `count / 2^64`.

/// 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The permutation of `0..count` for one epoch of a run; any epoch can be had without those before it.
///
/// `count` is at most 2^32.
pub fn epoch_order(seed: u32, epoch: u32, count: usize) -> Vec<u32> {
    assert!(count as u64 <= 1 << 32, "an epoch of {count} images: indices have 32 bits");
    let key = mix(u64::from(seed) << 32 | u64::from(epoch));
    let mut order: Vec<u32> = (0..count).map(|index| index as u32).collect();
    for (at, last) in (1..count).rev().enumerate() {
        let below = ((u128::from(draw(key, at as u64)) * (last as u128 + 1)) >> 64) as usize;
        order.swap(last, below);
    }
    order
}

fn draw(key: u64, at: u64) -> u64 {
    mix(key.wrapping_add((at + 1).wrapping_mul(GOLDEN)))
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the published reference program for seed 1234567.
    #[test]
    fn draws_are_splitmix64() {
        let draws = [draw(1_234_567, 0), draw(1_234_567, 1), draw(1_234_567, 2)];
        assert_eq!(draws, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    /// Computed by an independent Python program.
    #[test]
    fn known_orders() {
        assert_eq!(epoch_order(0, 0, 10), [4, 9, 2, 5, 1, 7, 6, 0, 3, 8]);
        assert_eq!(epoch_order(7, 0, 10), [6, 9, 1, 4, 3, 2, 0, 5, 8, 7]);
        assert_eq!(epoch_order(7, 1, 10), [1, 2, 3, 7, 5, 4, 8, 0, 6, 9]);
        assert_eq!(epoch_order(u32::MAX, u32::MAX, 10), [5, 3, 7, 1, 8, 4, 0, 2, 9, 6]);
        assert_eq!(epoch_order(0, 0, 60_000)[..6], [14_406, 19_635, 56_127, 29_872, 40_125, 4_758]);
    }

    #[test]
    fn every_index_once() {
        for count in [0, 1, 2, 3, 128, 10_000] {
            let mut order = epoch_order(3, 5, count);
            order.sort_unstable();
            assert!(order.into_iter().eq(0..count as u32), "count {count}");
        }
    }

    #[test]
    fn seeds_and_epochs_differ() {
        let orders = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)].map(|(seed, epoch)| epoch_order(seed, epoch, 1000));
        for (at, one) in orders.iter().enumerate() {
            for other in &orders[..at] {
                let same = one.iter().zip(other).filter(|(a, b)| a == b).count();
                // Two independent permutations share one place on average.
                assert!(same < 10, "{same} places of 1000 agree");
            }
        }
    }

    /// Each value is as likely in the first place as any other: 6,000 epochs of 6 images, 1,000 expected, deviation 29.
    #[test]
    fn no_favourite_first_image() {
        let mut firsts = [0; 6];
        for epoch in 0..6000 {
            firsts[epoch_order(11, epoch, 6)[0] as usize] += 1;
        }
        assert!(firsts.iter().all(|count| (860..1140).contains(count)), "{firsts:?}");
    }
}
