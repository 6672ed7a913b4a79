//! Calls that wait for the namespace thread, user by user: one who asks for much waits for himself only.
//!
//! Users are served in turns of a bounded number of calls. Each has a share of the room; whoever has used up his own is told
//! to come back, while all others are still taken. HDFS: `FairCallQueue`, without its levels.

use std::collections::{BTreeMap, VecDeque};

use crate::activity::{Usage, Usages};
use crate::calls::Call;

/// Calls of one user that are taken before the next user has his turn.
const TURN_CALLS: usize = 64;

/// The waiting calls.
#[derive(Debug)]
pub struct FairCalls {
    /// Each with the time at which it came, µs.
    by_user: BTreeMap<String, VecDeque<(u64, Call)>>,
    /// Users with calls, in the order of their turns.
    turns: VecDeque<String>,
    count: usize,
    per_user_max: usize,
    /// What was taken and refused since it was last asked.
    usages: Usages,
}

impl FairCalls {
    /// Room for `per_user_max` calls of each user.
    pub fn new(per_user_max: usize) -> Self {
        Self {
            by_user: BTreeMap::new(),
            turns: VecDeque::new(),
            count: 0,
            per_user_max,
            usages: Usages::default(),
        }
    }

    /// Lets a call wait; gives it back when its user has too many. Times are of any monotonic clock.
    pub fn push(&mut self, call: Call, now_us: u64) -> Option<Call> {
        let user = &call.caller.user;
        if let Some(calls) = self.by_user.get_mut(user) {
            if calls.len() >= self.per_user_max {
                self.usages.add(user, Usage { refused: 1, ..Usage::default() });
                return Some(call);
            }
            calls.push_back((now_us, call));
        } else {
            self.turns.push_back(user.clone());
            self.by_user.insert(user.clone(), VecDeque::from([(now_us, call)]));
        }
        self.count += 1;
        None
    }

    /// Takes at most `max` calls, some of each user.
    pub fn take(&mut self, max: usize, now_us: u64) -> Vec<Call> {
        let mut taken = Vec::with_capacity(max.min(self.count));
        while taken.len() < max
            && let Some(user) = self.turns.pop_front()
        {
            let Some(calls) = self.by_user.get_mut(&user) else { continue };
            let len = calls.len().min(TURN_CALLS).min(max - taken.len());
            let mut usage = Usage { calls: len as u64, ..Usage::default() };
            for (came_us, call) in calls.drain(..len) {
                usage.waited_us += now_us.saturating_sub(came_us);
                taken.push(call);
            }
            self.usages.add(&user, usage);
            if calls.is_empty() {
                self.by_user.remove(&user);
            } else {
                self.turns.push_back(user);
            }
        }
        self.count -= taken.len();
        taken
    }

    /// What users asked since this was called last.
    pub fn take_usages(&mut self) -> Usages {
        core::mem::take(&mut self.usages)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use ringfs_proto::frame::Header;
    use ringfs_proto::hello::Role;
    use ringfs_proto::ids::{CallId, SessionId};
    use ringfs_proto::meta::admin::PingV1;

    use super::*;
    use crate::calls::{Caller, Request};

    fn call(user: &str, id: u64) -> Call {
        let caller = Arc::new(Caller {
            connection: 1,
            session: SessionId([1; 16]),
            user: user.to_owned(),
            credentials: crate::calls::Credentials::privileged(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            role: Role::Client,
            nonce: [0; 16],
            renews_leases: false,
            is_datanode: AtomicBool::new(false),
        });
        let request = Request::Ping(PingV1 { echo: id });
        let header = Header::request(request.op(), CallId(id));
        Call { caller, call: CallId(id), lowest_unanswered: CallId(0), header, request, context: None }
    }

    fn ids(calls: &[Call], user: &str) -> Vec<u64> {
        calls.iter().filter(|call| call.caller.user == user).map(|call| call.call.0).collect()
    }

    #[test]
    fn a_storm_of_one_user_does_not_keep_another_waiting() {
        let mut calls = FairCalls::new(10_000);
        (0..10_000).for_each(|id| assert!(calls.push(call("storm", id), 0).is_none()));
        (0..3).for_each(|id| assert!(calls.push(call("calm", id), 0).is_none()));
        let taken = calls.take(2 * TURN_CALLS, 0);
        assert_eq!(ids(&taken, "calm"), [0, 1, 2], "served in the first round");
        assert_eq!(ids(&taken, "storm"), (0..2 * TURN_CALLS as u64 - 3).collect::<Vec<_>>());
    }

    #[test]
    fn who_has_used_up_his_share_is_told_so_and_the_others_are_not() {
        let mut calls = FairCalls::new(5);
        (0..5).for_each(|id| assert!(calls.push(call("storm", id), 0).is_none()));
        assert_eq!(calls.push(call("storm", 5), 0).map(|call| call.call), Some(CallId(5)));
        assert!(calls.push(call("calm", 0), 0).is_none());
        assert_eq!(calls.take(100, 0).len(), 6);
        assert!(calls.is_empty());
        assert!(calls.push(call("storm", 6), 0).is_none(), "there is room again");
    }

    #[test]
    fn calls_of_a_user_stay_in_order() {
        let mut calls = FairCalls::new(1000);
        for id in 0..500 {
            calls.push(call(["a", "b", "c"][id as usize % 3], id), 0);
        }
        let mut seen = Vec::new();
        while !calls.is_empty() {
            seen.extend(calls.take(7, 0));
        }
        for (user, first) in [("a", 0), ("b", 1), ("c", 2)] {
            assert_eq!(ids(&seen, user), (first..500).step_by(3).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_users_asked_is_counted_with_how_long_it_waited() {
        let mut calls = FairCalls::new(2);
        for (id, user) in [(0, "storm"), (1, "storm"), (2, "storm"), (3, "calm")] {
            calls.push(call(user, id), 100 * id);
        }
        assert_eq!(calls.take(9, 1000).len(), 3);
        let storm = Usage { calls: 2, refused: 1, waited_us: 1000 + 900 };
        let calm = Usage { calls: 1, refused: 0, waited_us: 700 };
        assert_eq!(calls.take_usages().busiest(9), [("storm", storm), ("calm", calm)]);
        assert!(calls.take_usages().busiest(9).is_empty(), "counted once");
    }
}
