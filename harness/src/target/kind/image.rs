//! Images made of our own programs by the container engine alone: no builder, no registry, no network.
//!
//! An image is named by what is in it, so that making it again does nothing. Does not decide which image a pod gets.

mod files;
mod linkage;

use std::path::{Path, PathBuf};

use serde::Serialize;

use self::files::FileSet;
pub use self::linkage::{Linkage, LinkageError};
use super::docker::{ToolFailure, docker, run};
use crate::recording::container::sha256_hex;

/// Where the service's program lies in its image.
const APP_PATH: &str = "/gauntlet-app";
/// Where programs lie in a runner's image.
const PROGRAMS: &str = "/usr/local/bin";
/// The programs that make a live run; the first is what a runner's image starts.
const RUNNER_PROGRAMS: [&str; 3] = ["gauntlet", "gauntlet-detector", "gauntlet-app"];
/// Characters of a digest in a tag.
const TAG_LENGTH: usize = 12;
/// Looks in the base of a runner's image for what the local target starts, and says what it did not find. Programs of
/// PostgreSQL may lie where Debian has them.
const LOOK_FOR_TOOLS: &str = "\
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
for tool in redis-server nft tc; do command -v $tool >/dev/null || echo $tool; done
for tool in postgres initdb psql; do
    command -v $tool >/dev/null || ls /usr/lib/postgresql/*/bin/$tool >/dev/null 2>&1 || echo $tool
done";

/// An image that the container engine of this machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRef {
    /// Name and tag; the tag is the beginning of the digest of the contents.
    pub name: String,
    /// Whether it was made now.
    pub made: Made,
    /// What beside our programs is in it, in words.
    pub contents: String,
}

/// Whether an image was made or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// Now.
    New,
    /// An image with these contents was there.
    Present,
}

/// An image could not be made, or not be brought somewhere.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The container engine or kind failed.
    #[error(transparent)]
    Tool(#[from] ToolFailure),
    /// It is not known what a program needs.
    #[error(transparent)]
    Linkage(#[from] LinkageError),
    /// A file cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The base is not on this machine.
    #[error(
        "there is no image {base} on this machine, and nothing is pulled here: `docker load` or `docker pull` it first"
    )]
    NoBase {
        /// Its name.
        base: String,
    },
    /// The base cannot carry the local target.
    #[error("{base} lacks {}: a runner's base has redis-server, postgresql, nftables and iproute2", missing.join(", "))]
    BaseLacks {
        /// Its name.
        base: String,
        /// Programs.
        missing: Vec<String>,
    },
    /// Our programs were built for another system than the base.
    #[error("{base} cannot start {program}; build it on the base's system, or statically")]
    BaseRefuses {
        /// Name of the base.
        base: String,
        /// The program that did not start.
        program: &'static str,
        /// What it said.
        #[source]
        source: ToolFailure,
    },
}

/// Makes the image of the services and the load generator: from scratch, with `binary` in it. If it is dynamic, its loader
/// and its libraries go in beside it, so that no second build is needed.
///
/// # Errors
/// [`ImageError`].
pub fn build_app_image(binary: &Path) -> Result<ImageRef, ImageError> {
    let linkage = Linkage::of(binary)?;
    let mut files = FileSet::default();
    files.add(APP_PATH, binary)?;
    let mut changes = vec![format!("ENTRYPOINT [\"{APP_PATH}\"]")];
    let contents = match &linkage {
        Linkage::Static => "the static program alone".to_owned(),
        Linkage::Dynamic { loader, libraries } => {
            for file in std::iter::once(loader).chain(libraries) {
                files.add(&file.display().to_string(), file)?;
            }
            // The loader of this machine may have found them by a cache that is not in the image.
            changes.push(format!("ENV LD_LIBRARY_PATH={}", linkage.search_path()));
            format!("the dynamic program, its loader and {} libraries", libraries.len())
        }
    };
    let layer = files.tar()?;
    let name = format!("gauntlet/app:{}", tag(&[&layer]));
    if image_id(&name)?.is_some() {
        let made = Made::Present;
        return Ok(ImageRef { name, made, contents });
    }
    let mut arguments = vec!["import"];
    arguments.extend(changes.iter().flat_map(|change| ["--change", change]));
    arguments.extend(["-", &name]);
    run(Path::new("docker"), &arguments, &layer)?;
    let made = Made::New;
    Ok(ImageRef { name, made, contents })
}

/// Makes the image of a machine that makes live runs: our programs, which lie in `programs`, on top of `base`, which must
/// have the servers and tools of the local target.
///
/// # Errors
/// [`ImageError`].
pub fn build_runner_image(programs: &Path, base: &str) -> Result<ImageRef, ImageError> {
    let base_id = image_id(base)?.ok_or_else(|| ImageError::NoBase { base: base.to_owned() })?;
    let mut files = FileSet::default();
    for program in RUNNER_PROGRAMS {
        files.add(&format!("{PROGRAMS}/{program}"), &programs.join(program))?;
    }
    let layer = files.tar()?;
    let name = format!("gauntlet/runner:{}", tag(&[base_id.as_bytes(), &layer]));
    let contents = format!("our programs on {base}");
    if image_id(&name)?.is_some() {
        let made = Made::Present;
        return Ok(ImageRef { name, made, contents });
    }
    check_tools(base)?;
    let container = Container::create(base)?;
    container.unpack(&layer)?;
    container.start_programs(base)?;
    container.commit(&name)?;
    let made = Made::New;
    Ok(ImageRef { name, made, contents })
}

/// Puts an image of this machine on all nodes of a kind cluster.
///
/// # Errors
/// [`ToolFailure`] with what `kind` said.
pub fn load_into_kind(image: &str, cluster: &str, kind: &Path) -> Result<(), ToolFailure> {
    run(kind, &["load", "docker-image", image, "--name", cluster], &[]).map(drop)
}

/// Writes an image as an archive, which clusters without registry are given.
///
/// # Errors
/// [`ToolFailure`] with what `docker` said.
pub fn save(image: &str, file: &Path) -> Result<(), ToolFailure> {
    docker(&["save", "--output", &file.display().to_string(), image]).map(drop)
}

/// The engine's id of an image; `None`: it does not have it.
fn image_id(name: &str) -> Result<Option<String>, ToolFailure> {
    let id = docker(&["images", "--quiet", "--no-trunc", name])?;
    Ok(id.lines().next().map(str::to_owned))
}

fn tag(contents: &[&[u8]]) -> String {
    let mut digest = sha256_hex(&contents.concat());
    digest.truncate(TAG_LENGTH);
    digest
}

fn check_tools(base: &str) -> Result<(), ImageError> {
    let looked = docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--entrypoint",
        "/bin/sh",
        base,
        "-c",
        LOOK_FOR_TOOLS,
    ])?;
    let missing: Vec<String> = looked.lines().map(str::to_owned).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let base = base.to_owned();
    Err(ImageError::BaseLacks { base, missing })
}

/// A container of a base, in which an image is put together; removed when this is dropped.
struct Container {
    id: String,
}

impl Container {
    /// One that does nothing until its end, so that programs can be tried in it.
    fn create(base: &str) -> Result<Self, ToolFailure> {
        let id = docker(&[
            "create",
            "--network",
            "none",
            "--entrypoint",
            "/bin/sh",
            base,
            "-c",
            "sleep 60",
        ])?;
        Ok(Self {
            id: id.trim().to_owned(),
        })
    }

    fn unpack(&self, layer: &[u8]) -> Result<(), ToolFailure> {
        run(Path::new("docker"), &["cp", "-", &format!("{}:/", self.id)], layer).map(drop)
    }

    /// Proves that the base's loader and libraries fit our programs.
    fn start_programs(&self, base: &str) -> Result<(), ImageError> {
        docker(&["start", &self.id])?;
        for program in RUNNER_PROGRAMS {
            let path = format!("{PROGRAMS}/{program}");
            docker(&["exec", &self.id, &path, "--version"]).map_err(|source| ImageError::BaseRefuses {
                base: base.to_owned(),
                program,
                source,
            })?;
        }
        Ok(())
    }

    fn commit(&self, name: &str) -> Result<(), ToolFailure> {
        let entrypoint = format!("ENTRYPOINT [\"{PROGRAMS}/{}\"]", RUNNER_PROGRAMS[0]);
        docker(&["commit", "--change", &entrypoint, "--change", "CMD []", &self.id, name]).map(drop)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Nothing more can be done about one that stays; it holds nothing but files.
        let _ = docker(&["rm", "--force", &self.id]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_of_the_contents() {
        assert_eq!(tag(&[b"a", b"b"]), tag(&[b"ab"]));
        assert_ne!(tag(&[b"a"]), tag(&[b"b"]));
        assert_eq!(tag(&[b"a"]).len(), TAG_LENGTH);
    }
}
