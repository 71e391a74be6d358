//! Tables of runs and what they are worth. Onset is at 20 s, recovery begins at 35 s; one line is one statement.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use expect_test::{Expect, expect};
use gauntlet_detector::diagnosis::{Candidate, Diagnosis, Entity, Mechanism};

use super::verdict::judge;
use super::*;
use crate::check::validity::{Class, Validity};
use crate::plan::{AcceptedAnswer, TrueCause};
use crate::scenario::model::{Limits, Place, PodsLimit};

const SECOND: u64 = 1_000_000_000;

/// Two of three cache pods filtered; the edge to them is as right.
fn truth() -> GroundTruth {
    let pods = [
        "cache-0@n1",
        "cache-1@n2",
        "cache-2@n3",
        "web-0@n1",
        "web-1@n2",
        "db-0@n3",
    ];
    let split = pods.map(|pod| pod.split_once('@').expect("pod@node"));
    GroundTruth {
        arm: Arm::Fault,
        causes: vec![TrueCause {
            fault: "f".to_owned(),
            place: Place::Service("cache".into()),
            mechanism: Mechanism::NetworkFilter,
            accept: vec![AcceptedAnswer {
                place: Place::Edge {
                    caller: "web".into(),
                    callee: "cache".into(),
                },
                mechanism: Mechanism::NetworkFilter,
            }],
            pods: vec!["cache-0".into(), "cache-2".into()],
            nodes: vec!["n1".into(), "n3".into()],
        }],
        decoys: vec!["web".into(), "db".into()],
        path: vec!["cache".into(), "web".into()],
        owners: split
            .iter()
            .map(|(pod, _)| ((*pod).into(), pod.split('-').next().expect("service").into()))
            .collect(),
        hosts: BTreeMap::from(split.map(|(pod, node)| (pod.into(), node.into()))),
    }
}

fn two_causes() -> GroundTruth {
    let mut truth = truth();
    let db = TrueCause {
        place: Place::Service("db".into()),
        mechanism: Mechanism::ResourceCpu,
        ..truth.causes[0].clone()
    };
    truth.causes.push(TrueCause {
        accept: Vec::new(),
        pods: vec!["db-0".into()],
        ..db
    });
    truth.decoys = vec!["web".into()];
    truth
}

fn surge() -> GroundTruth {
    let mut truth = truth();
    truth.arm = Arm::Surge;
    truth.decoys = vec!["cache".into(), "db".into()];
    truth.path = Vec::new();
    truth.causes[0] = TrueCause {
        place: Place::Service("web".into()),
        mechanism: Mechanism::LoadSurge,
        accept: Vec::new(),
        pods: Vec::new(),
        nodes: Vec::new(),
        ..truth.causes[0].clone()
    };
    truth
}

fn control(arm: Arm) -> GroundTruth {
    GroundTruth {
        arm,
        causes: Vec::new(),
        ..truth()
    }
}

/// `22.5: cache network.filter .9 cache-0+cache-2; web app.slow .1`: entity, mechanism, confidence, pods.
fn parse(said: &str) -> Vec<Diagnosis> {
    let statement = |line: &str| {
        let (at, what) = line.split_once(':').expect("time: candidates");
        let at_ns = (at.trim().parse::<f64>().expect("seconds") * SECOND as f64) as u64;
        let candidates = what
            .split(';')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(candidate)
            .collect();
        Diagnosis {
            at_ns,
            detector: "d".to_owned(),
            candidates,
        }
    };
    said.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(statement)
        .collect()
}

fn candidate(text: &str) -> Candidate {
    let mut words = text.split_whitespace();
    let entity = match words.next().expect("entity").split_once('=') {
        Some(("pod", name)) => Entity::Pod { name: name.into() },
        Some(("node", name)) => Entity::Node { name: name.into() },
        Some(("edge", ends)) => {
            let (caller, callee) = ends.split_once('>').expect("caller>callee");
            Entity::Edge {
                caller: caller.into(),
                callee: callee.into(),
            }
        }
        Some((other, _)) => panic!("entity {other}"),
        None => Entity::Service {
            name: text.split_whitespace().next().expect("entity").into(),
        },
    };
    let mechanism = words.next().expect("mechanism").parse().expect("known mechanism");
    let confidence = words.next().expect("confidence").parse().expect("number");
    let pods = words
        .next()
        .map(|pods| pods.split('+').map(Into::into).collect())
        .unwrap_or_default();
    let path = vec!["cache".into(), "web".into()];
    Candidate {
        entity,
        mechanism,
        confidence,
        since_ns: 0,
        pods,
        nodes: Vec::new(),
        evidence: Vec::new(),
        path,
    }
}

