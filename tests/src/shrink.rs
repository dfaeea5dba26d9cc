//! A failing run made smaller: shorter, and with fewer kinds of trouble, as long as it breaks the
//! same promise.
//!
//! Greedy, and bounded by the wall's clock: what is found when the time is over is good enough.
//! Runs are never made different in kind; every smaller run is a plan that can be played again.

use std::time::{Duration, Instant};

use crate::{course::Report, knobs::Without, replay::Plan, soak::guarded};

const SECOND: u64 = 1_000_000_000;

/// The smallest failing run that was found, and its report.
#[must_use]
pub fn shrink(plan: Plan, report: Report, most: Duration) -> (Plan, Report) {
    let mut small = Small {
        plan,
        report,
        until: Instant::now() + most,
    };
    small.shorten();
    for knob in Without::each() {
        let without = small.plan.without.and(knob);
        if without != small.plan.without {
            small.attempt(Plan {
                without,
                ..small.plan
            });
        }
    }
    small.shorten();
    (small.plan, small.report)
}

struct Small {
    plan: Plan,
    report: Report,
    until: Instant,
}

impl Small {
    /// Keeps the other plan if it breaks the same promise.
    fn attempt(&mut self, plan: Plan) -> bool {
        if self.until <= Instant::now() || plan.options() == self.plan.options() {
            return false;
        }
        let report = guarded(plan, false);
        let promise = |report: &Report| report.broken.as_ref().map(|broken| broken.promise);
        let same = promise(&report) == promise(&self.report);
        if same {
            (self.plan, self.report) = (plan, report);
        }
        same
    }

    /// Faults for a shorter time: up to the failure, or half and half again.
    fn shorten(&mut self) {
        let at = self.report.broken.as_ref().map_or(0, |broken| broken.at);
        let now = self.plan.options().duration / SECOND;
        let seconds = at / SECOND + 1;
        if 1 < seconds && seconds < now {
            self.attempt(Plan {
                seconds: Some(seconds),
                ..self.plan
            });
        }
        for _ in 0..8 {
            let now = self.plan.options().duration / SECOND;
            let halves = [now / 2, now * 3 / 4];
            let shorter = halves
                .into_iter()
                .filter(|&seconds| 0 < seconds && seconds < now);
            let done = shorter.map(|seconds| Plan {
                seconds: Some(seconds),
                ..self.plan
            });
            let plans: Vec<Plan> = done.collect();
            if !plans.into_iter().any(|plan| self.attempt(plan)) {
                return;
            }
        }
    }
}
