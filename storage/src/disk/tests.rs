//! Both disks behave alike where nothing goes wrong; the simulated one loses exactly what was not
//! synced.
#![expect(clippy::cast_possible_truncation, reason = "filler bytes")]

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Runs `check` on the machine's disk and on a simulated one, in an empty directory.
fn on_both(check: impl Fn(&Disk, &Path)) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "disk-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::SeqCst)
    );
    for disk in [Disk::Real, Disk::Sim(SimDisk::new(1))] {
        let directory = std::env::temp_dir().join(&name);
        disk.create_dir_all(&directory).unwrap();
        check(&disk, &directory);
        disk.remove_dir_all(&directory).unwrap();
        assert!(!disk.exists(&directory).unwrap());
    }
}

#[test]
fn written_bytes_are_read_back_across_pieces_and_holes() {
    on_both(|disk, directory| {
        let file = disk
            .open(&directory.join("a"), OpenMode::CreateNew)
            .unwrap();
        let pieces: Vec<Bytes> = (0..3000u32)
            .map(|n| Bytes::from(vec![n as u8; (n % 7) as usize]))
            .collect();
        file.write_vectored_all_at(&pieces, 1000).unwrap();
        let whole = pieces.concat();
        let mut read = vec![0xff; whole.len() + 1000];
        file.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read[..1000], [0; 1000]);
        assert_eq!(&read[1000..], whole);
        assert_eq!(file.len().unwrap(), 1000 + whole.len() as u64);
        assert_eq!(file.read_at(&mut read, file.len().unwrap()).unwrap(), 0);
        let error = file.read_exact_at(&mut read, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        file.set_len(1200).unwrap();
        file.allocate(0, 4000).unwrap();
        assert_eq!(file.len().unwrap(), 4000);
        let mut read = [1; 2800];
        file.read_exact_at(&mut read, 1200).unwrap();
        assert_eq!(read, [0; 2800]);
    });
}

#[test]
fn names_are_made_listed_renamed_and_removed() {
    on_both(|disk, directory| {
        let (a, b, sub) = (
            directory.join("a"),
            directory.join("b"),
            directory.join("x/y"),
        );
        let error = disk.open(&a, OpenMode::ReadWrite).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        disk.write_file_atomic(&a, b"one").unwrap();
        disk.write_file_atomic(&a, b"2").unwrap();
        disk.create_dir_all(&sub).unwrap();
        let names: Vec<DirEntry> = disk.read_dir(directory).unwrap();
        assert_eq!(
            names,
            [("a", false), ("x", true)].map(|(name, is_dir)| DirEntry {
                name: name.into(),
                is_dir
            })
        );
        let error = disk.open(&a, OpenMode::CreateNew).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let open = disk.open(&a, OpenMode::Read).unwrap();
        disk.rename(&a, &b).unwrap();
        assert!(!disk.exists(&a).unwrap());
        assert_eq!(disk.read_file(&b).unwrap(), b"2");
        disk.rename(&directory.join("x"), &directory.join("z"))
            .unwrap();
        assert!(disk.exists(&directory.join("z/y")).unwrap());
        disk.remove_file(&b).unwrap();
        let mut byte = [0];
        open.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(&byte, b"2");
        assert!(disk.free_bytes(directory).unwrap() > 0);
    });
}

#[test]
fn a_lock_is_held_until_its_file_is_dropped() {
    on_both(|disk, directory| {
        let first = disk
            .open(&directory.join("lock"), OpenMode::Create)
            .unwrap();
        let second = disk
            .open(&directory.join("lock"), OpenMode::Create)
            .unwrap();
        assert!(first.try_lock_exclusive().unwrap());
        assert!(!second.try_lock_exclusive().unwrap());
        drop(first);
        assert!(second.try_lock_exclusive().unwrap());
    });
}

#[test]
fn a_real_file_is_mapped_and_a_simulated_one_is_not() {
    on_both(|disk, directory| {
        let file = disk.open(&directory.join("a"), OpenMode::Create).unwrap();
        file.write_all_at(b"mapped", 0).unwrap();
        let map = file.map().unwrap();
        assert_eq!(map.is_some(), matches!(disk, Disk::Real));
        assert!(map.is_none_or(|map| &map[..] == b"mapped"));
    });
}

/// A disk with one durable file of 4 sectors of `1`, and that file's path.
fn sim_with_file(seed: u64) -> (SimDisk, Disk, PathBuf) {
    let sim = SimDisk::new(seed);
    let disk = Disk::Sim(sim.clone());
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let path = PathBuf::from("/d/a");
    disk.write_file_atomic(&path, &[1; 2048]).unwrap();
    (sim, disk, path)
}

#[test]
fn synced_bytes_survive_a_crash_and_others_may_go_sector_by_sector() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let (sim, disk, path) = sim_with_file(seed);
        let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[2; 1024], 0).unwrap();
        sim.crash(seed);
        assert!(file.len().is_err(), "handles die with the power");
        let read = disk.read_file(&path).unwrap();
        assert_eq!(read[1024..], [1; 1024]);
        for sector in [&read[..512], &read[512..1024]] {
            assert!(
                sector.iter().all(|byte| *byte == sector[0]),
                "sectors are not torn inside"
            );
        }
        seen.insert((read[0], read[512]));
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        [(1, 1), (1, 2), (2, 1), (2, 2)]
    );
}

#[test]
fn names_survive_a_crash_only_when_their_directory_was_synced() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let (sim, disk, path) = sim_with_file(seed);
        let other = Path::new("/d/b");
        disk.open(other, OpenMode::CreateNew)
            .unwrap()
            .sync_data()
            .unwrap();
        disk.remove_file(&path).unwrap();
        sim.crash(seed);
        seen.insert((disk.exists(&path).unwrap(), disk.exists(other).unwrap()));
    }
    assert_eq!(seen.len(), 4);
}

#[test]
fn an_atomic_write_leaves_the_old_bytes_or_the_new_at_every_crash_point() {
    for seed in 0..100 {
        for n_ops in 1..7 {
            let (sim, disk, path) = sim_with_file(seed);
            sim.fail_after(n_ops);
            let result = disk.write_file_atomic(&path, &[2; 3000]);
            sim.crash(seed);
            let read = disk.read_file(&path).unwrap();
            assert!(read == [2; 3000] || (read == [1; 2048] && result.is_err()));
        }
    }
}

#[test]
fn a_failed_sync_leaves_its_bytes_in_doubt_for_ever() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let (sim, disk, path) = sim_with_file(seed);
        let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[2; 512], 0).unwrap();
        sim.inject(OpKind::Sync, 1, io::ErrorKind::Other);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(byte, [2], "readable from memory all the same");
        sim.crash(seed);
        seen.insert(disk.read_file(&path).unwrap()[0]);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_full_disk_refuses_and_takes_again_once_something_is_removed() {
    let (sim, disk, path) = sim_with_file(1);
    sim.set_capacity(4096);
    let full = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::StorageFull;
    let file = disk.open(Path::new("/d/b"), OpenMode::Create).unwrap();
    assert!(full(file.allocate(0, 4096)));
    file.allocate(0, 2048).unwrap();
    file.write_all_at(&[3; 2048], 0).unwrap();
    assert!(full(file.write_all_at(&[3; 10], 2048)));
    assert_eq!(disk.free_bytes(&path).unwrap(), 0);
    disk.remove_file(&path).unwrap();
    file.write_all_at(&[3; 10], 2048).unwrap();
}
