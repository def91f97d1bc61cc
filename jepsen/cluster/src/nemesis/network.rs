//! Partitions and slow, lossy links.
//!
//! A cut is seen by a probe of every link: nothing passes where it is cut, and elsewhere something
//! does. What another fault cuts or stops meanwhile is told, not held against this one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jepsen_workload::fault::NodeId;

use crate::error::ClusterError;
use crate::isolate::rules::{Cut, Shape};
use crate::isolate::{Link, Probed};
use crate::node::Nodes;

/// Tried so often before a cut that leaks is a fault of the harness: what was under way arrives.
const TRIES: usize = 3;

/// Cuts links; what undoes it.
pub(crate) fn cut(nodes: &Nodes, links: &[Link], clients: &[(u32, NodeId)]) -> u64 {
    nodes.net().cut(Cut {
        links: links.iter().copied().collect(),
        clients: clients.iter().copied().collect(),
    })
}

/// Makes sure that links are cut; how it was seen.
pub(crate) async fn see_cut(nodes: &Nodes, links: &[Link]) -> Result<String, ClusterError> {
    let cut: BTreeSet<Link> = links.iter().copied().collect();
    let all = every_link(nodes);
    for _ in 0..TRIES {
        let probed = probe(nodes, &all).await?;
        if cut.iter().all(|link| !probed.passed.contains_key(link)) {
            let open = all.iter().filter(|link| !cut.contains(link)).count();
            let passes = probed.passed.keys().filter(|link| !cut.contains(link));
            let (passes, by) = (passes.count(), probed.by);
            return Ok(format!(
                "nothing passed on {} cut links, something on {passes} of the {open} others ({by})",
                cut.len()
            ));
        }
    }
    let message = "something passed on links that were cut".to_owned();
    Err(ClusterError::Fault(message))
}

/// Mends links; says over how many something passes again.
pub(crate) async fn mend(nodes: &Nodes, id: u64, links: &[Link]) -> Result<String, ClusterError> {
    let dropped = nodes.net().dropped(links);
    nodes.net().undo(id);
    let probed = probe(nodes, links).await?;
    let dropped = dropped.map_or(String::new(), |count| {
        format!("; {count} packets were dropped on them in this run")
    });
    let (passed, all) = (probed.passed.len(), links.len());
    let by = probed.by;
    Ok(format!(
        "something passes on {passed} of {all} links that were cut ({by}){dropped}"
    ))
}

/// Slows down what nodes say to each other; what undoes it.
pub(crate) fn slow(nodes: &Nodes, which: &[NodeId], shape: Shape) -> u64 {
    nodes.net().shape(which.iter().copied().collect(), shape)
}

/// Makes sure that packets are late; what was measured.
pub(crate) async fn see_slow(
    nodes: &Nodes,
    which: &[NodeId],
    delay: Duration,
) -> Result<String, ClusterError> {
    let links = concerned(nodes, which);
    let probed = probe(nodes, &links).await?;
    let least = probed.passed.values().filter_map(|way| *way).min();
    if let Some(least) = least.filter(|least| *least < delay) {
        let message = format!("a packet took {least:?}, which is less than {delay:?}");
        return Err(ClusterError::Fault(message));
    }
    Ok(measured(&probed, &links))
}

/// Takes a slowness away; says what was measured.
pub(crate) async fn hasten(
    nodes: &Nodes,
    id: u64,
    which: &[NodeId],
) -> Result<String, ClusterError> {
    nodes.net().undo(id);
    let links = concerned(nodes, which);
    let probed = probe(nodes, &links).await?;
    Ok(measured(&probed, &links))
}

fn measured(probed: &Probed, links: &[Link]) -> String {
    let ways: Vec<Duration> = probed.passed.values().filter_map(|way| *way).collect();
    let count = u32::try_from(ways.len()).unwrap_or(u32::MAX);
    let way = match count {
        0 => "not measured".to_owned(),
        _ => {
            let mean = ways.iter().sum::<Duration>() / count;
            format!("{:.1} ms on average", mean.as_secs_f64() * 1_000.0)
        }
    };
    let passed = probed.passed.len();
    let all = links.len();
    format!("one way {way}, on {passed} of {all} links ({})", probed.by)
}

async fn probe(nodes: &Nodes, links: &[Link]) -> Result<Probed, ClusterError> {
    let (net, links) = (Arc::clone(nodes.net()), links.to_vec());
    let probed = tokio::task::spawn_blocking(move || net.probe(&links)).await;
    let probed = probed
        .map_err(std::io::Error::other)
        .and_then(|probed| probed);
    probed.map_err(ClusterError::Isolate)
}

fn every_link(nodes: &Nodes) -> Vec<Link> {
    let running = nodes.running();
    let each = running
        .iter()
        .flat_map(|a| running.iter().map(|b| (*a, *b)));
    each.filter(|(a, b)| a != b).collect()
}

fn concerned(nodes: &Nodes, which: &[NodeId]) -> Vec<Link> {
    let mut links = every_link(nodes);
    links.retain(|(a, b)| which.contains(a) || which.contains(b));
    links
}
