//! Builds the kernel programs, and tells whether the object that is checked in was built from the sources beside it.
//!
//! The check needs neither a linker nor rust-src: it compares digests. The rebuilding check needs both, and compares bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

/// The linker that turns LLVM bitcode into a BPF object, and its version.
const LINKER_VERSION: &str = "0.13.0";
const TARGET: &str = "bpfel-unknown-none";

/// Arguments of `cargo xtask bpf`.
#[derive(clap::Args)]
pub(crate) struct BpfArguments {
    /// Build nothing: fail if the object that is checked in is not of these sources.
    #[arg(long)]
    check: bool,
    /// Build, keep nothing: fail if what comes out is not, byte for byte, the object that is checked in. Symbols hash the
    /// place of the tree, so this tells only in the directory in which the object was built, with the same tools.
    #[arg(long, conflicts_with = "check")]
    rebuild_check: bool,
}

/// Runs the task.
pub(crate) fn run(arguments: &BpfArguments) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .context("failed to find the repository")?;
    if arguments.check {
        check(&root)
    } else if arguments.rebuild_check {
        rebuild_check(&root)
    } else {
        build(&root)
    }
}

fn object_path(root: &Path) -> PathBuf {
    root.join("probes/bpf/gauntlet.bpf.o")
}

fn digest_path(root: &Path) -> PathBuf {
    root.join("probes/bpf/gauntlet.bpf.digest")
}

fn check(root: &Path) -> anyhow::Result<()> {
    let expected = digest(root)?;
    let found = fs::read_to_string(digest_path(root)).context("failed to read the digest; run `cargo xtask bpf`")?;
    ensure!(
        found.lines().next() == Some(expected.as_str()),
        "probes/bpf/gauntlet.bpf.o is not of these sources; run `cargo xtask bpf` and commit the result"
    );
    println!("probes/bpf/gauntlet.bpf.o is of these sources");
    Ok(())
}

fn rebuild_check(root: &Path) -> anyhow::Result<()> {
    check(root)?;
    let rebuilt = root.join("probes-ebpf/target/gauntlet.rebuilt.o");
    compile(root, &rebuilt)?;
    let record = fs::read_to_string(digest_path(root))?;
    let (builder, tools) = (record.lines().nth(1).unwrap_or("unknown tools"), tools()?);
    if builder != tools {
        println!("not compared: probes/bpf/gauntlet.bpf.o was built by {builder}, here are {tools}");
        return Ok(());
    }
    let (expected, found) = (fs::read(object_path(root))?, fs::read(&rebuilt)?);
    ensure!(
        expected == found,
        "these sources give another object ({} bytes) than probes/bpf/gauntlet.bpf.o ({} bytes): \
         it was changed by hand, or built in another directory",
        found.len(),
        expected.len(),
    );
    println!("these sources give probes/bpf/gauntlet.bpf.o, byte for byte ({tools})");
    Ok(())
}

/// What the object's bytes depend on besides its sources, in one line.
fn tools() -> anyhow::Result<String> {
    let rustc = output(Command::new("rustc").arg("--version"))?;
    Ok(format!(
        "{rustc}, {}",
        output(Command::new("bpf-linker").arg("--version"))?
    ))
}

fn build(root: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(root.join("probes/bpf"))?;
    compile(root, &object_path(root))?;
    fs::write(digest_path(root), format!("{}\n{}\n", digest(root)?, tools()?))?;
    println!(
        "built {} ({} bytes)",
        object_path(root).display(),
        fs::metadata(object_path(root))?.len()
    );
    Ok(())
}

