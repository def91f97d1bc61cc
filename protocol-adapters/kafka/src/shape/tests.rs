//! The tables against the protocol crate: what they describe is what it reads and writes, and
//! nothing that could make it reserve without measure passes.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;

use super::*;
use crate::api_versions::{APIS, Api};

/// Every API and version that the protocol crate decodes.
fn every_version() -> impl Iterator<Item = (&'static ApiSpec, i16)> {
    APIS.iter()
        .flat_map(|spec| (spec.served_min..=spec.max).map(move |version| (spec, version)))
}

/// Decodes a request and encodes it again; also says how many bytes were left over.
fn through_the_crate(api: Api, version: i16, body: &Bytes) -> Result<(Bytes, usize), String> {
    fn through<R: Decodable + Encodable>(
        version: i16,
        body: &Bytes,
    ) -> Result<(Bytes, usize), String> {
        let mut body = body.clone();
        let request = R::decode(&mut body, version).map_err(|failure| failure.to_string())?;
        let mut buf = BytesMut::new();
        request
            .encode(&mut buf, version)
            .map_err(|failure| failure.to_string())?;
        Ok((buf.freeze(), body.len()))
    }
    match api {
        Api::Produce => through::<ProduceRequest>(version, body),
        Api::Fetch => through::<FetchRequest>(version, body),
        Api::ListOffsets => through::<ListOffsetsRequest>(version, body),
        Api::Metadata => through::<MetadataRequest>(version, body),
        Api::OffsetCommit => through::<OffsetCommitRequest>(version, body),
        Api::OffsetFetch => through::<OffsetFetchRequest>(version, body),
        Api::FindCoordinator => through::<FindCoordinatorRequest>(version, body),
        Api::JoinGroup => through::<JoinGroupRequest>(version, body),
        Api::Heartbeat => through::<HeartbeatRequest>(version, body),
        Api::LeaveGroup => through::<LeaveGroupRequest>(version, body),
        Api::SyncGroup => through::<SyncGroupRequest>(version, body),
        Api::DescribeGroups => through::<DescribeGroupsRequest>(version, body),
        Api::ListGroups => through::<ListGroupsRequest>(version, body),
        Api::DeleteGroups => through::<DeleteGroupsRequest>(version, body),
        Api::OffsetDelete => through::<OffsetDeleteRequest>(version, body),
        Api::ConsumerGroupHeartbeat => through::<ConsumerGroupHeartbeatRequest>(version, body),
        Api::ConsumerGroupDescribe => through::<ConsumerGroupDescribeRequest>(version, body),
        Api::ApiVersions => through::<ApiVersionsRequest>(version, body),
        Api::CreateTopics => through::<CreateTopicsRequest>(version, body),
        Api::DeleteTopics => through::<DeleteTopicsRequest>(version, body),
        Api::DeleteRecords => through::<DeleteRecordsRequest>(version, body),
        Api::InitProducerId => through::<InitProducerIdRequest>(version, body),
        Api::OffsetForLeaderEpoch => through::<OffsetForLeaderEpochRequest>(version, body),
        Api::DescribeConfigs => through::<DescribeConfigsRequest>(version, body),
        Api::AlterConfigs => through::<AlterConfigsRequest>(version, body),
        Api::DescribeClientQuotas => through::<DescribeClientQuotasRequest>(version, body),
        Api::AlterClientQuotas => through::<AlterClientQuotasRequest>(version, body),
        Api::UpdateFeatures => through::<UpdateFeaturesRequest>(version, body),
        Api::ListConfigResources => through::<ListConfigResourcesRequest>(version, body),
        Api::DescribeLogDirs => through::<DescribeLogDirsRequest>(version, body),
        Api::CreatePartitions => through::<CreatePartitionsRequest>(version, body),
        Api::IncrementalAlterConfigs => through::<IncrementalAlterConfigsRequest>(version, body),
        Api::ElectLeaders => through::<ElectLeadersRequest>(version, body),
        Api::AlterPartitionReassignments => {
            through::<AlterPartitionReassignmentsRequest>(version, body)
        }
        Api::ListPartitionReassignments => {
            through::<ListPartitionReassignmentsRequest>(version, body)
        }
        Api::DescribeQuorum => through::<DescribeQuorumRequest>(version, body),
        Api::UnregisterBroker => through::<UnregisterBrokerRequest>(version, body),
        Api::DescribeCluster => through::<DescribeClusterRequest>(version, body),
        Api::DescribeTopicPartitions => through::<DescribeTopicPartitionsRequest>(version, body),
    }
}

