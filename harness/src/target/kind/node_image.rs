//! Images on their way into a new cluster: the one that its nodes are made of, and archives of those that its pods will run.
//!
//! Nothing is pulled where archives are given, nor where an image is here already.

use std::path::Path;
use std::time::Duration;

use super::config::PodNetwork;
use super::containers::docker;
use super::docker::ToolFailure;
use super::name::ClusterName;
use super::program::Call;

/// Longest that loading images into all nodes may take; a gigabyte into four nodes took under a minute.
const LOAD_WITHIN: Duration = Duration::from_secs(600);
/// Longest that pulling a node image may take.
const PULL_WITHIN: Duration = Duration::from_secs(900);
/// What a node image with a pod network of its own has.
const NETWORK_MANIFEST: &str = "/kind/manifests/default-cni.yaml";

/// Whether an image that is not here may be had from its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulling {
    /// It is pulled.
    Allowed,
    /// It is refused: images come from archives.
    Forbidden,
}

/// The node image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NodeImageError {
    /// It is not here, and nothing is pulled.
    #[error(
        "the node image {image} is not on this machine, and with --image-archive nothing is pulled; load it first with `docker \
         load --input FILE`"
    )]
    NotHere {
        /// The image.
        image: String,
    },
    /// The container engine said no.
    #[error(transparent)]
    Tool(#[from] ToolFailure),
}

/// Has the node image on this machine, and says whether it brings a pod network.
///
/// # Errors
/// [`NodeImageError`].
pub async fn prepare(
    image: &str,
    pulling: Pulling,
    mark: &str,
    progress: &dyn Fn(&str),
) -> Result<PodNetwork, NodeImageError> {
    let inspect = ["image", "inspect", "--format", "{{.Id}}", image];
    match (docker(&inspect, "", mark).await, pulling) {
        (Ok(_), _) => {}
        (Err(ToolFailure::Refused { .. }), Pulling::Forbidden) => {
            return Err(NodeImageError::NotHere {
                image: image.to_owned(),
            });
        }
        (Err(ToolFailure::Refused { .. }), Pulling::Allowed) => {
            progress(&format!("pulling the node image {image}"));
            let pull = Call {
                program: Path::new("docker"),
                arguments: &["pull", "--quiet", image],
                input: "",
                mark,
                within: PULL_WITHIN,
            };
            pull.run(&|_| ()).await?;
        }
        (Err(error), _) => return Err(error.into()),
    }
    let look = format!("test -f {NETWORK_MANIFEST} && echo own || echo none");
    let arguments = [
        "run",
        "--rm",
        "--network=none",
        "--entrypoint=/bin/sh",
        image,
        "-c",
        &look,
    ];
    Ok(match docker(&arguments, "", mark).await?.trim() {
        "own" => PodNetwork::OfImage,
        _ => PodNetwork::Ours,
    })
}

/// Loads the images of an archive into every node.
///
/// # Errors
/// [`ToolFailure`].
pub async fn load_archive(kind: &Path, cluster: &ClusterName, archive: &Path, mark: &str) -> Result<(), ToolFailure> {
    let archive = archive.to_string_lossy();
    let call = Call {
        program: kind,
        arguments: &["load", "image-archive", &archive, "--name", cluster.as_str()],
        input: "",
        mark,
        within: LOAD_WITHIN,
    };
    call.run(&|_| ()).await.map(drop)
}
