//! Which APIs this broker answers, in which versions: said here once.
//!
//! The answer to ApiVersions and the dispatch of requests are both derived from [`APIS`], so that
//! an API that is not answered is not advertised: a client would wait for ever. Headers follow from
//! the same table: a request header has tagged fields (version 2) and a response header has them
//! (version 1) from the first flexible version on (KIP-482).

/// An API that is answered. The discriminant is its key on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
#[expect(
    clippy::enum_variant_names,
    reason = "ApiVersions is what Kafka calls it"
)]
pub(crate) enum Api {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    DescribeLogDirs = 35,
    CreatePartitions = 37,
    DeleteGroups = 42,
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44,
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeClientQuotas = 48,
    AlterClientQuotas = 49,
    DescribeQuorum = 55,
    UpdateFeatures = 57,
    DescribeCluster = 60,
    UnregisterBroker = 64,
    ConsumerGroupHeartbeat = 68,
    ConsumerGroupDescribe = 69,
    ListConfigResources = 74,
    DescribeTopicPartitions = 75,
}

/// What is answered of one API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ApiSpec {
    /// The API.
    pub(crate) api: Api,
    /// First version that is advertised.
    pub(crate) advertised_min: i16,
    /// First version that does what it says; the ones before are answered with
    /// `UNSUPPORTED_VERSION`.
    pub(crate) served_min: i16,
    /// Last version, advertised and served.
    pub(crate) max: i16,
    /// First version with compact lengths and tagged fields.
    pub(crate) flexible_min: i16,
}

/// Every API that is answered, by key.
///
/// Produce is advertised from 0 although 0–2 are refused: older librdkafka compresses only when it
/// sees a range from 0 (KAFKA-18659).
pub(crate) const APIS: [ApiSpec; 39] = [
    ApiSpec {
        advertised_min: 0,
        ..spec(Api::Produce, 3, 13, 9)
    },
    spec(Api::Fetch, 4, 17, 12),
    spec(Api::ListOffsets, 1, 10, 6),
    spec(Api::Metadata, 0, 13, 9),
    spec(Api::OffsetCommit, 2, 9, 8),
    spec(Api::OffsetFetch, 1, 9, 6),
    spec(Api::FindCoordinator, 0, 6, 3),
    spec(Api::JoinGroup, 0, 9, 6),
    spec(Api::Heartbeat, 0, 4, 4),
    spec(Api::LeaveGroup, 0, 5, 4),
    spec(Api::SyncGroup, 0, 5, 4),
    spec(Api::DescribeGroups, 0, 6, 5),
    spec(Api::ListGroups, 0, 5, 3),
    spec(Api::ApiVersions, 0, 4, 3),
    spec(Api::CreateTopics, 2, 7, 5),
    spec(Api::DeleteTopics, 1, 6, 4),
    spec(Api::DeleteRecords, 0, 2, 2),
    spec(Api::InitProducerId, 0, 5, 2),
    spec(Api::OffsetForLeaderEpoch, 2, 4, 4),
    spec(Api::DescribeConfigs, 1, 4, 4),
    spec(Api::AlterConfigs, 0, 2, 2),
    spec(Api::DescribeLogDirs, 1, 4, 2),
    spec(Api::CreatePartitions, 0, 3, 2),
    spec(Api::DeleteGroups, 0, 2, 2),
    spec(Api::ElectLeaders, 0, 2, 2),
    spec(Api::IncrementalAlterConfigs, 0, 1, 1),
    spec(Api::AlterPartitionReassignments, 0, 1, 0),
    spec(Api::ListPartitionReassignments, 0, 0, 0),
    spec(Api::OffsetDelete, 0, 0, 1),
    spec(Api::DescribeClientQuotas, 0, 1, 1),
    spec(Api::AlterClientQuotas, 0, 1, 1),
    spec(Api::DescribeQuorum, 0, 2, 0),
    spec(Api::UpdateFeatures, 0, 2, 0),
    spec(Api::DescribeCluster, 0, 2, 0),
    spec(Api::UnregisterBroker, 0, 0, 0),
    spec(Api::ConsumerGroupHeartbeat, 0, 1, 0),
    spec(Api::ConsumerGroupDescribe, 0, 1, 0),
    spec(Api::ListConfigResources, 0, 1, 0),
    spec(Api::DescribeTopicPartitions, 0, 0, 0),
];

const fn spec(api: Api, min: i16, max: i16, flexible_min: i16) -> ApiSpec {
    ApiSpec {
        api,
        advertised_min: min,
        served_min: min,
        max,
        flexible_min,
    }
}

impl Api {
    /// Its key on the wire.
    pub(crate) fn key(self) -> i16 {
        self as i16
    }
}

impl ApiSpec {
    /// What is answered of the API with this key, if it is answered at all.
    pub(crate) fn of_key(key: i16) -> Option<&'static ApiSpec> {
        APIS.iter().find(|spec| spec.api.key() == key)
    }

    /// Whether requests of this version carry compact lengths and tagged fields.
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_min
    }

    /// Whether the header of an answer ends in tagged fields. Never so for ApiVersions: its client
    /// cannot know yet what the broker speaks (KIP-511).
    pub(crate) fn has_flexible_response_header(&self, version: i16) -> bool {
        self.api != Api::ApiVersions && self.is_flexible(version)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;

    #[test]
    fn headers_agree_with_the_protocol_crate() {
        for spec in &APIS {
            let key = ApiKey::try_from(spec.api.key()).unwrap();
            for version in spec.served_min..=spec.max {
                assert_eq!(
                    key.request_header_version(version),
                    if spec.is_flexible(version) { 2 } else { 1 },
                    "{key:?} {version}"
                );
                assert_eq!(
                    key.response_header_version(version),
                    i16::from(spec.has_flexible_response_header(version)),
                    "{key:?} {version}"
                );
            }
        }
    }

    #[test]
    fn apis_are_sorted_by_key_without_repetition() {
        assert!(APIS.is_sorted_by(|a, b| a.api < b.api));
    }

    #[test]
    fn produce_is_advertised_from_0_and_served_from_3() {
        let spec = ApiSpec::of_key(0).unwrap();
        assert_eq!((spec.advertised_min, spec.served_min, spec.max), (0, 3, 13));
    }

    #[test]
    fn an_api_that_is_not_answered_has_no_entry() {
        for key in [-1, 4, 7, 17, 26, 71, 72, 76, 92, i16::MAX] {
            assert_eq!(ApiSpec::of_key(key), None);
        }
    }

    #[test]
    fn the_page_on_the_protocol_has_every_api_with_its_versions() {
        let page = include_str!("../../../docs/protocols/kafka.md");
        let (_, table) = page.split_once("| API | key | versions |").unwrap();
        let rows = table.lines().skip(2);
        let documented: Vec<String> = rows
            .take_while(|row| row.starts_with('|'))
            .map(|row| row.split('|').take(4).collect::<Vec<_>>().join("|"))
            .collect();
        let expected = APIS.each_ref().map(|spec| {
            let versions = match spec.served_min == spec.max {
                true => spec.max.to_string(),
                false => format!("{}–{}", spec.served_min, spec.max),
            };
            format!("| {:?} | {} | {versions} ", spec.api, spec.api.key())
        });
        assert_eq!(documented, expected, "left: docs/protocols/kafka.md");
    }
}
