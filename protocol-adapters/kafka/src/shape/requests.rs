//! The shape of every request that is answered, as Kafka's message definitions say it
//! (`clients/src/main/resources/common/message/<Api>Request.json`), up to the newest served version.
//!
//! One line a field, in the order of the wire: what stands there, from which version (to which).

use super::Field;
use super::Kind::{self, Array, Blob, Fixed, OptionStruct, Struct, Text};
use crate::api_versions::Api;

const BOOL: Kind = Fixed(1);
const INT8: Kind = Fixed(1);
const INT16: Kind = Fixed(2);
const INT32: Kind = Fixed(4);
const INT64: Kind = Fixed(8);
const FLOAT64: Kind = Fixed(8);
const UUID: Kind = Fixed(16);

/// A field that is there from version `first` on.
const fn since(first: i16, kind: Kind) -> Field {
    Field {
        kind,
        first,
        last: i16::MAX,
        tag: None,
    }
}

/// A field that every version has.
const fn always(kind: Kind) -> Field {
    since(0, kind)
}

/// A field that is there from version `first` to `last`.
const fn between(first: i16, last: i16, kind: Kind) -> Field {
    Field {
        kind,
        first,
        last,
        tag: None,
    }
}

/// A tagged field that is known from version `first` on.
const fn tagged(tag: u32, first: i16, kind: Kind) -> Field {
    Field {
        kind,
        first,
        last: i16::MAX,
        tag: Some(tag),
    }
}

/// The fields of a request.
pub(super) fn fields(api: Api) -> &'static [Field] {
    match api {
        Api::Produce => PRODUCE,
        Api::Fetch => FETCH,
        Api::ListOffsets => LIST_OFFSETS,
        Api::Metadata => METADATA,
        Api::OffsetCommit => OFFSET_COMMIT,
        Api::OffsetFetch => OFFSET_FETCH,
        Api::FindCoordinator => FIND_COORDINATOR,
        Api::JoinGroup => JOIN_GROUP,
        Api::Heartbeat => HEARTBEAT,
        Api::LeaveGroup => LEAVE_GROUP,
        Api::SyncGroup => SYNC_GROUP,
        Api::DescribeGroups => DESCRIBE_GROUPS,
        Api::ListGroups => LIST_GROUPS,
        Api::ApiVersions => API_VERSIONS,
        Api::CreateTopics => CREATE_TOPICS,
        Api::DeleteTopics => DELETE_TOPICS,
        Api::DeleteRecords => DELETE_RECORDS,
        Api::InitProducerId => INIT_PRODUCER_ID,
        Api::OffsetForLeaderEpoch => OFFSET_FOR_LEADER_EPOCH,
        Api::DescribeConfigs => DESCRIBE_CONFIGS,
        Api::AlterConfigs => ALTER_CONFIGS,
        Api::DescribeLogDirs => DESCRIBE_LOG_DIRS,
        Api::CreatePartitions => CREATE_PARTITIONS,
        Api::DeleteGroups => DELETE_GROUPS,
        Api::ElectLeaders => ELECT_LEADERS,
        Api::IncrementalAlterConfigs => INCREMENTAL_ALTER_CONFIGS,
        Api::AlterPartitionReassignments => ALTER_PARTITION_REASSIGNMENTS,
        Api::ListPartitionReassignments => LIST_PARTITION_REASSIGNMENTS,
        Api::OffsetDelete => OFFSET_DELETE,
        Api::DescribeClientQuotas => DESCRIBE_CLIENT_QUOTAS,
        Api::AlterClientQuotas => ALTER_CLIENT_QUOTAS,
        Api::DescribeQuorum => DESCRIBE_QUORUM,
        Api::UpdateFeatures => UPDATE_FEATURES,
        Api::DescribeCluster => DESCRIBE_CLUSTER,
        Api::UnregisterBroker => UNREGISTER_BROKER,
        Api::ConsumerGroupHeartbeat => CONSUMER_GROUP_HEARTBEAT,
        Api::ConsumerGroupDescribe => CONSUMER_GROUP_DESCRIBE,
        Api::ListConfigResources => LIST_CONFIG_RESOURCES,
        Api::DescribeTopicPartitions => DESCRIBE_TOPIC_PARTITIONS,
    }
}

