//! Changing configs of a topic or broker.

use std::str::FromStr;

use kafka_client::api::{AlterConfig, AlterOperation};
use serde_json::json;

use super::Resource;
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::session::Session;

/// `KEY=VALUE`, as given on the command line. The value may be empty and may hold `=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Assignment {
    pub(in crate::cli) key: String,
    pub(in crate::cli) value: String,
}

impl Assignment {
    pub(in crate::cli) fn change(self, operation: AlterOperation) -> AlterConfig {
        AlterConfig {
            name: self.key,
            operation,
            value: Some(self.value),
        }
    }
}

impl FromStr for Assignment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Assignment, &'static str> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Assignment {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("expected KEY=VALUE"),
        }
    }
}

/// Back to what holds without it.
pub(in crate::cli) fn removal(key: String) -> AlterConfig {
    AlterConfig {
        name: key,
        operation: AlterOperation::Delete,
        value: None,
    }
}

/// Changes configs, all or none, and says so; with `dry_run` only checks whether it could.
pub(in crate::cli) async fn alter(
    session: &mut Session,
    resource: &Resource,
    changes: Vec<AlterConfig>,
    dry_run: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let node = resource.node(session).await?;
    node.incremental_alter_configs(&resource.wire(), &changes, dry_run)
        .await
        .map_err(|error| resource.failure(session, error))?;
    let verb = if dry_run { "could change" } else { "changed" };
    let name = match resource {
        Resource::Topic(name) => name.clone(),
        Resource::Broker(_) | Resource::Brokers => resource.to_string(),
    };
    let keys: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
    context.output.result(
        &format!("{verb} {name}: {}", keys.join(", ")),
        &json!({
            "resource": resource.to_string(),
            "name": name,
            "changed": keys,
            "dry_run": dry_run,
        }),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_ends_its_key_at_the_first_equals_sign() {
        let read = "a=b=c".parse::<Assignment>().unwrap();
        assert_eq!((read.key.as_str(), read.value.as_str()), ("a", "b=c"));
        assert_eq!("a=".parse::<Assignment>().unwrap().value, "");
        for text in ["", "a", "=b"] {
            assert!(text.parse::<Assignment>().is_err(), "{text}");
        }
    }
}
