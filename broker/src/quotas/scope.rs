//! Which quota a client falls under, and who shares it. Pure.
//!
//! Kafka's order: the first that exists of user and client id, user and any client id, user, any
//! user and client id, any user and any client id, any user, client id, any client id. A quota by
//! name is shared by all who bear it; a default gives each name a quota of its own.

use std::net::IpAddr;

use crate::catalogue::{ClientQuotas, QuotaEntity, QuotaKey, QuotaName};

/// Who shares one quota.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    Both(String, String),
    User(String),
    ClientId(String),
    Address(IpAddr),
}

/// Who shares a quota with a client, by user and client id.
type Share = fn(&str, &str) -> Scope;

/// The quota of a client, and who shares it.
pub(super) fn of_client(
    quotas: &ClientQuotas,
    key: QuotaKey,
    user: &str,
    client_id: &str,
) -> Option<(Scope, u64)> {
    let named = |name: &str| Some(QuotaName::Named(name.to_owned()));
    let any = || Some(QuotaName::Default);
    let both: Share = |user, client_id| Scope::Both(user.to_owned(), client_id.to_owned());
    let by_user: Share = |user, _| Scope::User(user.to_owned());
    let by_client_id: Share = |_, client_id| Scope::ClientId(client_id.to_owned());
    let order = [
        (named(user), named(client_id), both),
        (named(user), any(), both),
        (named(user), None, by_user),
        (any(), named(client_id), both),
        (any(), any(), both),
        (any(), None, by_user),
        (None, named(client_id), by_client_id),
        (None, any(), by_client_id),
    ];
    order
        .into_iter()
        .find_map(|(by_user, by_client_id, share)| {
            let entity = QuotaEntity::Client {
                user: by_user,
                client_id: by_client_id,
            };
            let rate = quotas.get(&entity)?.get(&key)?;
            Some((share(user, client_id), *rate))
        })
}

/// The quota of an address. Each has one of its own.
pub(super) fn of_address(
    quotas: &ClientQuotas,
    key: QuotaKey,
    address: IpAddr,
) -> Option<(Scope, u64)> {
    let entities = [Some(address), None].map(QuotaEntity::Address);
    let rate = entities
        .iter()
        .find_map(|entity| quotas.get(entity)?.get(&key))?;
    Some((Scope::Address(address), *rate))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KEY: QuotaKey = QuotaKey::ProducerByteRate;

    fn name(name: &str) -> Option<QuotaName> {
        match name {
            "" => None,
            "*" => Some(QuotaName::Default),
            name => Some(QuotaName::Named(name.to_owned())),
        }
    }

    #[test]
    fn the_most_particular_quota_holds() {
        let both = || Scope::Both("u".to_owned(), "c".to_owned());
        let order = [
            ("u", "c", both()),
            ("u", "*", both()),
            ("u", "", Scope::User("u".to_owned())),
            ("*", "c", both()),
            ("*", "*", both()),
            ("*", "", Scope::User("u".to_owned())),
            ("", "c", Scope::ClientId("c".to_owned())),
            ("", "*", Scope::ClientId("c".to_owned())),
        ];
        let mut quotas = ClientQuotas::new();
        // From the last to the first, each takes the place of those after it.
        for (rate, (user, client_id, scope)) in (1..).zip(order.into_iter().rev()) {
            let entity = QuotaEntity::Client {
                user: name(user),
                client_id: name(client_id),
            };
            quotas.insert(entity, BTreeMap::from([(KEY, rate)]));
            assert_eq!(of_client(&quotas, KEY, "u", "c"), Some((scope, rate)));
        }
        let other = of_client(&quotas, KEY, "other", "other");
        assert_eq!(
            other,
            Some((Scope::Both("other".to_owned(), "other".to_owned()), 4))
        );
        assert_eq!(
            of_client(&quotas, QuotaKey::ConsumerByteRate, "u", "c"),
            None
        );
    }

    #[test]
    fn an_address_has_its_own_quota_or_the_default() {
        let [a, b]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let key = QuotaKey::ConnectionCreationRate;
        let mut quotas = ClientQuotas::new();
        quotas.insert(QuotaEntity::Address(Some(a)), BTreeMap::from([(key, 1)]));
        assert_eq!(of_address(&quotas, key, a), Some((Scope::Address(a), 1)));
        assert_eq!(of_address(&quotas, key, b), None);
        quotas.insert(QuotaEntity::Address(None), BTreeMap::from([(key, 2)]));
        assert_eq!(of_address(&quotas, key, a), Some((Scope::Address(a), 1)));
        assert_eq!(of_address(&quotas, key, b), Some((Scope::Address(b), 2)));
    }
}
