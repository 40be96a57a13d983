//! Listings of large folders, which are told from memory as long as nothing has changed.

use crate::members::bobs;
use crate::server::{Client, Server, eventually, tree};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A folder with all that can be in one, and more of it than is read at a time.
fn fill(folder: &Path) {
    fs::create_dir_all(folder.join("a folder")).expect("a folder");
    for number in 0..3_000 {
        fs::write(folder.join(format!("file number {number:04}")), vec![b'x'; number]).expect("a file");
    }
    for number in 0..20 {
        fs::write(folder.join(format!(".hidden-{number}")), "").expect("a file");
    }
    symlink("file number 0007", folder.join("link")).expect("a link");
    symlink("nowhere", folder.join("broken link")).expect("a link");
    fs::hard_link(folder.join("file number 0008"), folder.join("second name")).expect("a link");
}

/// How many listings were told from memory.
fn told(server: &Server) -> usize {
    let before = server.log().matches("state: load line").count();
    server.signal("USR1");
    eventually("the state", || server.log().matches("state: load line").count() > before);
    let mut line = String::new();
    eventually("the line of listings", || {
        let log = server.log();
        let state = log.rfind("state: load line").map_or("", |at| &log[at..]);
        line = state.lines().find(|line| line.contains("listings: ")).unwrap_or_default().to_owned();
        !line.is_empty()
    });
    line.trim().split(' ').nth(1).and_then(|count| count.parse().ok()).expect("a number")
}

const FORMS: [&str; 9] = [
    "LIST /many",
    "LIST -a /many",
    "MLSD /many",
    "NLST /many",
    "NLST -a /many",
    "LIST /many/*7",
    "NLST /many/.h*",
    "LIST /many/a*",
    "NLST /many/no*thing",
];

