//! What users asked: counts since the start, of a bounded number of users.

use std::collections::BTreeMap;

use ringfs_proto::limits::ACTIVITY_USERS_MAX;

/// What one user asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Calls that reached the namespace thread.
    pub calls: u64,
    /// Calls that were refused, as too many waited.
    pub refused: u64,
    /// How long calls waited for the namespace thread, summed, µs.
    pub waited_us: u64,
}

impl Usage {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.refused += other.refused;
        self.waited_us += other.waited_us;
    }
}

/// What users asked, by user. Those for whom there is no room are counted together, under an empty name.
#[derive(Debug, Default)]
pub struct Usages(BTreeMap<String, Usage>);

impl Usages {
    /// Adds what a user asked.
    pub fn add(&mut self, user: &str, usage: Usage) {
        if let Some(known) = self.0.get_mut(user) {
            return known.add(usage);
        }
        let has_room = self.0.len() < ACTIVITY_USERS_MAX as usize;
        let user = if has_room { user.to_owned() } else { String::new() };
        self.0.entry(user).or_default().add(usage);
    }

    /// Adds what others counted.
    pub fn add_all(&mut self, others: &Self) {
        others.0.iter().for_each(|(user, usage)| self.add(user, *usage));
    }

    /// The users with the most calls, refused ones included, most first; equals by name.
    pub fn busiest(&self, users_max: usize) -> Vec<(&str, Usage)> {
        let mut all: Vec<(&str, Usage)> =
            self.0.iter().map(|(user, usage)| (user.as_str(), *usage)).collect();
        all.sort_by_key(|(_, usage)| core::cmp::Reverse(usage.calls + usage.refused));
        all.truncate(users_max);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(calls: u64) -> Usage {
        Usage { calls, ..Usage::default() }
    }

    #[test]
    fn the_busiest_come_first_and_refused_calls_are_calls() {
        let mut usages = Usages::default();
        usages.add("ann", calls(3));
        usages.add("bob", Usage { calls: 1, refused: 4, waited_us: 70 });
        usages.add("cat", calls(3));
        usages.add("ann", Usage { calls: 0, refused: 0, waited_us: 9 });
        let names =
            |users_max| usages.busiest(users_max).into_iter().map(|(user, _)| user).collect::<Vec<_>>();
        assert_eq!(names(9), ["bob", "ann", "cat"]);
        assert_eq!(names(1), ["bob"]);
        assert_eq!(usages.busiest(9)[1].1.waited_us, 9);
    }

    #[test]
    fn users_without_room_are_counted_together() {
        let mut usages = Usages::default();
        (0..ACTIVITY_USERS_MAX).for_each(|user| usages.add(&format!("user-{user}"), calls(1)));
        usages.add("late", calls(2));
        usages.add("later", calls(3));
        usages.add("user-7", calls(1));
        assert_eq!(usages.busiest(1), [("", calls(5))]);
        assert_eq!(usages.busiest(2)[1], ("user-7", calls(2)));
        assert_eq!(usages.0.len(), ACTIVITY_USERS_MAX as usize + 1);
    }
}