const PRODUCE: &[Field] = &[
    since(3, Text), // transactional id
    always(INT16),  // acks
    always(INT32),  // timeout
    always(Array(&Struct(&[
        between(0, 12, Text), // name
        since(13, UUID),      // topic id
        always(Array(&Struct(&[
            always(INT32), // index
            always(Blob),  // records
        ]))),
    ]))),
];

const FETCH: &[Field] = &[
    between(0, 14, INT32), // replica id
    always(INT32),         // wait
    always(INT32),         // bytes, least
    always(INT32),         // bytes, most
    always(INT8),          // isolation
    since(7, INT32),       // session id
    since(7, INT32),       // session epoch
    always(Array(&Struct(&[
        between(0, 12, Text), // topic
        since(13, UUID),      // topic id
        always(Array(&Struct(&[
            always(INT32),        // partition
            since(9, INT32),      // current leader epoch
            always(INT64),        // fetch offset
            since(12, INT32),     // last fetched epoch
            since(5, INT64),      // log start offset
            always(INT32),        // bytes, most
            tagged(0, 17, UUID),  // replica directory
            tagged(1, 18, INT64), // high watermark
        ]))),
    ]))),
    since(
        7,
        Array(&Struct(&[
            between(7, 12, Text),  // topic
            since(13, UUID),       // topic id
            always(Array(&INT32)), // partitions
        ])),
    ),
    since(11, Text),     // rack
    tagged(0, 12, Text), // cluster id
    tagged(
        1,
        15,
        Struct(&[
            always(INT32), // replica id
            always(INT64), // replica epoch
        ]),
    ),
];

const LIST_OFFSETS: &[Field] = &[
    always(INT32),  // replica id
    since(2, INT8), // isolation
    always(Array(&Struct(&[
        always(Text), // name
        always(Array(&Struct(&[
            always(INT32),   // partition
            since(4, INT32), // current leader epoch
            always(INT64),   // timestamp
        ]))),
    ]))),
    since(10, INT32), // timeout
];

const METADATA: &[Field] = &[
    always(Array(&Struct(&[
        since(10, UUID), // topic id
        always(Text),    // name
    ]))),
    since(4, BOOL),       // allow auto topic creation
    between(8, 10, BOOL), // include cluster authorized operations
    since(8, BOOL),       // include topic authorized operations
];

const API_VERSIONS: &[Field] = &[
    since(3, Text), // client software name
    since(3, Text), // client software version
];

const CREATE_TOPICS: &[Field] = &[
    always(Array(&Struct(&[
        always(Text),  // name
        always(INT32), // partitions
        always(INT16), // replication factor
        always(Array(&Struct(&[
            always(INT32),         // partition
            always(Array(&INT32)), // broker ids
        ]))),
        always(Array(&Struct(&[
            always(Text), // config key
            always(Text), // config value
        ]))),
    ]))),
    always(INT32), // timeout
    always(BOOL),  // validate only
];

const DELETE_TOPICS: &[Field] = &[
    since(
        6,
        Array(&Struct(&[
            always(Text), // name
            always(UUID), // topic id
        ])),
    ),
    between(0, 5, Array(&Text)), // names
    always(INT32),               // timeout
];

const DELETE_RECORDS: &[Field] = &[
    always(Array(&Struct(&[
        always(Text), // name
        always(Array(&Struct(&[
            always(INT32), // partition
            always(INT64), // offset
        ]))),
    ]))),
    always(INT32), // timeout
];

