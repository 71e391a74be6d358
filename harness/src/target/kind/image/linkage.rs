//! Whether a program needs a loader, and which libraries that loader would find for it here.

use std::path::{Path, PathBuf};

use super::super::docker::{ToolFailure, run};

/// First bytes of a 64-bit, little-endian ELF file.
const MAGIC: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
/// Program header that names the loader.
const PT_INTERP: u32 = 3;
/// Where an ELF header says at which offset the program headers are, how long one is, and how many there are.
const HEADERS_OFFSET: usize = 32;
const HEADER_LENGTH: usize = 54;
const HEADER_COUNT: usize = 56;

/// What a program needs beside itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// Nothing.
    Static,
    /// A loader and libraries.
    Dynamic {
        /// The loader, as the program names it.
        loader: PathBuf,
        /// The libraries, where the loader finds them on this machine.
        libraries: Vec<PathBuf>,
    },
}

/// It cannot be found out.
#[derive(Debug, thiserror::Error)]
pub enum LinkageError {
    /// The file cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The program.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no program of this kind of machine.
    #[error("{} is no 64-bit little-endian ELF program", path.display())]
    NoProgram {
        /// The file.
        path: PathBuf,
    },
    /// `ldd` failed.
    #[error(transparent)]
    Tool(#[from] ToolFailure),
    /// The program does not start here either.
    #[error("{} needs {library}, which is not on this machine", path.display())]
    NotFound {
        /// The program.
        path: PathBuf,
        /// The library.
        library: String,
    },
}

impl Linkage {
    /// Finds out what `program` needs: by its own headers whether it is static, by `ldd` what the loader finds.
    ///
    /// # Errors
    /// [`LinkageError`].
    pub fn of(program: &Path) -> Result<Self, LinkageError> {
        let path = || program.to_owned();
        let bytes = std::fs::read(program).map_err(|source| LinkageError::Read { path: path(), source })?;
        let loader = interpreter(&bytes).ok_or_else(|| LinkageError::NoProgram { path: path() })?;
        let Some(loader) = loader else {
            return Ok(Self::Static);
        };
        let said = run(Path::new("ldd"), &[&program.display().to_string()], &[])?;
        let libraries =
            libraries(&said, &loader).map_err(|library| LinkageError::NotFound { path: path(), library })?;
        Ok(Self::Dynamic { loader, libraries })
    }

    /// The directories of the libraries, each once, with colons between them.
    #[must_use]
    pub fn search_path(&self) -> String {
        let libraries = match self {
            Self::Static => &[][..],
            Self::Dynamic { libraries, .. } => libraries,
        };
        let directories = libraries.iter().filter_map(|library| library.parent());
        let mut directories: Vec<String> = directories.map(|path| path.display().to_string()).collect();
        directories.sort();
        directories.dedup();
        directories.join(":")
    }
}

/// The loader that an ELF file names; the outer `None`: it is no such file or is cut off, the inner: it names none.
fn interpreter(file: &[u8]) -> Option<Option<PathBuf>> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(length)?)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).ok()
    };
    if !file.starts_with(&MAGIC) {
        return None;
    }
    let (first, length) = (number(HEADERS_OFFSET, 8)?, number(HEADER_LENGTH, 2)?);
    for index in 0..number(HEADER_COUNT, 2)? {
        let header = first.checked_add(index * length)?;
        if number(header, 4)? == PT_INTERP as usize {
            let (start, size) = (number(header.checked_add(8)?, 8)?, number(header.checked_add(32)?, 8)?);
            let name = file.get(start..start.checked_add(size)?)?;
            let name = std::str::from_utf8(name).ok()?.trim_end_matches('\0');
            return Some(Some(PathBuf::from(name)));
        }
    }
    Some(None)
}

/// The files in what `ldd` says, without the loader; the error is the name of one that it did not find.
fn libraries(said: &str, loader: &Path) -> Result<Vec<PathBuf>, String> {
    let mut libraries = Vec::new();
    for line in said.lines() {
        // `NAME => FILE (ADDRESS)`, `NAME => not found`, or what has no other file than its name: `FILE (ADDRESS)`.
        let (name, found) = match line.trim().split_once(" => ") {
            Some((name, found)) => (name, found),
            None => ("", line.trim()),
        };
        if found.starts_with("not found") {
            return Err(name.to_owned());
        }
        let file = Path::new(found.split(" (").next().unwrap_or_default());
        if file.is_absolute() && file != loader {
            libraries.push(file.to_owned());
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with one program header of this kind, which is about the bytes after it.
    fn elf(kind: u32, contents: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..6].copy_from_slice(&MAGIC);
        file[HEADERS_OFFSET] = 64;
        file[HEADER_LENGTH] = 56;
        file[HEADER_COUNT] = 1;
        file[64..68].copy_from_slice(&kind.to_le_bytes());
        file[64 + 8] = 64 + 56;
        file[64 + 32] = u8::try_from(contents.len()).unwrap();
        file.extend_from_slice(contents);
        file
    }

    #[test]
    fn a_program_is_dynamic_when_it_names_a_loader() {
        let loader = b"/lib64/ld.so\0";
        assert_eq!(interpreter(&elf(PT_INTERP, loader)), Some(Some("/lib64/ld.so".into())));
        assert_eq!(interpreter(&elf(1, loader)), Some(None));
        assert_eq!(interpreter(b"#!/bin/sh"), None);
        let whole = elf(PT_INTERP, loader);
        assert_eq!(interpreter(&whole[..whole.len() - 1]), None, "cut off");
    }

    #[test]
    fn libraries_are_where_the_loader_finds_them() {
        let said = "\
\tlinux-vdso.so.1 (0x00007ffd)
\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f1c)
\t/lib64/ld.so (0x00007f1d)
";
        let loader = Path::new("/lib64/ld.so");
        assert_eq!(libraries(said, loader), Ok(vec![PathBuf::from("/lib/x/libc.so.6")]));
        let lacking = "\tlibz.so.1 => not found\n";
        assert_eq!(libraries(lacking, loader), Err("libz.so.1".to_owned()));
    }

    #[test]
    fn this_very_program_is_read() {
        let own = std::env::current_exe().unwrap();
        match Linkage::of(&own).unwrap() {
            Linkage::Static => {}
            linkage @ Linkage::Dynamic { .. } => {
                assert!(linkage.search_path().starts_with('/'), "{linkage:?}");
            }
        }
        let error = Linkage::of(Path::new("/proc/self/status")).unwrap_err();
        assert!(matches!(error, LinkageError::NoProgram { .. }), "{error}");
    }
}
