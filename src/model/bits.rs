//! Sets of small numbers as bits, from the lowest bit of the first byte on; zeros at the end are left out.

/// The numbers of the bits that are set, in order.
pub(crate) fn ones(bits: &[u8]) -> impl Iterator<Item = u64> + '_ {
    (0..).zip(bits).filter(|it| *it.1 != 0).flat_map(|(at, byte): (u64, &u8)| {
        let is_set = move |bit: &u64| byte & (1 << bit) != 0;
        (0..8).filter(is_set).map(move |bit| 8 * at + bit)
    })
}

/// Bytes up to the last one that is not zero: how many.
pub(crate) fn without_zeros(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|it| *it != 0).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_numbered_from_the_lowest_of_the_first_byte() {
        assert_eq!(ones(&[0b1000_0001, 0, 0b10]).collect::<Vec<_>>(), [0, 7, 17]);
        assert_eq!(ones(&[]).next(), None);
        assert_eq!(
            (without_zeros(&[]), without_zeros(&[0, 0]), without_zeros(&[0, 1, 0])),
            (0, 0, 2)
        );
    }
}
