//! What answers were worth, measure by measure, with what each measure means.

use super::super::summary::{rank, reached_s};
use super::super::text;
use super::pods_text;
use crate::score::summary::{Proportion, rate_of};
use crate::score::{AnswerScore, Score};

/// One measure of several detectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Its name.
    pub name: &'static str,
    /// What it means, in one sentence.
    pub meaning: &'static str,
    /// Its value for each detector.
    pub values: Vec<String>,
}

/// What is shown of an answer.
struct Column {
    name: &'static str,
    meaning: &'static str,
    value: fn(&AnswerScore) -> String,
}

const COLUMNS: [Column; 10] = [
    Column {
        name: "right at the end",
        meaning: "entity and mechanism at rank 1 of the final answer; of one run, so the 95 % interval is wide",
        value: |answer| text::proportion(&Proportion::new(usize::from(answer.correct_at_end()), 1)),
    },
    Column {
        name: "time to detect",
        meaning: "from the onset to the first alert",
        value: |answer| text::time(answer.time_to_detect),
    },
    Column {
        name: "time to root cause",
        meaning: "from the onset until entity and mechanism are right at rank 1 and stay so",
        value: |answer| text::time(answer.time_to_root_cause),
    },
    Column {
        name: "time to the right entity",
        meaning: "the same, whatever the mechanism",
        value: |answer| text::time(answer.time_to_root_cause_entity),
    },
    Column {
        name: "lead over users",
        meaning: "how long before the first harm to users the cause was named; negative: after it",
        value: lead,
    },
    Column {
        name: "rank of the cause",
        meaning: "of the right entity and mechanism in the final answer (and of the right entity alone)",
        value: |answer| {
            let shown = |value| rank(value).map_or_else(|| "–".to_owned(), |rank| rank.to_string());
            format!("{} ({})", shown(answer.full.rank), shown(answer.entity.rank))
        },
    },
    Column {
        name: "AC@1 · AC@3 · Avg@5 · MRR",
        meaning: "share of the causes within the first 1 and 3 ranks, mean of AC@1 to AC@5, 1 / rank",
        value: |answer| {
            let full = &answer.full;
            let (first, third) = (full.ac_at[0], full.ac_at[2]);
            format!(
                "{first:.2} · {third:.2} · {:.2} · {:.2}",
                full.avg5, full.reciprocal_rank
            )
        },
    },
    Column {
        name: "pods",
        meaning: "whether exactly the affected pods were named",
        value: |answer| pods_text(answer.pods),
    },
    Column {
        name: "blames a decoy",
        meaning: "rank 1 is a service that only looks guilty",
        value: |answer| if answer.decoy { "yes" } else { "no" }.to_owned(),
    },
    Column {
        name: "Brier score",
        meaning: "squared distance of rank 1's confidence from the truth: 0 is best, 1 is sure and wrong",
        value: |answer| text::optional(answer.brier),
    },
];

/// Measures of `scores`, a column for each.
#[must_use]
pub fn measures(scores: &[&Score]) -> Vec<Measure> {
    let answered = scores.iter().any(|score| score.answer.is_some());
    let columns = COLUMNS.iter().filter(|_| answered);
    let mut measures: Vec<Measure> = columns
        .map(|column| Measure {
            name: column.name,
            meaning: column.meaning,
            values: scores
                .iter()
                .map(|score| score.answer.as_ref().map_or_else(|| "–".to_owned(), column.value))
                .collect(),
        })
        .collect();
    measures.push(Measure {
        name: "false alarms",
        meaning: "alerts while nothing was wrong, and the 95 % interval (Poisson) of their rate",
        values: scores.iter().map(|score| false_alarms(score)).collect(),
    });
    measures
}

fn lead(answer: &AnswerScore) -> String {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a run")]
    let impact_s = answer.time_to_impact_ns.map(|ns| ns as f64 / 1e9);
    match (impact_s, reached_s(&answer.time_to_root_cause)) {
        (Some(impact_s), Some(named_s)) => format!("{:+.1} s", impact_s - named_s),
        (None, _) | (_, None) => "–".to_owned(),
    }
}

fn false_alarms(score: &Score) -> String {
    let seconds = text::seconds_of(score.false_alarms.fault_free_ns);
    let rate = rate_of(score.false_alarms.episodes_ns.len(), seconds / 3600.0);
    match rate.high_per_hour {
        Some(high) => format!(
            "{} in {seconds:.0} s [{:.0}, {high:.0} per hour]",
            rate.count, rate.low_per_hour
        ),
        None => "not watched".to_owned(),
    }
}
