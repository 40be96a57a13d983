//! The home of one who may change everything in it, and nothing beside it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Name and password of the one whose home it is.
pub const USER: &str = "w";

/// The hash of it, with as few rounds as there can be: crypt(3) of "w" and `$5$rounds=1000$saltsalt$`.
const HASH: &str = "$5$rounds=1000$saltsalt$ShZMulbPEX7OwdrorMnG3elrL5mIoS74Bn2j61xFuf9";

/// Bytes that may be in the home: little enough to be used up in one session.
const QUOTA: &str = "16K";

/// What is sent over each data connection, wanted or not.
pub const UPLOAD: [u8; 3000] = [b'u'; 3000];

/// A home, and what is around it.
pub struct Home {
    outer: PathBuf,
    path: PathBuf,
    around: BTreeMap<PathBuf, Identity>,
}

/// What changes when an entry is changed in any way: device and inode, mode, length, time of the last change.
type Identity = (u64, u64, u32, u64, i64, i64);

fn identity(path: &Path) -> Identity {
    let found = fs::symlink_metadata(path).expect("it is there");
    (found.dev(), found.ino(), found.mode(), found.size(), found.ctime(), found.ctime_nsec())
}

impl Home {
    /// Makes it in `outer`, beside all that is there already; the accounts file is `accounts`.
    pub fn make(outer: &Path) -> Home {
        let path = outer.join("home");
        fs::create_dir(&path).expect("a folder");
        let accounts = outer.join("accounts");
        let line = format!("{USER}:{HASH}:root={},write=all,quota={QUOTA}\n", path.display());
        fs::write(&accounts, line).expect("a file");
        fs::set_permissions(&accounts, Permissions::from_mode(0o600)).expect("it is ours");
        let mut home = Home { outer: outer.to_owned(), path, around: BTreeMap::new() };
        home.furnish();
        let mut around = BTreeMap::new();
        home.look(outer, 0, &mut around);
        home.around = around;
        home
    }

    /// The accounts file.
    pub fn accounts(&self) -> PathBuf {
        self.outer.join("accounts")
    }

    /// Everything around the home, three folders deep.
    fn look(&self, folder: &Path, depth: usize, around: &mut BTreeMap<PathBuf, Identity>) {
        around.insert(folder.to_owned(), identity(folder));
        // There are hundreds of files in one of them, of which the folder itself tells.
        if folder == self.path || depth > 3 || folder.ends_with("many") {
            return;
        }
        for entry in fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("it is read").path();
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                self.look(&path, depth + 1, around);
            } else {
                around.insert(path.clone(), identity(&path));
            }
        }
    }

    fn furnish(&self) {
        let write = |name: &str, bytes: &[u8]| fs::write(self.path.join(name), bytes).expect("a file");
        fs::create_dir_all(self.path.join("d/e")).expect("a folder");
        write("a", b"one\ntwo\r\nthree\rfour");
        write("d/b", b"b");
        let link = |target: &Path, name: &str| symlink(target, self.path.join(name)).expect("a link");
        link(Path::new(".."), "up");
        link(Path::new("../secret"), "above");
        link(&self.outer.join("secret"), "absolute");
        link(&self.outer, "outer");
        link(Path::new("/"), "top");
        link(Path::new("d"), "folder");
        link(&self.outer.join("root"), "d/root");
    }

    /// Nothing around it was changed, nothing hidden is left in it; and makes it as it was.
    ///
    /// # Panics
    /// Where something was changed.
    pub fn judge(&self) {
        let mut around = BTreeMap::new();
        self.look(&self.outer, 0, &mut around);
        for (path, before) in &self.around {
            // What is in the home may be anything; the home itself is not for its user to change.
            let now = around.remove(path);
            let known =
                |found: &Identity| if *path == self.path { (found.0, found.1, found.2, 0, 0, 0) } else { *found };
            assert_eq!(now.as_ref().map(known), Some(known(before)), "an escape: {}", path.display());
        }
        assert!(around.is_empty(), "an escape: {around:?}");
        clear(&self.path);
        self.furnish();
    }
}

/// Removes what is in a folder, whatever its mode.
fn clear(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("it is ours");
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("it is read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        assert!(!name.starts_with(".plimsoll-"), "a temporary file is left: {name}");
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            clear(&path);
            fs::remove_dir(&path).expect("it is empty");
        } else {
            fs::remove_file(&path).expect("it is there");
        }
    }
}
