//! Mutual TLS 1.3 between peers: both sides show a certificate of the cluster's authority, which
//! is the only one trusted. A dialled node's certificate must name the host that was dialled.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{PeerTls, TlsError};

#[derive(Clone)]
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    pub(super) connector: TlsConnector,
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::Pem { what })?;
    if certificates.is_empty() {
        return Err(TlsError::Pem { what });
    }
    Ok(certificates)
}

fn refused(error: impl std::fmt::Display) -> TlsError {
    TlsError::Refused {
        reason: error.to_string(),
    }
}

impl Tls {
    pub(super) fn new(settings: &PeerTls) -> Result<Tls, TlsError> {
        let chain = certificates(&settings.certificate_chain_pem, "the certificate chain")?;
        let key = PrivateKeyDer::from_pem_slice(&settings.key_pem).map_err(|_| TlsError::Pem {
            what: "the private key",
        })?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&settings.ca_pem, "the authority's certificate")? {
            roots.add(certificate).map_err(refused)?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = &[&rustls::version::TLS13];
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(refused)?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(refused)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(refused)?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(refused)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(refused)?;
        Ok(Tls {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }
}
