//! `gauntlet image`: images of our own programs, for clusters that reach no registry.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{EXIT_CODES, Exit, Format};
use crate::doctor::error_chain;
use crate::target::kind::image::{
    ImageError, ImageRef, Made, build_app_image, build_runner_image, load_into_kind, save,
};

/// What to do with images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Make the image of the services and the load generator, or of a machine that makes live runs. Needs a container
    /// engine; pulls and downloads nothing. An image with the same contents is not made again.
    #[command(after_help = EXIT_CODES)]
    Build(BuildArgs),
}

/// Arguments of `gauntlet image build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The program for the image. By default the `gauntlet-app` that lies beside this program.
    #[arg(long, value_name = "FILE", conflicts_with = "runner")]
    pub binary: Option<PathBuf>,
    /// Make the image of the executor's pods instead: the three programs that lie beside this one, on top of --base.
    #[arg(long, requires = "base")]
    pub runner: bool,
    /// An image of this machine with redis-server, postgresql, nftables and iproute2 (and iptables, where the kernel has
    /// no netem), of this system or a later one.
    #[arg(long, value_name = "IMAGE", requires = "runner")]
    pub base: Option<String>,
    /// Put the image on all nodes of this kind cluster.
    #[arg(long, value_name = "CLUSTER")]
    pub load_into: Option<String>,
    /// The kind program.
    #[arg(long, value_name = "FILE", env = "GAUNTLET_KIND", default_value = "kind")]
    pub kind_program: PathBuf,
    /// Write the image as an archive, for --image-archive.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// How to print the image's name.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Does what was asked for.
///
/// # Errors
/// When this program's own file cannot be found.
pub fn image(command: &ImageCommand) -> anyhow::Result<Exit> {
    let ImageCommand::Build(args) = command;
    let own = std::env::current_exe().context("failed to find this program's own file")?;
    match build(args, &own) {
        Ok(image) => {
            print(args, &image);
            Ok(Exit::Pass)
        }
        Err(error) => {
            eprintln!("gauntlet: {}", error_chain(&error));
            Ok(Exit::CannotHere)
        }
    }
}

fn build(args: &BuildArgs, own: &Path) -> Result<ImageRef, ImageError> {
    let image = match (&args.base, &args.binary) {
        (Some(base), _) => build_runner_image(own.parent().unwrap_or(Path::new("/")), base)?,
        (None, Some(binary)) => build_app_image(binary)?,
        (None, None) => build_app_image(&own.with_file_name("gauntlet-app"))?,
    };
    if let Some(cluster) = &args.load_into {
        load_into_kind(&image.name, cluster, &args.kind_program)?;
    }
    if let Some(file) = &args.save {
        save(&image.name, file)?;
    }
    Ok(image)
}

fn print(args: &BuildArgs, image: &ImageRef) {
    match args.format {
        Format::Json => println!("{}", json!({"version": 1, "image": image})),
        Format::Human => {
            let made = match image.made {
                Made::New => "made",
                Made::Present => "was there",
            };
            eprintln!("{made}: {}", image.contents);
            if let Some(cluster) = &args.load_into {
                eprintln!("loaded: on all nodes of the kind cluster {cluster}");
            }
            if let Some(file) = &args.save {
                eprintln!("saved: {}", file.display());
            }
            // Alone on standard output, so that scripts can take it.
            println!("{}", image.name);
        }
    }
}
