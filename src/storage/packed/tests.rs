use super::*;
use crate::storage::{codec, pb::EventRecord};
use bytes::Bytes;
use prost::Message;

const FIRST: u64 = 65;

fn encoded(number: u64) -> Vec<u8> {
    let payload = format!(r#"{{"_id":"e{number}","eventType":"commerce.purchases","n":{number}}}"#);
    EventRecord {
        dataset: 1,
        event_id: format!("e{number}").into(),
        payload: Bytes::from(payload.repeat(3)),
        ..EventRecord::default()
    }
    .encode_to_vec()
}

/// Packs 64 records, those of `removed` without bytes, each stored a microsecond after the one before.
fn packed(dictionary: &[u8], removed: &[u64]) -> (Header, Vec<u8>) {
    let bytes: Vec<_> = (FIRST..FIRST + 64)
        .map(|number| if removed.contains(&number) { Vec::new() } else { encoded(number) })
        .collect();
    let records: Vec<_> = (1_000..)
        .zip(&bytes)
        .map(|(us, bytes)| RawRecord { record_time: Timestamp::from_micros(us), bytes })
        .collect();
    let mut compressor = FrameCompressor::new(dictionary).unwrap();
    let number = u32::from(!dictionary.is_empty());
    pack(Position::new(FIRST), &records, number, &mut compressor, 1024).unwrap()
}

fn open(bytes: Vec<u8>, dictionary: &[u8]) -> Result<PackedBlock, StorageError> {
    PackedBlock::open(bytes, |_number| Ok(Arc::new(Dictionary::new(dictionary).unwrap())))
}

fn made_dictionary() -> Vec<u8> {
    let samples: Vec<_> = (0..200).map(encoded).collect();
    let samples: Vec<_> = samples.iter().map(Vec::as_slice).collect();
    codec::train(&samples).unwrap()
}

#[test]
fn every_record_is_found_by_itself_and_in_order() {
    for dictionary in [Vec::new(), made_dictionary()] {
        let removed = [FIRST, FIRST + 7, FIRST + 63];
        let (header, bytes) = packed(&dictionary, &removed);
        let parts = bytes.len().div_ceil(1024);
        assert_eq!((usize::from(header.parts), header.count), (parts, 64));
        let block = open(bytes, &dictionary).unwrap();
        assert_eq!(block.header, header);
        assert!(block.runs().count() > 4, "several frames");
        for number in FIRST..FIRST + 64 {
            let position = Position::new(number);
            let run = block.run(position).unwrap().unwrap();
            let record = run.raw(position).unwrap();
            let us = i64::try_from(1_000 + number - FIRST).unwrap();
            assert_eq!(record.record_time.micros(), us);
            let expected = if removed.contains(&number) { Vec::new() } else { encoded(number) };
            assert_eq!(record.bytes, expected);
        }
        assert!(block.run(Position::new(FIRST - 1)).unwrap().is_none());
        assert!(block.run(Position::new(FIRST + 64)).unwrap().is_none());
    }
}

#[test]
fn a_dictionary_makes_small_frames_small() {
    let dictionary = made_dictionary();
    let (with, without) = (packed(&dictionary, &[]).1.len(), packed(&[], &[]).1.len());
    assert!(with * 5 < without * 4, "{with} with a dictionary, {without} without");
}

#[test]
fn a_block_of_removed_events_is_a_header() {
    let all: Vec<_> = (FIRST..FIRST + 64).collect();
    let (_, bytes) = packed(&[], &all);
    assert_eq!(bytes.len(), HEADER_LEN);
    let run = open(bytes, &[]).unwrap().run(Position::new(FIRST + 9)).unwrap().unwrap();
    assert_eq!((run.first, run.count()), (Position::new(FIRST), 64));
    assert!(run.raw(Position::new(FIRST + 9)).unwrap().bytes.is_empty());
}

#[test]
fn any_flipped_bit_is_noticed() {
    let dictionary = made_dictionary();
    let (_, sound) = packed(&dictionary, &[FIRST + 2]);
    for bit in 0..sound.len() * 8 {
        let mut broken = sound.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(open(broken, &dictionary).is_err(), "bit {bit} went unnoticed");
    }
    for length in 0..sound.len() {
        assert!(open(sound[..length].to_vec(), &dictionary).is_err(), "{length} bytes");
    }
}
