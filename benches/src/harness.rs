//! Contestants measured in turns: A B C, B C A, C A B.

use std::time::Duration;

use crate::payload::Payload;
use crate::peer::{Peer, Role};

/// Someone who does the row's job when asked, and says how long that took.
pub struct Contestant {
    pub name: &'static str,
    pub role: Role,
    run: Box<dyn FnMut(u32) -> Duration>,
}

impl Contestant {
    /// `run` does the job so many times, and answers the time of what counts.
    pub fn new(name: &'static str, role: Role, run: impl FnMut(u32) -> Duration + 'static) -> Self {
        Self {
            name,
            role,
            run: Box::new(run),
        }
    }

    pub fn of<T: Payload, P: Peer<T>>(run: impl FnMut(u32) -> Duration + 'static) -> Self {
        Self::new(P::NAME, P::ROLE, run)
    }

    /// The same where nothing is read.
    pub fn writer<T: Payload, P: Peer<T>>(run: impl FnMut(u32) -> Duration + 'static) -> Self {
        Self::new(P::WRITES, P::ROLE, run)
    }
}

/// What a contestant has reached, round by round.
pub struct Measured {
    pub name: &'static str,
    pub role: Role,
    pub rounds: Vec<f64>,
}

impl Measured {
    /// A figure that is counted, not timed: one round says it all.
    pub fn counted<T: Payload, P: Peer<T>>(figure: f64) -> Self {
        Self {
            name: P::NAME,
            role: P::ROLE,
            rounds: vec![figure],
        }
    }

    pub fn median(&self) -> f64 {
        median(self.rounds.iter().copied())
    }
}

pub struct Harness {
    pub rounds: usize,
    /// How long a contestant works in each round, about.
    pub sample: Duration,
}

impl Harness {
    /// Lets them all warm up, then measures them in turns: nanoseconds per operation, of which
    /// each job has so many.
    pub fn compete(&self, mut contestants: Vec<Contestant>, operations: usize) -> Vec<Measured> {
        let times: Vec<u32> = contestants.iter_mut().map(|it| self.warm_up(it)).collect();
        let mut measured: Vec<Measured> = contestants
            .iter()
            .map(|it| Measured {
                name: it.name,
                role: it.role,
                rounds: Vec::new(),
            })
            .collect();
        for round in 0..self.rounds {
            for turn in 0..contestants.len() {
                let who = (round + turn) % contestants.len();
                let elapsed = (contestants[who].run)(times[who]);
                let operations = f64::from(times[who]) * operations as f64;
                measured[who]
                    .rounds
                    .push(elapsed.as_nanos() as f64 / operations);
            }
        }
        measured
    }

    /// How many times the job is to be done in each round.
    fn warm_up(&self, contestant: &mut Contestant) -> u32 {
        let mut times = 1;
        loop {
            let elapsed = (contestant.run)(times).max(Duration::from_nanos(1));
            let fill = self.sample.as_secs_f64() / elapsed.as_secs_f64();
            if fill <= 8.0 {
                return (f64::from(times) * fill).ceil().max(1.0) as u32;
            }
            times *= 8;
        }
    }
}

pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 {
        figures[middle]
    } else {
        (figures[middle - 1] + figures[middle]) / 2.0
    }
}
