//! The rows requested on the command line, and their results.

use crate::harness::{Contestant, Harness, Measured};
use crate::payload::Payload;
use crate::table::Row;

pub struct Bench {
    pub harness: Harness,
    pub quick: bool,
    /// Only rows with a name that contains one of these; all rows if it is empty.
    pub wanted: Vec<String>,
    pub rows: Vec<Row>,
}

/// A row, before it is measured.
pub struct Plan {
    pub section: &'static str,
    pub scenario: String,
    pub payload: &'static str,
    pub unit: &'static str,
}

impl Plan {
    pub fn new<T: Payload>(
        section: &'static str,
        scenario: impl Into<String>,
        unit: &'static str,
    ) -> Self {
        Self {
            section,
            scenario: scenario.into(),
            payload: T::NAME,
            unit,
        }
    }

    fn name(&self) -> String {
        format!("{}: {}, {}", self.section, self.scenario, self.payload)
    }
}

impl Bench {
    /// Times a row, if it is requested. Each job of `contestants` consists of `operations`
    /// operations.
    pub fn timed(
        &mut self,
        plan: Plan,
        operations: usize,
        contestants: impl FnOnce() -> Vec<Contestant>,
    ) {
        if let Some(plan) = self.begin(plan) {
            let measured = self.harness.compete(contestants(), operations);
            self.add(plan, &measured);
        }
    }

    /// Adds a row of counted figures, if it is requested.
    pub fn counted(&mut self, plan: Plan, count: impl FnOnce() -> Vec<Measured>) {
        if let Some(plan) = self.begin(plan) {
            let measured = count();
            self.add(plan, &measured);
        }
    }

    /// Returns the plan, if it is requested.
    pub fn begin(&self, plan: Plan) -> Option<Plan> {
        let name = plan.name();
        let is_wanted = self.wanted.is_empty() || self.wanted.iter().any(|it| name.contains(it));
        is_wanted.then(|| {
            eprintln!("{name}");
            plan
        })
    }

    pub fn add(&mut self, plan: Plan, measured: &[Measured]) {
        let Plan {
            section,
            scenario,
            payload,
            unit,
        } = plan;
        self.rows
            .push(Row::new(section, scenario, payload, unit, measured));
    }
}
