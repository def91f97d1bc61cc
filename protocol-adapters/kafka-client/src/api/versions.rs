//! ApiVersions, key 18, version 3 (KIP-511).

use super::API_VERSIONS;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// Versions of one API that the server speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiRange {
    /// The API.
    pub api_key: i16,
    /// Lowest version.
    pub version_min: i16,
    /// Highest version.
    pub version_max: i16,
}

impl Connection {
    /// What the server speaks.
    pub async fn api_versions(&self) -> Result<Vec<ApiRange>, ClientError> {
        let mut body = Writer::new();
        body.string("braidlog")
            .string(env!("CARGO_PKG_VERSION"))
            .no_tags();
        let mut answer = self.call(API_VERSIONS, 3, &body.finish()).await?;
        // A server that lacks version 3 answers in version 0, which starts the same way.
        ErrorCode(answer.i16()?).check()?;
        let ranges = answer.array(|item| {
            let range = ApiRange {
                api_key: item.i16()?,
                version_min: item.i16()?,
                version_max: item.i16()?,
            };
            item.skip_tags()?;
            Ok(range)
        })?;
        let _throttle_ms = answer.i32()?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(ranges)
    }
}
