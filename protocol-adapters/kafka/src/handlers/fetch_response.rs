//! The answer to a fetch, written by hand so that batches are never copied: key 1, versions 4–17.
//!
//! ```text
//! throttle:i32 (v7: error:i16 session:i32)
//! [topic:string (v13: topic id:16) [
//!     partition:i32 error:i16 high watermark:i64 last stable:i64 (v5: log start:i64)
//!     aborted:[producer:i64 first offset:i64] (v11: preferred replica:i32) records:bytes
//!     (v12 tags: 0 diverging epoch, 1 current leader) ]]
//! (v16 tag: 0 node endpoints)
//! ```
//!
//! From version 12 on lengths are compact and every struct ends in tagged fields; only those that
//! say something are written. The pieces go out in one vectored write.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use storage::{LeaderEpoch, NodeId, Offset};

use super::Call;
use crate::codec;
use crate::mapping::{self, Endpoint, TopicKey};
use crate::session::Outcome;

/// Records up to this size are copied into the buffer between them: less than a piece costs.
const COPY_BYTES_MAX: usize = 1024;
/// About what the fields of a partition take.
const PARTITION_BYTES: usize = 64;

/// An answer to a fetch.
#[derive(Debug, Default)]
pub(super) struct FetchAnswer {
    /// How long the client is to wait before it asks again, in milliseconds.
    pub(super) throttle_ms: i32,
    /// An error of the whole fetch, told from version 7 on.
    pub(super) error: Option<ResponseError>,
    /// The session that the next fetch may continue, 0 for none; told from version 7 on.
    pub(super) session_id: i32,
    /// Topics, each once.
    pub(super) topics: Vec<(TopicKey, Vec<PartitionAnswer>)>,
    /// Where the leaders named in the partitions are, told from version 16 on.
    pub(super) endpoints: Vec<Endpoint>,
}

/// One partition of it.
#[derive(Debug)]
pub(super) struct PartitionAnswer {
    pub(super) index: i32,
    pub(super) result: Result<PartitionRecords, ResponseError>,
    /// Who leads it, when this node does not (KIP-951); told from version 12 on.
    pub(super) current_leader: Option<(i32, LeaderEpoch)>,
}

/// What was read of one partition.
#[derive(Debug)]
pub(super) struct PartitionRecords {
    pub(super) high_watermark: Offset,
    pub(super) last_stable_offset: Offset,
    pub(super) log_start: Offset,
    pub(super) diverging: Option<(LeaderEpoch, Offset)>,
    /// Whom to read from instead (KIP-392); told from version 11 on.
    pub(super) preferred_replica: Option<NodeId>,
    pub(super) batches: Vec<Bytes>,
    /// Whether aborted transactions are to be listed (there are none yet).
    pub(super) read_committed: bool,
}

impl FetchAnswer {
    /// An error of the whole fetch, with which a session ends for its client.
    pub(super) fn failed(error: ResponseError) -> FetchAnswer {
        FetchAnswer {
            error: Some(error),
            ..FetchAnswer::default()
        }
    }

    /// Writes the answer to a call.
    pub(super) fn encode(self, call: Call) -> Outcome {
        let partitions: usize = self
            .topics
            .iter()
            .map(|(_, partitions)| partitions.len())
            .sum();
        let buf = codec::begin_answer(
            call.spec,
            call.version,
            call.correlation_id,
            64 + self.topics.len() * 32 + partitions * PARTITION_BYTES,
        );
        let mut writer = Writer {
            buf,
            head: None,
            rest: Vec::new(),
            version: call.version,
            flexible: call.spec.is_flexible(call.version),
        };
        writer.answer(self);
        let (head, rest) = writer.finish();
        call.finish(head, rest)
    }
}

struct Writer {
    buf: BytesMut,          // what is being written
    head: Option<BytesMut>, // the first piece, once it is cut off
    rest: Vec<Bytes>,       // the pieces after it
    version: i16,
    flexible: bool,
}