const INIT_PRODUCER_ID: &[Field] = &[
    always(Text),    // transactional id
    always(INT32),   // transaction timeout
    since(3, INT64), // producer id
    since(3, INT16), // producer epoch
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    since(3, INT32), // replica id
    always(Array(&Struct(&[
        always(Text), // topic
        always(Array(&Struct(&[
            always(INT32),   // partition
            since(2, INT32), // current leader epoch
            always(INT32),   // leader epoch
        ]))),
    ]))),
];

const DESCRIBE_CONFIGS: &[Field] = &[
    always(Array(&Struct(&[
        always(INT8),         // resource type
        always(Text),         // resource name
        always(Array(&Text)), // keys
    ]))),
    since(1, BOOL), // include synonyms
    since(3, BOOL), // include documentation
];

const ALTER_CONFIGS: &[Field] = &[
    always(Array(&Struct(&[
        always(INT8), // resource type
        always(Text), // resource name
        always(Array(&Struct(&[
            always(Text), // key
            always(Text), // value
        ]))),
    ]))),
    always(BOOL), // validate only
];

const DESCRIBE_LOG_DIRS: &[Field] = &[always(Array(&Struct(&[
    always(Text),          // topic
    always(Array(&INT32)), // partitions
])))];

const CREATE_PARTITIONS: &[Field] = &[
    always(Array(&Struct(&[
        always(Text),  // name
        always(INT32), // count
        always(Array(&Struct(&[
            always(Array(&INT32)), // broker ids
        ]))),
    ]))),
    always(INT32), // timeout
    always(BOOL),  // validate only
];

const ELECT_LEADERS: &[Field] = &[
    since(1, INT8), // election type
    always(Array(&Struct(&[
        always(Text),          // topic
        always(Array(&INT32)), // partitions
    ]))),
    always(INT32), // timeout
];

const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    always(Array(&Struct(&[
        always(INT8), // resource type
        always(Text), // resource name
        always(Array(&Struct(&[
            always(Text), // key
            always(INT8), // operation
            always(Text), // value
        ]))),
    ]))),
    always(BOOL), // validate only
];

const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    always(INT32),  // timeout
    since(1, BOOL), // allow another replication factor
    always(Array(&Struct(&[
        always(Text), // name
        always(Array(&Struct(&[
            always(INT32),         // partition
            always(Array(&INT32)), // replicas
        ]))),
    ]))),
];

const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[
    always(INT32), // timeout
    always(Array(&Struct(&[
        always(Text),          // name
        always(Array(&INT32)), // partitions
    ]))),
];

const DESCRIBE_CLIENT_QUOTAS: &[Field] = &[
    always(Array(&Struct(&[
        always(Text), // entity type
        always(INT8), // match type
        always(Text), // match
    ]))),
    always(BOOL), // strict
];

const ALTER_CLIENT_QUOTAS: &[Field] = &[
    always(Array(&Struct(&[
        always(Array(&Struct(&[
            always(Text), // entity type
            always(Text), // entity name
        ]))),
        always(Array(&Struct(&[
            always(Text),    // key
            always(FLOAT64), // value
            always(BOOL),    // remove
        ]))),
    ]))),
    always(BOOL), // validate only
];

const DESCRIBE_QUORUM: &[Field] = &[always(Array(&Struct(&[
    always(Text), // name
    always(Array(&Struct(&[
        always(INT32), // partition
    ]))),
])))];

const UPDATE_FEATURES: &[Field] = &[
    always(INT32), // timeout
    always(Array(&Struct(&[
        always(Text),        // feature
        always(INT16),       // level
        between(0, 0, BOOL), // allow downgrade
        since(1, INT8),      // upgrade type
    ]))),
    since(1, BOOL), // validate only
];

const LIST_CONFIG_RESOURCES: &[Field] = &[
    since(1, Array(&INT8)), // resource types
];

const DESCRIBE_CLUSTER: &[Field] = &[
    always(BOOL),   // include cluster authorized operations
    since(1, INT8), // endpoint type
    since(2, BOOL), // include fenced brokers
];

