//! [`Style`]: how the members of a run's group take part, drawn from its seed.

use jepsen_check::history::Protocol;

use crate::client::assignor::Assignor;
use crate::random::Random;

/// How the members of a run take part. Those of one classic group share in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    speech: Speech,
    /// How a classic group shares.
    pub assignor: Assignor,
    statics: Statics,
}

/// Which protocols the members of a run speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    Classic,
    Consumer,
    /// Each member one or the other.
    Mixed,
}

/// Which clients' members are static.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statics {
    None,
    Half,
    All,
}

impl Style {
    /// Any of them.
    pub(crate) fn draw(random: &mut Random) -> Style {
        Style {
            speech: match random.below(3) {
                0 => Speech::Classic,
                1 => Speech::Consumer,
                _ => Speech::Mixed,
            },
            assignor: match random.below(2) {
                0 => Assignor::Range,
                _ => Assignor::CooperativeSticky,
            },
            statics: match random.below(3) {
                0 => Statics::None,
                1 => Statics::Half,
                _ => Statics::All,
            },
        }
    }

    /// What the next member speaks.
    pub(crate) fn protocol(self, random: &mut Random) -> Protocol {
        match self.speech {
            Speech::Classic => Protocol::Classic,
            Speech::Consumer => Protocol::Consumer,
            Speech::Mixed if random.chance(1, 2) => Protocol::Classic,
            Speech::Mixed => Protocol::Consumer,
        }
    }

    /// The instance id of a client's members, one after the other, where they are static. The
    /// clients of a group have odd numbers.
    pub(crate) fn instance(self, number: u32) -> Option<String> {
        let is_static = match self.statics {
            Statics::None => false,
            Statics::Half => number % 4 == 1,
            Statics::All => true,
        };
        is_static.then(|| format!("instance-{number}"))
    }
}
