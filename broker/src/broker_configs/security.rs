//! Who clients are, and how their connections are secured.

use super::row::{Row, fixed, unused};
use crate::ConfigKind::{Boolean, Class, Double, Int, List, Long, Password, Short, String};

pub(super) static SECURITY: [Row; 79] = [
    unused(
        "delegation.token.expiry.check.interval.ms",
        Long,
        "Time between two looks at delegation tokens that have expired. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "delegation.token.expiry.time.ms",
        Long,
        "How long a delegation token is good unless it is renewed. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "delegation.token.max.lifetime.ms",
        Long,
        "How long a delegation token can be renewed. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "delegation.token.secret.key",
        Password,
        "The secret that delegation tokens are signed with. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "principal.builder.class",
        Class,
        "A Java class that says who a client is. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.client.callback.handler.class",
        Class,
        "A Java class that answers a client's questions while it authenticates. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.enabled.mechanisms",
        List,
        "Ways in which clients may authenticate. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.jaas.config",
        Password,
        "Java's description of how to authenticate. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.kerberos.kinit.cmd",
        String,
        "The command that gets a Kerberos ticket. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.kerberos.min.time.before.relogin",
        Long,
        "Pause between two Kerberos logins. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.kerberos.principal.to.local.rules",
        List,
        "How Kerberos principals become names of users. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.kerberos.service.name",
        String,
        "The Kerberos principal of the service. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.kerberos.ticket.renew.jitter",
        Double,
        "Randomness in when a Kerberos ticket is renewed. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.kerberos.ticket.renew.window.factor",
        Double,
        "Part of a Kerberos ticket's life after which it is renewed. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.login.callback.handler.class",
        Class,
        "A Java class that answers questions of a login. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.login.class",
        Class,
        "A Java class that logs in. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.login.connect.timeout.ms",
        Int,
        "How long a login waits for its provider to be reached. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.login.read.timeout.ms",
        Int,
        "How long a login waits for its provider to answer. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.login.refresh.buffer.seconds",
        Short,
        "Time before a credential ends in which it is refreshed at the latest. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.login.refresh.min.period.seconds",
        Short,
        "Shortest time between two refreshes of a credential. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.login.refresh.window.factor",
        Double,
        "Part of a credential's life after which it is refreshed. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.login.refresh.window.jitter",
        Double,
        "Randomness in when a credential is refreshed. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.login.retry.backoff.max.ms",
        Long,
        "Longest pause between two tries to log in. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.login.retry.backoff.ms",
        Long,
        "First pause between two tries to log in. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.mechanism.controller.protocol",
        String,
        "How brokers authenticate to controllers; nodes use certificates.",
    ),
    unused(
        "sasl.mechanism.inter.broker.protocol",
        String,
        "How brokers authenticate to one another; nodes use certificates.",
    ),
    unused(
        "sasl.oauthbearer.assertion.algorithm",
        String,
        "How an OAuth assertion is signed. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.assertion.claim.aud",
        String,
        "Whom an OAuth assertion is for. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.assertion.claim.exp.seconds",
        Int,
        "How long an OAuth assertion is good. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.assertion.claim.iss",
        String,
        "Who issues an OAuth assertion. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.assertion.claim.jti.include",
        Boolean,
        "Whether an OAuth assertion has an id. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.assertion.claim.nbf.seconds",
        Int,
        "How long before its making an OAuth assertion is good. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.assertion.claim.sub",
        String,
        "Whom an OAuth assertion speaks for. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.assertion.file",
        String,
        "A file with an OAuth assertion. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.assertion.private.key.file",
        String,
        "A file with the key that signs OAuth assertions. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.assertion.private.key.passphrase",
        Password,
        "What opens that key. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.assertion.template.file",
        String,
        "A file with the unchanging parts of OAuth assertions. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.client.credentials.client.id",
        String,
        "The id for OAuth's client credentials. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.client.credentials.client.secret",
        Password,
        "The secret for OAuth's client credentials. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.clock.skew.seconds",
        Int,
        "How far the clocks of an OAuth provider may differ. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.expected.audience",
        List,
        "Audiences that an OAuth token must name one of. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.expected.issuer",
        String,
        "Who must have issued an OAuth token. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.jwks.endpoint.refresh.ms",
        Long,
        "How often an OAuth provider's keys are fetched. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
        Long,
        "Longest pause between two tries to fetch them. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
        Long,
        "First pause between two tries to fetch them. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.jwks.endpoint.url",
        String,
        "Where an OAuth provider's keys are. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.jwt.retriever.class",
        Class,
        "A Java class that gets OAuth tokens. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.jwt.validator.class",
        Class,
        "A Java class that checks OAuth tokens. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.scope",
        String,
        "The scope asked for in OAuth. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.scope.claim.name",
        String,
        "The claim of an OAuth token that holds its scope. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.sub.claim.name",
        String,
        "The claim of an OAuth token that names its user. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.oauthbearer.token.endpoint.url",
        String,
        "Where OAuth tokens are asked for. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.server.callback.handler.class",
        Class,
        "A Java class that checks what clients authenticate with. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "sasl.server.max.receive.size",
        Int,
        "Largest message of an authentication. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "security.inter.broker.protocol",
        String,
        "How brokers' connections are secured; nodes have their own listener for that.",
    ),
    unused(
        "security.providers",
        String,
        "Java classes that provide cryptography. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.allow.dn.changes",
        Boolean,
        "Whether a new certificate may name another owner. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.allow.san.changes",
        Boolean,
        "Whether a new certificate may name other hosts. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.cipher.suites",
        List,
        "Ciphers that TLS may use. Clients' connections are plain and not authenticated yet.",
    ),
    fixed(
        "ssl.client.auth",
        String,
        "none",
        "Whether clients need certificates; their connections are plain.",
    ),
    unused(
        "ssl.enabled.protocols",
        List,
        "Versions of TLS that may be used. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.endpoint.identification.algorithm",
        String,
        "How the name in a server's certificate is checked. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.engine.factory.class",
        Class,
        "A Java class that makes TLS engines. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.key.password",
        Password,
        "What opens the private key. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.keymanager.algorithm",
        String,
        "Java's way to choose a key. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.keystore.certificate.chain",
        Password,
        "The certificates, in PEM. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.keystore.key",
        Password,
        "The private key, in PEM. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.keystore.location",
        String,
        "The file with key and certificates. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.keystore.password",
        Password,
        "What opens that file. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.keystore.type",
        String,
        "The format of that file. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.principal.mapping.rules",
        String,
        "How names in certificates become names of users. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.protocol",
        String,
        "The version of TLS to begin with. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.provider",
        String,
        "Java's provider of TLS. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.secure.random.implementation",
        String,
        "Java's source of randomness for TLS. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.trustmanager.algorithm",
        String,
        "Java's way to check certificates. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.truststore.certificates",
        Password,
        "The certificates that are trusted, in PEM. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.truststore.location",
        String,
        "The file with certificates that are trusted. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.truststore.password",
        Password,
        "What opens that file. Clients' connections are plain and not authenticated yet.",
    ),
    unused(
        "ssl.truststore.type",
        String,
        "The format of that file. Clients' connections are plain and not authenticated yet.",
    ),
];
