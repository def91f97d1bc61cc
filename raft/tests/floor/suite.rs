//! openraft's own suite for log storage and state machine, over the real journal.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use openraft::StorageError;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use storage::ShardId;
use storage::disk::{Disk, SimDisk};
use storage::journal::{Journal, JournalConfig};

use super::ledger::Ledger;
use crate::machine::Machine;
use crate::snapshot::Checkpoints;
use crate::status::Status;
use crate::store::{CacheLimits, Log};
use crate::types::{Entry, EntryPayload, LogId, Types};

/// Every store is another shard of one journal.
struct Stores {
    disk: Disk,
    journal: Journal,
    next: AtomicU32,
    caches: CacheLimits,
}

impl StoreBuilder<Types, Log, Machine<Ledger>, ()> for Stores {
    async fn build(&self) -> Result<((), Log, Machine<Ledger>), StorageError<Types>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let log = Log::open(
            self.journal.clone(),
            ShardId(id),
            self.caches,
            Arc::default(),
        );
        let log = log.unwrap();
        let path = Path::new("/suite").join(format!("{id}.checkpoint"));
        let checkpoints = Arc::new(Checkpoints::open(self.disk.clone(), path).unwrap());
        let status = Arc::new(Status::new(u64::MAX));
        let ledger = Ledger::default();
        ledger.view().allows_gaps = true;
        let machine = Machine::open(ledger, log.clone(), checkpoints, status).unwrap();
        Ok(((), log, machine))
    }
}

fn check(cache_bytes_max: usize) {
    let disk = Disk::Sim(SimDisk::new(1));
    disk.create_dir_all(Path::new("/suite")).unwrap();
    let config = JournalConfig {
        file_bytes: 1 << 20,
        ..JournalConfig::new(format!("/suite/journal{cache_bytes_max}").into())
    };
    let journal = Journal::open(&disk, config).unwrap();
    let stores = Stores {
        disk,
        journal,
        next: AtomicU32::new(0),
        caches: CacheLimits {
            open_bytes: cache_bytes_max,
            bytes_max: cache_bytes_max,
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(Suite::test_all(stores)).unwrap();
}

#[test]
fn the_store_keeps_openrafts_contract() {
    check(1 << 20);
}

#[test]
fn the_store_keeps_openrafts_contract_without_its_cache() {
    check(0);
}

#[tokio::test]
async fn what_is_applied_is_never_cut_off_the_log() {
    let disk = Disk::Sim(SimDisk::new(1));
    disk.create_dir_all(Path::new("/cut")).unwrap();
    let config = JournalConfig {
        file_bytes: 1 << 20,
        ..JournalConfig::new("/cut/journal".into())
    };
    let journal = Journal::open(&disk, config).unwrap();
    let caches = CacheLimits {
        open_bytes: 1 << 20,
        bytes_max: 1 << 20,
    };
    let mut log = Log::open(journal, ShardId(1), caches, Arc::default()).unwrap();
    let entries = (0..4).map(|index| Entry {
        log_id: LogId::new_term_index(1, index),
        payload: EntryPayload::Blank,
    });
    log.blocking_append(entries.collect::<Vec<_>>())
        .await
        .unwrap();
    log.applied(&LogId::new_term_index(1, 2), false);

    for kept in [None, Some(LogId::new_term_index(1, 1))] {
        assert!(log.truncate_after(kept).await.is_err(), "{kept:?}");
        assert_eq!(log.ends().1.map(|last| last.index.0), Some(3));
    }
    let kept = LogId::new_term_index(1, 2);
    log.truncate_after(Some(kept)).await.unwrap();
    assert_eq!(log.ends().1.map(|last| last.index.0), Some(2));
}
