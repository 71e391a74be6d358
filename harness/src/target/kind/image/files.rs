//! Files of this machine at their places in an image, as one archive that depends on their contents alone.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::ImageError;

/// Files by their paths in the image.
#[derive(Debug, Default)]
pub(super) struct FileSet {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl FileSet {
    /// Takes the contents of `source`; links are followed, so that what lies there in the image is a file.
    pub(super) fn add(&mut self, place: &str, source: &Path) -> Result<(), ImageError> {
        let contents = std::fs::read(source).map_err(|error| ImageError::Read {
            path: source.to_owned(),
            source: error,
        })?;
        // Archives name what they hold from the root on, without it.
        self.files
            .insert(PathBuf::from(place.trim_start_matches('/')), contents);
        Ok(())
    }

    /// The archive: programs of root's, of no date, in the order of their names.
    pub(super) fn tar(&self) -> Result<Vec<u8>, ImageError> {
        self.write(Vec::new()).map_err(|source| ImageError::Read {
            path: PathBuf::from("an archive in memory"),
            source,
        })
    }

    fn write<W: Write>(&self, out: W) -> io::Result<W> {
        let mut archive = tar::Builder::new(out);
        for (place, contents) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            header.set_mode(0o755);
            header.set_mtime(0);
            archive.append_data(&mut header, place, contents.as_slice())?;
        }
        archive.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_depends_on_contents_only() {
        let home = tempfile::tempdir().unwrap();
        let (first, other) = (home.path().join("a"), home.path().join("b"));
        let archive = |order: [(&str, &Path); 2]| {
            let mut files = FileSet::default();
            order
                .iter()
                .for_each(|(place, source)| files.add(place, source).unwrap());
            files.tar().unwrap()
        };
        std::fs::write(&first, "1").unwrap();
        std::fs::write(&other, "2").unwrap();
        let one = archive([("/bin/a", &first), ("/lib/b", &other)]);
        std::fs::write(&first, "1").unwrap();
        assert_eq!(one, archive([("/lib/b", &other), ("/bin/a", &first)]));
        std::fs::write(&first, "3").unwrap();
        assert_ne!(one, archive([("/bin/a", &first), ("/lib/b", &other)]));
        let mut read = tar::Archive::new(one.as_slice());
        let names = read
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned());
        assert_eq!(names.collect::<Vec<_>>(), [Path::new("bin/a"), Path::new("lib/b")]);
    }
}
