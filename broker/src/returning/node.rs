//! This node's side: finds out what it has forgotten, and waits until the cluster takes it back.
//!
//! ```text
//! power lost:  mark returning, Return answered, incarnation, shard 0 gone on without this node:
//!              dropped and begun anew, the catalogue is there, then each shard likewise (`stale.rs`)
//! damaged:     mark returning, Return answered, everything put aside, incarnation, shard 0 as above
//! ```
//! A crash between any two of these leads on from there. Nothing on the disk is touched before the
//! cluster has answered. A node that alone votes for the catalogue waits for nobody: it tells the
//! catalogue itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use raft::{Host, Peers};
use storage::clock::Clock;
use storage::data_dir::{DataDir, Identity, PreviousRun, Returning};
use storage::disk::Disk;
use storage::{NodeId, ShardId};

use crate::bootstrap::shell::is_for_good;
use crate::broker::CATALOGUE_SHARD;
use crate::catalogue::voids::Comeback;
use crate::catalogue::{Catalogue, Void};
use crate::ids::Ids;
use crate::peers::message::{Address, Request, Returned, decode_answer};
use crate::peers::service::{Desk, addresses};
use crate::start::{CatalogueShard, StartError, open_catalogue};
use crate::{BrokerConfig, BrokerError};

/// How long a node may take to answer; the command has to be committed meanwhile.
const ASK_DEADLINE: Duration = Duration::from_secs(12);
/// Pause between two rounds of questions.
const ROUND_PAUSE: Duration = Duration::from_millis(300);
/// Time between two lines of the log about what is waited for.
const LOG_EVERY_MS: i64 = 5_000;

/// What a start knows of the memory of the runs before.
#[derive(Debug)]
pub(crate) struct Memory {
    /// A return that is under way.
    pub(crate) returning: Option<Returning>,
    previous: PreviousRun,
}

/// What it takes to come back.
pub(crate) struct Comer<'a> {
    pub(crate) config: &'a BrokerConfig,
    pub(crate) clock: &'a Clock,
    pub(crate) disk: &'a Disk,
    pub(crate) data_dir: &'a DataDir,
    pub(crate) peers: &'a Peers,
    pub(crate) desk: &'a Desk,
    pub(crate) seed: [u64; 4],
}

/// A node that may take part again.
pub(crate) struct CameBack {
    pub(crate) identity: Identity,
    pub(crate) returning: Option<Returning>,
    /// A return that this node was told not to wait for, and that may have been carried out.
    pub(crate) unanswered: Option<Returning>,
    /// Members that were heard of on the way.
    pub(crate) members: Vec<Address>,
    /// The catalogue's shard, where this node alone votes for it.
    pub(crate) catalogue: Option<CatalogueShard>,
}

enum NotBack {
    /// It may go well when asked again.
    Yet(String),
    ForGood(StartError),
}

fn data_dir_error(error: impl std::fmt::Display) -> StartError {
    StartError::DataDir(error.to_string())
}

impl Memory {
    /// Looks at what the runs before have left. Changes nothing.
    pub(crate) fn look(data_dir: &DataDir) -> Result<Memory, StartError> {
        Ok(Memory {
            returning: data_dir.returning().map_err(data_dir_error)?,
            previous: data_dir.previous_run().map_err(data_dir_error)?,
        })
    }

    /// Whether all that the runs before have written is there, but for what was damaged.
    pub(crate) fn keeps_written(&self) -> bool {
        self.previous.keeps_written()
    }

    /// Whether everything the directory holds is to be put aside, if that has not happened yet.
    pub(crate) fn has_to_put_aside(&self, identity: &Identity) -> bool {
        self.returning.as_ref().is_some_and(|returning| {
            returning.has_lost_all && identity.incarnation != returning.incarnation
        })
    }
}

