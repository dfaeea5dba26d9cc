//! Placement: which nodes hold which partition, and in which order.
//!
//! Founding deals every position of every list to the node with the least load for its weight,
//! among the nodes of zones the list does not have yet. A change of members moves as little as it
//! can: what a leaver held goes to the least loaded, and a newcomer takes its fair share, position
//! by position, from the most loaded; where zones have changed, lists are spread over them again.
//! Load is counted per prefix of the list, since a bucket with n replicas uses the first n places.
//! Everything is a function of its arguments.
//!
//! Not decided here: who the members are, and how data follows its partition.

use std::collections::BTreeSet;

/// One node, as placement sees it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) zone: usize,
    pub(crate) weight: u64,
}

/// Lists of candidate indices, one per partition.
pub(crate) type Lists = Vec<Vec<usize>>;

struct Load<'a> {
    nodes: &'a [Candidate],
    /// `held[k][node]`: lists that have the node among their first k + 1.
    held: Vec<Vec<u64>>,
}

impl<'a> Load<'a> {
    fn new(nodes: &'a [Candidate], length: usize) -> Self {
        Self {
            nodes,
            held: vec![vec![0; nodes.len()]; length],
        }
    }

    fn add(&mut self, place: usize, node: usize) {
        for prefix in &mut self.held[place..] {
            prefix[node] += 1;
        }
    }

    fn take(&mut self, place: usize, node: usize) {
        for prefix in &mut self.held[place..] {
            prefix[node] -= 1;
        }
    }

    /// A list has changed.
    fn follow(&mut self, before: &[Option<usize>], after: &[Option<usize>]) {
        for (place, pair) in before.iter().zip(after).enumerate() {
            if let (Some(old), Some(new)) = pair
                && old != new
            {
                self.take(place, *old);
                self.add(place, *new);
            }
        }
    }

    /// Orders nodes by how full they would be with one more at this place.
    fn fuller(&self, place: usize, a: usize, b: usize) -> std::cmp::Ordering {
        let level = |prefix: &Vec<u64>| {
            let one = (prefix[a] + 1) * self.nodes[b].weight;
            let two = (prefix[b] + 1) * self.nodes[a].weight;
            one.cmp(&two)
        };
        level(&self.held[place])
            .then_with(|| self.held.last().map_or(std::cmp::Ordering::Equal, level))
            .then(a.cmp(&b))
    }

    /// The least full node that may stand at `place` of `list`.
    fn least(&self, place: usize, list: &[Option<usize>]) -> usize {
        let used: BTreeSet<usize> = list.iter().flatten().map(|n| self.nodes[*n].zone).collect();
        let free = (0..self.nodes.len()).filter(|node| !list.contains(&Some(*node)));
        let fresh = free
            .clone()
            .filter(|node| !used.contains(&self.nodes[*node].zone));
        fresh
            .min_by(|a, b| self.fuller(place, *a, *b))
            .or_else(|| free.min_by(|a, b| self.fuller(place, *a, *b)))
            .expect("lists are not longer than there are nodes")
    }
}

/// Places everything anew. `length` is at most the number of nodes.
pub(crate) fn found(nodes: &[Candidate], partitions: usize, length: usize) -> Lists {
    let mut load = Load::new(nodes, length);
    let mut lists = Vec::with_capacity(partitions);
    for _ in 0..partitions {
        let mut list = vec![None; length];
        for place in 0..length {
            let node = load.least(place, &list);
            load.add(place, node);
            list[place] = Some(node);
        }
        lists.push(list.into_iter().flatten().collect());
    }
    lists
}

