//! The site that is served, and what its files hold, so that a client can tell a whole file from a cut one.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Small files, `pub/small/0.bin` and on.
pub const SMALL: usize = 16;

/// Length of `pub/big.bin` in bytes: more than any buffer on the way holds. It is sparse.
pub const BIG: u64 = 64 << 20;

/// Names in `pub/crowd`: more than are sorted at once, and few enough to be remembered.
pub const CROWD: usize = 1200;

/// Names in `pub/hall`: more than fit the memory for listings, so that they are always read.
pub const HALL: usize = 1000;

/// A text of this many lines, `pub/text.txt`.
const TEXT_LINES: usize = 400;

/// Makes the site in this folder.
pub fn make(root: &Path) -> io::Result<()> {
    for folder in ["pub/small", "pub/many", "pub/crowd", "pub/hall"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for number in 0..SMALL {
        fs::write(root.join(format!("pub/small/{number}.bin")), small(number))?;
    }
    fs::write(root.join("pub/text.txt"), "a line of text\n".repeat(TEXT_LINES))?;
    File::create(root.join("pub/big.bin"))?.set_len(BIG)?;
    for number in 0..100 {
        File::create(root.join(format!("pub/many/file-{number:03}.txt")))?;
    }
    for number in 0..CROWD {
        File::create(root.join(format!("pub/crowd/one-of-many-files-with-long-names-{number:012}")))?;
    }
    // Each is much unlike the one before it, so that all of it takes memory.
    for number in 0..HALL {
        File::create(root.join(format!("pub/hall/{number:04}-{}", "long".repeat(50))))?;
    }
    Ok(())
}

/// What a small file holds: from half a KiB to 32 KiB.
pub fn small(number: usize) -> Vec<u8> {
    let length = 512 << (number % 7);
    (0..length).map(|at| (at * 31 + number * 7).to_le_bytes()[0]).collect()
}

/// Length of the text as it is sent in ASCII type.
pub fn text_length() -> usize {
    TEXT_LINES * "a line of text\r\n".len()
}
