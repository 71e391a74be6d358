//! The jobs that keep one pod for each shard alive until its cases have ended, on every version of Kubernetes.
//!
//! An Indexed Job says each pod which shard it is; Kubernetes 1.21 has them behind a switch and 1.20 not at all. Whether a
//! cluster has them is asked of the cluster, not of its version: a server that does not know the field drops it. Where it
//! does, there is one job of one pod for each shard, which retries as well.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::objects::{EXECUTION_LABEL, Execution, labels};
use super::order::ShardOrder;
use crate::target::kind::api::ApiError;

/// Command of the pods; see `gauntlet`'s command line.
pub const SHARD_COMMAND: &str = "__suite-shard";
/// Environment variable of a pod: its shard's index, from 0.
pub const INDEX_VARIABLE: &str = "GAUNTLET_SHARD_INDEX";
/// Environment variable of a pod: its namespace.
pub const NAMESPACE_VARIABLE: &str = "GAUNTLET_NAMESPACE";
/// Where an Indexed Job says which of its pods one is.
pub const INDEX_ANNOTATION: &str = "batch.kubernetes.io/job-completion-index";
/// Label of the pods of a shard's own job: its index, from 0.
pub const INDEX_LABEL: &str = "gauntlet-shard-index";
/// Pods of a shard that may die before it is given up. Nodes are drained and processes killed; what dies more often than
/// that dies of itself.
const RETRIES_PER_SHARD: u32 = 3;
/// What a run takes beyond its phases: the application started and filled, the pages written.
const AROUND_A_RUN: Duration = Duration::from_secs(60);
/// What an execution takes beyond its runs: images pulled, pods started again.
const AROUND_AN_EXECUTION: Duration = Duration::from_secs(900);
/// How long a pod that is stopped may take to undo its fault, seconds.
const GRACE_S: u32 = 60;
/// Where a pod keeps its runs.
const WORK: &str = "/work";

/// How a cluster keeps the shards apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// One Indexed Job.
    Indexed,
    /// A job for each shard.
    OneEach,
}

/// What the jobs are of.
#[derive(Clone, Debug)]
pub struct JobPlan<'a> {
    /// Whose they are.
    pub execution: &'a Execution,
    /// The work.
    pub order: &'a ShardOrder,
    /// The pods' image.
    pub image: &'a str,
}

impl Completion {
    /// Asks the cluster, by a job that is not made.
    ///
    /// # Errors
    /// [`ApiError`]: it would refuse the job.
    pub async fn choose(api: &Api<Job>, plan: &JobPlan<'_>) -> Result<Self, ApiError> {
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let mut asked = plan.job(&plan.execution.name, Some(Self::Indexed));
        // A name of its own, because the real one may be there already.
        asked.metadata.name = Some(format!("{}-try", plan.execution.name));
        let answered = api.create(&dry_run, &asked).await;
        let job = answered.map_err(ApiError::of("try", format!("job {}", plan.execution.name)))?;
        Ok(Self::of_answer(&job))
    }

    /// By what a server made of a job that is to be indexed.
    #[must_use]
    pub fn of_answer(job: &Job) -> Self {
        let mode = job.spec.as_ref().and_then(|spec| spec.completion_mode.as_deref());
        if mode == Some("Indexed") {
            Self::Indexed
        } else {
            Self::OneEach
        }
    }

    /// In words, for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Indexed => "one Indexed Job",
            Self::OneEach => "a Job for each shard (this cluster has no Indexed Jobs)",
        }
    }
}

