//! DeleteGroups, key 42, version 2 (KIP-229).

use super::DELETE_GROUPS;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

impl Connection {
    /// Deletes groups without members, with their offsets; one result each.
    pub async fn delete_groups(
        &self,
        group_ids: &[&str],
    ) -> Result<Vec<(String, ErrorCode)>, ClientError> {
        let mut body = Writer::new();
        body.array(group_ids, |item, group_id| {
            item.string(group_id);
        });
        body.no_tags();
        let mut answer = self.call(DELETE_GROUPS, 2, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let results = answer.array(|item| {
            let result = (item.string()?, ErrorCode(item.i16()?));
            item.skip_tags()?;
            Ok(result)
        })?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(results)
    }
}
