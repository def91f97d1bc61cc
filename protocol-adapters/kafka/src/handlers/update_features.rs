//! UpdateFeatures, key 57, versions 0–2; KIP-584, KIP-1022.
//!
//! No feature has levels that could be raised or lowered here, so each is refused, as Kafka refuses
//! a feature that it does not know. Version 2 says it once for all of them.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::Refusal;
use crate::mapping;

/// Last version whose answer speaks of each feature.
const RESULTS_VERSION_MAX: i16 = 1;

pub(super) fn handle(version: i16, request: &UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let mut refusals = request.feature_updates.iter().map(|update| {
        let message = format!(
            "invalid update version {} for feature {}: this cluster has no such feature",
            update.max_version_level,
            update.feature.as_str()
        );
        Refusal::new(ResponseError::InvalidUpdateVersion, &message)
    });
    let response = UpdateFeaturesResponse::default().with_error_message(None);
    let Some(first) = refusals.next() else {
        return response;
    };
    let response = response
        .with_error_code(first.code.code())
        .with_error_message(Some(mapping::text(first.message.clone())));
    if version > RESULTS_VERSION_MAX {
        return response;
    }
    let refusals = std::iter::once(first.clone()).chain(refusals);
    let results = request.feature_updates.iter().zip(refusals);
    let results = results.map(|(update, refusal)| {
        UpdatableFeatureResult::default()
            .with_feature(update.feature.clone())
            .with_error_code(refusal.code.code())
            .with_error_message(Some(mapping::text(refusal.message)))
    });
    response.with_results(results.collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
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
    fn nothing_to_update_is_done() {
        let answer = handle(2, &update(&[]));
        assert_eq!((answer.error_code, answer.error_message), (0, None));
    }
}