fn record(truth: GroundTruth, said: &str) -> RunRecord {
    let injected = truth.arm != Arm::None;
    RunRecord {
        detector: "d".to_owned(),
        diagnoses: parse(said),
        window: Duration::from_secs(15),
        observation_start_ns: 10 * SECOND,
        inject_ns: injected.then_some(19 * SECOND),
        onset_ns: matches!(truth.arm, Arm::Fault | Arm::Surge).then_some(20 * SECOND),
        impact_ns: matches!(truth.arm, Arm::Fault | Arm::Surge).then_some(22 * SECOND),
        recover_start_ns: Some(35 * SECOND),
        end_ns: Some(38 * SECOND),
        observation_end_ns: 40 * SECOND,
        truth,
    }
}

const LIMITS: Limits = Limits {
    time_to_detect: Some(Duration::from_secs(5)),
    time_to_root_cause: Some(Duration::from_secs(10)),
    rank: 1,
    false_alarms: 0,
    pods: PodsLimit::Any,
};

fn time(time: TimeTo) -> String {
    match time {
        TimeTo::Reached { after_ns } => format!("{:.1}", after_ns as f64 / SECOND as f64),
        TimeTo::NotReached { observed_for_ns } => format!(">{:.1}", observed_for_ns as f64 / SECOND as f64),
    }
}

fn rank(rank: Rank) -> String {
    match rank {
        Rank::At { rank } => format!("{rank}"),
        Rank::Absent => "-".to_owned(),
    }
}

fn check(truth: GroundTruth, said: &str, expected: Expect) {
    check_record(&record(truth, said), LIMITS, expected);
}

fn check_record(record: &RunRecord, limits: Limits, expected: Expect) {
    let score = score(record);
    let mut text = String::new();
    if let Some(answer) = &score.answer {
        let AnswerScore { full, entity, .. } = answer;
        writeln!(
            text,
            "ttd {} ttrc {} entity {} | rank {} entity {} ac@ {:?} avg5 {:.2} rr {:.2}",
            time(answer.time_to_detect),
            time(answer.time_to_root_cause),
            time(answer.time_to_root_cause_entity),
            rank(full.rank),
            rank(entity.rank),
            full.ac_at,
            full.avg5,
            full.reciprocal_rank,
        )
        .expect("a string takes everything");
        let AnswerScore {
            pods,
            exact_path,
            decoy,
            brier,
            alerts_before_onset,
            ..
        } = answer;
        writeln!(
            text,
            "{pods:?} path {exact_path:?} decoy {decoy} brier {brier:.2?} early {alerts_before_onset}"
        )
        .expect("a string takes everything");
    }
    let alarms: Vec<_> = score
        .false_alarms
        .episodes_ns
        .iter()
        .map(|at_ns| at_ns / SECOND)
        .collect();
    let validity = Validity {
        class: Class::Valid,
        findings: Vec::new(),
    };
    let judgement = judge(&score, &validity, &limits);
    let worst: Vec<_> = judgement
        .findings
        .iter()
        .filter(|finding| finding.verdict == judgement.verdict)
        .collect();
    let reasons: Vec<_> = worst.iter().map(|finding| finding.reason.as_str()).collect();
    writeln!(
        text,
        "alarms {alarms:?} of {} s",
        score.false_alarms.fault_free_ns / SECOND
    )
    .expect("as above");
    writeln!(text, "{:?}: {}", judgement.verdict, reasons.join("; ")).expect("as above");
    expected.assert_eq(&text);
}

