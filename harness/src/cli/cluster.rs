//! `gauntlet cluster`: brings clusters up, takes them down, lists them.
//!
//! Says what can be asked for; [`local`] and [`kind`] do it.

pub mod kind;
pub mod local;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Subcommand};

use super::target::TargetKind;
use super::{Cli, EXIT_CODES, Exit, Format};
use crate::target::kind::lifecycle::{NODES, UpOptions};
use crate::target::kind::name::ClusterName;

/// What to do with clusters.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Bring a cluster up: an application on namespaces, held until Ctrl-C or in the background with --detach; or, with
    /// --target kind, an empty Kubernetes cluster that stays until `cluster down`.
    #[command(after_help = EXIT_CODES)]
    Up(UpArgs),
    /// Take a cluster down that `cluster up` left running. Only Gauntlet's own are.
    #[command(after_help = EXIT_CODES)]
    Down(DownArgs),
    /// List Gauntlet's clusters.
    #[command(after_help = EXIT_CODES)]
    List {
        /// How to print them.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// Arguments of `gauntlet cluster up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// What it is made of.
    #[arg(long, value_enum, default_value_t)]
    pub target: TargetKind,
    /// The cluster's name, for `cluster down` [default: default on local, gauntlet on kind].
    #[arg(long)]
    pub name: Option<String>,
    /// The application: a file, or a name of scenarios/apps [local only; default: shop].
    #[arg(long)]
    pub app: Option<String>,
    /// Return when it is up; it lives until `cluster down` [local only; on kind it always does].
    #[arg(long)]
    pub detach: bool,
    /// How a kind cluster is made.
    #[command(flatten)]
    pub kind: KindUpArgs,
}

/// How a kind cluster is made.
#[derive(Debug, Args)]
pub struct KindUpArgs {
    /// Nodes that the application's pods run on; the control plane is one more [kind only; default: 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub nodes: Option<u16>,
    /// The image of its nodes; one without a pod network gets Gauntlet's [kind only; default: the one kind was built with].
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Write its kubeconfig to this new file; ~/.kube/config is never touched [kind only; default: among Gauntlet's records].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Load the images of this archive (of `docker save`) into its nodes. With any, nothing is pulled [kind only].
    #[arg(long, value_name = "FILE")]
    pub image_archive: Vec<PathBuf>,
    /// The program kind, by name or path.
    #[arg(long, value_name = "PROGRAM", env = "GAUNTLET_KIND", default_value = "kind")]
    pub kind_program: PathBuf,
}

impl KindUpArgs {
    /// As options.
    #[must_use]
    pub fn options(&self) -> UpOptions {
        UpOptions {
            workers: self.nodes.unwrap_or(NODES),
            image: self.image.clone(),
            kubeconfig: self.kubeconfig.clone(),
            image_archives: self.image_archive.clone(),
            kind_program: self.kind_program.clone(),
            ..UpOptions::default()
        }
    }
}

/// Arguments of `gauntlet cluster down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    /// What it is made of.
    #[arg(long, value_enum, default_value_t)]
    pub target: TargetKind,
    /// The cluster's name [default: default on local, gauntlet on kind].
    #[arg(long)]
    pub name: Option<String>,
}

/// Does what was asked.
///
/// # Errors
/// When the harness itself fails.
pub fn cluster(command: &ClusterCommand) -> anyhow::Result<Exit> {
    match command {
        ClusterCommand::Up(args) => up(args),
        ClusterCommand::Down(DownArgs { target, name }) => match target {
            TargetKind::Local => local::down(local_name(name.as_deref())),
            TargetKind::Kind => kind::down(&kind_name(name.as_deref())),
        },
        ClusterCommand::List { format } => kind::list(*format),
    }
}

fn up(args: &UpArgs) -> anyhow::Result<Exit> {
    if let Some(flag) = misplaced(args) {
        usage(&format!("{flag} has no meaning with the target that was chosen"));
    }
    match args.target {
        TargetKind::Local => {
            let app = args.app.as_deref().unwrap_or("shop");
            let name = local_name(args.name.as_deref());
            if args.detach {
                local::detach(app, name)
            } else {
                local::hold(app, name)
            }
        }
        TargetKind::Kind => kind::up(&kind_name(args.name.as_deref()), &args.kind.options()),
    }
}

/// The first flag that belongs to the other target.
fn misplaced(args: &UpArgs) -> Option<&'static str> {
    let KindUpArgs {
        nodes,
        image,
        kubeconfig,
        image_archive,
        // From the environment it is there for both.
        kind_program: _,
    } = &args.kind;
    let flags = match args.target {
        TargetKind::Local => vec![
            ("--nodes", nodes.is_some()),
            ("--image", image.is_some()),
            ("--kubeconfig", kubeconfig.is_some()),
            ("--image-archive", !image_archive.is_empty()),
        ],
        TargetKind::Kind => vec![("--app", args.app.is_some()), ("--detach", args.detach)],
    };
    flags.into_iter().find_map(|(flag, is_given)| is_given.then_some(flag))
}

fn local_name(given: Option<&str>) -> &str {
    given.unwrap_or("default")
}

fn kind_name(given: Option<&str>) -> ClusterName {
    match given.map(str::parse) {
        None => ClusterName::default(),
        Some(Ok(name)) => name,
        Some(Err(why)) => usage(&format!("--name {}: {why}", given.unwrap_or_default())),
    }
}

/// Ends this process as for any call that is not understood.
fn usage(message: &str) -> ! {
    Cli::command().error(ErrorKind::ArgumentConflict, message).exit()
}