impl Writer {
    fn answer(&mut self, answer: FetchAnswer) {
        self.buf.put_i32(answer.throttle_ms);
        if self.version >= 7 {
            self.buf
                .put_i16(answer.error.map_or(0, |error| error.code()));
            self.buf.put_i32(answer.session_id);
        }
        self.array(answer.topics.len());
        for (topic, partitions) in answer.topics {
            match topic {
                TopicKey::Name(name) => self.string(&name),
                TopicKey::Id(id) => self.buf.put_slice(&id.0),
            }
            self.array(partitions.len());
            for partition in partitions {
                self.partition(partition);
            }
            self.tags(&[]);
        }
        if self.version >= 16 && !answer.endpoints.is_empty() {
            let endpoints = self.value(|writer| {
                writer.array(answer.endpoints.len());
                for endpoint in &answer.endpoints {
                    writer.buf.put_i32(endpoint.id.0);
                    writer.string(&endpoint.host);
                    writer.buf.put_i32(endpoint.port);
                    match &endpoint.rack {
                        Some(rack) => writer.string(rack),
                        None => writer.varint(0),
                    }
                    writer.tags(&[]);
                }
            });
            self.tags(&[(0, &endpoints)]);
        } else {
            self.tags(&[]);
        }
    }

    fn partition(&mut self, partition: PartitionAnswer) {
        self.buf.put_i32(partition.index);
        let (error_code, records) = match partition.result {
            Ok(records) => (0, Some(records)),
            Err(error) => (error.code(), None),
        };
        self.buf.put_i16(error_code);
        self.buf.put_i64(
            records
                .as_ref()
                .map_or(-1, |records| records.high_watermark.0),
        );
        self.buf.put_i64(
            records
                .as_ref()
                .map_or(-1, |records| records.last_stable_offset.0),
        );
        if self.version >= 5 {
            self.buf
                .put_i64(records.as_ref().map_or(-1, |records| records.log_start.0));
        }
        match records
            .as_ref()
            .is_some_and(|records| records.read_committed)
        {
            true => self.array(0),
            false => self.null_array(),
        }
        if self.version >= 11 {
            let preferred = records
                .as_ref()
                .and_then(|records| records.preferred_replica);
            self.buf
                .put_i32(preferred.map_or(-1, |node| mapping::broker_id(node).0));
        }
        let diverging = records.as_ref().and_then(|records| records.diverging);
        self.records(records.map_or_else(Vec::new, |records| records.batches));
        if self.flexible {
            let diverging = diverging.map(|(epoch, end)| {
                self.value(|writer| {
                    writer.buf.put_i32(epoch.0);
                    writer.buf.put_i64(end.0);
                    writer.tags(&[]);
                })
            });
            let leader = partition.current_leader.map(|(id, epoch)| {
                self.value(|writer| {
                    writer.buf.put_i32(id);
                    writer.buf.put_i32(epoch.0);
                    writer.tags(&[]);
                })
            });
            let tags = [(0, diverging), (1, leader)];
            let told: Vec<_> = tags
                .iter()
                .filter_map(|(tag, value)| Some((*tag, value.as_ref()?)))
                .collect();
            self.tags(&told);
        }
    }

    fn records(&mut self, batches: Vec<Bytes>) {
        let bytes = batches.iter().map(Bytes::len).sum();
        self.length(bytes);
        for batch in batches {
            if batch.len() <= COPY_BYTES_MAX {
                self.buf.put_slice(&batch);
            } else {
                self.cut();
                self.rest.push(batch);
            }
        }
    }

    /// Ends the piece that is being written.
    fn cut(&mut self) {
        if self.buf.is_empty() {
            return;
        }
        let piece = self.buf.split();
        match self.head {
            None => self.head = Some(piece),
            Some(_) => self.rest.push(piece.freeze()),
        }
    }

    fn finish(mut self) -> (BytesMut, Vec<Bytes>) {
        self.cut();
        (self.head.expect("the header was written"), self.rest)
    }

    /// What `write` writes, apart: the value of a tagged field.
    fn value(&self, write: impl FnOnce(&mut Writer)) -> Bytes {
        let mut writer = Writer {
            buf: BytesMut::new(),
            head: None,
            rest: Vec::new(),
            version: self.version,
            flexible: self.flexible,
        };
        write(&mut writer);
        writer.buf.freeze()
    }