#[test]
fn a_right_answer_that_stays() {
    check(
        truth(),
        "21: web app.slow .4\n 23: cache network.filter .9 cache-0+cache-2; web app.slow .1\n 36:",
        expect![[r#"
        ttd 1.0 ttrc 3.0 entity 3.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        Named { precision: 1.0, recall: 1.0 } path Some(true) decoy false brier Some(0.01) early 0
        alarms [] of 10 s
        Pass: 0 false alarms, limit 0; the right cause at rank 1 of the final answer, limit 1; time to detect 1.0 s, limit 5.0 s; time to root cause 3.0 s, limit 10.0 s
    "#]],
    );
}

#[test]
fn nothing_said() {
    check(
        truth(),
        "",
        expect![[r#"
            ttd >15.0 ttrc >15.0 entity >15.0 | rank - entity - ac@ [0.0, 0.0, 0.0, 0.0, 0.0] avg5 0.00 rr 0.00
            NoRightAnswer path Some(false) decoy false brier None early 0
            alarms [] of 10 s
            Fail: the right cause is not in the final answer; time to detect not reached in 15.0 s, limit 5.0 s; time to root cause not reached in 15.0 s, limit 10.0 s
        "#]],
    );
}

#[test]
fn an_alert_before_the_onset_is_no_detection() {
    check(
        truth(),
        "19.5: cache network.filter .9",
        expect![[r#"
        ttd >15.0 ttrc 0.0 entity 0.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        Named { precision: 0.0, recall: 0.0 } path Some(true) decoy false brier Some(0.01) early 1
        alarms [19] of 10 s
        Fail: 1 false alarms, limit 0; time to detect not reached in 15.0 s, limit 5.0 s
    "#]],
    );
    check(
        truth(),
        "15: web app.slow .9\n 16:\n 24: cache network.filter .9",
        expect![[r#"
        ttd 4.0 ttrc 4.0 entity 4.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        Named { precision: 0.0, recall: 0.0 } path Some(true) decoy false brier Some(0.01) early 0
        alarms [15] of 10 s
        Fail: 1 false alarms, limit 0
    "#]],
    );
}

#[test]
fn flapping_does_not_settle() {
    check(
        truth(),
        "21: cache network.filter .9\n 24: web app.slow .9\n 25: cache network.filter .9\n 28: web app.slow .9\n 29: cache \
         network.filter .9",
        expect![[r#"
            ttd 1.0 ttrc 9.0 entity 9.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
            Named { precision: 0.0, recall: 0.0 } path Some(true) decoy false brier Some(0.01) early 0
            alarms [] of 10 s
            Pass: 0 false alarms, limit 0; the right cause at rank 1 of the final answer, limit 1; time to detect 1.0 s, limit 5.0 s; time to root cause 9.0 s, limit 10.0 s
        "#]],
    );
    // A restatement is no interruption.
    check(
        truth(),
        "21: cache network.filter .9\n 23: cache network.filter .8\n 25: cache network.filter .7",
        expect![[r#"
        ttd 1.0 ttrc 1.0 entity 1.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        Named { precision: 0.0, recall: 0.0 } path Some(true) decoy false brier Some(0.09) early 0
        alarms [] of 10 s
        Pass: 0 false alarms, limit 0; the right cause at rank 1 of the final answer, limit 1; time to detect 1.0 s, limit 5.0 s; time to root cause 1.0 s, limit 10.0 s
    "#]],
    );
}

#[test]
fn right_at_last_holds_until_recovery() {
    check(
        truth(),
        "21: web app.slow .9\n 33: cache network.filter .9\n 36:",
        expect![[r#"
        ttd 1.0 ttrc 13.0 entity 13.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        Named { precision: 0.0, recall: 0.0 } path Some(true) decoy false brier Some(0.01) early 0
        alarms [] of 10 s
        Fail: time to root cause 13.0 s, limit 10.0 s
    "#]],
    );
    check(
        truth(),
        "21: web app.slow .9\n 36: cache network.filter .9",
        expect![[r#"
        ttd 1.0 ttrc >15.0 entity >15.0 | rank - entity - ac@ [0.0, 0.0, 0.0, 0.0, 0.0] avg5 0.00 rr 0.00
        NoRightAnswer path Some(false) decoy true brier Some(0.81) early 0
        alarms [] of 10 s
        Fail: the right cause is not in the final answer; time to root cause not reached in 15.0 s, limit 10.0 s
    "#]],
    );
}

#[test]
fn place_right_and_mechanism_wrong() {
    check(
        truth(),
        "21: cache process.crash .9; cache network.filter .1",
        expect![[r#"
        ttd 1.0 ttrc >15.0 entity 1.0 | rank 2 entity 1 ac@ [0.0, 1.0, 1.0, 1.0, 1.0] avg5 0.80 rr 0.50
        NoRightAnswer path Some(false) decoy false brier Some(0.81) early 0
        alarms [] of 10 s
        Fail: the right cause at rank 2 of the final answer, limit 1; time to root cause not reached in 15.0 s, limit 10.0 s
    "#]],
    );
}

#[test]
fn aliases_are_merged_and_pods_are_of_their_service() {
    check(
        truth(),
        "21: pod=cache-0 network.filter .9; edge=web>cache network.filter .8; pod=web-0 app.slow .2; web app.slow .1",
        expect![[r#"
            ttd 1.0 ttrc 1.0 entity 1.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
            Named { precision: 1.0, recall: 0.5 } path Some(true) decoy false brier Some(0.01) early 0
            alarms [] of 10 s
            Pass: 0 false alarms, limit 0; the right cause at rank 1 of the final answer, limit 1; time to detect 1.0 s, limit 5.0 s; time to root cause 1.0 s, limit 10.0 s
        "#]],
    );
    // cache-1 is well: naming it is wrong.
    check(
        truth(),
        "21: pod=cache-1 network.filter .9; cache network.filter .8 cache-0+cache-1+cache-2",
        expect![[r#"
        ttd 1.0 ttrc >15.0 entity >15.0 | rank 2 entity 2 ac@ [0.0, 1.0, 1.0, 1.0, 1.0] avg5 0.80 rr 0.50
        NoRightAnswer path Some(false) decoy false brier Some(0.81) early 0
        alarms [] of 10 s
        Fail: the right cause at rank 2 of the final answer, limit 1; time to root cause not reached in 15.0 s, limit 10.0 s
    "#]],
    );
    check(
        truth(),
        "21: cache network.filter .9 cache-0+cache-1+cache-2",
        expect![[r#"
        ttd 1.0 ttrc 1.0 entity 1.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        Named { precision: 0.6666666666666666, recall: 1.0 } path Some(true) decoy false brier Some(0.01) early 0
        alarms [] of 10 s
        Pass: 0 false alarms, limit 0; the right cause at rank 1 of the final answer, limit 1; time to detect 1.0 s, limit 5.0 s; time to root cause 1.0 s, limit 10.0 s
    "#]],
    );
}

#[test]
fn ties_count_their_expected_value() {
    check(
        truth(),
        "21: web app.slow .5; cache network.filter .5",
        expect![[r#"
        ttd 1.0 ttrc >15.0 entity >15.0 | rank 1.5 entity 1.5 ac@ [0.5, 1.0, 1.0, 1.0, 1.0] avg5 0.90 rr 0.75
        NoRightAnswer path Some(false) decoy true brier Some(0.25) early 0
        alarms [] of 10 s
        Fail: the right cause at rank 1.5 of the final answer, limit 1; time to root cause not reached in 15.0 s, limit 10.0 s
    "#]],
    );
    check(
        truth(),
        "21: db db.slow .9; web app.slow .5; cache network.filter .5; node=n1 resource.cpu .5",
        expect![[r#"
        ttd 1.0 ttrc >15.0 entity >15.0 | rank 3 entity 3 ac@ [0.0, 0.3333333333333333, 0.6666666666666666, 1.0, 1.0] avg5 0.60 rr 0.36
        NoRightAnswer path Some(false) decoy true brier Some(0.81) early 0
        alarms [] of 10 s
        Fail: the right cause at rank 3 of the final answer, limit 1; time to root cause not reached in 15.0 s, limit 10.0 s
    "#]],
    );
}

#[test]
fn two_causes_share_the_first_ranks() {
    check(
        two_causes(),
        "21: cache network.filter .9; db resource.cpu .8; web app.slow .1",
        expect![[r#"
        ttd 1.0 ttrc 1.0 entity 1.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        Named { precision: 0.0, recall: 0.0 } path Some(true) decoy false brier Some(0.01) early 0
        alarms [] of 10 s
        Pass: 0 false alarms, limit 0; the right cause at rank 1 of the final answer, limit 1; time to detect 1.0 s, limit 5.0 s; time to root cause 1.0 s, limit 10.0 s
    "#]],
    );
    check(
        two_causes(),
        "21: web app.slow .9; db resource.cpu .8 db-0; cache network.filter .1",
        expect![[r#"
        ttd 1.0 ttrc >15.0 entity >15.0 | rank 2 entity 2 ac@ [0.0, 0.5, 1.0, 1.0, 1.0] avg5 0.70 rr 0.50
        NoRightAnswer path Some(false) decoy true brier Some(0.81) early 0
        alarms [] of 10 s
        Fail: the right cause at rank 2 of the final answer, limit 1; time to root cause not reached in 15.0 s, limit 10.0 s
    "#]],
    );
}

#[test]
fn confidence_that_is_none() {
    check(
        truth(),
        "21: cache network.filter NaN",
        expect![[r#"
        ttd 1.0 ttrc 1.0 entity 1.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        Named { precision: 0.0, recall: 0.0 } path Some(true) decoy false brier Some(1.00) early 0
        alarms [] of 10 s
        Pass: 0 false alarms, limit 0; the right cause at rank 1 of the final answer, limit 1; time to detect 1.0 s, limit 5.0 s; time to root cause 1.0 s, limit 10.0 s
    "#]],
    );
}

#[test]
fn controls_pass_in_silence() {
    check(
        control(Arm::None),
        "",
        expect![[r#"
        alarms [] of 30 s
        Pass: 0 false alarms, limit 0
    "#]],
    );
    check(
        control(Arm::Placebo),
        "20: cache network.filter .6\n 21:\n 25: web app.slow .5\n 26:\n",
        expect![[r#"
        alarms [20] of 30 s
        Fail: 1 false alarms, limit 0
    "#]],
    );
    check(
        control(Arm::None),
        "12: web app.slow .5\n 13:\n 24: web app.slow .5",
        expect![[r#"
        alarms [12, 24] of 30 s
        Fail: 2 false alarms, limit 0
    "#]],
    );
}

#[test]
fn a_surge_may_be_named_or_not() {
    let free = Limits {
        time_to_detect: None,
        time_to_root_cause: None,
        ..LIMITS
    };
    check_record(
        &record(surge(), ""),
        free,
        expect![[r#"
            ttd >15.0 ttrc >15.0 entity >15.0 | rank - entity - ac@ [0.0, 0.0, 0.0, 0.0, 0.0] avg5 0.00 rr 0.00
            NotJudged path None decoy false brier None early 0
            alarms [] of 30 s
            Pass: 0 alarms other than load.surge, limit 0
        "#]],
    );
    check_record(
        &record(surge(), "22: web load.surge .8; db db.slow .1"),
        free,
        expect![[r#"
        ttd 2.0 ttrc 2.0 entity 2.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        NotJudged path None decoy false brier Some(0.04) early 0
        alarms [] of 30 s
        Pass: 0 alarms other than load.surge, limit 0
    "#]],
    );
    check_record(
        &record(
            surge(),
            "22: web load.surge .8\n 26: db db.slow .8\n 28: web load.surge .9",
        ),
        free,
        expect![[r#"
        ttd 2.0 ttrc 8.0 entity 8.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        NotJudged path None decoy false brier Some(0.01) early 0
        alarms [26] of 30 s
        Fail: 1 alarms other than load.surge, limit 0
    "#]],
    );
    check_record(
        &record(surge(), ""),
        LIMITS,
        expect![[r#"
            ttd >15.0 ttrc >15.0 entity >15.0 | rank - entity - ac@ [0.0, 0.0, 0.0, 0.0, 0.0] avg5 0.00 rr 0.00
            NotJudged path None decoy false brier None early 0
            alarms [] of 30 s
            Fail: time to detect not reached in 15.0 s, limit 5.0 s; time to root cause not reached in 15.0 s, limit 10.0 s
        "#]],
    );
}

#[test]
fn watched_for_less_than_the_limit_is_inconclusive() {
    let mut short = record(truth(), "21: web app.slow .3");
    short.observation_end_ns = 27 * SECOND;
    short.recover_start_ns = None;
    check_record(
        &short,
        Limits { rank: 10, ..LIMITS },
        expect![[r#"
        ttd 1.0 ttrc >7.0 entity >7.0 | rank - entity - ac@ [0.0, 0.0, 0.0, 0.0, 0.0] avg5 0.00 rr 0.00
        NoRightAnswer path Some(false) decoy true brier Some(0.09) early 0
        alarms [] of 10 s
        Fail: the right cause is not in the final answer
    "#]],
    );
    let mut right = record(truth(), "21: cache network.filter .9");
    right.observation_end_ns = 24 * SECOND;
    right.recover_start_ns = None;
    check_record(
        &right,
        LIMITS,
        expect![[r#"
        ttd 1.0 ttrc >4.0 entity >4.0 | rank 1 entity 1 ac@ [1.0, 1.0, 1.0, 1.0, 1.0] avg5 1.00 rr 1.00
        Named { precision: 0.0, recall: 0.0 } path Some(true) decoy false brier Some(0.01) early 0
        alarms [] of 10 s
        Inconclusive: time to root cause not reached in 4.0 s, limit 10.0 s
    "#]],
    );
}

#[test]
fn runs_that_do_not_count_are_inconclusive_whatever_was_said() {
    let score = score(&record(truth(), "21: cache network.filter .9"));
    let validity = Validity {
        class: Class::Silent,
        findings: vec!["SILENT: no effect".to_owned()],
    };
    assert_eq!(
        judge(&score, &validity, &LIMITS).verdict,
        verdict::Verdict::Inconclusive
    );
}
