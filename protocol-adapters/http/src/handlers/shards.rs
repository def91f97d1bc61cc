//! `/v1/shards`: where partitions live and who leads them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use storage::NodeId;

use super::{broker, shard};
use crate::mapping::{self, Refusal};
use crate::model::{NewLeader, Shard, Shards};
use crate::server::Shared;

/// Every shard.
pub(crate) async fn list(State(shared): State<Shared>) -> Result<Json<Shards>, Refusal> {
    let cluster = mapping::cluster(&broker(&shared)?.cluster_status());
    Ok(Json(Shards {
        shards: cluster.shards,
    }))
}

/// Gives a shard's leadership to one of its replicas.
pub(crate) async fn lead(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Shard>, Refusal> {
    let wanted: NewLeader = serde_json::from_slice(&body)
        .map_err(|error| mapping::bad_body(&error.to_string(), r#"{"to": 2}"#))?;
    let broker = broker(&shared)?;
    let id = shard(&broker, &id)?;
    broker.transfer_leader(id, NodeId(wanted.to)).await?;
    let cluster = mapping::cluster(&broker.cluster_status());
    let found = cluster.shards.into_iter().find(|shard| shard.id == id.0);
    Ok(Json(found.unwrap_or_default()))
}
