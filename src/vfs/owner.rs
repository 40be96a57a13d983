//! Whose a new file is.

use super::temporary::Temporary;
use super::{Root, Status, VfsError};
use crate::proto::pathname::VirtualPath;
use rustix::fs::{Gid, Uid, fchown};
use rustix::process::geteuid;

/// User and group, where one is to be set.
pub(super) type Owner = (Option<Uid>, Option<Gid>);

impl Root {
    /// Tries what [`Upload::set_owner`](super::Upload::set_owner) asks for: makes a file in the root, gives it away and removes it.
    ///
    /// # Errors
    /// [`VfsError::Denied`] mostly: only root, and who has CAP_CHOWN, may give files away.
    pub fn try_owner(&self, user: u32, group: u32) -> Result<(), VfsError> {
        let place = self.place(&VirtualPath::root().join(b"owner").map_err(|_| VfsError::BadName)?)?;
        let temporary = Temporary::new(place, self.unnamed)?;
        fchown(temporary.file(), Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        // In a folder with the sticky bit only its owner could remove it.
        fchown(temporary.file(), Some(geteuid()), None)?;
        Ok(())
    }
}

/// Gives a file to its owner when it has its name and its mode: one that is somebody else's can have neither
/// (fs.protected_hardlinks), unless this process has more rights than to give files away. Where that fails the
/// file is removed.
pub(super) fn give_away(temporary: &mut Temporary, owner: Option<Owner>, path: &VirtualPath) -> Result<(), VfsError> {
    let Some((user, group)) = owner else { return Ok(()) };
    let Err(errno) = fchown(temporary.file(), user, group) else { return Ok(()) };
    temporary.aim_at(path.file_name().unwrap_or_default());
    let given = Status::of(temporary.file())?;
    let _ = temporary.place().remove(Some(&given));
    Err(errno.into())
}
