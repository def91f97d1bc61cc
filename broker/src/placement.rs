//! Which shard a new partition goes to, and whether a topic may be named so. Pure.

use std::collections::{BTreeMap, BTreeSet};

use storage::{NodeId, ShardId};

use crate::BrokerError;
use crate::catalogue::command::NewShard;
use crate::catalogue::{Catalogue, Factor, Node, NodeState, Shard, Topic};
use crate::controller::{AUTO_REPLICAS, CATALOGUE_SHARD, Ground, Standing, wanted_list};

/// Longest topic name.
const TOPIC_NAME_CHARS_MAX: usize = 249;

/// Why a topic cannot have this name, if it cannot.
pub(crate) fn topic_name_problem(name: &str, catalogue: &Catalogue) -> Option<String> {
    if name.is_empty() || name == "." || name == ".." {
        return Some(format!("{name:?} is not a name"));
    }
    if name.len() > TOPIC_NAME_CHARS_MAX {
        return Some(format!("longer than {TOPIC_NAME_CHARS_MAX} characters"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.chars().all(allowed) {
        return Some(format!("{name:?} has characters outside [a-zA-Z0-9._-]"));
    }
    // Kafka's metric names fold '.' into '_', so it refuses names that differ only there.
    let fold = |name: &str| name.replace('.', "_");
    if name.contains(['.', '_']) {
        let folded = fold(name);
        let same = |other: &&String| other.as_str() != name && fold(other) == folded;
        if let Some(other) = catalogue.topics.keys().find(same) {
            return Some(format!("{name} collides with {other}"));
        }
    }
    None
}

/// Shards that were given their replicas by hand; each is a Raft group of its own.
const SHARDS_BY_HAND_MAX: usize = 1_000;
/// Standing shards per node and factor, made at the first use of the factor.
const SHARDS_PER_NODE: usize = 2;

/// How many partitions each data shard carries.
fn loads(catalogue: &Catalogue) -> BTreeMap<ShardId, usize> {
    let mut loads: BTreeMap<ShardId, usize> =
        data_shards(catalogue).map(|shard| (shard.id, 0)).collect();
    for topic in catalogue.topics.values() {
        for entry in &topic.partitions {
            *loads.entry(entry.shard).or_default() += 1;
        }
    }
    loads
}

fn data_shards(catalogue: &Catalogue) -> impl Iterator<Item = &Shard> {
    catalogue
        .shards
        .values()
        .filter(|shard| shard.id != CATALOGUE_SHARD)
}

fn of_factor(catalogue: &Catalogue, factor: Factor) -> impl Iterator<Item = &Shard> {
    data_shards(catalogue).filter(move |shard| shard.factor == factor)
}

/// Replicas of automatic shards, once they all have as many as there can be.
const AUTO: Factor = Factor::Fixed(AUTO_REPLICAS);

/// Whether automatic shards are to have as many replicas as they ever get.
fn is_auto_full(catalogue: &Catalogue) -> bool {
    let ground = Ground::new(catalogue, &BTreeSet::new(), &BTreeSet::new());
    ground.wanted(Factor::Auto, 0) == usize::from(AUTO_REPLICAS)
}

/// The factor whose shards serve a request of this one: one set of standing shards is enough for
/// both when automatic means the same number, and costs half as much.
pub(crate) fn serving_factor(catalogue: &Catalogue, factor: Factor) -> Factor {
    let has = |factor| of_factor(catalogue, factor).next().is_some();
    match factor {
        Factor::Auto if !has(Factor::Auto) && has(AUTO) && is_auto_full(catalogue) => AUTO,
        factor => factor,
    }
}

/// How automatic shards may come to serve a request of a fixed factor too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// They cannot, or need not.
    None,
    /// They may be pinned: they have that many replicas, and keep them from then on.
    Pin(Vec<ShardId>),
    /// They are about to have that many.
    Soon,
}

/// See [`Sharing`].
pub(crate) fn sharing(catalogue: &Catalogue, alive: &BTreeSet<NodeId>, factor: Factor) -> Sharing {
    let automatic: Vec<&Shard> = of_factor(catalogue, Factor::Auto).collect();
    let has_own = of_factor(catalogue, AUTO).next().is_some();
    if factor != AUTO || has_own || automatic.is_empty() || !is_auto_full(catalogue) {
        return Sharing::None;
    }
    let full = |list: &Vec<NodeId>| list.len() == usize::from(AUTO_REPLICAS);
    let is_full = |shard: &&Shard| full(&shard.replicas) && shard.target.as_ref().is_none_or(full);
    let active = |node: &&Node| node.state == NodeState::Active;
    let nodes: Vec<&Node> = catalogue.nodes.values().filter(active).collect();
    // While all live the controller adds what is missing.
    let gets_on = nodes.iter().all(|node| alive.contains(&node.id));
    let are_enough = automatic.len() >= SHARDS_PER_NODE * nodes.len();
    let are_full = automatic.iter().all(is_full);
    match (are_full, are_enough, gets_on) {
        (true, true, _) | (true, false, false) => {
            Sharing::Pin(automatic.iter().map(|shard| shard.id).collect())
        }
        (_, _, true) => Sharing::Soon,
        (false, _, false) => Sharing::None,
    }
}

/// Sets the factor of shards in a picture of the catalogue.
pub(crate) fn set_factor(catalogue: &mut Catalogue, shards: &[ShardId], factor: Factor) {
    for id in shards {
        if let Some(shard) = catalogue.shards.get_mut(id) {
            shard.factor = factor;
        }
    }
}

/// The standing shards to make before partitions of this factor can be placed: all of them at the
/// first use of the factor, none later; those for nodes that come are the controller's business.
pub(crate) fn standing(
    catalogue: &Catalogue,
    alive: &BTreeSet<NodeId>,
    factor: Factor,
) -> Vec<NewShard> {
    let ground = Ground::new(catalogue, alive, &BTreeSet::new());
    let replicas = ground.wanted(factor, 0);
    let nodes = ground.active().len();
    if factor == Factor::ByHand || replicas > nodes || of_factor(catalogue, factor).count() > 0 {
        return Vec::new();
    }
    let mut standing = Standing::new(&ground, BTreeMap::new());
    let mut shard = || NewShard {
        replicas: standing.new_list(replicas),
        factor,
    };
    (0..SHARDS_PER_NODE * nodes).map(|_| shard()).collect()
}

/// Whether a shard serves, or will at once: it has a leader, or a majority of its replicas lives.
pub(crate) fn may_serve(shard: &Shard, is_led: bool, alive: &BTreeSet<NodeId>) -> bool {
    let living = |node: &&NodeId| alive.contains(node);
    is_led || shard.replicas.iter().filter(living).count() * 2 > shard.replicas.len()
}

/// Places `count` partitions on the standing shards of this factor: on those that serve if there
/// are any, the shard with the fewest partitions first, and of those one whose preferred leader has
/// the fewest of the new ones.
pub(crate) fn place(
    catalogue: &Catalogue,
    count: i32,
    factor: Factor,
    serves: impl Fn(&Shard) -> bool,
) -> Result<Vec<ShardId>, BrokerError> {
    check_factor(catalogue, factor)?;
    let loads = loads(catalogue);
    let mut places: Vec<(usize, &Shard)> = of_factor(catalogue, factor)
        .map(|shard| (loads[&shard.id], shard))
        .collect();
    if places.iter().any(|(_, shard)| serves(shard)) {
        places.retain(|(_, shard)| serves(shard));
    }
    let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
    let leader = |shard: &Shard| wanted_list(shard).first().copied();
    let mut placed = Vec::new();
    for _ in 0..count {
        let leads = |shard: &Shard| {
            let leader = leader(shard)?;
            led.get(&leader).copied()
        };
        let best = places
            .iter_mut()
            .min_by_key(|(load, shard)| (*load, leads(shard), shard.id));
        let Some((load, shard)) = best else {
            return Err(BrokerError::LeaderNotAvailable);
        };
        *load += 1;
        placed.push(shard.id);
        if let Some(leader) = leader(shard) {
            *led.entry(leader).or_default() += 1;
        }
    }
    Ok(placed)
}

/// Whether the cluster can carry so many replicas.
fn check_factor(catalogue: &Catalogue, factor: Factor) -> Result<(), BrokerError> {
    let Factor::Fixed(replicas) = factor else {
        return Ok(());
    };
    let active = |node: &&Node| node.state == NodeState::Active;
    let nodes = catalogue.nodes.values().filter(active).count();
    if replicas < 1 || usize::from(replicas) > nodes {
        return Err(BrokerError::InvalidReplicationFactor {
            reason: format!("{replicas} replicas on {nodes} nodes that take replicas"),
        });
    }
    Ok(())
}

/// The factor of a topic's partitions, for those that are added to it.
pub(crate) fn factor_of(catalogue: &Catalogue, topic: &Topic) -> Factor {
    let shard = topic
        .partitions
        .first()
        .and_then(|entry| catalogue.shards.get(&entry.shard));
    match shard {
        Some(shard) if shard.factor == Factor::ByHand => {
            let replicas = wanted_list(shard).len();
            Factor::Fixed(u16::try_from(replicas).unwrap_or(u16::MAX))
        }
        Some(shard) => shard.factor,
        None => Factor::Auto,
    }
}

/// The shards to make for lists given by hand that no shard by hand has yet.
pub(crate) fn by_hand(
    catalogue: &Catalogue,
    assignments: &BTreeMap<i32, Vec<NodeId>>,
) -> Result<Vec<NewShard>, BrokerError> {
    check_lists(catalogue, assignments)?;
    new_by_hand(catalogue, assignments.values())
}

/// The shard by hand that has, or shall have, exactly these replicas.
pub(crate) fn shard_by_hand(catalogue: &Catalogue, list: &[NodeId]) -> Option<ShardId> {
    let mut shards = of_factor(catalogue, Factor::ByHand);
    let shard = shards.find(|shard| wanted_list(shard) == list);
    shard.map(|shard| shard.id)
}

/// The shards to make for those of these lists that no shard by hand has yet.
pub(crate) fn new_by_hand<'a>(
    catalogue: &Catalogue,
    lists: impl Iterator<Item = &'a Vec<NodeId>>,
) -> Result<Vec<NewShard>, BrokerError> {
    let present: BTreeSet<&[NodeId]> = of_factor(catalogue, Factor::ByHand)
        .map(wanted_list)
        .collect();
    let missing: BTreeSet<&Vec<NodeId>> = lists
        .filter(|list| !present.contains(list.as_slice()))
        .collect();
    if present.len() + missing.len() > SHARDS_BY_HAND_MAX {
        return Err(BrokerError::PolicyViolation {
            reason: format!("more than {SHARDS_BY_HAND_MAX} different lists of replicas by hand"),
        });
    }
    let shard = |list: &Vec<NodeId>| NewShard {
        replicas: list.clone(),
        factor: Factor::ByHand,
    };
    Ok(missing.into_iter().map(shard).collect())
}

/// Lists given by hand for partitions 0, 1, ...; answers the number of partitions and of replicas.
fn check_lists(
    catalogue: &Catalogue,
    assignments: &BTreeMap<i32, Vec<NodeId>>,
) -> Result<(i32, i16), BrokerError> {
    let invalid = |reason: String| BrokerError::InvalidReplicaAssignment { reason };
    let factor = assignments.values().next().map_or(0, Vec::len);
    for (expected, (index, replicas)) in (0..).zip(assignments) {
        if *index != expected {
            return Err(invalid(format!("partition {expected} is missing")));
        }
        if replicas.is_empty() || replicas.len() != factor {
            return Err(invalid(format!(
                "partition {index} has {} replicas",
                replicas.len()
            )));
        }
        check_list(catalogue, replicas)
            .map_err(|reason| invalid(format!("partition {index}: {reason}")))?;
    }
    let count = i32::try_from(assignments.len()).map_err(|_| invalid("too many".to_owned()))?;
    let factor = i16::try_from(factor).map_err(|_| invalid("too many replicas".to_owned()))?;
    Ok((count, factor))
}

/// Why a list given by hand cannot be, if it cannot.
pub(crate) fn check_list(catalogue: &Catalogue, replicas: &[NodeId]) -> Result<(), String> {
    if replicas.is_empty() {
        return Err("no replicas".to_owned());
    }
    for (position, node) in replicas.iter().enumerate() {
        match catalogue.nodes.get(node) {
            None => return Err(format!("node {node} does not exist")),
            Some(known) if known.state != NodeState::Active => {
                return Err(format!("node {node} is being drained"));
            }
            Some(_) if replicas[..position].contains(node) => {
                return Err(format!("node {node} is named twice"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Checks replicas given by hand for partitions 0, 1, ...; answers the number of partitions, of
/// replicas, and the shards by hand that have these replicas.
pub(crate) fn check_assignments(
    catalogue: &Catalogue,
    assignments: &BTreeMap<i32, Vec<NodeId>>,
) -> Result<(i32, i16, Vec<ShardId>), BrokerError> {
    let (count, factor) = check_lists(catalogue, assignments)?;
    let lists: BTreeMap<&[NodeId], ShardId> = of_factor(catalogue, Factor::ByHand)
        .map(|shard| (wanted_list(shard), shard.id))
        .collect();
    let shard = |(index, list): (&i32, &Vec<NodeId>)| {
        let found = lists.get(list.as_slice()).copied();
        found.ok_or_else(|| BrokerError::InvalidReplicaAssignment {
            reason: format!("no shard has the replicas of partition {index}"),
        })
    };
    let shards = assignments.iter().map(shard).collect::<Result<_, _>>()?;
    Ok((count, factor, shards))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Factor, Node, NodeState};

    fn catalogue() -> Catalogue {
        let node = NodeId(1);
        let shard = |id| {
            (
                ShardId(id),
                Shard::new(ShardId(id), vec![node], Factor::Auto),
            )
        };
        Catalogue {
            nodes: [(
                node,
                Node {
                    id: node,
                    incarnation: [1; 16],
                    rack: None,
                    listeners: BTreeMap::new(),
                    state: NodeState::Active,
                },
            )]
            .into(),
            shards: (0..=3).map(shard).collect(),
            ..Catalogue::default()
        }
    }

    fn three_nodes() -> Catalogue {
        let mut catalogue = catalogue();
        for id in [2, 3].map(NodeId) {
            let node = Node {
                id,
                ..catalogue.nodes[&NodeId(1)].clone()
            };
            catalogue.nodes.insert(id, node);
        }
        catalogue.next_shard_id = 4;
        catalogue
    }

    fn enter(catalogue: &mut Catalogue, shards: Vec<NewShard>) {
        for shard in shards {
            let id = ShardId(catalogue.next_shard_id);
            catalogue.next_shard_id += 1;
            let entry = Shard::new(id, shard.replicas, shard.factor);
            catalogue.shards.insert(id, entry);
        }
    }

    #[test]
    fn partitions_are_spread_and_never_on_the_catalogue() {
        let placed = place(&catalogue(), 6, Factor::Auto, |_| true).expect("places");
        assert_eq!(placed, [1, 2, 3, 1, 2, 3].map(ShardId));
    }

    #[test]
    fn more_replicas_than_nodes_are_refused() {
        for factor in [0, 2] {
            assert!(matches!(
                place(&catalogue(), 1, Factor::Fixed(factor), |_| true),
                Err(BrokerError::InvalidReplicationFactor { .. })
            ));
            let alive = [NodeId(1)].into();
            assert_eq!(standing(&catalogue(), &alive, Factor::Fixed(2)), []);
        }
    }

    #[test]
    fn the_first_topic_of_a_factor_makes_its_shards_and_uses_every_leader() {
        let mut catalogue = three_nodes();
        let alive = catalogue.nodes.keys().copied().collect();
        let shards = standing(&catalogue, &alive, Factor::Fixed(3));
        assert_eq!(shards.len(), 6);
        enter(&mut catalogue, shards);
        assert_eq!(standing(&catalogue, &alive, Factor::Fixed(3)), []);
        let placed = place(&catalogue, 3, Factor::Fixed(3), |_| true).expect("places");
        let leaders: BTreeSet<NodeId> = placed
            .iter()
            .map(|id| catalogue.shards[id].replicas[0])
            .collect();
        assert_eq!(leaders.len(), 3);
    }

    #[test]
    fn shards_with_three_replicas_serve_automatic_topics_and_those_that_name_three() {
        let three = Factor::Fixed(3);
        let mut catalogue = three_nodes();
        let alive: BTreeSet<NodeId> = catalogue.nodes.keys().copied().collect();
        assert_eq!(sharing(&catalogue, &alive, three), Sharing::Soon);
        let two = [1, 2].map(NodeId).into();
        assert_eq!(
            sharing(&catalogue, &two, three),
            Sharing::None,
            "one is dead"
        );
        for id in [1, 2, 3].map(ShardId) {
            let shard = catalogue.shards.get_mut(&id).expect("is there");
            shard.replicas = [1, 2, 3].map(NodeId).into();
        }
        let all = [1, 2, 3].map(ShardId);
        assert_eq!(
            sharing(&catalogue, &alive, three),
            Sharing::Soon,
            "more come"
        );
        assert_eq!(sharing(&catalogue, &two, three), Sharing::Pin(all.into()));
        let more = (0..3).map(|_| NewShard {
            replicas: [1, 2, 3].map(NodeId).into(),
            factor: Factor::Auto,
        });
        enter(&mut catalogue, more.collect());
        let all = [1, 2, 3, 4, 5, 6].map(ShardId);
        assert_eq!(sharing(&catalogue, &alive, three), Sharing::Pin(all.into()));
        for other in [Factor::Auto, Factor::Fixed(2)] {
            assert_eq!(sharing(&catalogue, &alive, other), Sharing::None);
        }
        set_factor(&mut catalogue, &all, three);
        assert_eq!(sharing(&catalogue, &alive, three), Sharing::None, "done");
        assert_eq!(standing(&catalogue, &alive, three), []);
        assert_eq!(serving_factor(&catalogue, Factor::Auto), three);
        let placed = place(&catalogue, 6, three, |_| true).expect("places");
        assert_eq!(placed, all);
        // On two nodes automatic means two, which these shards never have.
        let last = catalogue.nodes.get_mut(&NodeId(3)).expect("is there");
        last.state = NodeState::Draining;
        assert_eq!(serving_factor(&catalogue, Factor::Auto), Factor::Auto);
        let made = standing(&catalogue, &alive, Factor::Auto);
        assert!(made.iter().all(|shard| shard.replicas.len() == 2));
    }

    #[test]
    fn automatic_shards_on_fewer_nodes_stay_free_to_grow() {
        let catalogue = catalogue();
        let alive = [NodeId(1)].into();
        for replicas in [1, 3] {
            let factor = Factor::Fixed(replicas);
            assert_eq!(sharing(&catalogue, &alive, factor), Sharing::None);
        }
        assert_eq!(serving_factor(&catalogue, Factor::Auto), Factor::Auto);
    }

    #[test]
    fn while_a_node_is_dead_partitions_go_where_they_are_served() {
        let mut catalogue = three_nodes();
        let two = Factor::Fixed(2);
        let all = catalogue.nodes.keys().copied().collect();
        let alive: BTreeSet<NodeId> = [1, 3].map(NodeId).into();
        let on_living = standing(&catalogue, &alive, two);
        assert!(
            on_living
                .iter()
                .all(|shard| !shard.replicas.contains(&NodeId(2)))
        );
        let shards = standing(&catalogue, &all, two);
        enter(&mut catalogue, shards);
        let serves = |shard: &Shard| may_serve(shard, false, &alive);
        for id in place(&catalogue, 12, two, serves).expect("places") {
            let replicas = &catalogue.shards[&id].replicas;
            assert!(!replicas.contains(&NodeId(2)), "{replicas:?}");
        }
        // Where nothing serves a place is as good as another.
        let none = place(&catalogue, 6, two, |_| false).expect("places");
        assert_eq!(none.iter().collect::<BTreeSet<_>>().len(), 6);
        let half = Shard::new(ShardId(9), [1, 2].map(NodeId).into(), two);
        assert!(may_serve(&half, true, &alive));
    }

    #[test]
    fn a_list_by_hand_gets_the_shard_that_has_it() {
        let mut catalogue = three_nodes();
        let lists = |of: &[&[u32]]| -> BTreeMap<i32, Vec<NodeId>> {
            let list = |list: &&[u32]| list.iter().copied().map(NodeId).collect();
            (0..).zip(of.iter().map(list)).collect()
        };
        let asked = lists(&[&[2, 3], &[3, 1], &[2, 3]]);
        let shards = by_hand(&catalogue, &asked).expect("may be");
        assert_eq!(shards.len(), 2);
        assert!(check_assignments(&catalogue, &asked).is_err());
        enter(&mut catalogue, shards);
        assert_eq!(by_hand(&catalogue, &asked), Ok(Vec::new()));
        let (count, replicas, placed) = check_assignments(&catalogue, &asked).expect("is there");
        assert_eq!((count, replicas), (3, 2));
        for (index, id) in (0..).zip(&placed) {
            assert_eq!(catalogue.shards[id].replicas, asked[&index]);
        }
    }

    #[test]
    fn lists_by_hand_must_be_whole_and_name_nodes_that_take_replicas() {
        let mut catalogue = three_nodes();
        let draining = catalogue.nodes.get_mut(&NodeId(3)).expect("is there");
        draining.state = NodeState::Draining;
        let check = |lists: &[(i32, &[u32])]| {
            let list = |list: &[u32]| list.iter().copied().map(NodeId).collect();
            let map = lists.iter().map(|(index, l)| (*index, list(l))).collect();
            by_hand(&catalogue, &map)
        };
        assert!(check(&[(0, &[1]), (1, &[1])]).is_ok());
        for bad in [
            &[(1, &[1][..])][..],
            &[(0, &[9])],
            &[(0, &[3])],
            &[(0, &[])],
            &[(0, &[1, 1])],
            &[(0, &[1, 2]), (1, &[1])],
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_kafkas() {
        let catalogue = catalogue();
        for good in ["a", "A.b_c-9", &"x".repeat(249)] {
            assert_eq!(topic_name_problem(good, &catalogue), None, "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(topic_name_problem(bad, &catalogue).is_some(), "{bad}");
        }
    }
}
