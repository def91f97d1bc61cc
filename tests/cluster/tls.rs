//! Nodes that speak mutual TLS: a cluster of them, and who does not get in.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use test_support::{Cluster, Load, Process, TempDir, check_replicas, eventually};

use crate::{BINARY, create};

/// An authority that certifies nodes on this machine.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Writes the certificate and the key of a node.
    fn certify(&self, directory: &TempDir, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        put(&directory.join(&format!("{name}.crt")), &certificate.pem());
        put(
            &directory.join(&format!("{name}.key")),
            &key.serialize_pem(),
        );
    }

    fn publish(&self, directory: &TempDir, name: &str) {
        put(&directory.join(name), &self.pem);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "files that an operator would make"
)]
fn put(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// The settings of a node that shows this certificate and trusts this authority.
fn settings(directory: &TempDir, name: &str, authority: &str) -> [String; 3] {
    let path = |file: &str| directory.join(file).display().to_string();
    [
        format!("peers.tls_certificate={}", path(&format!("{name}.crt"))),
        format!("peers.tls_key={}", path(&format!("{name}.key"))),
        format!("peers.tls_ca={}", path(authority)),
    ]
}

/// Starts a node that seeks the cluster, waits until it says this, and that it is not let in.
#[track_caller]
fn is_kept_out(cluster: &Cluster, data_dir: &Path, settings: &[String], why: &str) {
    let seeds: Vec<String> = (0..3).map(|node| cluster.peers(node)).collect();
    let seeds = seeds.join(",");
    let mut arguments = vec!["--seeds", &seeds];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    let mut stranger = Process::spawn(BINARY, data_dir, &arguments);
    eventually(&format!("the stranger to be told: {why}"), || {
        assert!(!stranger.is_ready(), "{}", stranger.log());
        stranger.log().contains(why).then_some(())
    });
    assert!(stranger.ended().is_none(), "{}", stranger.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_mutual_tls_replicate_and_keep_out_who_has_no_certificate_of_theirs() {
    let directory = TempDir::new();
    let ours = Authority::new();
    ours.publish(&directory, "ca.crt");
    for node in 1..=3 {
        ours.certify(&directory, &format!("node-{node}"));
    }
    let all = settings(&directory, "node-{node}", "ca.crt");
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut cluster = Cluster::start_with(BINARY, 3, &all);
    create(&cluster, "secret", 2, 3);
    let load = Load::start(&cluster.bootstrap(), "secret", 2, 300);
    load.more(200).await;

    let theirs = Authority::new();
    theirs.publish(&directory, "other-ca.crt");
    theirs.certify(&directory, "stranger");
    // It trusts its own authority: it refuses the cluster.
    let foreign = settings(&directory, "stranger", "other-ca.crt");
    is_kept_out(
        &cluster,
        &directory.join("1"),
        &foreign,
        "invalid peer certificate",
    );
    // It trusts the cluster's authority: the cluster refuses it.
    let intruder = settings(&directory, "stranger", "ca.crt");
    is_kept_out(
        &cluster,
        &directory.join("2"),
        &intruder,
        "received fatal alert",
    );
    // It has no certificate at all.
    is_kept_out(
        &cluster,
        &directory.join("3"),
        &[],
        "the peer speaks TLS, this node does not",
    );
    load.more(100).await;

    // Links are made anew.
    let leader = cluster.leader("secret", 0).await;
    cluster.kill(leader);
    load.more(100).await;
    cluster.restart(leader);
    let loaded = load.stop().await;
    cluster.wait_healthy(3);
    check_replicas(&cluster, "secret", &loaded).await;
}
