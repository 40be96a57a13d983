//! The files that were asked for, `--json` and `--plot`.
//!
//! They are opened before the run, because what was measured must not be lost; and changed after it, because
//! what an earlier run has measured must not be lost either. A run without a result leaves none behind, unless a second
//! signal ends it at once.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, fstat};

use super::LoadError;
use crate::config::load::Load;
use crate::config::plain;

/// The files of a run.
#[derive(Debug)]
pub struct Files {
    json: Option<Out>,
    plot: Option<Out>,
}

impl Files {
    /// Opens those that are asked for.
    ///
    /// # Errors
    /// One of them can't be written.
    pub fn open(load: &Load) -> Result<Self, LoadError> {
        let open = |flag, path: &Option<PathBuf>| path.as_deref().map(|path| Out::open(flag, path)).transpose();
        let files = Self { json: open("--json", &load.json)?, plot: open("--plot", &load.plot)? };
        match (&files.json, &files.plot) {
            // However it is spelled. What is no file may be the same, as /dev/null is.
            (Some(json), Some(plot)) if json.is_same_file(plot) => {
                Err(LoadError::usage(format!("--plot: {:?} is the file of --json as well", plot.path)))
            }
            _ => Ok(files),
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// There is no room for one of them.
    pub fn write(self, json: &str, plot: &str) -> Result<(), LoadError> {
        self.json.map_or(Ok(()), |file| file.write(json))?;
        self.plot.map_or(Ok(()), |file| file.write(plot))
    }
}

/// A file that is to be written.
#[derive(Debug)]
struct Out {
    flag: &'static str,
    path: PathBuf,
    file: fs::File,
    /// It is there because of us, and empty.
    ours: bool,
}

impl Out {
    fn open(flag: &'static str, path: &Path) -> Result<Self, LoadError> {
        let create = fs::OpenOptions::new().write(true).create_new(true).open(path);
        let (file, ours) = match create {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // It keeps what it has until there is something new.
                (fs::OpenOptions::new().write(true).create(true).truncate(false).open(path), false)
            }
            created => (created, true),
        };
        let file = file.map_err(|error| cannot(flag, path, &error))?;
        Ok(Self { flag, path: path.to_owned(), file, ours })
    }

    fn is_same_file(&self, other: &Out) -> bool {
        let id = |out: &Out| {
            let status = fstat(&out.file).ok().filter(|status| FileType::from_raw_mode(status.st_mode).is_file())?;
            Some((status.st_dev, status.st_ino))
        };
        id(self).is_some_and(|own| id(other) == Some(own))
    }

    fn write(mut self, text: &str) -> Result<(), LoadError> {
        self.ours = false;
        // A pipe or a terminal has no length.
        let emptied = self.file.set_len(0).or_else(|error| match error.kind() {
            io::ErrorKind::InvalidInput => Ok(()),
            _ => Err(error),
        });
        emptied
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .map_err(|error| cannot(self.flag, &self.path, &error))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if self.ours {
            // Where it can't be removed an empty file stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn cannot(flag: &str, path: &Path, error: &io::Error) -> LoadError {
    LoadError::here(format!("{flag}: {path:?} can't be written: {}", plain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_as_it_was_until_there_is_a_result() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::write(&old, "an earlier result, which was longer").unwrap();
        let open = || [&old, &new].map(|path| Out::open("--json", path).unwrap());
        drop(open());
        assert_eq!(fs::read_to_string(&old).unwrap(), "an earlier result, which was longer");
        assert!(!new.exists());
        for out in open() {
            out.write("result").unwrap();
        }
        for path in [old, new] {
            assert_eq!(fs::read_to_string(path).unwrap(), "result");
        }
        let refused = Out::open("--plot", folder.path()).unwrap_err();
        assert!(refused.to_string().starts_with("--plot: ") && refused.exit_code() == 1, "{refused}");
    }
}
