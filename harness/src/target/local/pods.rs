//! The command line of each pod's main process, and the files that it reads.

use std::path::{Path, PathBuf};

use super::cgroup::Hierarchies;
use super::layout::{DNS_ADDRESS, DNS_PORT, Layout, PodKind, PodPlan};
use super::protocol::{CopyPlan, FilePlan, PodProcess, UserIds};
use super::tools::Tools;
use crate::app::servers::{postgres_settings, redis_arguments};
use crate::app::spec::{AppSpec, ServiceKind};
use crate::target::NetnsFd;
use crate::target::namespace::inherited_number;

/// A data directory for the pods of one service.
#[derive(Clone, Debug)]
pub struct Template {
    /// The service.
    pub service: String,
    /// The directory to copy.
    pub data: PathBuf,
    /// As whom its server runs.
    pub user: UserIds,
}

/// What command lines are made of.
#[derive(Debug)]
pub struct Provisions<'a> {
    /// Programs of the machine.
    pub tools: &'a Tools,
    /// Our own program.
    pub app_binary: &'a Path,
    /// The cluster's directory.
    pub scratch: &'a Path,
    /// Where cgroups are.
    pub hierarchies: &'a Hierarchies,
    /// Data directories of databases.
    pub templates: &'a [Template],
}

impl Provisions<'_> {
    /// Where the application's declaration is.
    #[must_use]
    pub fn app_file(&self) -> PathBuf {
        self.scratch.join("app.json")
    }

    /// Where the name server's records are.
    #[must_use]
    pub fn records_file(&self) -> PathBuf {
        self.scratch.join("dns.json")
    }

    /// Where a pod's output is kept.
    #[must_use]
    pub fn log(scratch: &Path, pod: &str) -> PathBuf {
        scratch.join("logs").join(format!("{pod}.log"))
    }

    /// The files that processes read.
    pub fn files(&self, app: &AppSpec, app_name: &str, layout: &Layout) -> Result<Vec<FilePlan>, serde_json::Error> {
        let app = serde_json::json!({"name": app_name, "spec": serde_json::to_value(app)?});
        Ok(vec![
            FilePlan {
                path: self.app_file(),
                text: app.to_string(),
            },
            FilePlan {
                path: self.records_file(),
                text: serde_json::to_string(&layout.dns_records())?,
            },
        ])
    }

    /// The data directories of database pods.
    #[must_use]
    pub fn copies(&self, layout: &Layout) -> Vec<CopyPlan> {
        let copies = layout.pods.iter().filter_map(|pod| {
            let template = self
                .templates
                .iter()
                .find(|template| template.service == pod.service.as_str())?;
            let to = self.directory(pod).join("data");
            Some(CopyPlan {
                from: template.data.clone(),
                to,
                user: template.user,
            })
        });
        copies.collect()
    }

    /// The main process of a pod.
    #[must_use]
    pub fn process(&self, layout: &Layout, pod: &PodPlan, netns: &NetnsFd) -> PodProcess {
        let template = self
            .templates
            .iter()
            .find(|template| template.service == pod.service.as_str());
        let (program, args) = match pod.kind {
            PodKind::Dns => (self.app_binary.to_owned(), self.dns(pod)),
            PodKind::App(ServiceKind::Http) => (self.app_binary.to_owned(), self.http(pod)),
            PodKind::App(ServiceKind::Redis) => (found(self.tools.redis.as_ref()), redis(pod)),
            PodKind::App(ServiceKind::Postgres) => {
                (found(self.tools.postgres.as_ref()).join("postgres"), self.postgres(pod))
            }
        };
        let remove_before_start = template.map(|_| self.directory(pod).join("data/postmaster.pid"));
        PodProcess {
            pod: pod.name.to_string(),
            program,
            args,
            directory: self.directory(pod),
            user: template.map(|template| template.user),
            netns: inherited_number(netns),
            cgroup_procs: self.hierarchies.procs(&layout.pod_cgroup(pod)),
            log: Self::log(self.scratch, pod.name.as_str()),
            remove_before_start: remove_before_start.into_iter().collect(),
        }
    }

    fn directory(&self, pod: &PodPlan) -> PathBuf {
        self.scratch.join("pods").join(pod.name.as_str())
    }

    fn dns(&self, pod: &PodPlan) -> Vec<String> {
        let listen = format!("{}:{}", pod.ip, pod.port);
        strings(&[
            "dns",
            "--records",
            &self.records_file().to_string_lossy(),
            "--listen",
            &listen,
        ])
    }

    fn http(&self, pod: &PodPlan) -> Vec<String> {
        let (app, listen) = (self.app_file(), format!("{}:{}", pod.ip, pod.port));
        let dns = format!("{DNS_ADDRESS}:{DNS_PORT}");
        let (service, app) = (pod.service.as_str(), app.to_string_lossy());
        strings(&[
            "http",
            "--service",
            service,
            "--app",
            &app,
            "--dns",
            &dns,
            "--listen",
            &listen,
        ])
    }

    fn postgres(&self, pod: &PodPlan) -> Vec<String> {
        let data = self.directory(pod).join("data");
        let mut args = strings(&["-D", &data.to_string_lossy()]);
        args.extend(postgres_settings(&pod.ip.to_string(), pod.port));
        args
    }
}

fn redis(pod: &PodPlan) -> Vec<String> {
    redis_arguments(&format!("{} 127.0.0.1", pod.ip), pod.port, pod.max_memory_mib)
}

fn strings(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|&part| part.to_owned()).collect()
}

/// [`Tools::find`] succeeds only with everything that the layout needs.
fn found(program: Option<&PathBuf>) -> PathBuf {
    program.expect("found together with the layout").clone()
}
