//! `--target` and what belongs to it: where live runs take place, as `gauntlet run` and `gauntlet suite run` are asked.
//!
//! Refuses what is not said plainly; touches no cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use kube::config::Kubeconfig;

use crate::run::RunTarget;
use crate::target::kind::access::ClusterAccess;
use crate::target::kind::pods::{POSTGRES_IMAGE, REDIS_IMAGE};
use crate::target::kind::{Images, KindOptions};

/// Value of `--cluster` for one that Gauntlet did not make.
const EXISTING: &str = "existing";
/// What kind puts before a cluster's name to make its context's.
const CONTEXT_PREFIX: &str = "kind-";
/// How long pods may take to serve; images may have to be pulled first.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Where a run takes place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TargetKind {
    /// The embedded cluster of namespaces (Linux, root, no container engine).
    #[default]
    Local,
    /// A Kubernetes cluster whose nodes are containers of this machine.
    Kind,
}

/// Where live runs take place.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct TargetArgs {
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    pub target: TargetKind,
    /// kind: the cluster's name, or `existing` for one that Gauntlet did not make.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// kind: the file that says how its API is reached.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// kind: a cluster that Gauntlet did not make is used only if its context is named here. Faults will be injected into
    /// its nodes and into a namespace of our own.
    #[arg(long, value_name = "CONTEXT")]
    pub i_own_this_cluster: Option<String>,
    /// kind: the namespace that is made for the run and removed after it. By default a new one.
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// kind: leave the namespace with the application in place after the run.
    #[arg(long)]
    pub keep: bool,
    /// kind: image of the http services, whose entry point is gauntlet-app.
    #[arg(long, value_name = "IMAGE")]
    pub app_image: Option<String>,
    /// kind: image of redis services.
    #[arg(long, value_name = "IMAGE", default_value = REDIS_IMAGE)]
    pub redis_image: String,
    /// kind: image of postgres services.
    #[arg(long, value_name = "IMAGE", default_value = POSTGRES_IMAGE)]
    pub postgres_image: String,
}

/// Why no cluster is used. Nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A flag that means nothing here.
    #[error("{flag} is for --target kind; add that, or leave it out")]
    NotKind {
        /// The flag.
        flag: &'static str,
    },
    /// Something must be said.
    #[error("--target kind needs {flag}: {why}")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// What for.
        why: &'static str,
    },
    /// Nobody said that the cluster may be broken.
    #[error(
        "the current context of {} is {saw}, and nobody said that it may be broken: name the context of a cluster that \
         is yours with --i-own-this-cluster CONTEXT; nothing was touched", kubeconfig.display()
    )]
    NotOwned {
        /// The file.
        kubeconfig: PathBuf,
        /// Its current context.
        saw: String,
    },
}

impl TargetArgs {
    /// What was asked for, put together.
    ///
    /// # Errors
    /// [`Refusal`] when it is not said which cluster, or that it may be used.
    pub fn resolve(&self) -> Result<RunTarget, Refusal> {
        match self.target {
            TargetKind::Local => self.local(),
            TargetKind::Kind => self.kind().map(|options| RunTarget::Kind(Box::new(options))),
        }
    }

    fn local(&self) -> Result<RunTarget, Refusal> {
        let given = [
            (self.cluster.is_some(), "--cluster"),
            (self.kubeconfig.is_some(), "--kubeconfig"),
            (self.i_own_this_cluster.is_some(), "--i-own-this-cluster"),
            (self.namespace.is_some(), "--namespace"),
            (self.keep, "--keep"),
            (self.app_image.is_some(), "--app-image"),
        ];
        match given.into_iter().find(|(is_given, _)| *is_given) {
            Some((_, flag)) => Err(Refusal::NotKind { flag }),
            None => Ok(RunTarget::Local),
        }
    }

    fn kind(&self) -> Result<KindOptions, Refusal> {
        let missing = |flag, why| Refusal::Missing { flag, why };
        let cluster = self.cluster.as_deref();
        let cluster = cluster.ok_or(missing("--cluster", "the name of a kind cluster, or `existing`"))?;
        let kubeconfig = self.kubeconfig.clone();
        let kubeconfig = kubeconfig.ok_or(missing(
            "--kubeconfig",
            "the cluster's own file; none is used by default",
        ))?;
        let context = match (cluster, &self.i_own_this_cluster) {
            (EXISTING, Some(context)) => context.clone(),
            (EXISTING, None) => {
                let file = Kubeconfig::read_from(&kubeconfig).ok();
                let saw = file
                    .and_then(|file| file.current_context)
                    .unwrap_or_else(|| "not set".to_owned());
                return Err(Refusal::NotOwned { kubeconfig, saw });
            }
            (name, _) => format!("{CONTEXT_PREFIX}{name}"),
        };
        let app = self.app_image.clone();
        let random = || format!("gauntlet-{:08x}", rand::random::<u32>());
        Ok(KindOptions {
            access: ClusterAccess {
                kubeconfig,
                context,
                namespace: self.namespace.clone().unwrap_or_else(random),
            },
            images: Images {
                app: app.ok_or(missing(
                    "--app-image",
                    "an image on the cluster's nodes whose entry point is gauntlet-app",
                ))?,
                redis: self.redis_image.clone(),
                postgres: self.postgres_image.clone(),
            },
            ready_within: READY_WITHIN,
            keep: self.keep,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        target: TargetArgs,
    }

    fn resolve(flags: &str) -> Result<RunTarget, Refusal> {
        Line::try_parse_from(["run"].into_iter().chain(flags.split_whitespace()))
            .expect("flags")
            .target
            .resolve()
    }

    fn refused(flags: &str, words: &str) {
        let refusal = resolve(flags).expect_err(flags).to_string();
        assert!(refusal.contains(words), "{flags}: {refusal}");
    }

    #[test]
    fn a_cluster_is_never_used_silently() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(
            file.path(),
            "apiVersion: v1\nkind: Config\ncurrent-context: production\n",
        )
        .expect("written");
        let kubeconfig = format!("--target kind --app-image a:1 --kubeconfig {}", file.path().display());
        assert!(matches!(resolve(""), Ok(RunTarget::Local)));
        refused("--cluster fixture", "--cluster is for --target kind");
        refused("--target kind --kubeconfig f", "--cluster");
        refused("--target kind --cluster fixture", "--kubeconfig");
        refused(
            &format!("{kubeconfig} --cluster existing"),
            "is production, and nobody said that it may be broken",
        );
        let context = |flags: &str| match resolve(&format!("{kubeconfig} {flags}")).expect(flags) {
            RunTarget::Kind(options) => options.access.context,
            RunTarget::Local => panic!("not local"),
        };
        assert_eq!(context("--cluster fixture"), "kind-fixture");
        assert_eq!(context("--cluster existing --i-own-this-cluster staging"), "staging");
    }
}
