//! A piece of a postings list, as it lies in a row of terms.
//!
//! Postings are offsets from the segment's start, ascending. A piece is
//! `[count * 2 + form: varint][first: varint]`, and with more than one posting
//! `[last - first: varint][length: varint][length bytes]`: those between the first and the last, as
//! deltas (form 0) or as a bitmap that begins after the first (form 1), whichever is shorter. So
//! pieces are counted and passed over without decoding them.

use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

/// Postings of one piece; a longer list goes on in the next. Bounds what a narrow question decodes.
pub(super) const PIECE_POSTINGS_MAX: usize = 1024;

#[derive(Clone, Copy, Debug)]
enum Form {
    Deltas,
    Bitmap,
}

/// A piece that is not decoded yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) count: u32,
    pub(super) first: u32,
    pub(super) last: u32,
    form: Form,
    between: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Takes a piece off the front of `bytes`; `None` when there is none.
    pub(super) fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let head = number(bytes)?;
        let form = if head % 2 == 1 { Form::Bitmap } else { Form::Deltas };
        let (count, first) = (head / 2, number(bytes)?);
        if count < 2 {
            return (count == 1).then_some(Self { count, first, last: first, form, between: &[] });
        }
        let last = first.checked_add(number(bytes)?)?;
        let length = usize::try_from(number(bytes)?).ok()?;
        let (between, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(Self { count, first, last, form, between })
    }

    /// Calls `f` with every posting, in order; `None` when the piece does not decode.
    pub(super) fn each(&self, mut f: impl FnMut(u32)) -> Option<()> {
        f(self.first);
        if self.count == 1 {
            return Some(());
        }
        let mut count = 2_u32;
        match self.form {
            Form::Deltas => {
                let (mut at, mut rest) = (self.first, self.between);
                while !rest.is_empty() {
                    at = at.checked_add(number(&mut rest)?).filter(|it| *it < self.last)?;
                    count += 1;
                    f(at);
                }
            }
            Form::Bitmap => {
                let (words, rest) = self.between.as_chunks::<8>();
                let mut tail = [0; 8];
                tail.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                let mut at = self.first.checked_add(1)?;
                for word in words.iter().chain([&tail]) {
                    let mut bits = u64::from_le_bytes(*word);
                    count += bits.count_ones();
                    while bits != 0 {
                        f(at.checked_add(bits.trailing_zeros())?);
                        bits &= bits - 1;
                    }
                    at = at.saturating_add(64);
                }
            }
        }
        f(self.last);
        (count == self.count).then_some(())
    }

    /// Calls `f` with those of the ascending `wanted` that are postings; `None` when the piece does
    /// not decode.
    pub(super) fn each_of(
        &self,
        wanted: impl Iterator<Item = u32>,
        mut f: impl FnMut(u32),
    ) -> Option<()> {
        let mut wanted = wanted.peekable();
        if matches!(self.form, Form::Bitmap) {
            wanted.filter(|it| self.has_bit(*it)).for_each(f);
            return Some(());
        }
        self.each(|posting| {
            while wanted.next_if(|it| *it < posting).is_some() {}
            if wanted.next_if_eq(&posting).is_some() {
                f(posting);
            }
        })
    }

    /// Whether a bitmap has a posting.
    fn has_bit(&self, posting: u32) -> bool {
        if posting == self.first || posting == self.last {
            return true;
        }
        let Some(bit) = posting.checked_sub(self.first + 1) else { return false };
        let byte = usize::try_from(bit / 8).ok().and_then(|byte| self.between.get(byte));
        byte.is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
    }

    /// Whether more pieces of the same term may follow.
    pub(super) fn may_go_on(&self) -> bool {
        usize::try_from(self.count).is_ok_and(|count| count >= PIECE_POSTINGS_MAX)
    }
}