fn sorted(listing: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = listing.split(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    lines
}

/// Both clients are told the same, in whatever order.
fn same(remembering: &mut Client, reading: &mut Client, what: &str) {
    for form in FORMS {
        let (told, read) = (remembering.fetch(form), reading.fetch(form));
        assert!(sorted(&told) == sorted(&read), "{form}, {what}");
    }
    assert_eq!(remembering.command("STAT /many").len(), reading.command("STAT /many").len(), "STAT, {what}");
}

#[test]
fn what_is_told_from_memory_is_what_is_there() {
    let (_folder, root) = tree();
    let many = root.join("many");
    fill(&many);
    let (server, plain) = (Server::start(&root, &[]), Server::start(&root, &["--listing-memory", "off"]));
    let (mut client, mut reading) = (server.login(), plain.login());
    for round in 0..3 {
        same(&mut client, &mut reading, &format!("round {round}"));
    }
    assert!(told(&server) > 20, "{}", told(&server));
    assert_eq!(told(&plain), 0);

    // What changes in a file with two names, in a folder, or behind a link is told by nobody.
    fs::write(many.join("second name"), "now it is longer").expect("a file");
    File::create(many.join("a folder/new")).expect("a file");
    same(&mut client, &mut reading, "after a change");
    // Nothing is remembered for longer than ten seconds: on a busy host it is tried again.
    let told_all = (0..5).any(|round| {
        let began = Instant::now();
        fs::write(many.join("second name"), format!("longer still {round}")).expect("a file");
        for _ in 0..2 {
            client.fetch("MLSD many");
        }
        let before = told(&server);
        File::create(many.join("a folder").join(format!("newer {round}"))).expect("a file");
        same(&mut client, &mut reading, "after one that is not heard of");
        let told = told(&server) - before;
        assert!(told == FORMS.len() + 1 || began.elapsed() > Duration::from_secs(8), "{told}");
        told == FORMS.len() + 1
    });
    assert!(told_all);

    fs::set_permissions(&many, fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut growing = File::options().append(true).open(many.join("file number 0100")).expect("a file");
    for _ in 0..3 {
        growing.write_all(b"more").expect("it is written");
        same(&mut client, &mut reading, "while a file grows");
    }
}

#[test]
fn what_comes_before_the_data_connection_is_listed_and_not_left_out_of_what_is_remembered() {
    let (_folder, root) = tree();
    what_comes_late_is_listed(&root);
}

/// Btrfs settles when a folder is opened what will be read from it.
#[test]
fn what_comes_before_the_data_connection_is_listed_on_btrfs_too() {
    let Some(btrfs) = Mounted::btrfs() else { return };
    what_comes_late_is_listed(&btrfs.at);
}

/// It may have the device and the inodes of the one before it, of whose end inotify(7) does not tell.
#[test]
fn a_subvolume_in_the_place_of_another_is_listed() {
    let Some(btrfs) = Mounted::btrfs() else { return };
    let (current, next) = (btrfs.at.join("current"), btrfs.at.join("next"));
    let subvolume = |arguments: &[&OsStr]| {
        let output = Command::new("btrfs").arg("subvolume").args(arguments).output().expect("btrfs runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    subvolume(&["create".as_ref(), current.as_ref()]);
    fill(&current);
    subvolume(&["snapshot".as_ref(), current.as_ref(), next.as_ref()]);
    fs::write(next.join("file number 0007"), "another length").expect("a file");
    let (server, plain) = (Server::start(&btrfs.at, &[]), Server::start(&btrfs.at, &["--listing-memory", "off"]));
    let (mut client, mut reading) = (server.login(), plain.login());
    for _ in 0..3 {
        client.fetch("MLSD /current");
    }
    assert_eq!(told(&server), 1);
    let device = || fs::metadata(&current).expect("it is there").dev();
    let before = device();
    subvolume(&["delete".as_ref(), current.as_ref()]);
    subvolume(&["snapshot".as_ref(), next.as_ref(), current.as_ref()]);
    if before != device() {
        eprintln!("skipped: another one has got the number of the device");
    }
    assert!(sorted(&client.fetch("MLSD /current")) == sorted(&reading.fetch("MLSD /current")));
}

/// A file system in a file.
struct Mounted {
    at: PathBuf,
    _folder: tempfile::TempDir,
}

impl Mounted {
    /// An empty Btrfs, or says why not.
    fn btrfs() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let (image, at) = (folder.path().join("image"), folder.path().join("mounted"));
        File::create(&image).and_then(|file| file.set_len(256 << 20)).expect("a file with a hole");
        fs::create_dir(&at).expect("a folder");
        let done = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let made = done(Command::new("mkfs.btrfs").arg("-q").arg(&image));
        if !made || !done(Command::new("mount").args(["-t", "btrfs", "-o", "loop"]).arg(&image).arg(&at)) {
            eprintln!("skipped: there is no mkfs.btrfs here, or its file system may not be mounted");
            return None;
        }
        Some(Self { at, _folder: folder })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

/// A folder is opened when the command comes, and read when there is a data connection.
fn what_comes_late_is_listed(root: &Path) {
    let many = root.join("many");
    fs::create_dir(&many).expect("a folder");
    for number in 0..200 {
        File::create(many.join(format!("file {number}"))).expect("a file");
    }
    let server = Server::start(root, &[]);
    let (mut slow, mut other) = (server.login(), server.login());
    let has = |listing: &[u8], name: &str| String::from_utf8_lossy(listing).contains(&format!(" {name}\r\n"));
    // From the second one on it is written down.
    other.fetch("MLSD /many");
    for name in ["late", "later"] {
        let port = idle_port(&mut slow);
        slow.send("MLSD /many");
        // Answered while the data connection is waited for: so the folder is open.
        slow.expect("NOOP", "200 ");
        File::create(many.join(name)).expect("a file");
        let mut listing = Vec::new();
        TcpStream::connect(port).expect("a data connection").read_to_end(&mut listing).expect("a listing");
        assert!(slow.reply().starts_with("150 ") && slow.reply().starts_with("226 "));
        assert!(has(&listing, name), "{name}: it was there before the folder was read");
        assert!(has(&other.fetch("MLSD /many"), name), "{name}: it was there before the command");
    }
}

/// A passive port to which nobody has connected yet.
fn idle_port(client: &mut Client) -> SocketAddr {
    let reply = client.expect("EPSV", "229 ");
    let port = reply.split('|').nth(3).and_then(|port| port.parse().ok()).expect("a port");
    SocketAddr::new(client.stream.peer_addr().expect("connected").ip(), port)
}

#[test]
fn what_one_session_changes_another_sees_at_once() {
    let (folder, root) = tree();
    fill(&root.join("many"));
    let server = bobs(folder.path(), &root, &["--durable", "off"]);
    let plain = Server::start(&root, &["--listing-memory", "off"]);
    let (mut bob, mut client, mut reading) = (server.login_as("bob"), server.login(), plain.login());
    for _ in 0..2 {
        client.fetch("MLSD /many");
    }
    let mut changed = |bob: &mut Client, what: &str| {
        bob.expect("NOOP", "200 ");
        assert!(sorted(&client.fetch("MLSD /many")) == sorted(&reading.fetch("MLSD /many")), "{what}");
        client.fetch("MLSD /many");
        let before = told(&server);
        client.fetch("MLSD /many");
        assert_eq!(told(&server), before + 1, "after {what} it is told from memory again");
    };
    bob.store("STOR /many/new", b"content");
    changed(&mut bob, "STOR");
    bob.store("STOR /many/new", b"other content");
    changed(&mut bob, "STOR over a file");
    bob.store("APPE /many/new", b" and more");
    changed(&mut bob, "APPE");
    bob.expect("REST 3", "350 ");
    bob.store("STOR /many/new", b"cut");
    changed(&mut bob, "REST and STOR");
    let commands = [
        ("MFMT 20010203040506 /many/new", "213 "),
        ("SITE CHMOD 600 /many/new", "200 "),
        ("RNFR /many/new", "350 "),
        ("RNTO /many/newer", "250 "),
        ("DELE /many/newer", "250 "),
        ("MKD /many/made", "257 "),
        ("RMD /many/made", "250 "),
    ];
    for (command, reply) in commands {
        bob.expect(command, reply);
        if reply != "350 " {
            changed(&mut bob, command);
        }
    }
}
