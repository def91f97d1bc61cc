//! What passes between whom: cuts and delays, as both kinds of isolation apply them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jepsen_workload::fault::NodeId;
use jepsen_workload::random::Random;

/// One end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// A node.
    Node(NodeId),
    /// A client that may be cut off.
    Client(u32),
    /// The harness itself, which reaches everybody.
    Harness,
}

/// What happens to bytes between two ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Added to each packet's way.
    pub(crate) delay: Duration,
    /// Up to so much more.
    pub(crate) jitter: Duration,
    /// Lost, in a thousand.
    pub(crate) loss_per_mille: u32,
}

impl Shape {
    /// Both one after the other.
    fn and(self, other: Shape) -> Shape {
        Shape {
            delay: self.delay + other.delay,
            jitter: self.jitter + other.jitter,
            loss_per_mille: (self.loss_per_mille + other.loss_per_mille).min(1_000),
        }
    }

    /// How long one packet takes.
    pub(crate) fn draw_delay(&self, random: &mut Random) -> Duration {
        let jitter_us = u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX);
        let more_us = random.below(jitter_us.saturating_add(1).max(1));
        self.delay + Duration::from_micros(more_us)
    }

    /// Whether one packet is lost.
    pub(crate) fn draw_loss(&self, random: &mut Random) -> bool {
        self.loss_per_mille > 0 && random.chance(u64::from(self.loss_per_mille), 1_000)
    }
}

/// Links that are cut.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cut {
    /// From, to.
    pub(crate) links: BTreeSet<(NodeId, NodeId)>,
    /// Clients that hear only what their node hears.
    pub(crate) clients: BTreeMap<u32, NodeId>,
}

impl Cut {
    fn passes(&self, from: End, to: End) -> bool {
        let place = |end| match end {
            End::Node(node) => Some(node),
            End::Client(client) => self.clients.get(&client).copied(),
            End::Harness => None,
        };
        match (place(from), place(to)) {
            (Some(from), Some(to)) => !self.links.contains(&(from, to)),
            _ => true,
        }
    }
}

/// What is cut and what is slow, each until it is undone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    next: u64,
    cuts: BTreeMap<u64, Cut>,
    shapes: BTreeMap<u64, (BTreeSet<NodeId>, Shape)>,
}

impl Rules {
    /// Cuts these links; what undoes it.
    pub(crate) fn cut(&mut self, cut: Cut) -> u64 {
        self.next += 1;
        self.cuts.insert(self.next, cut);
        self.next
    }

    /// Slows down what these nodes say to other nodes and hear from them; what undoes it.
    pub(crate) fn shape(&mut self, nodes: BTreeSet<NodeId>, shape: Shape) -> u64 {
        self.next += 1;
        self.shapes.insert(self.next, (nodes, shape));
        self.next
    }

    /// Undoes one.
    pub(crate) fn undo(&mut self, id: u64) {
        self.cuts.remove(&id);
        self.shapes.remove(&id);
    }

    /// Undoes all.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.shapes.clear();
    }

    /// Whether anything gets from one to the other.
    pub(crate) fn passes(&self, from: End, to: End) -> bool {
        self.cuts.values().all(|cut| cut.passes(from, to))
    }

    /// What happens on the way; `None` for nothing.
    pub(crate) fn shape_of(&self, from: End, to: End) -> Option<Shape> {
        let (End::Node(from), End::Node(to)) = (from, to) else {
            return None;
        };
        let concerned = self.shapes.values();
        let shapes = concerned.filter(|(nodes, _)| nodes.contains(&from) || nodes.contains(&to));
        shapes.map(|(_, shape)| *shape).reduce(Shape::and)
    }

    /// How long the slowest packet takes.
    pub(crate) fn delay_max(&self) -> Duration {
        let each = self.shapes.values();
        each.map(|(_, shape)| shape.delay + shape.jitter).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(links: &[(u32, u32)], clients: &[(u32, u32)]) -> Rules {
        let mut rules = Rules::default();
        rules.cut(Cut {
            links: links.iter().copied().collect(),
            clients: clients.iter().copied().collect(),
        });
        rules
    }

    #[test]
    fn a_cut_is_one_way_and_spares_everybody_else() {
        let rules = cut(&[(1, 2)], &[]);
        assert!(!rules.passes(End::Node(1), End::Node(2)));
        assert!(rules.passes(End::Node(2), End::Node(1)));
        assert!(rules.passes(End::Node(1), End::Node(3)));
        assert!(rules.passes(End::Client(0), End::Node(2)));
        assert!(rules.passes(End::Harness, End::Node(2)));
    }

    #[test]
    fn a_client_that_stays_with_a_node_reaches_what_that_one_reaches() {
        let rules = cut(&[(1, 2), (2, 1)], &[(7, 1)]);
        assert!(rules.passes(End::Client(7), End::Node(1)));
        assert!(rules.passes(End::Node(1), End::Client(7)));
        assert!(!rules.passes(End::Client(7), End::Node(2)));
        assert!(!rules.passes(End::Node(2), End::Client(7)));
        assert!(rules.passes(End::Client(7), End::Node(3)));
        assert!(rules.passes(End::Client(8), End::Node(2)));
    }

    #[test]
    fn what_is_undone_is_gone_and_nothing_else() {
        let mut rules = Rules::default();
        let link = |link| Cut {
            links: BTreeSet::from([link]),
            ..Cut::default()
        };
        let first = rules.cut(link((1, 2)));
        rules.cut(link((2, 3)));
        rules.undo(first);
        assert!(rules.passes(End::Node(1), End::Node(2)));
        assert!(!rules.passes(End::Node(2), End::Node(3)));
        rules.heal();
        assert!(rules.passes(End::Node(2), End::Node(3)));
    }

    #[test]
    fn delays_add_up_between_nodes_and_spare_clients() {
        let mut rules = Rules::default();
        let shape = Shape {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(10),
            loss_per_mille: 600,
        };
        rules.shape(BTreeSet::from([1]), shape);
        rules.shape(BTreeSet::from([1, 2]), shape);
        let both = rules.shape_of(End::Node(3), End::Node(1));
        assert_eq!(both.map(|s| s.delay), Some(Duration::from_millis(40)));
        assert_eq!(both.map(|s| s.loss_per_mille), Some(1_000));
        let one = rules.shape_of(End::Node(3), End::Node(2));
        assert_eq!(one, Some(shape));
        assert_eq!(rules.shape_of(End::Client(0), End::Node(1)), None);
        assert_eq!(rules.shape_of(End::Node(3), End::Node(4)), None);
        assert_eq!(rules.delay_max(), Duration::from_millis(60));
        let mut random = Random::new(1);
        for _ in 0..100 {
            let delay = shape.draw_delay(&mut random);
            assert!(delay >= shape.delay && delay <= shape.delay + shape.jitter);
        }
    }
}
