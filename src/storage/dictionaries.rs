//! A volume's dictionaries. Without its dictionary no event of a block can be read, so each is kept
//! twice, in trees that share no page, and carries its own checksum.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use crate::storage::{StorageError, codec::Dictionary};

const MAGIC: [u8; 4] = *b"MPD2";
const HEADER_LEN: usize = 4 + 4 + 4 + 4;

/// The dictionaries of a volume, and those of them that are in use.
#[derive(Debug)]
pub(crate) struct Dictionaries {
    /// `[number: u32] -> dictionary`, twice.
    trees: [sled::Tree; 2],
    open: RwLock<HashMap<u32, Arc<Dictionary>>>,
}

impl Dictionaries {
    pub(crate) fn new(trees: [sled::Tree; 2]) -> Self {
        Self { trees, open: RwLock::default() }
    }

    /// Writes a dictionary; durable only when the volume is synced.
    pub(crate) fn put(&self, number: u32, bytes: &[u8]) -> Result<(), StorageError> {
        let row = seal(number, bytes);
        for tree in &self.trees {
            tree.insert(number.to_be_bytes(), row.as_slice())?;
        }
        Ok(())
    }

    /// Every dictionary by its number, as far as one of its copies is sound.
    pub(crate) fn all(&self) -> Result<BTreeMap<u32, Vec<u8>>, StorageError> {
        let mut all = BTreeMap::new();
        let mut failed = None;
        for row in self.trees.iter().flat_map(sled::Tree::iter) {
            match row {
                Ok((_, row)) => all.extend(sound(&row).map(|(it, bytes)| (it, bytes.to_vec()))),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if all.is_empty() => Err(error.into()),
            _ => Ok(all),
        }
    }

    /// A dictionary, ready to be used.
    pub(crate) fn get(&self, number: u32) -> Result<Arc<Dictionary>, StorageError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(dictionary) = open.get(&number) {
            return Ok(Arc::clone(dictionary));
        }
        drop(open);
        let [first, second] = &self.trees;
        let row = read(first, number).or_else(|_| read(second, number))?;
        let bytes = row.get(HEADER_LEN..).unwrap_or_default();
        let dictionary = Arc::new(Dictionary::new(bytes)?);
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(number, Arc::clone(&dictionary));
        Ok(dictionary)
    }

    /// Fails unless both copies of all dictionaries are sound.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        for number in self.all()?.into_keys() {
            for tree in &self.trees {
                Dictionary::new(read(tree, number)?.get(HEADER_LEN..).unwrap_or_default())?;
            }
        }
        Ok(())
    }
}

/// A sound row.
fn read(tree: &sled::Tree, number: u32) -> Result<sled::IVec, StorageError> {
    let row = tree.get(number.to_be_bytes())?;
    let is_sound = |row: &sled::IVec| {
        sound(row).is_some_and(|it| it.0 == number && HEADER_LEN + it.1.len() == row.len())
    };
    let bad =
        || StorageError::corrupt(format!("a copy of dictionary {number} is damaged or missing"));
    row.filter(is_sound).ok_or_else(bad)
}

/// `[magic: 4][number: u32][length: u32][CRC-32C of all before and the dictionary: u32][dictionary]`
fn seal(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEADER_LEN + bytes.len());
    row.extend_from_slice(&MAGIC);
    row.extend_from_slice(&number.to_be_bytes());
    row.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&row), bytes);
    row.extend_from_slice(&crc.to_be_bytes());
    row.extend_from_slice(bytes);
    row
}

/// The number and the bytes of a sound dictionary at the start of `row`, if there is one.
pub(crate) fn sound(row: &[u8]) -> Option<(u32, &[u8])> {
    let (header, rest) = row.split_first_chunk::<HEADER_LEN>()?;
    let (covered, crc) = header.split_last_chunk()?;
    let (magic, fields) = covered.split_first_chunk()?;
    if *magic != MAGIC {
        return None;
    }
    let (number, length) = fields.split_first_chunk()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let bytes = rest.get(..usize::try_from(length).ok()?)?;
    let crc_found = crc32c::crc32c_append(crc32c::crc32c(covered), bytes);
    (crc_found == u32::from_be_bytes(*crc)).then(|| (u32::from_be_bytes(*number), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_copy_is_enough_and_two_are_wanted() {
        let db = sled::Config::new().temporary(true).flush_every_ms(None).open().unwrap();
        let trees = ["a", "b"].map(|name| db.open_tree(name).unwrap());
        let samples: Vec<_> = (0..200).map(|it| format!("sample {} {it}", it * 7919)).collect();
        let samples: Vec<_> = samples.iter().map(String::as_bytes).collect();
        let made = crate::storage::codec::train(&samples).unwrap();
        for damaged in [0, 1] {
            let dictionaries = Dictionaries::new(trees.clone());
            dictionaries.put(1, &made).unwrap();
            dictionaries.put(2, &made).unwrap();
            assert_eq!(dictionaries.all().unwrap().keys().collect::<Vec<_>>(), [&1, &2]);
            dictionaries.check().unwrap();
            let mut row = trees[damaged].get(2_u32.to_be_bytes()).unwrap().unwrap().to_vec();
            row[HEADER_LEN + 5] ^= 1;
            trees[damaged].insert(2_u32.to_be_bytes(), row).unwrap();
            assert!(dictionaries.check().is_err());
            assert_eq!(dictionaries.all().unwrap().len(), 2);
            dictionaries.get(2).unwrap();
            assert!(dictionaries.get(3).is_err());
        }
    }
}
