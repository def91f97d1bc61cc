//! `/livez`, `/readyz`: for whoever restarts nodes and whoever sends them clients.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::broker;
use crate::mapping;
use crate::model::Ready;
use crate::server::Shared;

/// The process answers; also while it recovers or waits for others.
pub(crate) async fn live() -> Json<Ready> {
    Json(Ready {
        status: "ok".to_owned(),
    })
}

/// The node has recovered and knows who leads the catalogue.
pub(crate) async fn ready(State(shared): State<Shared>) -> Response {
    match broker(&shared) {
        Err(refusal) => refusal.into_response(),
        Ok(broker) if broker.controller().is_none() => mapping::no_controller().into_response(),
        Ok(_) => live().await.into_response(),
    }
}