    fn tags(&mut self, tags: &[(u32, &Bytes)]) {
        if !self.flexible {
            return;
        }
        self.varint(tags.len());
        for (tag, value) in tags {
            self.varint(*tag as usize);
            self.varint(value.len());
            self.buf.put_slice(value);
        }
    }

    fn string(&mut self, text: &str) {
        if self.flexible {
            self.varint(text.len() + 1);
        } else {
            let length = i16::try_from(text.len()).expect("it came with a 16-bit length");
            self.buf.put_i16(length);
        }
        self.buf.put_slice(text.as_bytes());
    }

    fn array(&mut self, count: usize) {
        self.length(count);
    }

    fn null_array(&mut self) {
        if self.flexible {
            self.varint(0)
        } else {
            self.buf.put_i32(-1)
        }
    }

    fn length(&mut self, length: usize) {
        if self.flexible {
            self.varint(length + 1);
        } else {
            // An answer over 2 GiB is refused as a whole, see `codec::end_answer`.
            self.buf.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
        }
    }

    fn varint(&mut self, mut value: usize) {
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                self.buf.put_u8(low);
                return;
            }
            self.buf.put_u8(0x80 | low);
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{BrokerId, FetchResponse, TopicName};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
    use storage::TopicId;

    use super::*;
    use crate::api_versions::ApiSpec;

    fn call(version: i16) -> Call {
        Call {
            spec: ApiSpec::of_key(1).unwrap(),
            version,
            correlation_id: 77,
        }
    }

    fn topic(version: i16) -> TopicKey {
        match version {
            13.. => TopicKey::Id(TopicId([7; 16])),
            _ => TopicKey::Name(TopicName(StrBytes::from_static_str("topic"))),
        }
    }

    fn records(batches: Vec<Bytes>) -> PartitionRecords {
        PartitionRecords {
            high_watermark: Offset(9),
            last_stable_offset: Offset(8),
            log_start: Offset(2),
            diverging: None,
            preferred_replica: None,
            batches,
            read_committed: false,
        }
    }

    /// Encodes, and decodes with the protocol crate; its own encoding must be the same bytes.
    fn check(version: i16, answer: FetchAnswer) -> FetchResponse {
        let Outcome::Answer(frame) = answer.encode(call(version)) else {
            panic!("not answered")
        };
        let frame = Bytes::from(frame.concat());
        assert_eq!(
            frame[..4],
            i32::try_from(frame.len() - 4).unwrap().to_be_bytes()
        );
        assert_eq!(frame[4..8], 77i32.to_be_bytes());
        let header = if version >= 12 { 9 } else { 8 };
        let mut body = frame.slice(header..);
        let response = FetchResponse::decode(&mut body, version).unwrap();
        assert!(body.is_empty(), "version {version}");
        let mut again = BytesMut::new();
        response.encode(&mut again, version).unwrap();
        assert_eq!(again, frame.slice(header..), "version {version}");
        response
    }

    #[test]
    fn every_version_is_what_the_protocol_crate_reads_and_writes() {
        for version in 4..=17 {
            let large = Bytes::from(vec![3; COPY_BYTES_MAX + 1]);
            let small = Bytes::from_static(b"small");
            let partition = |index, result| PartitionAnswer {
                index,
                result,
                current_leader: None,
            };
            let committed = PartitionRecords {
                read_committed: true,
                ..records(vec![])
            };
            let answer = FetchAnswer {
                topics: vec![
                    (
                        topic(version),
                        vec![
                            partition(
                                0,
                                Ok(records(vec![large.clone(), small.clone(), large.clone()])),
                            ),
                            partition(1, Err(ResponseError::OffsetOutOfRange)),
                            partition(2, Ok(committed)),
                        ],
                    ),
                    (
                        topic(version),
                        vec![partition(3, Ok(records(vec![small.clone()])))],
                    ),
                ],
                ..FetchAnswer::default()
            };
            let response = check(version, answer);
            let partitions = &response.responses[0].partitions;
            let read = [large.clone(), small.clone(), large].concat();
            assert_eq!(partitions[0].records.as_ref().unwrap()[..], read[..]);
            assert_eq!(
                (
                    partitions[0].high_watermark,
                    partitions[0].last_stable_offset
                ),
                (9, 8)
            );
            assert_eq!(
                partitions[0].log_start_offset,
                if version >= 5 { 2 } else { -1 }
            );
            assert_eq!(partitions[0].aborted_transactions, None);
            assert_eq!(partitions[1].error_code, 1);
            assert_eq!(partitions[1].high_watermark, -1);
            assert_eq!(
                partitions[1].records.as_ref().unwrap().len(),
                0,
                "empty, not null"
            );
            assert_eq!(partitions[2].aborted_transactions, Some(vec![]));
            let last = &response.responses[1].partitions[0];
            assert_eq!(last.records.as_ref().unwrap(), &small);
        }
    }

