//! Tries each fault once on a real cluster and prints how it was seen:
//! `cargo run -p jepsen-cluster --example faults -- <binary> <out> <netns|loopback> [nodes]`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::time::Duration;

use jepsen_cluster::{ClusterSettings, run};
use jepsen_workload::World;
use jepsen_workload::fault::Fault;
use jepsen_workload::plan::Kind;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .ok_or("usage: <binary> <out> <isolate> [nodes]")
    };
    let settings = ClusterSettings {
        binary: next()?.into(),
        out: next()?.into(),
        isolate: next()?.parse()?,
        nodes: next().unwrap_or_else(|_| "3".to_owned()).parse()?,
        clients: 4,
        seed: 1,
        kinds: vec![Kind::Kill],
        set: vec!["storage.journal_file_bytes=8MiB".to_owned()],
        env: Vec::new(),
    };
    let faults = [
        Fault::Cut {
            name: "partition-one",
            links: vec![(1, 2), (1, 3), (2, 1), (3, 1)],
            clients: vec![(0, 1)],
        },
        Fault::Cut {
            name: "partition-one-way",
            links: vec![(2, 1), (3, 1)],
            clients: Vec::new(),
        },
        Fault::Packets {
            nodes: vec![1, 2],
            delay: Duration::from_millis(30),
            jitter: Duration::from_millis(20),
            loss_per_mille: 50,
        },
        Fault::Kill(vec![1, 2]),
        Fault::Kill(vec![1, 2, 3]),
        Fault::Pause(vec![3]),
        Fault::AddNode,
        Fault::TransferLeader,
        Fault::RemoveNode(2),
    ];
    let ((), aftermath) = run(&settings, async move |world| {
        for (client, node) in [(0, 0), (3, 1)] {
            println!(
                "client {client}: {:?} {node}",
                world.kafka_addresses(client)
            );
        }
        let show = |what: &str, seen: &dyn std::fmt::Display| {
            println!("{:9.3} {what}: {seen}", world.now_us() as f64 / 1e6);
        };
        for fault in faults {
            let name = fault.name();
            match world.begin(&fault).await {
                Ok(seen) => show(&format!("{name} begins"), &seen),
                Err(error) => {
                    show(&format!("{name} FAILED"), &error);
                    continue;
                }
            }
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            match world.end(&fault).await {
                Ok(seen) => show(&format!("{name} ends"), &seen),
                Err(error) => show(&format!("{name} NOT ENDED"), &error),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        println!("{:?}", world.resources());
        match world.heal().await {
            Ok(()) => show("heal", &"done"),
            Err(error) => show("heal FAILED", &error),
        }
    })?;
    for problem in aftermath.problems {
        println!("{problem:?}");
    }
    Ok(())
}