impl JobPlan<'_> {
    /// The jobs.
    #[must_use]
    pub fn jobs(&self, completion: Completion) -> Vec<Job> {
        let name = &self.execution.name;
        match completion {
            Completion::Indexed => vec![self.job(name, Some(completion))],
            Completion::OneEach => (0..self.order.shards)
                .map(|index| {
                    let mut job = self.job(&format!("{name}-{index}"), None);
                    let template = &mut job.spec.as_mut().expect("it has one").template;
                    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
                    labels.insert(INDEX_LABEL.to_owned(), index.to_string());
                    job
                })
                .collect(),
        }
    }

    fn job(&self, name: &str, indexed: Option<Completion>) -> Job {
        let shards = self.order.shards;
        let (count, index_from) = match indexed {
            Some(_) => (shards, format!("metadata.annotations['{INDEX_ANNOTATION}']")),
            None => (1, format!("metadata.labels['{INDEX_LABEL}']")),
        };
        let mut spec = json!({
            "completions": count,
            "parallelism": count,
            "backoffLimit": RETRIES_PER_SHARD * count,
            "activeDeadlineSeconds": self.deadline().as_secs(),
            "template": {"metadata": {"labels": labels(&self.execution.name)}, "spec": self.pod(&index_from)},
        });
        if indexed.is_some() {
            spec["completionMode"] = "Indexed".into();
        }
        Job {
            metadata: self.execution.owned(name),
            spec: Some(serde_json::from_value(spec).expect("a constant shape")),
            status: None,
        }
    }

    fn pod(&self, index_from: &str) -> Value {
        let from = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        json!({
            "serviceAccountName": self.execution.name,
            // A new pod for each attempt, perhaps on another node; the dead one stays to be looked at.
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": GRACE_S,
            // Shards of one machine wait for each other.
            "topologySpreadConstraints": [{
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {EXECUTION_LABEL: self.execution.name}},
            }],
            "containers": [{
                "name": "shard",
                "image": self.image,
                // Images are loaded onto the nodes where no registry can be reached.
                "imagePullPolicy": "IfNotPresent",
                "args": [SHARD_COMMAND, "--execution", self.execution.name, "--work", WORK],
                "env": [
                    {"name": INDEX_VARIABLE, "valueFrom": from(index_from)},
                    {"name": NAMESPACE_VARIABLE, "valueFrom": from("metadata.namespace")},
                ],
                // Namespaces, cgroups and eBPF. The pod has process ids of its own, so that the kernel ends everything
                // in it when it is killed.
                "securityContext": {"privileged": true},
                // What it said last is the reason when it fails.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
                "volumeMounts": [{"name": "work", "mountPath": WORK}],
            }],
            "volumes": [{"name": "work", "emptyDir": {}}],
        })
    }

    /// After this a job ends even if nobody is left who wants it: if all shards shared one kernel, and every run were
    /// repeated as often as may be.
    fn deadline(&self) -> Duration {
        let plan = &self.order.plan;
        let one = |case| plan.chosen(case).scenario.phases.total() + AROUND_A_RUN;
        let runs: Duration = plan.cases.iter().map(one).sum();
        runs * (1 + plan.retries) + AROUND_AN_EXECUTION
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::suite::plan::plan;
    use crate::suite::spec::load;

    fn order() -> ShardOrder {
        let catalogue = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        ShardOrder::new(
            plan(&load("smoke", &catalogue).expect("it ships")),
            3,
            Vec::new(),
            Vec::new(),
        )
    }

    fn made(completion: Completion) -> Vec<Job> {
        let execution = Execution {
            name: "e".into(),
            uid: "u".into(),
        };
        let plan = JobPlan {
            execution: &execution,
            order: &order(),
            image: "gauntlet/runner:1",
        };
        plan.jobs(completion)
    }

    fn jobs(completion: Completion) -> Vec<Value> {
        let made = made(completion);
        made.iter()
            .map(|job| serde_json::to_value(job).expect("a value"))
            .collect()
    }

    #[test]
    fn a_server_that_drops_the_field_has_no_indexed_jobs() {
        let mut job = made(Completion::Indexed).remove(0);
        assert_eq!(Completion::of_answer(&job), Completion::Indexed);
        job.spec.as_mut().unwrap().completion_mode = None;
        assert_eq!(Completion::of_answer(&job), Completion::OneEach);
    }

    #[test]
    fn every_shard_has_one_index_and_as_many_retries_either_way() {
        let indexed = jobs(Completion::Indexed);
        let spec = &indexed[0]["spec"];
        assert_eq!(indexed.len(), 1);
        assert_eq!(
            (&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]),
            (&json!(3), &json!(3), &json!(9))
        );
        let each = jobs(Completion::OneEach);
        assert_eq!(each.len(), 3);
        for (index, job) in each.iter().enumerate() {
            let spec = &job["spec"];
            assert_eq!(job["metadata"]["name"], format!("e-{index}"));
            assert_eq!(spec["template"]["metadata"]["labels"][INDEX_LABEL], index.to_string());
            assert_eq!((&spec["completions"], &spec["backoffLimit"]), (&json!(1), &json!(3)));
            assert!(spec.get("completionMode").is_none(), "1.20 does not know it: {spec}");
        }
        for (job, wanted) in [(&indexed[0], INDEX_ANNOTATION), (&each[0], INDEX_LABEL)] {
            let env = &job["spec"]["template"]["spec"]["containers"][0]["env"][0];
            assert_eq!(env["name"], INDEX_VARIABLE);
            let path = env["valueFrom"]["fieldRef"]["fieldPath"].as_str().expect("a path");
            assert!(path.contains(wanted), "{path}");
        }
    }

    #[test]
    fn an_abandoned_job_ends_but_not_before_the_longest_execution_has() {
        let order = order();
        let phases: Duration = order
            .plan
            .cases
            .iter()
            .map(|case| order.plan.chosen(case).scenario.phases.total())
            .sum();
        let deadline = jobs(Completion::Indexed)[0]["spec"]["activeDeadlineSeconds"]
            .as_u64()
            .expect("it has one");
        assert!(
            deadline > phases.as_secs() * (1 + u64::from(order.plan.retries)),
            "{deadline} s"
        );
        assert!(deadline < 3600, "{deadline} s for two short runs");
    }
}
