//! When a call is tried again, and after which pause. Takes the time and random numbers; does no I/O.

use std::time::{Duration, Instant};

use ringfs_proto::Code;
use ringfs_proto::code::Retry;

use crate::error::Fault;
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN, RETURN_BACKOFF_MAX};

/// The tries of one call to the namenode.
#[derive(Debug)]
pub(crate) struct Retries {
    until: Instant,
    pause: Duration,
}

impl Retries {
    pub fn new(until: Instant) -> Self {
        Self { until, pause: BACKOFF_MIN }
    }

    /// The pause before the next try; `None` when the failure is final or the deadline would pass.
    /// `random` spreads the clients of one restarted server.
    pub fn after(&mut self, fault: &Fault, now: Instant, random: u32) -> Option<Duration> {
        let is_there = matches!(fault, Fault::Wire(error) if error.code == Code::Busy);
        let pause_max = if is_there { BACKOFF_MAX } else { RETURN_BACKOFF_MAX };
        if is_worth_another_try(fault) { self.pause_up_to(pause_max, now, random) } else { None }
    }

    /// The pause before the next look for a server that is awaited; `None` when the deadline would pass.
    pub fn pause(&mut self, now: Instant, random: u32) -> Option<Duration> {
        self.pause_up_to(RETURN_BACKOFF_MAX, now, random)
    }

    fn pause_up_to(&mut self, pause_max: Duration, now: Instant, random: u32) -> Option<Duration> {
        let half = self.pause.min(pause_max) / 2;
        let jitter = half.mul_f64(f64::from(random) / f64::from(u32::MAX));
        self.pause = (self.pause * 2).min(BACKOFF_MAX);
        let pause = half + jitter;
        (now + pause < self.until).then_some(pause)
    }
}

fn is_worth_another_try(fault: &Fault) -> bool {
    match fault {
        // Contents that the namenode keeps itself: it has looked at every copy.
        Fault::Wire(error) if error.code == Code::BlockCorrupt => false,
        Fault::Wire(error) => matches!(error.code.retry(), Retry::SameNode | Retry::OtherNode),
        _ => fault.is_connection(),
    }
}

#[cfg(test)]
mod tests {
    use ringfs_proto::WireError;

    use super::*;

    #[test]
    fn pauses_double_and_end_at_the_deadline() {
        let begin = Instant::now();
        let mut retries = Retries::new(begin + Duration::from_secs(5));
        let fault = Fault::Protocol("broken".into());
        let mut now = begin;
        let mut pauses = Vec::new();
        while let Some(pause) = retries.after(&fault, now, u32::MAX) {
            pauses.push(pause);
            now += pause;
        }
        assert_eq!(pauses[0], BACKOFF_MIN);
        assert_eq!(pauses[1], BACKOFF_MIN * 2);
        assert!(now <= begin + Duration::from_secs(5) && pauses.len() > 6, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= RETURN_BACKOFF_MAX));
    }

    #[test]
    fn a_server_that_is_there_is_left_alone_for_longer() {
        let begin = Instant::now();
        let longest = |fault: &Fault| {
            let mut retries = Retries::new(begin + Duration::from_secs(60));
            (0..12).filter_map(|_| retries.after(fault, begin, u32::MAX)).max()
        };
        assert_eq!(longest(&WireError::new(Code::Busy, "why").into()), Some(BACKOFF_MAX));
        assert_eq!(longest(&Fault::Protocol("broken".into())), Some(RETURN_BACKOFF_MAX));
        assert_eq!(longest(&WireError::new(Code::SafeMode, "why").into()), Some(RETURN_BACKOFF_MAX));
    }

    #[test]
    fn only_passing_refusals_are_tried_again() {
        let begin = Instant::now();
        let again = |code| {
            let mut retries = Retries::new(begin + Duration::from_secs(5));
            retries.after(&WireError::new(code, "why").into(), begin, 0).is_some()
        };
        assert!(again(Code::SafeMode) && again(Code::Busy) && again(Code::NotReplicatedYet));
        assert!(!again(Code::NotFound) && !again(Code::NoRoom) && !again(Code::LeaseLost));
    }
}
