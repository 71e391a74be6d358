//! `--target` and what belongs to it: where live runs take place, as `gauntlet run` and `gauntlet suite run` are asked.
//!
//! Refuses what is not said plainly; touches no cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Exit;
use super::live::Session;
use crate::doctor::error_chain;
use crate::run::RunTarget;
use crate::target::kind::image::{build_app_image, load_into_kind};
use crate::target::kind::lifecycle::UpOptions;
use crate::target::kind::name::{ClusterName, EXISTING};
use crate::target::kind::ownership::{self, ExistingCluster, KindClusterRef, NAMESPACE, Selection};
use crate::target::kind::permission::permitted_context;
use crate::target::kind::pods::{POSTGRES_IMAGE, REDIS_IMAGE};
use crate::target::kind::record::StateDirectory;
use crate::target::kind::{Images, KindOptions};

/// How long pods may take to serve; images may have to be pulled first.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// Where a run takes place, and what a cluster is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TargetKind {
    /// The embedded cluster of namespaces (Linux, root, no container engine).
    #[default]
    Local,
    /// A Kubernetes cluster whose nodes are containers of this machine (docker, kind, root).
    Kind,
}

/// Where live runs take place.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct TargetArgs {
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    pub target: TargetKind,
    /// kind: the name of a cluster of Gauntlet's own, made for this command when there is none, or `existing` for one that
    /// Gauntlet did not make. By default `gauntlet`.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// With `--cluster existing` or `--executor kubernetes`, the file that says how the cluster's API is reached; none is
    /// used by default.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// kind: a cluster that Gauntlet did not make is used only if its context is named here. Faults will be injected into
    /// its nodes and into a namespace of our own.
    #[arg(long, value_name = "CONTEXT")]
    pub i_own_this_cluster: Option<String>,
    /// kind: the namespace that is made for each run and removed after it, by default a new one. With `--executor
    /// kubernetes`, that of the pods, by default `gauntlet`.
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// kind: leave the application's namespace in place after the run, and a cluster that was made for it.
    #[arg(long)]
    pub keep: bool,
    /// kind: image of the http services, whose entry point is gauntlet-app. By default it is made of the program that
    /// lies beside this one, and loaded into the cluster's nodes.
    #[arg(long, value_name = "IMAGE")]
    pub app_image: Option<String>,
    /// kind: image of the nodes of a cluster that is made.
    #[arg(long, value_name = "IMAGE")]
    pub node_image: Option<String>,
    /// kind: an archive of images to load into the nodes of a cluster that is made; with any, nothing is pulled.
    #[arg(long, value_name = "FILE")]
    pub image_archive: Vec<PathBuf>,
    /// The program `kind`, by name or path.
    #[arg(long, value_name = "FILE", env = "GAUNTLET_KIND", default_value = "kind")]
    pub kind_program: PathBuf,
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
    /// A flag that means nothing for a cluster of Gauntlet's own.
    #[error("{flag} is for --cluster {EXISTING}; add that, or leave it out")]
    NotExisting {
        /// The flag.
        flag: &'static str,
    },
    /// Nobody said which cluster.
    #[error("--cluster {EXISTING} needs --kubeconfig FILE: none is used by default")]
    NoKubeconfig,
    /// A name that no cluster can have.
    #[error("--cluster {name}: {why}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        why: String,
    },
    /// Nobody said that the cluster may be broken.
    #[error(transparent)]
    NotPermitted(#[from] crate::target::kind::permission::NotPermitted),
}

/// Where live runs were asked to take place; nothing is there yet.
#[derive(Debug)]
pub enum Place {
    /// The embedded cluster.
    Local,
    /// A Kubernetes cluster.
    Kind(Box<KindPlace>),
}

/// A Kubernetes cluster that was asked for.
#[derive(Debug)]
pub struct KindPlace {
    selection: Selection,
    keep: bool,
    app_image: Option<String>,
    redis_image: String,
    postgres_image: String,
    kind_program: PathBuf,
}

/// Where live runs take place, ready for them.
#[derive(Debug)]
#[must_use = "leave it: what was made for it stays otherwise"]
pub struct Ready {
    /// For the runs' orders.
    pub target: RunTarget,
    cluster: Option<KindClusterRef>,
    keep: bool,
}

impl TargetArgs {
    /// What was asked for, put together.
    ///
    /// # Errors
    /// [`Refusal`] when it is not said which cluster, or that it may be used.
    pub fn resolve(&self) -> Result<Place, Refusal> {
        match self.target {
            TargetKind::Local => self.local(),
            TargetKind::Kind => self.kind().map(|place| Place::Kind(Box::new(place))),
        }
    }

