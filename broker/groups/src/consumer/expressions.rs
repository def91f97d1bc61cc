//! Subscriptions by regular expression, resolved on the server.
//!
//! Kafka takes RE2's syntax and matches whole names. The crate `regex` has the same syntax but for
//! rarities, and like RE2 it takes time linear in the text, whatever the expression; what an
//! expression may cost in memory is bounded by its length and by a limit on its compiled form.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};

use crate::topics::Topics;

/// Why an expression is no good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadExpression {
    #[error("the regular expression has {0} bytes, {1} are allowed")]
    Long(usize, usize),
    #[error("{0}")]
    Syntax(String),
}

/// The names that the expression matches from end to end.
pub(crate) fn resolve(
    expression: &str,
    topics: &Topics,
    bytes_max: usize,
) -> Result<BTreeSet<String>, BadExpression> {
    let regex = compile(expression, bytes_max)?;
    let names = topics.iter().map(|topic| &topic.name);
    Ok(names.filter(|name| regex.is_match(name)).cloned().collect())
}

fn compile(expression: &str, bytes_max: usize) -> Result<Regex, BadExpression> {
    if expression.len() > bytes_max {
        return Err(BadExpression::Long(expression.len(), bytes_max));
    }
    let build = |expression: &str| {
        RegexBuilder::new(expression)
            .size_limit(bytes_max.saturating_mul(1_000))
            .build()
            .map_err(|error| BadExpression::Syntax(error.to_string()))
    };
    // Alone first: between brackets `a)(b` would be an expression too.
    build(expression)?;
    build(&format!(r"\A(?:{expression})\z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::Topic;
    use crate::uuid::Uuid;

    fn resolved(expression: &str) -> Result<Vec<String>, BadExpression> {
        let mut topics = Topics::new();
        for (id, name) in (1..).zip(["ab", "abc", "b", "b.c"]) {
            let name = name.to_owned();
            topics.insert(Topic {
                id: Uuid(id),
                name,
                partitions: 1,
                racks: Vec::new(),
            });
        }
        resolve(expression, &topics, 64).map(|names| names.into_iter().collect())
    }

    #[test]
    fn an_expression_matches_whole_names() {
        assert_eq!(resolved("b"), Ok(vec!["b".to_owned()]));
        assert_eq!(resolved("a|ab"), Ok(vec!["ab".to_owned()]));
        assert_eq!(
            resolved("b|ab."),
            Ok(vec!["abc".to_owned(), "b".to_owned()])
        );
        assert_eq!(resolved(r"b\.c"), Ok(vec!["b.c".to_owned()]));
        assert_eq!(resolved("^b$"), Ok(vec!["b".to_owned()]));
        assert_eq!(resolved(".*").map(|all| all.len()), Ok(4));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for bad in ["(", "a)(b", "[", "*", r"(?=a)", r"(a)\1"] {
            assert!(
                matches!(resolved(bad), Err(BadExpression::Syntax(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn an_expression_is_bounded_in_length_and_in_what_it_compiles_to() {
        assert_eq!(resolved(&"a".repeat(65)), Err(BadExpression::Long(65, 64)));
        assert!(matches!(
            resolved("((a{100}){100}){100}"),
            Err(BadExpression::Syntax(_))
        ));
    }
}
