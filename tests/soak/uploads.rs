//! Clients that may write: those who store, fetch, rename and delete, and those who break off over a file that
//! is there; and what has to be in the home of them all when everybody is dead.

use crate::client::{Client, Trouble, reset};
use crate::dice::Dice;
use crate::site::{self, SMALL};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The file that everybody tries to overwrite, and nobody does.
const SHARED: &str = "shared.bin";

/// The user, and the password; crypt(3) of it with as few rounds as there can be.
const USER: &str = "w";
const HASH: &str = "$5$rounds=1000$saltsalt$ShZMulbPEX7OwdrorMnG3elrL5mIoS74Bn2j61xFuf9";

/// Makes the home beside the site, and the accounts file, whose path is returned.
pub fn make(outer: &Path) -> io::Result<PathBuf> {
    let home = outer.join("home");
    fs::create_dir(&home)?;
    fs::write(home.join(SHARED), site::small(SMALL))?;
    let accounts = outer.join("accounts");
    fs::write(&accounts, format!("{USER}:{HASH}:root={},write=all,max-sessions=1000\n", home.display()))?;
    fs::set_permissions(&accounts, Permissions::from_mode(0o600))?;
    Ok(accounts)
}

/// What is in the home that must not be there, if anything is: whatever was under way when everybody died, a
/// file is whole or it is not there.
pub fn fault(outer: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(outer.join("home"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = if name == SHARED { Some(SMALL) } else { name.split('-').nth(1).and_then(|n| n.parse().ok()) };
        match number {
            Some(number) if fs::read(entry.path())? == site::small(number) => {}
            Some(_) => return Ok(Some(format!("{name} is not whole"))),
            None => return Ok(Some(format!("{name} is there"))),
        }
    }
    Ok(None)
}

/// Logs in as one who may write, in image type.
pub fn log_in(client: &mut Client) -> Result<(), Trouble> {
    client.expect(&format!("USER {USER}"), 331)?;
    client.expect(&format!("PASS {USER}"), 230)?;
    client.expect("TYPE I", 200)
}

/// Stores a file, fetches it again, renames and deletes it. No two do so at the same time as the same `driver`.
///
/// The names are few: of each that there ever was the kernel keeps a note that it is gone (a negative dentry),
/// which counts as the server's memory until memory is short.
pub fn store(client: &mut Client, driver: usize, extended: bool) -> Result<(), Trouble> {
    let number = driver % SMALL;
    let name = format!("up-{number}-{driver}");
    let mut data = client.passive(extended, None)?;
    client.expect(&format!("STOR {name}"), 150)?;
    data.write_all(&site::small(number))?;
    drop(data);
    client.answer(226)?;
    if client.fetch(&format!("RETR {name}"), extended)? != site::small(number) {
        return Err(Trouble::Wrong("what was stored came back other than it was".into()));
    }
    client.expect(&format!("RNFR {name}"), 350)?;
    client.expect(&format!("RNTO {name}-moved"), 250)?;
    client.expect(&format!("DELE {name}"), 550)?;
    client.expect(&format!("DELE {name}-moved"), 250)
}

/// Breaks off in the middle of an upload over the file that is there.
pub fn break_off(mut client: Client, dice: &mut Dice) -> Result<(), Trouble> {
    let mut data = client.passive(dice.coin(), None)?;
    client.expect(&format!("STOR {SHARED}"), 150)?;
    data.write_all(&vec![b'x'; dice.below(200_000)])?;
    match dice.below(3) {
        0 => {
            reset(data);
            client.answer(426)?;
            client.expect("NOOP", 200)
        }
        1 => {
            client.send("ABOR")?;
            client.answer(426)?;
            client.answer(226)
        }
        _ => {
            reset(data);
            client.reset();
            Ok(())
        }
    }
}
