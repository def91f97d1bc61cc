//! `/v1/cluster`: all of it.

use axum::Json;
use axum::extract::State;

use super::broker;
use crate::mapping::{self, Refusal};
use crate::model::{Cluster, Rebalanced};
use crate::server::Shared;

/// The cluster as this node sees it.
pub(crate) async fn show(State(shared): State<Shared>) -> Result<Json<Cluster>, Refusal> {
    let broker = broker(&shared)?;
    Ok(Json(mapping::cluster(&broker.cluster_status())))
}

/// Gives every shard back to its preferred leader.
pub(crate) async fn rebalance(State(shared): State<Shared>) -> Result<Json<Rebalanced>, Refusal> {
    let moved = broker(&shared)?.rebalance_leaders().await?;
    Ok(Json(Rebalanced { moved }))
}
