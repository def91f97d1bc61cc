//! Names in a partition's `staged` directory, where a copy gathers until its log takes it over.
//!
//! ```text
//! <topic id>-<index>/staged/
//!     00000000000000001234-89abcdef01234567.log     segment of the copy of that number
//!     00000000000000001234-89abcdef01234567.index   its sparse index
//! ```
//!
//! The number is drawn for each copy and is part of the log's state, so that nothing another copy
//! left behind can pass for what the state means.

use crate::Offset;

/// The directory's name.
pub(crate) const STAGED_DIR: &str = "staged";

/// A file of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StagedName {
    pub(crate) base: Offset,
    pub(crate) copy: u64,
    pub(crate) is_log: bool,
}

pub(crate) fn staged_log_name(base: Offset, copy: u64) -> String {
    format!("{:020}-{copy:016x}.log", base.0)
}

pub(crate) fn staged_index_name(base: Offset, copy: u64) -> String {
    format!("{:020}-{copy:016x}.index", base.0)
}

/// What `name` says, `None` when it is not one of ours.
pub(crate) fn parse_staged_name(name: &str) -> Option<StagedName> {
    let (digits, rest) = name.split_once('-')?;
    let (copy, extension) = rest.split_once('.')?;
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || copy.len() != 16 || !copy.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(StagedName {
        base: Offset(digits.parse().ok()?),
        copy: u64::from_str_radix(copy, 16).ok()?,
        is_log: match extension {
            "log" => true,
            "index" => false,
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_not_ours() {
        let name = |is_log| {
            let (base, copy) = (Offset(42), 0x0123_4567_89ab_cdef);
            Some(StagedName { base, copy, is_log })
        };
        let (base, copy) = (Offset(42), 0x0123_4567_89ab_cdef);
        assert_eq!(parse_staged_name(&staged_log_name(base, copy)), name(true));
        assert_eq!(
            parse_staged_name(&staged_index_name(base, copy)),
            name(false)
        );
        for other in [
            "00000000000000000042.log",
            "00000000000000000042-0123.log",
            "00000000000000000042-0123456789abcdeg.log",
            "00000000000000000042-0123456789abcdef.tmp",
            "99999999999999999999-0123456789abcdef.log",
        ] {
            assert_eq!(parse_staged_name(other), None, "{other}");
        }
    }
}
