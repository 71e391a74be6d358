//! Which mechanism was true and which one was said, over all runs that count.

use std::collections::BTreeMap;

use gauntlet_detector::diagnosis::Mechanism;

use crate::check::validity::Class;
use crate::suite::outcome::CaseResult;

/// What is said by one who says nothing.
pub const NOTHING: &str = "nothing";

/// True mechanisms × said ones. Controls are the truth [`NOTHING`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Confusion {
    /// True mechanisms, in the order of the documentation.
    pub truths: Vec<String>,
    /// Said mechanisms, in the same order.
    pub said: Vec<String>,
    /// Number of runs by (true, said), and how many of them were judged right: an accepted alias is right beside the
    /// diagonal, and a right mechanism at a wrong place is wrong on it.
    pub counts: BTreeMap<(String, String), Count>,
}

/// Runs in a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All.
    pub runs: usize,
    /// With the right answer at rank 1.
    pub right: usize,
}

pub(super) fn confusion(cases: &[CaseResult]) -> Confusion {
    let mut counts: BTreeMap<(String, String), Count> = BTreeMap::new();
    for case in cases.iter().filter(|case| case.validity.class == Class::Valid) {
        let said = case.detector.first.as_ref();
        let said = said.map_or_else(|| NOTHING.to_owned(), |first| first.mechanism.name().to_owned());
        let count = counts.entry((true_mechanism(case), said)).or_default();
        let answer = case.detector.score.answer.as_ref();
        let right = match answer {
            Some(answer) => answer.correct_at_end(),
            None => case.detector.first.is_none(),
        };
        count.runs += 1;
        count.right += usize::from(right);
    }
    let order = |name: &String| Mechanism::ALL.iter().position(|one| one.name() == name);
    let names = |of: fn(&(String, String)) -> &String| {
        let mut names: Vec<String> = counts.keys().map(of).cloned().collect();
        names.sort_by_key(|name| (order(name).unwrap_or(usize::MAX), name.clone()));
        names.dedup();
        names
    };
    Confusion {
        truths: names(|(truth, _)| truth),
        said: names(|(_, said)| said),
        counts,
    }
}

/// A case's truth is text, `entity: mechanism`; of several causes the first stands for the case.
fn true_mechanism(case: &CaseResult) -> String {
    match case.truth.first() {
        None => NOTHING.to_owned(),
        Some(cause) => cause.rsplit(": ").next().unwrap_or(cause).to_owned(),
    }
}
