//! UpdateFeatures, key 57, versions 0–2; KIP-584, KIP-1022.
//!
//! `group.version` is the one feature, and has one level: whoever asks for that has it, and any
//! other level is refused, as is a feature that is not known. All is done or nothing; version 2 says
//! it once for all of them.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::Refusal;
use super::api_versions::{GROUP_VERSION, GROUP_VERSION_LEVEL};
use crate::mapping;

/// Last version whose answer speaks of each feature.
const RESULTS_VERSION_MAX: i16 = 1;
/// First version that says what kind of change it wants, and the kinds there are: raise, lower if
/// nothing is lost, lower.
const UPGRADE_TYPE_VERSION_MIN: i16 = 1;
const UPGRADE_TYPES: [i8; 3] = [1, 2, 3];

pub(super) fn handle(version: i16, request: &UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let mut updates = request.feature_updates.iter();
    let refusal = updates.find_map(|update| check(version, update).err());
    let (code, message) = match &refusal {
        None => (0, None),
        Some(refusal) => (
            refusal.code.code(),
            Some(mapping::text(refusal.message.clone())),
        ),
    };
    let response = UpdateFeaturesResponse::default()
        .with_error_code(code)
        .with_error_message(message.clone());
    if version > RESULTS_VERSION_MAX {
        return response;
    }
    let results = request.feature_updates.iter().map(|update| {
        UpdatableFeatureResult::default()
            .with_feature(update.feature.clone())
            .with_error_code(code)
            .with_error_message(message.clone())
    });
    response.with_results(results.collect())
}

/// A feature may be "raised" to the level that it has.
fn check(version: i16, update: &FeatureUpdateKey) -> Result<(), Refusal> {
    let (feature, level) = (update.feature.as_str(), update.max_version_level);
    let refuse = |reason: &str| {
        let message = format!("invalid update version {level} for feature {feature}: {reason}");
        Err(Refusal::new(ResponseError::InvalidUpdateVersion, &message))
    };
    if version >= UPGRADE_TYPE_VERSION_MIN && !UPGRADE_TYPES.contains(&update.upgrade_type) {
        return refuse("there is no such type of upgrade");
    }
    match (feature, level) {
        (GROUP_VERSION, GROUP_VERSION_LEVEL) => Ok(()),
        (GROUP_VERSION, _) => refuse("this cluster has it at level 1, and no other"),
        _ => refuse("this cluster has no such feature"),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn update(features: &[&'static str]) -> UpdateFeaturesRequest {
        let updates = features.iter().map(|feature| {
            FeatureUpdateKey::default()
                .with_feature(StrBytes::from_static_str(feature))
                .with_max_version_level(3)
                .with_upgrade_type(1)
        });
        UpdateFeaturesRequest::default().with_feature_updates(updates.collect())
    }

    #[test]
    fn a_feature_that_is_not_known_is_an_invalid_update() {
        for version in 0..=2 {
            let answer = handle(version, &update(&["metadata.version", "x"]));
            assert_eq!(answer.error_code, 95);
            assert!(answer.error_message.unwrap().contains("metadata.version"));
            let codes: Vec<_> = answer
                .results
                .iter()
                .map(|result| result.error_code)
                .collect();
            assert_eq!(codes, if version < 2 { vec![95, 95] } else { vec![] });
        }
    }

    #[test]
    fn the_one_feature_has_its_one_level() {
        for (level, kind, code) in [(1, 1, 0), (1, 3, 0), (0, 2, 95), (2, 1, 95), (1, 0, 95)] {
            let mut request = update(&["group.version"]);
            request.feature_updates[0].max_version_level = level;
            request.feature_updates[0].upgrade_type = kind;
            assert_eq!(handle(2, &request).error_code, code, "{level} {kind}");
        }
        let answer = handle(1, &update(&["group.version", "x"]));
        assert_eq!(answer.error_code, 95, "all or nothing");
    }

    #[test]
    fn nothing_to_update_is_done() {
        let answer = handle(2, &update(&[]));
        assert_eq!((answer.error_code, answer.error_message), (0, None));
    }
}