/// Writes random requests as the tables describe them.
struct Writer {
    buf: BytesMut,
    counts: Vec<(usize, usize)>, // where lengths and counts stand, and how long they are
    version: i16,
    flexible: bool,
    random: u64,
}

impl Writer {
    fn request(spec: &ApiSpec, version: i16, seed: u64) -> Writer {
        let mut writer = Writer {
            buf: BytesMut::new(),
            counts: Vec::new(),
            version,
            flexible: spec.is_flexible(version),
            random: seed | 1,
        };
        writer.fields(requests::fields(spec.api));
        writer
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn fields(&mut self, fields: &'static [Field]) {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.value(&field.kind);
            }
        }
        if self.flexible {
            // One field that nobody knows.
            let unknown = self.below(2);
            self.varint(unknown);
            if unknown == 1 {
                self.varint(1000);
                self.varint(3);
                self.buf.put_slice(b"???");
            }
        }
    }

    fn value(&mut self, kind: &'static Kind) {
        match kind {
            // A zero or a one is a value of every fixed kind, also of a boolean.
            Kind::Fixed(bytes) => {
                let last = u8::try_from(self.below(2)).unwrap();
                self.buf.put_bytes(0, bytes - 1);
                self.buf.put_u8(last);
            }
            Kind::Text => {
                let len = self.below(5);
                self.count(len, 2);
                self.buf.put_bytes(b'x', usize::try_from(len).unwrap());
            }
            Kind::Blob => {
                let len = self.below(90);
                self.count(len, 4);
                self.buf.put_bytes(7, usize::try_from(len).unwrap());
            }
            Kind::Array(element) => {
                let count = self.below(4);
                self.count(count, 4);
                for _ in 0..count {
                    self.value(element);
                }
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::OptionStruct(fields) => {
                let present = self.below(2) == 1;
                self.buf.put_i8(if present { 1 } else { -1 });
                if present {
                    self.fields(fields);
                }
            }
        }
    }

    fn count(&mut self, count: u64, plain_bytes: usize) {
        let place = self.buf.len();
        match (self.flexible, plain_bytes) {
            (true, _) => self.varint(count + 1),
            (false, 2) => self.buf.put_i16(i16::try_from(count).unwrap()),
            (false, _) => self.buf.put_i32(i32::try_from(count).unwrap()),
        }
        self.counts.push((place, self.buf.len() - place));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buf.put_u8(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        self.buf.put_u8(u8::try_from(value).unwrap());
    }
}

fn remaining(spec: &ApiSpec, version: i16, body: &[u8]) -> Result<usize, ShapeError> {
    let mut elements_left = ELEMENTS_MAX;
    let flexible = spec.is_flexible(version);
    let mut walk = Walk {
        bytes: body,
        version,
        flexible,
        elements_left: &mut elements_left,
    };
    walk.fields(requests::fields(spec.api))?;
    Ok(walk.bytes.len())
}

/// A count or length in the place of another, as large as it can be said.
fn inflated(body: &[u8], (place, len): (usize, usize), flexible: bool, value: u32) -> Vec<u8> {
    let mut varint = Vec::new();
    let mut rest = value;
    while rest >= 0x80 {
        varint.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    varint.push(u8::try_from(rest).unwrap());
    let count = match (flexible, len) {
        (true, _) => varint,
        (false, 2) => vec![0x7f, 0xff],
        (false, _) => value.to_be_bytes().to_vec(),
    };
    [&body[..place], &count, &body[place + len..]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_the_tables_describe_is_what_the_crate_reads_and_writes(seed: u64) {
        for (spec, version) in every_version() {
            let body = Writer::request(spec, version, seed).buf.freeze();
            prop_assert_eq!(remaining(spec, version, &body), Ok(0), "{:?} {}", spec.api, version);
            let (again, left) = match through_the_crate(spec.api, version, &body) {
                Ok(through) => through,
                Err(failure) => panic!("{:?} {version}: {failure}", spec.api),
            };
            prop_assert_eq!(left, 0, "{:?} {}", spec.api, version);
            prop_assert_eq!(&again, &body, "{:?} {}", spec.api, version);
        }
    }

    #[test]
    fn every_cut_is_refused(seed: u64) {
        for (spec, version) in every_version() {
            let body = Writer::request(spec, version, seed).buf;
            for cut in 0..body.len() {
                prop_assert!(
                    check(spec, version, &body[..cut]).is_err(),
                    "{:?} {} cut at {}", spec.api, version, cut
                );
            }
        }
    }

    #[test]
    fn every_inflated_count_is_refused(seed: u64) {
        for (spec, version) in every_version() {
            let writer = Writer::request(spec, version, seed);
            for place in writer.counts {
                for value in [0x7fff_ffff, 0x0fff_ffff, 1_000_000] {
                    let body = inflated(&writer.buf, place, writer.flexible, value);
                    prop_assert!(
                        check(spec, version, &body).is_err(),
                        "{:?} {} count at {:?}", spec.api, version, place
                    );
                }
            }
        }
    }

    /// Would abort the process if a hostile count came through.
    #[test]
    fn what_passes_is_decoded_without_harm(seed: u64, changes: Vec<(u16, u8)>) {
        for (spec, version) in every_version() {
            let mut body = Writer::request(spec, version, seed).buf;
            let len = body.len();
            for (place, byte) in &changes {
                if let Some(place) = usize::from(*place).checked_rem(len) {
                    body[place] = *byte;
                }
            }
            let body = body.freeze();
            if check(spec, version, &body).is_ok() {
                let _ = through_the_crate(spec.api, version, &body);
            }
        }
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let body = Bytes::from(bytes);
        for (spec, version) in every_version() {
            if check(spec, version, &body).is_ok() {
                let _ = through_the_crate(spec.api, version, &body);
            }
        }
    }
}

fn spec(api: Api) -> &'static ApiSpec {
    ApiSpec::of_key(api.key()).unwrap()
}

#[test]
fn the_bodies_that_abort_the_crate_are_refused() {
    let metadata = spec(Api::Metadata);
    let declared = i32::MAX as usize;
    assert_eq!(
        check(metadata, 1, &[0x7f, 0xff, 0xff, 0xff]),
        Err(ShapeError::CountTooLarge {
            declared,
            remaining: 0
        })
    );
    assert_eq!(
        check(metadata, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        Err(ShapeError::CountTooLarge {
            declared: u32::MAX as usize - 1,
            remaining: 0
        })
    );
}

#[test]
fn a_request_of_too_many_elements_is_refused_though_its_bytes_are_there() {
    let count = ELEMENTS_MAX + 1;
    let mut body = BytesMut::new();
    body.put_i32(i32::try_from(count).unwrap());
    body.put_bytes(0, count * 2); // empty names
    assert_eq!(
        check(spec(Api::Metadata), 1, &body),
        Err(ShapeError::TooManyElements)
    );
}

#[test]
fn null_arrays_and_strings_pass() {
    assert_eq!(
        check(spec(Api::Metadata), 1, &[0xff, 0xff, 0xff, 0xff]),
        Ok(())
    );
    assert_eq!(check(spec(Api::Metadata), 9, &[0, 1, 0, 0, 0]), Ok(()));
    assert_eq!(
        check(spec(Api::Metadata), 1, &[0xff, 0xff, 0xff, 0xfe]),
        Err(ShapeError::NegativeLength(-2))
    );
}

#[test]
fn a_known_tagged_field_must_have_the_size_it_says() {
    // ReplicaState (tag 1) is twelve bytes and its own tags.
    let fetch = |size: u8| {
        let mut body = BytesMut::new();
        body.put_bytes(0, 21); // wait, min, max, isolation, session
        body.put_slice(&[1, 1, 1]); // no topics, none forgotten, no rack
        body.put_slice(&[1, 1, size]);
        body.put_bytes(0, usize::from(size));
        body
    };
    assert_eq!(check(spec(Api::Fetch), 15, &fetch(13)), Ok(()));
    assert_eq!(
        check(spec(Api::Fetch), 15, &fetch(14)),
        Err(ShapeError::TagSize(1))
    );
    assert_eq!(
        check(spec(Api::Fetch), 15, &fetch(12)),
        Err(ShapeError::Truncated)
    );
    assert!(through_the_crate(Api::Fetch, 15, &fetch(13).freeze()).is_ok());
}

#[test]
fn a_varint_over_32_bits_is_refused() {
    let body = [0xff, 0xff, 0xff, 0xff, 0x1f];
    assert_eq!(
        check(spec(Api::Metadata), 9, &body),
        Err(ShapeError::Varint)
    );
}

#[test]
fn what_follows_a_request_is_let_be() {
    assert_eq!(check(spec(Api::Metadata), 0, &[0, 0, 0, 0, 9, 9]), Ok(()));
}
