//! ListGroups, key 16, version 5 (KIP-518: states; KIP-848: types).

use super::LIST_GROUPS;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// The groups that one node coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupList {
    /// What went wrong; the groups may be in part then.
    pub error: ErrorCode,
    /// The groups.
    pub groups: Vec<ListedGroup>,
}

/// A group in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group_id: String,
    /// Its protocol type, empty where it has none.
    pub protocol_type: String,
    /// Its state's name.
    pub state: String,
    /// Its type: `classic` or `consumer`.
    pub group_type: String,
}

impl Connection {
    /// The groups that this node coordinates; empty filters let all through.
    pub async fn list_groups(
        &self,
        states: &[&str],
        types: &[&str],
    ) -> Result<GroupList, ClientError> {
        let mut body = Writer::new();
        for filter in [states, types] {
            body.array(filter, |item, name| {
                item.string(name);
            });
        }
        body.no_tags();
        let mut answer = self.call(LIST_GROUPS, 5, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let list = GroupList {
            error: ErrorCode(answer.i16()?),
            groups: answer.array(|item| {
                let group = ListedGroup {
                    group_id: item.string()?,
                    protocol_type: item.string()?,
                    state: item.string()?,
                    group_type: item.string()?,
                };
                item.skip_tags()?;
                Ok(group)
            })?,
        };
        answer.skip_tags()?;
        answer.finish()?;
        Ok(list)
    }
}
