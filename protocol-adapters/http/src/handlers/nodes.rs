//! `/v1/nodes`: who takes part.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use broker::Broker;
use storage::NodeId;

use super::{broker, node};
use crate::mapping::{self, Refusal};
use crate::model::{Node, Nodes};
use crate::server::Shared;

/// Every node.
pub(crate) async fn list(State(shared): State<Shared>) -> Result<Json<Nodes>, Refusal> {
    let cluster = mapping::cluster(&broker(&shared)?.cluster_status());
    Ok(Json(Nodes {
        nodes: cluster.nodes,
    }))
}

/// Begins to empty a node. Accepted, not done: its replicas move to others one after the other.
pub(crate) async fn drain(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Node>), Refusal> {
    let broker = broker(&shared)?;
    let id = node(&broker, &id)?;
    broker.drain_node(id).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(&broker, id))))
}

/// Lets a node take part again.
pub(crate) async fn undrain(
    State(shared): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Node>, Refusal> {
    let broker = broker(&shared)?;
    let id = node(&broker, &id)?;
    broker.undrain_node(id).await?;
    Ok(Json(shown(&broker, id)))
}

/// Removes a node for good: one that was drained, or one that is dead and will not come back
/// (`?force=true`).
pub(crate) async fn remove(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Refusal> {
    let is_forced = match query.as_deref() {
        None | Some("" | "force=false") => false,
        Some("force" | "force=" | "force=true") => true,
        Some(query) => return Err(mapping::unknown_query(query, "force=true")),
    };
    let broker = broker(&shared)?;
    let id = node(&broker, &id)?;
    broker.remove_node(id, is_forced).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(broker: &Broker, id: NodeId) -> Node {
    let cluster = mapping::cluster(&broker.cluster_status());
    let found = cluster.nodes.into_iter().find(|node| node.id == id.0);
    found.unwrap_or_default()
}