/// Places as much as possible where it was. `old` has none where a node has left or a list was
/// shorter.
pub(crate) fn adapt(nodes: &[Candidate], old: Vec<Vec<Option<usize>>>, length: usize) -> Lists {
    let mut load = Load::new(nodes, length);
    let mut lists = old;
    for list in &mut lists {
        list.resize(length, None);
        for (place, node) in list.iter().enumerate() {
            if let Some(node) = node {
                load.add(place, *node);
            }
        }
    }
    for list in &mut lists {
        for place in 0..length {
            if list[place].is_none() {
                let node = load.least(place, list);
                load.add(place, node);
                list[place] = Some(node);
            }
        }
    }
    for list in &mut lists {
        spread(nodes, &mut load, list);
    }
    for place in 0..length {
        level(nodes, &mut load, &mut lists, place);
    }
    lists
        .into_iter()
        .map(|list| list.into_iter().flatten().collect())
        .collect()
}

/// Lets every beginning of a list have as many zones as it can: zones may have changed, or come up
/// that did not exist before. Who stands further back changes places; else the least full comes in.
fn spread(nodes: &[Candidate], load: &mut Load<'_>, list: &mut Vec<Option<usize>>) {
    for place in 1..list.len() {
        let used: BTreeSet<usize> = list[..place]
            .iter()
            .flatten()
            .map(|n| nodes[*n].zone)
            .collect();
        let fresh = |node: &usize| !used.contains(&nodes[*node].zone);
        if list[place].as_ref().is_some_and(fresh) {
            continue;
        }
        let behind = list[place + 1..].iter().flatten().copied().find(fresh);
        let free = (0..nodes.len()).filter(fresh);
        let best = behind.or_else(|| free.min_by(|a, b| load.fuller(place, *a, *b)));
        if let Some(node) = best {
            let after = exchanged(list, place, node);
            load.follow(list, &after);
            *list = after;
        }
    }
}

/// Moves one place of one list at a time from the fullest node to the emptiest, while that helps.
fn level(nodes: &[Candidate], load: &mut Load<'_>, lists: &mut [Vec<Option<usize>>], place: usize) {
    let mut stuck = BTreeSet::new();
    loop {
        let order = |a: &usize, b: &usize| load.fuller(place, *a, *b);
        let open = (0..nodes.len()).filter(|node| !stuck.contains(node));
        let Some(poor) = open.min_by(order) else {
            return;
        };
        let helps = |rich: usize| {
            let held = &load.held[place];
            (held[poor] + 1) * nodes[rich].weight < held[rich] * nodes[poor].weight
        };
        let mut donors: Vec<usize> = (0..nodes.len()).filter(|node| helps(*node)).collect();
        donors.sort_by(|a, b| load.fuller(place, *b, *a));
        let found = donors.into_iter().find_map(|rich| {
            let at = lists
                .iter()
                .position(|list| may_take(nodes, list, place, rich, poor))?;
            Some((rich, at))
        });
        match found {
            Some((rich, at)) => {
                let before = lists[at].clone();
                lists[at] = exchanged(&before, place, poor);
                load.follow(&before, &lists[at]);
                debug_assert_eq!(before[place], Some(rich));
            }
            None => {
                stuck.insert(poor);
            }
        }
    }
}

/// True if `poor` may stand where `rich` stands now: it must not come from a better place, and no
/// prefix of the list may lose a zone.
fn may_take(
    nodes: &[Candidate],
    list: &[Option<usize>],
    place: usize,
    rich: usize,
    poor: usize,
) -> bool {
    if list[place] != Some(rich) || list[..place].contains(&Some(poor)) {
        return false;
    }
    if nodes[rich].zone == nodes[poor].zone {
        return true;
    }
    let zones = |list: &[Option<usize>]| {
        let zones = list.iter().flatten().map(|node| nodes[*node].zone);
        zones.collect::<BTreeSet<_>>().len()
    };
    let after = exchanged(list, place, poor);
    (place + 1..=list.len()).all(|end| zones(&list[..end]) <= zones(&after[..end]))
}

/// The list with `poor` at `place`; if it stood further back, the two change places.
fn exchanged(list: &[Option<usize>], place: usize, poor: usize) -> Vec<Option<usize>> {
    let mut after = list.to_vec();
    if let Some(back) = list.iter().position(|node| *node == Some(poor)) {
        after[back] = list[place];
    }
    after[place] = Some(poor);
    after
}
