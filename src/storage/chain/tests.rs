use tempfile::TempDir;

use super::*;

fn at(number: u64) -> Position {
    Position::new(number)
}

fn opened(directory: &TempDir) -> Result<Chain, StorageError> {
    Chain::open(directory.path(), &Arc::new(Poison::default()))
}

/// A chain with ended volumes up to these positions, written; nothing is packed in them.
fn chain(directory: &TempDir, ends: &[u64]) -> Chain {
    let mut chain = opened(directory).unwrap();
    for end in ends {
        let number = chain.take_number();
        let poison = Arc::new(Poison::default());
        let next = Volume::open(directory.path(), number, at(*end), poison).unwrap();
        chain.roll(at(*end), next);
    }
    chain
}

/// `(after, until, number)` of each link; 0 for no volume.
fn outline(chain: &Chain) -> Vec<(u64, u64, u32)> {
    let number = |link: &Link| link.volume.as_ref().map_or(0, |volume| volume.number);
    chain.links().iter().map(|it| (it.after.get(), it.until.get(), number(it))).collect()
}

#[test]
fn positions_are_found_in_their_span() {
    let directory = tempfile::tempdir().unwrap();
    let chain = chain(&directory, &[10, 20]);
    assert_eq!(outline(&chain), [(0, 10, 1), (10, 20, 2), (20, u64::MAX, 3)]);
    for (position, number) in [(1, 1), (10, 1), (11, 2), (20, 2), (21, 3), (1_000, 3)] {
        let link = chain.find(at(position)).unwrap();
        assert_eq!(link.volume.as_ref().unwrap().number, number, "position {position}");
    }
    assert!(chain.find(Position::START).is_none());
}

#[test]
fn volumes_are_replaced_joined_and_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let mut chain = chain(&directory, &[10, 20, 30, 40]);
    let volume = Arc::clone(chain.active().unwrap());
    chain.replace(at(10), at(30), Some(Arc::clone(&volume)));
    assert_eq!(outline(&chain), [(0, 10, 1), (10, 30, 5), (30, 40, 4), (40, u64::MAX, 5)]);
    chain.replace(at(10), at(30), None);
    chain.replace(at(0), at(10), None);
    assert_eq!(outline(&chain), [(0, 30, 0), (30, 40, 4), (40, u64::MAX, 5)]);
    chain.replace(at(30), at(40), None);
    assert_eq!(outline(&chain), [(0, 40, 0), (40, u64::MAX, 5)]);
}

#[test]
fn what_the_manifest_does_not_name_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    drop(opened(&directory).unwrap());
    let stray = directory.path().join(volume::name(7));
    fs::create_dir(&stray).unwrap();
    assert_eq!(outline(&opened(&directory).unwrap()), [(0, u64::MAX, 1)]);
    assert!(!stray.exists());
}

#[test]
fn a_manifest_that_is_damaged_or_does_not_match_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let sound = chain(&directory, &[10]);
    sound.write(directory.path()).unwrap();
    drop(sound);
    // The first volume is empty, yet ends at 10.
    let refused = |text: &str, wanted: &str| {
        fs::write(directory.path().join(MANIFEST), text).unwrap();
        let error = opened(&directory).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    };
    refused("milepost volumes 3\n0 10 1\n10 - 2\n", "damaged");
    refused("milepost volumes 3\n0 10 1\n", "no last volume");
    refused("milepost volumes 3\n0 10 1\n11 - 2\n", "11 - 2");
    refused("milepost volumes 3\n0 10 9\n10 - 2\n", "volume 9 is missing");
    refused("milepost volumes x\n0 - 1\n", "milepost volumes x");
    refused("", "holds ``");
}