    #[test]
    fn large_batches_are_not_copied() {
        let large = Bytes::from(vec![3; COPY_BYTES_MAX + 1]);
        let partition = PartitionAnswer {
            index: 0,
            result: Ok(records(vec![large.clone()])),
            current_leader: None,
        };
        let answer = FetchAnswer {
            topics: vec![(topic(12), vec![partition])],
            ..FetchAnswer::default()
        };
        let Outcome::Answer(frame) = answer.encode(call(12)) else {
            panic!("not answered")
        };
        assert!(frame.iter().any(|piece| piece.as_ptr() == large.as_ptr()));
    }

    #[test]
    fn leaders_and_diverging_epochs_are_told_in_tags() {
        for version in 12..=17 {
            let diverging = Some((LeaderEpoch(4), Offset(6)));
            let answer = FetchAnswer {
                topics: vec![(
                    topic(version),
                    vec![
                        PartitionAnswer {
                            index: 0,
                            result: Err(ResponseError::NotLeaderOrFollower),
                            current_leader: Some((2, LeaderEpoch(5))),
                        },
                        PartitionAnswer {
                            index: 1,
                            result: Ok(PartitionRecords {
                                diverging,
                                ..records(vec![])
                            }),
                            current_leader: None,
                        },
                    ],
                )],
                endpoints: vec![Endpoint {
                    id: BrokerId(2),
                    host: StrBytes::from_static_str("host"),
                    port: 9092,
                    rack: None,
                }],
                ..FetchAnswer::default()
            };
            let response = check(version, answer);
            let partitions = &response.responses[0].partitions;
            assert_eq!(partitions[0].current_leader.leader_id, BrokerId(2));
            assert_eq!(partitions[0].current_leader.leader_epoch, 5);
            assert_eq!(partitions[1].diverging_epoch.epoch, 4);
            assert_eq!(partitions[1].diverging_epoch.end_offset, 6);
            assert_eq!(response.node_endpoints.len(), usize::from(version >= 16));
        }
    }

    #[test]
    fn a_preferred_replica_is_told_from_version_11_on() {
        for version in 4..=17 {
            let partition = PartitionAnswer {
                index: 0,
                result: Ok(PartitionRecords {
                    preferred_replica: Some(NodeId(3)),
                    ..records(vec![])
                }),
                current_leader: None,
            };
            let answer = FetchAnswer {
                topics: vec![(topic(version), vec![partition])],
                ..FetchAnswer::default()
            };
            let told = check(version, answer).responses[0].partitions[0].preferred_read_replica;
            assert_eq!(told.0, if version >= 11 { 3 } else { -1 });
        }
    }

    #[test]
    fn an_error_of_the_whole_fetch_is_told_with_session_0() {
        for version in 7..=17 {
            let failed = FetchAnswer::failed(ResponseError::FetchSessionIdNotFound);
            let response = check(version, failed);
            assert_eq!((response.error_code, response.session_id), (70, 0));
            assert!(response.responses.is_empty());
        }
    }

    #[test]
    fn the_session_is_told_from_version_7_on() {
        for version in 4..=17 {
            let answer = FetchAnswer {
                session_id: 0x7fff_fffe,
                ..FetchAnswer::default()
            };
            let told = check(version, answer).session_id;
            assert_eq!(told, if version >= 7 { 0x7fff_fffe } else { 0 });
        }
    }
}