const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    always(Array(&Struct(&[
        always(Text), // name
    ]))),
    always(INT32), // partition limit
    always(OptionStruct(&[
        always(Text),  // topic name
        always(INT32), // partition
    ])),
];

const UNREGISTER_BROKER: &[Field] = &[
    always(INT32), // broker id
];

const OFFSET_COMMIT: &[Field] = &[
    always(Text),         // group id
    always(INT32),        // generation or member epoch
    always(Text),         // member id
    since(7, Text),       // group instance id
    between(2, 4, INT64), // retention time
    always(Array(&Struct(&[
        always(Text), // name
        always(Array(&Struct(&[
            always(INT32),   // partition
            always(INT64),   // offset
            since(6, INT32), // leader epoch
            always(Text),    // metadata
        ]))),
    ]))),
];

const OFFSET_FETCH: &[Field] = &[
    between(1, 7, Text), // group id
    between(
        1,
        7,
        Array(&Struct(&[
            always(Text),          // name
            always(Array(&INT32)), // partitions
        ])),
    ),
    since(
        8,
        Array(&Struct(&[
            always(Text),    // group id
            since(9, Text),  // member id
            since(9, INT32), // member epoch
            always(Array(&Struct(&[
                always(Text),          // name
                always(Array(&INT32)), // partitions
            ]))),
        ])),
    ),
    since(7, BOOL), // require stable
];

const FIND_COORDINATOR: &[Field] = &[
    between(0, 3, Text),    // key
    since(1, INT8),         // key type
    since(4, Array(&Text)), // keys
];

const JOIN_GROUP: &[Field] = &[
    always(Text),    // group id
    always(INT32),   // session timeout
    since(1, INT32), // rebalance timeout
    always(Text),    // member id
    since(5, Text),  // group instance id
    always(Text),    // protocol type
    always(Array(&Struct(&[
        always(Text), // name
        always(Blob), // metadata
    ]))),
    since(8, Text), // reason
];

const HEARTBEAT: &[Field] = &[
    always(Text),   // group id
    always(INT32),  // generation
    always(Text),   // member id
    since(3, Text), // group instance id
];

const LEAVE_GROUP: &[Field] = &[
    always(Text),        // group id
    between(0, 2, Text), // member id
    since(
        3,
        Array(&Struct(&[
            always(Text),   // member id
            always(Text),   // group instance id
            since(5, Text), // reason
        ])),
    ),
];

const SYNC_GROUP: &[Field] = &[
    always(Text),   // group id
    always(INT32),  // generation
    always(Text),   // member id
    since(3, Text), // group instance id
    since(5, Text), // protocol type
    since(5, Text), // protocol name
    always(Array(&Struct(&[
        always(Text), // member id
        always(Blob), // assignment
    ]))),
];

const DESCRIBE_GROUPS: &[Field] = &[
    always(Array(&Text)), // groups
    since(3, BOOL),       // include authorized operations
];

const LIST_GROUPS: &[Field] = &[
    since(4, Array(&Text)), // states
    since(5, Array(&Text)), // types
];

const DELETE_GROUPS: &[Field] = &[
    always(Array(&Text)), // groups
];

const OFFSET_DELETE: &[Field] = &[
    always(Text), // group id
    always(Array(&Struct(&[
        always(Text), // name
        always(Array(&Struct(&[
            always(INT32), // partition
        ]))),
    ]))),
];

const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    always(Text),         // group id
    always(Text),         // member id
    always(INT32),        // member epoch
    always(Text),         // instance id
    always(Text),         // rack
    always(INT32),        // rebalance timeout
    always(Array(&Text)), // subscribed topics
    since(1, Text),       // subscribed pattern
    always(Text),         // assignor
    always(Array(&Struct(&[
        always(UUID),          // topic id
        always(Array(&INT32)), // partitions
    ]))),
];

const CONSUMER_GROUP_DESCRIBE: &[Field] = &[
    always(Array(&Text)), // groups
    always(BOOL),         // include authorized operations
];