    fn local(&self) -> Result<Place, Refusal> {
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
            None => Ok(Place::Local),
        }
    }

    fn kind(&self) -> Result<KindPlace, Refusal> {
        let name = self.cluster.as_deref();
        let selection = match name {
            Some(EXISTING) => self.existing()?,
            name => self.own(name)?,
        };
        Ok(KindPlace {
            selection,
            keep: self.keep,
            app_image: self.app_image.clone(),
            redis_image: self.redis_image.clone(),
            postgres_image: self.postgres_image.clone(),
            kind_program: self.kind_program.clone(),
        })
    }

    fn existing(&self) -> Result<Selection, Refusal> {
        let kubeconfig = self.kubeconfig.clone().ok_or(Refusal::NoKubeconfig)?;
        let said_context = self.i_own_this_cluster.clone();
        // Also before programs and locks are looked for; it is looked at again when the cluster is used.
        permitted_context(&kubeconfig, said_context.as_deref())?;
        Ok(Selection::Existing(ExistingCluster {
            kubeconfig,
            said_context,
            namespace: self.run_namespace(),
        }))
    }

    fn own(&self, name: Option<&str>) -> Result<Selection, Refusal> {
        let given = [
            (self.kubeconfig.is_some(), "--kubeconfig"),
            (self.i_own_this_cluster.is_some(), "--i-own-this-cluster"),
        ];
        if let Some((_, flag)) = given.into_iter().find(|(is_given, _)| *is_given) {
            return Err(Refusal::NotExisting { flag });
        }
        let parse = |name: &str| {
            name.parse().map_err(|why| Refusal::Name {
                name: name.to_owned(),
                why,
            })
        };
        let name: ClusterName = name.map(parse).transpose()?.unwrap_or_default();
        let options = UpOptions {
            image: self.node_image.clone(),
            image_archives: self.image_archive.clone(),
            kind_program: self.kind_program.clone(),
            ..UpOptions::default()
        };
        Ok(Selection::Own {
            name,
            namespace: self.run_namespace(),
            options,
        })
    }

    /// The one that was named, or one that nobody has.
    fn run_namespace(&self) -> String {
        let random = || format!("{NAMESPACE}-{:08x}", rand::random::<u32>());
        self.namespace.clone().unwrap_or_else(random)
    }
}

impl Place {
    /// Whether it is the embedded cluster.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local)
    }

    /// Makes the cluster if there is none, and the image of the services; or says why that cannot be, and how to exit.
    pub fn prepare(self, session: &Session) -> Result<Ready, Exit> {
        let place = match self {
            Self::Local => {
                return Ok(Ready {
                    target: RunTarget::Local,
                    cluster: None,
                    keep: false,
                });
            }
            Self::Kind(place) => place,
        };
        let state = StateDirectory::of_this_machine();
        let say = |step: &str| eprintln!("{step}");
        let resolved = ownership::resolve(&state, &place.selection, &say, session.asked_to_stop());
        let cluster = session.block_on(resolved).map_err(|error| {
            eprintln!("gauntlet: {}", error_chain(&error));
            match error {
                error if error.is_interruption() => Exit::Interrupted,
                error if error.is_refusal() => Exit::CannotHere,
                _ => Exit::TargetFailed,
            }
        })?;
        let keep = place.keep;
        match place.app_image(session, &cluster) {
            Ok(app) => Ok(Ready {
                target: RunTarget::Kind(Box::new(place.options(&cluster, app))),
                cluster: Some(cluster),
                keep,
            }),
            Err(why) => {
                eprintln!("gauntlet: {why}");
                let left = Ready {
                    target: RunTarget::Local,
                    cluster: Some(cluster),
                    keep,
                };
                left.leave(session, Exit::CannotHere);
                Err(Exit::CannotHere)
            }
        }
    }
}

impl KindPlace {
    /// The image of the http services: the one that was named, or one made of our own program and loaded.
    fn app_image(&self, session: &Session, cluster: &KindClusterRef) -> Result<String, String> {
        if let Some(image) = &self.app_image {
            return Ok(image.clone());
        }
        let unnamed = || {
            "this cluster was not made by kind, so that images cannot be loaded into its nodes; push one that \
             `gauntlet image build` makes to where it finds it, and name it with --app-image"
                .to_owned()
        };
        let kind_name = cluster.kind_name.as_deref().ok_or_else(unnamed)?;
        let image = build_app_image(&session.programs().app).map_err(|error| error_chain(&error))?;
        eprintln!("loading image {} ({})", image.name, image.contents);
        load_into_kind(&image.name, kind_name, &self.kind_program).map_err(|error| error_chain(&error))?;
        Ok(image.name)
    }

    fn options(self, cluster: &KindClusterRef, app: String) -> KindOptions {
        KindOptions {
            access: cluster.access.clone(),
            images: Images {
                app,
                redis: self.redis_image,
                postgres: self.postgres_image,
            },
            ready_within: READY_WITHIN,
            keep: self.keep,
        }
    }
}

impl Ready {
    /// Removes what was made for the runs, unless it is to be kept. Gives back `exit`, or how to exit when something is left.
    pub fn leave(self, session: &Session, exit: Exit) -> Exit {
        let Some(cluster) = self.cluster else { return exit };
        let left = if self.keep {
            cluster.keep().map_err(|error| error_chain(&error))
        } else {
            session.block_on(cluster.release()).map_err(|error| error_chain(&error))
        };
        match left {
            Ok(()) => exit,
            Err(why) => {
                eprintln!("gauntlet: {why}; `gauntlet recover` tries again");
                Exit::TargetFailed
            }
        }
    }
}

#[cfg(test)]
mod tests;
