use super::*;

fn client(name: &str) -> QuotaEntity {
    QuotaEntity::Client {
        user: None,
        client_id: Some(QuotaName::Named(name.to_owned())),
    }
}

fn produce(value: Option<u64>) -> QuotaChanges {
    QuotaChanges::from([(QuotaKey::ProducerByteRate, value)])
}

#[test]
fn every_quota_has_a_name_and_a_code_of_its_own() {
    for key in QuotaKey::all() {
        assert_eq!(QuotaKey::of_name(key.name()), Ok(key));
        let mut writer = Writer::default();
        writer.u8(key_code(key));
        assert_eq!(take_key(&mut Reader::new(writer.finish())), Ok(key));
    }
}

#[test]
fn what_is_not_enforced_is_refused_with_its_reason() {
    for name in ["request_percentage", "speed"] {
        let error = QuotaKey::of_name(name).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn values_are_whole_and_above_zero() {
    let key = QuotaKey::ProducerByteRate;
    assert_eq!(key.checked(1.0), Ok(1));
    assert_eq!(key.checked(1e6), Ok(1_000_000));
    assert_eq!(key.checked(i64::MAX as f64), Ok(i64::MAX as u64));
    for bad in [
        0.0,
        -0.0,
        -1.0,
        0.5,
        1.5,
        1e19,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        assert!(key.checked(bad).is_err(), "{bad}");
    }
    let key = QuotaKey::ConnectionCreationRate;
    assert_eq!(key.checked(2_147_483_647.0), Ok(2_147_483_647));
    assert!(key.checked(4e9).is_err());
}

#[test]
fn changes_of_partitions_may_be_fewer_than_one_a_second() {
    let key = QuotaKey::ControllerMutationRate;
    for (value, parts) in [(0.5, 500), (3.0, 3_000), (0.001, 1), (2.0004, 2_000)] {
        assert_eq!(key.checked(value), Ok(parts), "{value}");
    }
    assert!((key.told(2_500) - 2.5).abs() < 1e-9);
    for bad in [0.0, -1.0, 1e-4, 1e10, f64::NAN] {
        assert!(key.checked(bad).is_err(), "{bad}");
    }
}

#[test]
fn quotas_that_are_taken_away_leave_nothing() {
    let mut state = Catalogue::default();
    assert_eq!(
        alter(&mut state, client("a"), produce(Some(5))),
        Ok(Outcome::Done)
    );
    assert_eq!(state.quotas[&client("a")][&QuotaKey::ProducerByteRate], 5);
    assert_eq!(
        alter(&mut state, client("a"), produce(None)),
        Ok(Outcome::Done)
    );
    assert!(state.quotas.is_empty());
    assert_eq!(
        alter(&mut state, client("b"), produce(None)),
        Ok(Outcome::Done)
    );
    assert!(state.quotas.is_empty());
}

#[test]
fn what_does_not_go_together_is_refused() {
    let nobody = QuotaEntity::Client {
        user: None,
        client_id: None,
    };
    let long = client(&"x".repeat(NAME_BYTES_MAX + 1));
    for entity in [nobody, client(""), long, QuotaEntity::Address(None)] {
        assert!(check(&entity, &produce(Some(1))).is_err(), "{entity:?}");
    }
    let connections = QuotaChanges::from([(QuotaKey::ConnectionCreationRate, Some(1))]);
    assert!(check(&client("a"), &connections).is_err());
    assert!(check(&QuotaEntity::Address(None), &connections).is_ok());
}

#[test]
fn so_many_entities_have_quotas_and_no_more() {
    let mut state = Catalogue::default();
    let all = (0..ENTITIES_MAX).map(|n| (client(&n.to_string()), BTreeMap::new()));
    state.quotas = Arc::new(all.collect());
    let one_more = alter(&mut state, client("a"), produce(Some(1)));
    assert!(
        matches!(one_more, Err(BrokerError::PolicyViolation { .. })),
        "{one_more:?}"
    );
    assert_eq!(
        alter(&mut state, client("7"), produce(Some(1))),
        Ok(Outcome::Done)
    );
}

#[test]
fn all_kinds_of_entities_are_read_back() {
    let names = [
        None,
        Some(QuotaName::Default),
        Some(QuotaName::Named("n".to_owned())),
    ];
    let mut entities: Vec<QuotaEntity> = vec![
        QuotaEntity::Address(None),
        QuotaEntity::Address(Some([127, 0, 0, 1].into())),
        QuotaEntity::Address(Some("::1".parse().unwrap())),
    ];
    for user in &names {
        entities.extend(names.iter().map(|client_id| QuotaEntity::Client {
            user: user.clone(),
            client_id: client_id.clone(),
        }));
    }
    let mut state = Catalogue::default();
    let value = BTreeMap::from([(QuotaKey::ConsumerByteRate, u64::MAX)]);
    state.quotas = Arc::new(
        entities
            .into_iter()
            .map(|entity| (entity, value.clone()))
            .collect(),
    );
    let mut writer = Writer::default();
    put(&mut writer, &state);
    let mut read = Catalogue::default();
    take(&mut Reader::new(writer.finish()), &mut read).unwrap();
    assert_eq!(read.quotas, state.quotas);
}
