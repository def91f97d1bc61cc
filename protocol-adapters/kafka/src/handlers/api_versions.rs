//! ApiVersions, key 18, versions 0–4; KIP-35, KIP-511 (unknown versions), KIP-584 (features).
//!
//! A client that asks in a version this broker does not know is answered in version 0, with error
//! 35 and the versions of ApiVersions itself, and asks again. Tagged fields at their defaults are
//! not written: librdkafka before 2.2 cannot skip them.
//!
//! From version 3 on the answer tells features. `group.version` 1 is the new protocol of consumer
//! groups (KIP-848); it cannot be switched off, so the range begins there, which also spares older
//! clients a minimum of 0 that they cannot read.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use crate::api_versions::{APIS, Api, ApiSpec};
use crate::session::Outcome;

/// First version that tells features.
const FEATURES_VERSION_MIN: i16 = 3;
/// The feature of the new protocol of consumer groups, and its only level.
pub(super) const GROUP_VERSION: &str = "group.version";
pub(super) const GROUP_VERSION_LEVEL: i16 = 1;
/// Levels of features do not change while a cluster runs: there is one epoch of them.
const FEATURES_EPOCH: i64 = 0;

pub(super) fn handle(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let named = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    if version >= 3 && !named.into_iter().all(|name| is_software_name(name)) {
        return ApiVersionsResponse::default()
            .with_error_code(ResponseError::InvalidRequest.code());
    }
    let answer =
        ApiVersionsResponse::default().with_api_keys(APIS.iter().map(advertised).collect());
    match version >= FEATURES_VERSION_MIN {
        true => with_features(answer),
        false => answer,
    }
}

fn with_features(answer: ApiVersionsResponse) -> ApiVersionsResponse {
    let name = StrBytes::from_static_str(GROUP_VERSION);
    answer
        .with_supported_features(vec![
            SupportedFeatureKey::default()
                .with_name(name.clone())
                .with_min_version(GROUP_VERSION_LEVEL)
                .with_max_version(GROUP_VERSION_LEVEL),
        ])
        .with_finalized_features_epoch(FEATURES_EPOCH)
        .with_finalized_features(vec![
            FinalizedFeatureKey::default()
                .with_name(name)
                .with_min_version_level(GROUP_VERSION_LEVEL)
                .with_max_version_level(GROUP_VERSION_LEVEL),
        ])
}

/// The answer to a version that is not known.
pub(super) fn unsupported(correlation_id: i32) -> Outcome {
    let spec = ApiSpec::of_key(Api::ApiVersions.key()).expect("it is in the table");
    let answer = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(vec![advertised(spec)]);
    Call {
        spec,
        version: 0,
        correlation_id,
    }
    .answer(&answer)
}

fn advertised(spec: &ApiSpec) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(spec.api.key())
        .with_min_version(spec.advertised_min)
        .with_max_version(spec.max)
}

/// Letters, digits, `-` and `.`, the latter two not at the ends.
fn is_software_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.into_iter()
        .all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Decodable;

    use super::*;

    fn named(name: &'static str) -> ApiVersionsRequest {
        ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(name))
            .with_client_software_version(StrBytes::from_static_str("1.0"))
    }

    fn body(outcome: Outcome) -> bytes::Bytes {
        let Outcome::Answer(frame) = outcome else {
            panic!("not answered: {outcome:?}")
        };
        frame.concat().split_off(4).into()
    }

    #[test]
    fn what_is_advertised_is_the_table() {
        let answer = handle(4, &named("apache-kafka-java"));
        assert_eq!(answer.error_code, 0);
        let told: Vec<_> = answer
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version))
            .collect();
        let table: Vec<_> = APIS
            .iter()
            .map(|spec| (spec.api.key(), spec.advertised_min, spec.max))
            .collect();
        assert_eq!(told, table);
    }

    #[test]
    fn default_tags_are_not_written() {
        let spec = ApiSpec::of_key(18).unwrap();
        let outcome = Call {
            spec,
            version: 3,
            correlation_id: 5,
        }
        .answer(&handle(3, &named("a")));
        let body = body(outcome);
        // Correlation id, error, count, six bytes and a tag count each, throttle time.
        let tags = &body[4 + 2 + 1 + APIS.len() * 7 + 4..];
        // One feature each: its name, two levels, no tags.
        let feature = b"\x02\x0egroup.version\0\x01\0\x01\0";
        let expected = [
            &[3, 0, 20][..], // three tags; supported features
            feature,
            &[1, 8, 0, 0, 0, 0, 0, 0, 0, 0], // their epoch
            &[2, 20],                        // finalized features
            feature,
        ];
        assert_eq!(tags, expected.concat(), "no other tag");
    }

    #[test]
    fn features_are_told_from_version_3_on() {
        for version in 0..=4 {
            let told = handle(version, &named("a"));
            let known = usize::from(version >= 3);
            assert_eq!(told.supported_features.len(), known);
            assert_eq!(told.finalized_features.len(), known);
            // Not known is -1, upon which clients pass over the features.
            let epoch = if version >= 3 { 0 } else { -1 };
            assert_eq!(told.finalized_features_epoch, epoch);
        }
    }

    #[test]
    fn an_unknown_version_is_answered_in_version_0_with_error_35() {
        let mut body = body(unsupported(-9));
        assert_eq!(body.split_to(4)[..], (-9i32).to_be_bytes());
        let answer = ApiVersionsResponse::decode(&mut body, 0).unwrap();
        assert!(body.is_empty());
        assert_eq!(answer.error_code, 35);
        assert_eq!(answer.api_keys.len(), 1);
        let range = &answer.api_keys[0];
        assert_eq!(
            (range.api_key, range.min_version, range.max_version),
            (18, 0, 4)
        );
    }

    #[test]
    fn a_malformed_software_name_is_refused_from_version_3_on() {
        for name in ["", "-a", "a.", "a b", "ä"] {
            assert_eq!(handle(3, &named(name)).error_code, 42, "{name}");
            assert_eq!(handle(2, &named(name)).error_code, 0, "{name}");
        }
        assert_eq!(handle(3, &named("a")).error_code, 0);
    }
}
