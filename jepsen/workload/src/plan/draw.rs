//! Drawing nodes: so many of those there are.

use crate::fault::NodeId;
use crate::random::Random;

/// How many of so many may fail.
pub(super) fn minority(of: usize) -> usize {
    of.saturating_sub(1) / 2
}

/// So many of them, in ascending order.
pub(super) fn draw_some(random: &mut Random, of: &[NodeId], count: usize) -> Vec<NodeId> {
    let mut some = draw_some_in_order(random, of, count);
    some.sort_unstable();
    some
}

/// So many of them, in the order drawn.
pub(super) fn draw_some_in_order(random: &mut Random, of: &[NodeId], count: usize) -> Vec<NodeId> {
    let mut left = of.to_vec();
    let mut some = Vec::new();
    while some.len() < count && !left.is_empty() {
        some.push(draw_out(random, &mut left));
    }
    some
}

/// One out of what is left; when nothing is, everything is again.
pub(super) fn draw_from<T: Copy>(random: &mut Random, left: &mut Vec<T>, all: &[T]) -> T {
    if left.is_empty() {
        left.extend_from_slice(all);
    }
    draw_out(random, left)
}

/// One of these, which is some, taken out.
fn draw_out<T>(random: &mut Random, of: &mut Vec<T>) -> T {
    let len = u64::try_from(of.len()).unwrap_or(u64::MAX);
    let at = usize::try_from(random.below(len)).unwrap_or(0);
    of.swap_remove(at)
}
