use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jepsen_control::control::Word;
use jepsen_workload::fault::DiskFault;

use super::{Counts, NodeDisk};

/// Gone with the value.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A data directory with a file of each kind, and some that are never damaged.
fn disk(name: &str) -> (Dir, NodeDisk) {
    let root = std::env::temp_dir().join(format!("jepsen-disk-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    let data = root.join("data");
    let files = [
        "identity",
        "lock",
        "run",
        "journal/1.journal",
        "journal/2.spare",
        "shards/0.checkpoint",
        "partitions/a-0/0.log",
        "partitions/a-0/0.index",
        "partitions/a-0/0.start",
        "partitions/a-0/staged/5.log",
        "partitions/b-0.deleted/0.log",
    ];
    for file in files {
        let path = data.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let len = if file.ends_with(".start") { 0 } else { 3000 };
        fs::write(path, vec![7; len]).unwrap();
    }
    let disk = NodeDisk::new(&data, &root.join("side")).unwrap();
    (Dir(root), disk)
}

fn platter(disk: &NodeDisk, file: &str) -> PathBuf {
    let id = jepsen_control::crash::find(&disk.data_dir, &disk.side, file).unwrap();
    disk.side.platter(id.unwrap())
}

#[test]
fn a_flip_changes_one_bit_in_the_file_and_on_the_platter() {
    let (_dir, disk) = disk("flip");
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let damage = disk.flip_bit(seed).unwrap();
        seen.insert((damage.kind, damage.file.clone()));
        let path = disk.data_dir().join(&damage.file);
        let bytes = fs::read(&path).unwrap();
        let flipped: u32 = bytes.iter().map(|byte| (byte ^ 7).count_ones()).sum();
        assert_eq!(flipped, 1, "{damage:?}");
        assert_eq!(bytes, fs::read(platter(&disk, &damage.file)).unwrap());
        // Flipped back, so that the next one is alone.
        assert_eq!(disk.flip_bit(seed).unwrap().file, damage.file);
    }
    let seen: Vec<_> = seen.iter().map(|(k, f)| (*k, f.as_str())).collect();
    assert_eq!(
        seen,
        [
            ("index", "partitions/a-0/0.index"),
            ("journal", "journal/1.journal"),
            ("segment", "partitions/a-0/0.log"),
        ]
    );
}

#[test]
fn what_is_cut_short_or_deleted_stays_so_when_power_goes() {
    let (_dir, disk) = disk("cut");
    let cut = disk.truncate_file(1).unwrap();
    let len = fs::metadata(disk.data_dir().join(&cut.file)).unwrap().len();
    assert!(len < 3000);
    let mut deleted = BTreeSet::new();
    for seed in 0..4 {
        let damage = disk.delete_file(seed).unwrap();
        assert!(!disk.data_dir().join(&damage.file).exists());
        deleted.insert(damage.file);
    }
    assert_eq!(deleted.len(), 4);
    disk.cut_power(9).unwrap();
    for file in &deleted {
        assert!(!disk.data_dir().join(file).exists(), "{file}");
    }
    if !deleted.contains(&cut.file) {
        assert_eq!(
            fs::metadata(disk.data_dir().join(&cut.file)).unwrap().len(),
            len
        );
    }
    for left_alone in ["identity", "shards/0.checkpoint", "journal/2.spare"] {
        assert!(disk.data_dir().join(left_alone).exists());
    }
}

#[test]
fn each_power_cut_is_another_boot() {
    let (_dir, disk) = disk("boot");
    let mut boots = BTreeSet::from([fs::read(disk.side.boot_id()).unwrap()]);
    for seed in 0..3 {
        disk.cut_power(seed).unwrap();
        assert!(boots.insert(fs::read(disk.side.boot_id()).unwrap()));
    }
}

#[tokio::test]
async fn a_fault_that_nobody_feels_is_told_and_one_that_is_felt_too() {
    let (_dir, disk) = disk("felt");
    let within = Duration::from_millis(60);
    let before = disk.counts().unwrap();
    assert_eq!(before, Counts::default());
    disk.set(Some(DiskFault::SyncError)).unwrap();
    assert_eq!(disk.control.get(Word::SyncFault).unwrap(), 1);
    let felt = disk.felt(DiskFault::SyncError, before, within).await;
    assert!(felt.unwrap_err().to_string().contains("nothing seen"));
    disk.control.set(Word::SyncErrors, 3).unwrap();
    let felt = disk.felt(DiskFault::SyncError, before, within).await;
    assert_eq!(felt.unwrap(), "3 syncs failed");
    disk.set(None).unwrap();
    assert_eq!(disk.control.get(Word::SyncFault).unwrap(), 0);
    disk.set_clock_offset_ms(-5).unwrap();
    assert!(disk.clock_felt(before, within).await.is_err());
    disk.control.set(Word::ClockReads, 1).unwrap();
    disk.control
        .set(Word::ClockSeenMs, (-5_i64).cast_unsigned())
        .unwrap();
    assert!(disk.clock_felt(before, within).await.is_ok());
}

#[test]
fn what_the_library_does_not_know_ends_the_run() {
    let (_dir, disk) = disk("trouble");
    fs::write(disk.side.trouble(), "something new\n").unwrap();
    disk.control.set(Word::Trouble, 1).unwrap();
    let error = disk.counts().unwrap_err().to_string();
    assert!(error.ends_with("something new"), "{error}");
    assert!(disk.cut_power(1).is_err());
}

#[test]
fn a_node_whose_syncs_are_not_seen_cannot_lose_power() {
    let (_dir, disk) = disk("unseen");
    disk.control.set(Word::NameChanges, 20).unwrap();
    let error = disk.cut_power(1).unwrap_err().to_string();
    assert!(error.contains("use-libc"), "{error}");
    disk.control.set(Word::Syncs, 1).unwrap();
    disk.cut_power(1).unwrap();
}

#[test]
fn the_library_is_beside_the_tests() {
    let (_dir, disk) = disk("library");
    let environment = disk.environment();
    assert!(Path::new(&environment[0].1).is_absolute());
    assert!(Path::new(&environment[0].1).exists());
}