/// Appends a piece of these ascending postings.
pub(super) fn encode(postings: &[u32], out: &mut Vec<u8>) {
    debug_assert!(postings.len() <= PIECE_POSTINGS_MAX && postings.is_sorted_by(|a, b| a < b));
    let Some((first, rest)) = postings.split_first() else { return };
    let count = postings.len() as u64;
    let Some((last, between)) = rest.split_last() else {
        encode_varint(count * 2, out);
        encode_varint(u64::from(*first), out);
        return;
    };
    let deltas = || {
        let earlier = std::iter::once(first).chain(between);
        between.iter().zip(earlier).map(|(posting, earlier)| u64::from(posting - earlier))
    };
    let deltas_len: usize = deltas().map(encoded_len_varint).sum();
    let reach = last - first;
    let bitmap_len = usize::try_from((reach - 1).div_ceil(8)).unwrap_or(usize::MAX);
    let as_bitmap = bitmap_len < deltas_len;

    encode_varint(count * 2 + u64::from(as_bitmap), out);
    encode_varint(u64::from(*first), out);
    encode_varint(u64::from(reach), out);
    encode_varint(deltas_len.min(bitmap_len) as u64, out);
    if as_bitmap {
        let start = out.len();
        out.resize(start + bitmap_len, 0);
        for posting in between {
            let bit = posting - first - 1;
            let byte = usize::try_from(bit / 8).ok().and_then(|byte| out.get_mut(start + byte));
            if let Some(byte) = byte {
                *byte |= 1 << (bit % 8);
            }
        }
    } else {
        deltas().for_each(|delta| encode_varint(delta, out));
    }
}

/// Takes a number off the front of `bytes`.
pub(super) fn number(bytes: &mut &[u8]) -> Option<u32> {
    decode_varint(bytes).ok().and_then(|it| u32::try_from(it).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(postings: &[u32], bytes_max: usize) {
        let mut bytes = Vec::new();
        encode(postings, &mut bytes);
        assert!(bytes.len() <= bytes_max, "{} bytes", bytes.len());
        let mut rest = bytes.as_slice();
        let piece = Piece::take(&mut rest).unwrap();
        assert!(rest.is_empty());
        let ends = (piece.first, piece.last, usize::try_from(piece.count).unwrap());
        assert_eq!(ends, (postings[0], *postings.last().unwrap(), postings.len()));
        let mut decoded = Vec::new();
        piece.each(|it| decoded.push(it)).unwrap();
        assert_eq!(decoded, postings);
        for step in [1, 3, 64] {
            let wanted =
                (postings[0].saturating_sub(9)..=piece.last.saturating_add(9)).step_by(step);
            let mut found = Vec::new();
            piece.each_of(wanted.clone().take(50_000), |it| found.push(it)).unwrap();
            let wanted = wanted.take(50_000).filter(|it| postings.binary_search(it).is_ok());
            assert_eq!(found, wanted.collect::<Vec<_>>());
        }
        for cut in 0..bytes.len() {
            let piece = Piece::take(&mut &bytes[..cut]);
            assert!(piece.is_none(), "cut to {cut} bytes it is still a piece");
        }
    }

    #[test]
    fn pieces_come_back_and_take_the_shorter_form() {
        check(&[1], 2);
        check(&[70_000], 4);
        check(&[1, 2], 4);
        check(&[5, u32::MAX], 8);
        check(&[1, 9, 200], 7);
        let dense: Vec<u32> = (1..=1024).collect();
        check(&dense, 128 + 7);
        let sparse: Vec<u32> = (1..=1024).map(|it| it * 100).collect();
        check(&sparse, 1022 + 8);
        let half: Vec<u32> = (1..=1000).map(|it| it * 2 + it % 2).collect();
        check(&half, 250 + 8);
    }

    #[test]
    fn a_wrong_count_is_noticed() {
        for postings in [vec![1, 3, 4, 400], (1..200).collect()] {
            let mut bytes = Vec::new();
            encode(&postings, &mut bytes);
            let mut wrong = Vec::new();
            let head = number(&mut bytes.as_slice()).unwrap();
            let tail = &bytes[encoded_len_varint(u64::from(head))..];
            for count in [head - 2, head + 2] {
                wrong.clear();
                encode_varint(u64::from(count), &mut wrong);
                wrong.extend_from_slice(tail);
                let piece = Piece::take(&mut wrong.as_slice()).unwrap();
                assert!(piece.each(|_| ()).is_none());
            }
        }
    }
}