/// Builds the kernel programs into the file `object`.
fn compile(root: &Path, object: &Path) -> anyhow::Result<()> {
    let sysroot = PathBuf::from(output(Command::new("rustc").args(["--print", "sysroot"]))?);
    provide_sources(&sysroot)?;
    provide_linker(&sysroot)?;
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    // Debug information is what type information is made from; no path of this machine may stay in it.
    let mut flags = vec![
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--remap-path-prefix={}=/cargo", home.display()),
        format!("--remap-path-prefix={}=/rust", sysroot.display()),
        format!("--remap-path-prefix={}=/gauntlet", root.display()),
    ];
    // The last match counts: sources of dependencies, whichever registry or mirror they came from.
    for registry in fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten() {
        flags.push(format!("--remap-path-prefix={}=/crates", registry.path().display()));
    }
    let crate_directory = root.join("probes-ebpf");
    let status = Command::new("cargo")
        .current_dir(&crate_directory)
        .args(["build", "--release", "--locked", "-Zbuild-std=core", "--target", TARGET])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("failed to run cargo")?;
    ensure!(status.success(), "the kernel programs do not compile");
    let built = crate_directory.join("target").join(TARGET).join("release/gauntlet");
    strip(&sysroot, &built, object)
}

/// Removes DWARF; the kernel's own type format stays.
fn strip(sysroot: &Path, built: &Path, object: &Path) -> anyhow::Result<()> {
    let host = output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let tool = sysroot.join("lib/rustlib").join(host).join("bin/rust-objcopy");
    let status = Command::new(&tool)
        .arg("--strip-debug")
        .args([built, object])
        .env("LD_LIBRARY_PATH", sysroot.join("lib"))
        .status()
        .with_context(|| format!("failed to run {}", tool.display()))?;
    ensure!(status.success(), "failed to strip the object");
    Ok(())
}

fn provide_sources(sysroot: &Path) -> anyhow::Result<()> {
    if sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
        return Ok(());
    }
    let status = Command::new("rustup").args(["component", "add", "rust-src"]).status();
    if !status.is_ok_and(|status| status.success()) {
        bail!(
            "rust-src is missing: run `rustup component add rust-src`, or copy `library/` of your distribution's rust-src \
             package of the same version to {}/lib/rustlib/src/rust/library",
            sysroot.display()
        );
    }
    Ok(())
}

/// Installs the linker against the compiler's own LLVM, which is at least as new as the bitcode that it writes.
fn provide_linker(sysroot: &Path) -> anyhow::Result<()> {
    if Command::new("bpf-linker")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return Ok(());
    }
    let lib = sysroot.join("lib");
    let llvm = fs::read_dir(&lib)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find_map(|name| {
            name.strip_prefix("libLLVM")?
                .strip_suffix(".so")
                .map(|rest| format!("LLVM{rest}"))
        })
        .context("the compiler has no shared LLVM to link bpf-linker against; install bpf-linker by hand")?;
    let lib = lib.display();
    let status = Command::new("cargo")
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--no-default-features",
        ])
        .args(["--features", "llvm-22,no-llvm-linking"])
        .env(
            "RUSTFLAGS",
            format!("-Clink-arg=-L{lib} -Clink-arg=-l{llvm} -Clink-arg=-Wl,-rpath,{lib}"),
        )
        .status()?;
    ensure!(status.success(), "failed to install bpf-linker {LINKER_VERSION}");
    Ok(())
}

/// SHA-256 over path and content of all that the object is made from, in the order of the paths.
fn digest(root: &Path) -> anyhow::Result<String> {
    let mut files = vec![
        PathBuf::from("probes-ebpf/Cargo.toml"),
        PathBuf::from("probes-ebpf/Cargo.lock"),
        PathBuf::from("probes/abi/Cargo.toml"),
    ];
    collect(root, Path::new("probes-ebpf/src"), &mut files)?;
    collect(root, Path::new("probes/abi/src"), &mut files)?;
    files.sort();
    let mut hasher = Sha256::new();
    for file in &files {
        let content = fs::read(root.join(file)).with_context(|| format!("failed to read {}", file.display()))?;
        let name = file.to_str().context("a source's name is not UTF-8")?;
        for part in [name.as_bytes(), &content] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    let hash: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256 {hash}"))
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in
        fs::read_dir(root.join(directory)).with_context(|| format!("failed to list {}", directory.display()))?
    {
        let entry = entry?;
        let path = directory.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
