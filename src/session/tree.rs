//! Changes to the tree: DELE, RMD, MKD, RNFR and RNTO, MFMT, MFF, MDTM with a time, SITE CHMOD and UMASK.

use super::{Session, answer};
use crate::auth::Write;
use crate::journal::Event;
use crate::policy::Subject;
use crate::proto::command::{ModifyFacts, timed_path};
use crate::proto::date::time_val;
use crate::proto::pathname::{Escaped, VirtualPath, quote, shown};
use crate::proto::reply::Reply;
use crate::session::Seat;
use crate::vfs::VfsError;

impl<S: Seat> Session<'_, S> {
    pub(super) fn delete(&mut self, argument: &[u8]) -> Reply {
        self.change("DELE", argument, None, |session, path| {
            session.root.remove_file(path)?;
            Ok(Reply::new(250, "Deleted."))
        })
    }

    pub(super) fn remove_folder(&mut self, argument: &[u8]) -> Reply {
        self.change("RMD", argument, None, |session, path| {
            session.root.remove_folder(path)?;
            Ok(Reply::new(250, "Folder removed."))
        })
    }

    pub(super) fn make_folder(&mut self, argument: &[u8]) -> Reply {
        self.change("MKD", argument, None, |session, path| {
            session.room_in(&path.parent())?;
            match session.root.make_folder(path, 0o777 & !session.umask) {
                Ok(()) => {
                    let mut text = Vec::new();
                    quote(path.as_bytes(), &mut text);
                    text.extend_from_slice(b" is created");
                    Ok(Reply::with(257, text))
                }
                // lftp and others look for these words.
                Err(VfsError::Exists) => Ok(Reply::new(550, "Directory already exists.")),
                Err(error) => Err(error),
            }
        })
    }

    pub(super) fn rename_from(&mut self, argument: &[u8]) -> Reply {
        let found = self.resolve(argument).and_then(|path| match self.root.link_status(&path) {
            Ok(_) => Ok(path),
            Err(error) => Err(answer::file(&error)),
        });
        match found {
            Ok(path) => {
                self.rename_from = Some(path);
                Reply::new(350, "Send RNTO with the new name.")
            }
            Err(reply) => reply,
        }
    }

    pub(super) fn rename_to(&mut self, from: Option<VirtualPath>, argument: &[u8]) -> Reply {
        let Some(from) = from else { return Reply::new(503, "Send RNFR first.") };
        let to = match self.resolve(argument) {
            Ok(to) => to,
            Err(reply) => return reply,
        };
        match self.root.rename(&from, &to, true) {
            Ok(_) => {
                self.note_change("RNTO", &from, Some(to.as_bytes()));
                Reply::new(250, "Renamed.")
            }
            Err(error) => {
                self.failed("RNTO", &from, &error);
                answer::file(&error)
            }
        }
    }

    pub(super) fn modify_time(&mut self, modified: i64, argument: &[u8]) -> Reply {
        self.change("MFMT", argument, Some(&time_val(modified)), |session, path| {
            session.root.set_modified(path, modified)?;
            let mut text = b"Modify=".to_vec();
            text.extend_from_slice(&time_val(modified));
            text.extend_from_slice(b"; ");
            shown(path.as_bytes(), &mut text);
            Ok(Reply::with(213, text))
        })
    }

    /// The variant of MDTM that sets a time, which some clients use where there is no MFMT; `None` where the
    /// argument is no such thing, or a file has all of it as its name.
    pub(super) fn modify_time_by_mdtm(&mut self, argument: &[u8]) -> Option<Reply> {
        let (modified, name) = timed_path(argument)?;
        let named_so = self.resolve(argument).is_ok_and(|path| self.root.status(&path).is_ok());
        let may = matches!(self.subject(), Subject::Member(rights) if rights.write == Write::All);
        if named_so || !may {
            return None;
        }
        Some(self.change("MDTM", name, Some(&time_val(modified)), |session, path| {
            session.root.set_modified(path, modified)?;
            let mut text = Vec::new();
            text.extend_from_slice(&time_val(modified));
            Ok(Reply::with(213, text))
        }))
    }

    pub(super) fn modify_facts(&mut self, facts: ModifyFacts, argument: &[u8]) -> Reply {
        self.change("MFF", argument, Some(&facts_text(facts)), |session, path| {
            // The mode last: it may take away what the time needs.
            if let Some(modified) = facts.modified {
                session.root.set_modified(path, modified)?;
            }
            if let Some(mode) = facts.mode {
                session.root.set_mode(path, mode)?;
            }
            let mut text = facts_text(facts);
            text.push(b' ');
            shown(path.as_bytes(), &mut text);
            Ok(Reply::with(213, text))
        })
    }

    pub(super) fn change_mode(&mut self, mode: u32, argument: &[u8]) -> Reply {
        self.change("SITE CHMOD", argument, Some(format!("{mode:03o}").as_bytes()), |session, path| {
            session.root.set_mode(path, mode)?;
            Ok(Reply::with(200, format!("The mode is {mode:03o} now.")))
        })
    }

    pub(super) fn set_umask(&mut self, umask: Option<u32>) -> Reply {
        match umask {
            None => Reply::with(200, format!("The umask is {:03o}.", self.umask)),
            Some(umask) => {
                let before = std::mem::replace(&mut self.umask, umask);
                Reply::with(200, format!("The umask is {umask:03o} now; it was {before:03o}."))
            }
        }
    }

    /// Resolves the path, changes what it leads to, and writes that down, with the new mode or time in `to`.
    fn change(
        &mut self,
        verb: &'static str,
        argument: &[u8],
        to: Option<&[u8]>,
        change: impl FnOnce(&Self, &VirtualPath) -> Result<Reply, VfsError>,
    ) -> Reply {
        let path = match self.resolve(argument) {
            Ok(path) => path,
            Err(reply) => return reply,
        };
        match change(self, &path) {
            Ok(reply) => {
                if reply.code() < 400 {
                    self.note_change(verb, &path, to);
                }
                reply
            }
            Err(error) => {
                self.failed(verb, &path, &error);
                answer::file(&error)
            }
        }
    }

    fn note_change(&self, verb: &'static str, path: &VirtualPath, to: Option<&[u8]>) {
        match to {
            Some(to) => log::info!("{}: {verb} {} to {}", self.ends.peer, Escaped(path.as_bytes()), Escaped(to)),
            None => log::info!("{}: {verb} {}", self.ends.peer, Escaped(path.as_bytes())),
        }
        self.context.journal.note(&Event::Change {
            peer: self.ends.peer,
            user: self.user_name(),
            verb,
            path: path.as_bytes(),
            to,
        });
    }
}

/// Facts as MFF has them.
fn facts_text(facts: ModifyFacts) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(modified) = facts.modified {
        text.extend_from_slice(b"modify=");
        text.extend_from_slice(&time_val(modified));
        text.push(b';');
    }
    if let Some(mode) = facts.mode {
        text.extend_from_slice(format!("UNIX.mode={mode:04o};").as_bytes());
    }
    text
}