impl Comer<'_> {
    /// An incarnation that this node never had, also within one process.
    fn draw(&self, before: [u8; 16]) -> [u8; 16] {
        let mut seed = self.seed;
        for (word, bytes) in seed.iter_mut().zip(before.chunks(8)) {
            *word ^= bytes
                .iter()
                .fold(0, |all, byte| all << 8 | u64::from(*byte));
        }
        seed[2] ^= self.clock.wall_ms().unsigned_abs();
        Ids::new(seed).uuid()
    }

    fn save(&self, returning: &Returning) -> Result<(), StartError> {
        self.data_dir
            .set_returning(returning)
            .map_err(data_dir_error)
    }

    fn take_incarnation(
        &self,
        identity: &mut Identity,
        returning: &Returning,
    ) -> Result<(), StartError> {
        if identity.incarnation != returning.incarnation {
            identity.incarnation = returning.incarnation;
            let stored = self.data_dir.set_identity(identity);
            stored.map_err(data_dir_error)?;
        }
        self.desk.set_member(identity.clone());
        Ok(())
    }

    /// Notes a loss of power, now that the journal says which shards it concerns. To be called
    /// before the present run is noted, or the loss would be forgotten with the next crash.
    pub(crate) fn note_forgotten(
        &self,
        memory: &mut Memory,
        identity: &Identity,
        shards: Vec<ShardId>,
    ) -> Result<(), StartError> {
        if !memory.previous.may_have_forgotten() || shards.is_empty() {
            return Ok(());
        }
        let before = match memory.returning.take() {
            // The cluster may know of that one, so it is the one to ask for.
            Some(begun) if begun.is_accepted && !begun.is_answered => {
                let returning = Returning {
                    is_accepted: false,
                    stale: shards.into_iter().collect(),
                    ..begun
                };
                self.save(&returning)?;
                memory.returning = Some(returning);
                return Ok(());
            }
            // Nothing was opened since that one was drawn.
            Some(begun) if !begun.is_answered || begun.stale.contains(&CATALOGUE_SHARD) => {
                memory.returning = Some(begun);
                return Ok(());
            }
            _ => identity.incarnation,
        };
        let returning = Returning {
            before,
            incarnation: self.draw(before),
            is_answered: false,
            is_accepted: false,
            has_lost_all: false,
            stale: shards.into_iter().collect(),
        };
        self.save(&returning)?;
        memory.returning = Some(returning);
        Ok(())
    }

    /// Waits until the cluster takes a node back whose journal or checkpoints are damaged, then puts
    /// everything aside. Answers who the node is from then on; with `damage` where nobody could take
    /// it back.
    pub(crate) async fn lose_all(
        &self,
        memory: &mut Memory,
        mut identity: Identity,
        damage: StartError,
    ) -> Result<Identity, StartError> {
        let mut returning = match memory.returning.take() {
            Some(begun) if begun.has_lost_all && identity.incarnation != begun.incarnation => begun,
            // It waits for answers about what the journal held.
            Some(begun) if !begun.has_lost_all => return Err(damage),
            begun => {
                let before = begun.map_or(identity.incarnation, |begun| begun.incarnation);
                Returning {
                    before,
                    incarnation: self.draw(before),
                    is_answered: false,
                    is_accepted: false,
                    has_lost_all: true,
                    stale: [CATALOGUE_SHARD].into(),
                }
            }
        };
        let known = self.addresses(&self.saved_catalogue(), identity.node_id);
        if known.is_empty() {
            return Err(damage);
        }
        tracing::error!(%damage, "this node asks the others to be taken back without its data");
        self.save(&returning)?;
        self.desk.set_member(identity.clone());
        let mut patience = self.patience();
        let why = "its journal or a checkpoint is damaged";
        while !returning.is_answered {
            match self.ask(&identity, &returning, &known).await {
                Ok(_) => returning.is_answered = true,
                Err(NotBack::ForGood(error)) => return Err(error),
                Err(NotBack::Yet(missing)) => self.wait(&mut patience, why, &missing).await,
            }
        }
        self.save(&returning)?;
        let aside = self.data_dir.put_lost_aside().map_err(data_dir_error)?;
        tracing::warn!(directory = %aside.display(),
            "put aside what the damaged files were the base of; it may be deleted once all \
             shards are in sync");
        self.take_incarnation(&mut identity, &returning)?;
        memory.returning = Some(returning);
        Ok(identity)
    }

    /// Waits until this node may take part in the catalogue's shard.
    pub(crate) async fn come_back(
        &self,
        host: &Host,
        mut identity: Identity,
        mut returning: Returning,
    ) -> Result<CameBack, StartError> {
        self.desk.set_member(identity.clone());
        if returning.is_accepted && !returning.is_answered {
            return self.accept(identity, returning);
        }
        let mut catalogue = self.saved_catalogue();
        let is_undecided = !returning.is_answered && !returning.has_lost_all;
        if is_undecided && returning.stale.contains(&CATALOGUE_SHARD) {
            // Nobody knows who this node is and nobody is reached: it reads what it has.
            let opened = open_catalogue(host, &None, &identity).await?;
            let voters = opened.shard.members().borrow().voters.clone();
            catalogue = opened.images.borrow().as_ref().clone();
            if voters.iter().eq([&identity.node_id]) {
                return self.stand_alone(identity, returning, opened);
            }
            drop(opened);
            host.close_shard(CATALOGUE_SHARD).await;
        }
        let known = self.addresses(&catalogue, identity.node_id);
        let mut members = Vec::new();
        let mut patience = self.patience();
        let why = match returning.has_lost_all {
            true => "its journal or a checkpoint was damaged",
            false => "it lost power while it answered before it synced",
        };
        let mut answered_ms = None;
        while returning.stale.contains(&CATALOGUE_SHARD) {
            let missing = match self.ask(&identity, &returning, &known).await {
                Ok(returned) => {
                    returning.is_answered = true;
                    self.save(&returning)?;
                    self.take_incarnation(&mut identity, &returning)?;
                    if self.begin_catalogue(host, returned.catalogue).await? {
                        members = returned.members;
                        returning.stale.remove(&CATALOGUE_SHARD);
                        self.save(&returning)?;
                        break;
                    }
                    "the catalogue's other voters have to go on without it first".to_owned()
                }
                Err(NotBack::ForGood(error)) => return Err(error),
                Err(NotBack::Yet(missing)) => missing,
            };
            let is_told = self.config.accept_power_loss || returning.is_accepted;
            if is_told && !returning.has_lost_all {
                // Whoever has answered may well go on without this node in a moment.
                let now_ms = self.clock.monotonic_ms();
                let since_ms = now_ms - *answered_ms.get_or_insert(now_ms);
                let patience_ms = self.config.accept_power_loss_after_ms;
                if !returning.is_answered || since_ms.unsigned_abs() >= patience_ms {
                    return self.accept(identity, returning);
                }
            }
            self.wait(&mut patience, why, &missing).await;
        }
        Ok(CameBack {
            identity,
            returning: Some(returning),
            unanswered: None,
            members,
            catalogue: None,
        })
    }

    /// A node that alone votes for the catalogue.
    fn stand_alone(
        &self,
        identity: Identity,
        mut returning: Returning,
        opened: CatalogueShard,
    ) -> Result<CameBack, StartError> {
        tracing::warn!(
            "power was lost while this node answered before it synced, and nobody else votes for \
             the catalogue: what was answered in the last moments may be gone"
        );
        let is_only_node = opened.images.borrow().nodes.len() <= 1;
        let returning = if is_only_node {
            self.data_dir.clear_returning().map_err(data_dir_error)?;
            None
        } else {
            returning.stale.remove(&CATALOGUE_SHARD);
            self.save(&returning)?;
            Some(returning)
        };
        Ok(CameBack {
            identity,
            returning,
            unanswered: None,
            members: Vec::new(),
            catalogue: Some(opened),
        })
    }

    /// Goes on with what is here, because whoever runs the node has said so.
    fn accept(&self, identity: Identity, mut returning: Returning) -> Result<CameBack, StartError> {
        tracing::warn!(
            "this node takes part in the catalogue with what is on its disk, as it was told to"
        );
        returning.is_accepted = true;
        if returning.is_answered {
            returning.stale.remove(&CATALOGUE_SHARD);
        }
        self.save(&returning)?;
        // An answer may have been lost on its way: then this node is another one to the others.
        let (returning, unanswered) = match returning.is_answered {
            true => (Some(returning), None),
            false => (None, Some(returning)),
        };
        Ok(CameBack {
            identity,
            returning,
            unanswered,
            members: Vec::new(),
            catalogue: None,
        })
    }

    /// Makes the catalogue's shard ready to be opened; `false` while it must not be.
    async fn begin_catalogue(&self, host: &Host, void: Option<Void>) -> Result<bool, StartError> {
        let failed = |error: raft::DestroyError| StartError::DataDir(error.to_string());
        match void {
            Some(Void::Waiting) => Ok(false),
            None | Some(Void::Accepted) => Ok(true),
            Some(Void::Cleared(floor)) => {
                let id = CATALOGUE_SHARD;
                host.destroy_shard(id).await.map_err(failed)?;
                host.raise_floor(id, floor).await.map_err(failed)?;
                Ok(true)
            }
        }
    }

    /// Asks one node after the other until one answers.
    async fn ask(
        &self,
        identity: &Identity,
        returning: &Returning,
        known: &BTreeSet<String>,
    ) -> Result<Returned, NotBack> {
        let comeback = Comeback {
            node: identity.node_id,
            before: returning.before,
            incarnation: returning.incarnation,
            keeps_incarnation: false,
            lost_all: returning.has_lost_all,
        };
        let request = Request::Return(comeback).encode();
        let mut missing = Vec::new();
        for address in known {
            let answer = self
                .peers
                .ask_stranger(address, request.clone(), ASK_DEADLINE)
                .await;
            match answer.map(decode_answer::<Returned>) {
                Ok(Ok(Ok(returned))) if returned.cluster_id == identity.cluster_id => {
                    return Ok(returned);
                }
                Ok(Ok(Ok(_))) => missing.push(format!("{address} is of another cluster")),
                Ok(Ok(Err(error))) if is_no(&error) => {
                    return Err(NotBack::ForGood(StartError::Refused {
                        reason: format!("{error} (asked {address})"),
                    }));
                }
                Ok(Ok(Err(error))) => missing.push(format!("{address}: {error}")),
                Ok(Err(error)) => missing.push(format!("{address}: {error}")),
                Err(error) => missing.push(format!("{address}: {error}")),
            }
        }
        Err(NotBack::Yet(missing.join("; ")))
    }

    fn patience(&self) -> i64 {
        self.clock.monotonic_ms() - LOG_EVERY_MS
    }

    /// Waits a moment, and says every now and then what for.
    async fn wait(&self, logged_ms: &mut i64, why: &str, missing: &str) {
        let now_ms = self.clock.monotonic_ms();
        if now_ms - *logged_ms >= LOG_EVERY_MS {
            *logged_ms = now_ms;
            tracing::warn!(
                why,
                missing,
                "this node has lost its memory and waits until a majority of the others takes it \
                 back; where that majority lost power too, `braidlog start --accept-power-loss` \
                 trusts what is on the disk, though not with a damaged journal"
            );
        }
        tokio::time::sleep(ROUND_PAUSE).await;
    }

    /// The catalogue as this node last saved it.
    fn saved_catalogue(&self) -> Catalogue {
        let path: PathBuf = self.data_dir.shard_checkpoint(CATALOGUE_SHARD);
        match Catalogue::saved(self.disk, &path) {
            Ok(catalogue) => catalogue.unwrap_or_default(),
            Err(reason) => {
                tracing::warn!(reason, "the catalogue's checkpoint cannot be read");
                Catalogue::default()
            }
        }
    }

    fn addresses(&self, catalogue: &Catalogue, own: NodeId) -> BTreeSet<String> {
        let own_address = self.peers.local_addr().to_string();
        others(catalogue, own, (&self.config.seeds, &own_address))
    }
}

/// Where others may be: the seeds, and where the catalogue last had them.
pub(super) fn others(
    catalogue: &Catalogue,
    own: NodeId,
    (seeds, own_address): (&[String], &str),
) -> BTreeSet<String> {
    let others = addresses(catalogue).into_iter();
    let others = others.filter(|other| other.node != own).map(|other| {
        let host = match other.host.contains(':') {
            true => format!("[{}]", other.host),
            false => other.host,
        };
        format!("{host}:{}", other.port)
    });
    let seeds = seeds.iter().map(|seed| seed.trim().to_ascii_lowercase());
    others
        .chain(seeds)
        .filter(|address| !address.is_empty() && address != own_address)
        .collect()
}

/// Whether the cluster has said no, rather than not now.
fn is_no(error: &BrokerError) -> bool {
    is_for_good(error) || matches!(error, BrokerError::UnknownNode { .. })
}
