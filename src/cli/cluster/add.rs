//! `cluster add`: a node adds itself, so this prints the command that makes it do so.

use http_admin::model::Cluster;
use serde_json::json;

use super::super::Context;
use super::super::admin::AdminArguments;
use super::super::failure::Failure;
use super::super::output::Format;
use super::cluster;
use crate::config::PEERS_PORT;

/// Ports of nodes on one machine stand this far apart.
const OFFSET_STEP: u16 = 100;

pub(super) async fn add(admin: &AdminArguments, context: &mut Context) -> Result<(), Failure> {
    let cluster = cluster(admin).await?;
    let seeds = seeds(&cluster);
    let offset = free_offset(&seeds);
    let command = command(&seeds, offset);
    if context.output.format() == Format::Json {
        return Ok(context.output.json(&json!({
            "seeds": seeds,
            "command": command,
        }))?);
    }
    let out = &mut context.output;
    out.line("A node adds itself. On its machine, with an empty data directory:")?;
    out.line("")?;
    out.line(&format!("    {command}"))?;
    out.line("")?;
    if offset.is_none() {
        out.line("with ADDRESS being what the other nodes and clients reach it by.")?;
    }
    out.line("It gets an id of its own and replicas move to it; watch it with")?;
    Ok(out.line(&format!("    {}", admin.suggest("cluster status --watch")))?)
}

/// Where the nodes reach one another; those that are alive first.
fn seeds(cluster: &Cluster) -> Vec<String> {
    let mut nodes: Vec<_> = cluster.nodes.iter().collect();
    nodes.sort_by_key(|node| (!node.alive, node.id));
    nodes
        .into_iter()
        .filter_map(|node| node.listeners.get("peers").cloned())
        .take(3)
        .collect()
}

/// For nodes on this machine: an offset none of their ports has.
fn free_offset(seeds: &[String]) -> Option<u16> {
    let ports: Vec<u16> = seeds
        .iter()
        .map(|seed| {
            let (host, port) = seed.rsplit_once(':')?;
            let local = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
            port.parse().ok().filter(|_| local)
        })
        .collect::<Option<_>>()?;
    let highest = ports.iter().max()?.saturating_sub(PEERS_PORT);
    (highest / OFFSET_STEP)
        .checked_add(1)?
        .checked_mul(OFFSET_STEP)
}

fn command(seeds: &[String], offset: Option<u16>) -> String {
    let seeds = seeds.join(",");
    match offset {
        Some(offset) => format!(
            "braidlog start --seeds {seeds} --port-offset {offset} --data-dir ./data-{offset}"
        ),
        None => format!("braidlog start --seeds {seeds} --host ADDRESS --data-dir DIR"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_of_its_own_needs_no_offset_and_this_one_the_next() {
        let seeds = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert_eq!(free_offset(&seeds(&["127.0.0.1:9094"])), Some(100));
        assert_eq!(
            free_offset(&seeds(&["127.0.0.1:9094", "127.0.0.1:9294"])),
            Some(300)
        );
        assert_eq!(free_offset(&seeds(&["10.0.0.1:9094"])), None);
        assert_eq!(
            free_offset(&seeds(&["127.0.0.1:9094", "10.0.0.1:9094"])),
            None
        );
        assert_eq!(
            command(&seeds(&["a:1", "b:2"]), None),
            "braidlog start --seeds a:1,b:2 --host ADDRESS --data-dir DIR"
        );
    }
}
