//! Real clients that upload to the real server: each stores, resumes, renames and deletes, and what is on
//! the server afterwards is compared byte for byte with what the client had.
//!
//! A client that is not installed is skipped, as in [`crate::clients`].

use crate::clients::{COMMON_WAYS, Epsv, Epsv6, Pasv, Port};
use crate::clients::{
    Grove, LFTP_WAYS, NCFTP_WAYS, Node, Run, SUPPAFTP_WAYS, TEXT, Tool, WAYS, Way, assert_same, count, curl, curl_way,
    ftplib, large, lftp_as, ncftp, part, snapshot, suppaftp_as, wget, within_patience,
};
use crate::members::{PASSWORD, accounts, names, serve};
use crate::server::{Server, big, eventually};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use suppaftp::FtpError;
use suppaftp::types::{FileType, FormatControl};
use tempfile::TempDir;

// --- What is uploaded, and where to -------------------------------------------------------------

/// What lftp is told to log in as bob, who may change everything.
const BOB: &str = "-u bob,secret";

/// What curl is told.
const CURL_BOB: [&str; 2] = ["-u", "bob:secret"];

/// An empty folder on a server where `bob` may change everything, `adder` may only add, `small` has room for
/// 1 MiB in a folder of its own, and `one` may have one session.
struct Depot {
    folder: TempDir,
    root: PathBuf,
    server: Server,
}

impl Depot {
    fn new(flags: &[&str]) -> Depot {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [root, room] = ["root", "room"].map(|name| folder.path().join(name));
        fs::create_dir(&root).expect("a folder");
        fs::create_dir(&room).expect("a folder");
        let small = format!("root={},write=all,quota=1M", room.display());
        let users = [("bob", "write=all"), ("adder", "write=add"), ("small", &small), ("one", "max-sessions=1")];
        let server = serve(&root, &accounts(folder.path(), &users), flags);
        Depot { folder, root, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("a file");
    }

    /// The log must tell that the upload of `/big.bin` has begun where [`part`] ended.
    fn was_resumed(&self) {
        self.server.wait_for_log(&format!("/big.bin received, {} bytes", big().len() - part().len()));
        assert!(self.read("big.bin") == big(), "the resumed file differs");
    }
}

/// Runs `case` once for each way that this host has, each with a server of its own, on which nothing hidden
/// may be left.
fn each_way(ways: &[Way], mut case: impl FnMut(Way, &Depot)) {
    for way in ways.iter().copied().filter(|way| way.is_here()) {
        let depot = Depot::new(&[]);
        case(way, &depot);
        way.was_taken(&depot.server);
        let hidden = |name: &&Vec<u8>| name.windows(10).any(|part| part == b".plimsoll-");
        let tree = snapshot(&depot.root);
        assert_eq!(tree.keys().find(hidden), None, "{way:?}: an upload has left something");
    }
}

/// Files and folders of every kind of name, but for control characters, in a folder of a client.
fn odd() -> Grove {
    let grove = Grove::new();
    grove.file("a.txt", TEXT);
    grove.file("big.bin", big());
    grove.file("empty.bin", b"");
    grove.file("with space/ünï 日本 🚢.txt", b"unicode\n");
    grove.file(b"bad\xe9/n\xfe\x80.txt", b"not UTF-8\n");
    grove.file(b"iac\xff/\xff.bin\xff", b"\xff\xf2 is no Telnet here");
    grove.file("\"quoted\" 'both'/it's \"it\".txt", b"quotes\n");
    grove.file("-rf", b"a dash\n");
    grove.file("--help/-- 1", b"dashes\n");
    grove.file(" leading/ x", b"spaces\n");
    grove.file("trailing /x ", b"spaces\n");
    grove.file("back\\slash/`b` $x #h %20 ;s &a |p <l> *g? [b] {c} ~", b"signs\n");
    grove.file(".profile", b"hidden\n");
    grove.file(".hidden/.deep/.x", b"hidden\n");
    grove.file("a -> b", b"no link\n");
    grove.file([b'm'; 255], b"the longest name");
    grove.folder("empty");
    grove.folder("nested/empty/folders");
    let mut age = 1_000_000_000;
    for path in files(&grove.root) {
        age += 86_399;
        set_time(&path, age);
    }
    grove
}

/// The files of a tree.
fn files(root: &Path) -> Vec<PathBuf> {
    let tree = snapshot(root);
    let is_file = |node: &Node| matches!(node, Node::File(_));
    let path = |name: &[u8]| root.join(OsStr::from_bytes(name));
    tree.iter().filter(|(_, node)| is_file(node)).map(|(name, _)| path(name)).collect()
}

fn set_time(path: &Path, seconds: u64) {
    let file = File::options().append(true).open(path).expect("a file");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).expect("a time");
}

/// Fails unless each file of `source` has the time of its copy, to the second.
fn assert_same_times(source: &Path, copy: &Path) {
    for path in files(source) {
        let name = path.strip_prefix(source).expect("below it");
        let time = |path: &Path| path.metadata().expect("a file").mtime();
        assert_eq!(time(&copy.join(name)), time(&path), "{}", name.display());
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o7777
}

// --- lftp ---------------------------------------------------------------------------------------

fn lftp(tool: &Tool, way: Way, depot: &Depot, commands: &str) -> Run {
    lftp_as(tool, way, &depot.server, BOB, commands)
}

#[test]
fn lftp_mirrors_a_tree_of_odd_names_up_with_times_every_way() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = odd();
    // lftp doubles what Telnet could take for a command.
    grove.file(b"\xff\xff \xff\xf2", b"Telnet\n");
    fs::set_permissions(grove.path("-rf"), PermissionsExt::from_mode(0o750)).expect("it is ours");
    each_way(&LFTP_WAYS, |way, depot| {
        lftp(&tool, way, depot, &format!("mirror -R {} /up", grove.root.display())).ok();
        assert_same(&snapshot(&grove.root), &depot.path("up"));
        assert_same_times(&grove.root, &depot.path("up"));
        assert_eq!(mode(&depot.path("up/-rf")), 0o750);
        assert!(count(&depot.server, "MFMT") > 10);
        // And down again, as it went up.
        let copy = format!("{way:?}");
        lftp(&tool, way, depot, &format!("mirror /up {copy}")).ok();
        assert_same(&snapshot(&grove.root), &tool.path(&copy));
        assert_same_times(&grove.root, &tool.path(&copy));
    });
}

#[test]
fn lftp_mirrors_up_again_only_what_is_new_and_deletes_what_is_gone() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = odd();
    let depot = Depot::new(&[]);
    let mirror = |more: &str| lftp(&tool, Pasv, &depot, &format!("mirror -R {more} {} /up", grove.root.display())).ok();
    mirror("");
    eventually("the session to end", || count(&depot.server, "QUIT") == 1);
    let before = count(&depot.server, "STOR");
    grove.file("new.txt", b"new\n");
    grove.file("a.txt", b"longer than it was before, and newer\n");
    mirror("");
    eventually("the session to end", || count(&depot.server, "QUIT") == 2);
    assert_eq!(count(&depot.server, "STOR") - before, 2, "{}", depot.server.log());
    fs::remove_file(grove.path("-rf")).expect("a file");
    fs::remove_dir_all(grove.path("back\\slash")).expect("a folder");
    fs::remove_dir_all(grove.path(".hidden")).expect("a folder");
    fs::remove_dir_all(grove.path("nested")).expect("a folder");
    mirror("--delete");
    assert_same(&snapshot(&grove.root), &depot.path("up"));
}

#[test]
fn lftp_mirrors_two_thousand_files_up_over_four_connections() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = large();
    let mut expected = snapshot(&grove.root);
    expected.retain(|name, node| {
        let is_link = matches!(node, Node::Link(_));
        if is_link {
            fs::remove_file(grove.path(name)).expect("a link");
        }
        !is_link
    });
    assert!(expected.len() > 2000);
    let depot = Depot::new(&["--durable", "off"]);
    lftp(&tool, Epsv, &depot, &format!("mirror -R --parallel=4 {} /up", grove.root.display())).ok();
    assert_same(&expected, &depot.path("up"));
    assert!(depot.server.log().matches("bob logged in").count() >= 4);
}

#[test]
fn lftp_resumes_an_upload_every_way() {
    let Some(tool) = Tool::find("lftp") else { return };
    tool.write("big.bin", &big());
    each_way(&LFTP_WAYS, |way, depot| {
        depot.write("big.bin", &part());
        lftp(&tool, way, depot, "put -c big.bin").ok();
        depot.was_resumed();
        // What is whole is not sent again, and what is not there yet is sent whole.
        lftp(&tool, way, depot, "put -c big.bin; put -c big.bin -o new.bin").ok();
        assert!(depot.read("big.bin") == big() && depot.read("new.bin") == big());
        assert_eq!(depot.server.log().matches("/big.bin received, ").count(), 1, "{}", depot.server.log());
    });
}

#[test]
fn lftp_resumes_the_part_that_a_broken_upload_has_left() {
    let Some(tool) = Tool::find("lftp") else { return };
    let depot = Depot::new(&["--keep-partial"]);
    let mut bob = depot.server.login_as("bob");
    let mut data = bob.begin_upload("STOR big.bin");
    data.write_all(&part()).expect("the server reads");
    let stat = format!("213 Status: {} bytes", part().len());
    eventually("the bytes to arrive", || bob.command("STAT").starts_with(&stat));
    crate::members::reset(data);
    assert!(bob.reply().starts_with("426 "));
    tool.write("big.bin", &big());
    lftp(&tool, Pasv, &depot, "put -c big.bin").ok();
    depot.was_resumed();
}

#[test]
fn lftp_changes_a_tree_in_every_way_that_it_knows() {
    let Some(tool) = Tool::find("lftp") else { return };
    each_way(&[Pasv, Port, Epsv6], |way, depot| {
        let lftp = |commands: &str| lftp(&tool, way, depot, commands);
        for name in ["one.txt", "two.txt", "three.bin", "moved.bin"] {
            tool.write(name, name.as_bytes());
        }
        tool.write("text", b"one\ntwo\n\nthree\n");
        lftp("mkdir -p a/b/c \"a/with space\"; mput -O a/b *.txt; mput -d -O / *.bin").ok();
        assert_eq!(names(&depot.path("a/b")), ["c", "one.txt", "two.txt"]);
        assert_eq!(depot.read("a/b/two.txt"), b"two.txt");
        lftp("mv a/b/one.txt 'a/with space/1 é.txt'; mv a/b/c moved; mv three.bin moved.bin").ok();
        assert_eq!(depot.read("a/with space/1 é.txt"), b"one.txt");
        assert_eq!(depot.read("moved.bin"), b"three.bin");
        assert!(depot.path("moved").is_dir() && !depot.path("a/b/c").exists());
        lftp("chmod 640 moved.bin; chmod -R 700 a").ok();
        assert_eq!((mode(&depot.path("moved.bin")), mode(&depot.path("a/b/two.txt"))), (0o640, 0o700));
        lftp("put -a text -o ascii; put -E text -o image").ok();
        assert_eq!((depot.read("ascii"), depot.read("image")), (b"one\ntwo\n\nthree\n".into(), depot.read("ascii")));
        assert!(!tool.path("text").exists());
        lftp("put -O . one.txt; rm one.txt; mrm mov*.bin; rm -r a; rmdir moved; rm -f missing").ok();
        assert_eq!(names(&depot.root), ["ascii", "image"]);
        let refused = lftp("rm missing").ends(1);
        assert!(refused.err.contains("No such file"), "{}", refused.err);
        let refused = lftp("mkdir ascii").ends(1);
        assert!(refused.err.contains("550"), "{}", refused.err);
    });
}

#[test]
fn lftp_is_told_at_once_that_the_quota_is_used_up() {
    let Some(tool) = Tool::find("lftp") else { return };
    let depot = Depot::new(&[]);
    tool.write("large.bin", &big().repeat(8));
    tool.write("fits.bin", &big()[..1_000_000]);
    let small = |commands: &str| lftp_as(&tool, Pasv, &depot.server, "-u small,secret", commands);
    let refused = small("put large.bin").ends(1);
    assert!(refused.err.contains("552") && refused.err.contains("quota"), "{}", refused.err);
    assert_eq!(count(&depot.server, "STOR"), 1, "it has tried again: {}", depot.server.log());
    small("put fits.bin").ok();
    assert_eq!(names(&depot.folder.path().join("room")), ["fits.bin"]);
}

#[test]
fn lftp_waits_for_a_place_below_the_cap_of_its_user() {
    let Some(tool) = Tool::find("lftp") else { return };
    let depot = Depot::new(&[]);
    let mut first = depot.server.login_as("one");
    let waiting = std::thread::scope(|scope| {
        let run = scope.spawn(|| lftp_as(&tool, Pasv, &depot.server, "-u one,secret", "set net:max-retries 9; ls"));
        depot.server.wait_for_log("login refused for one: maximum number of sessions");
        first.expect("QUIT", "221 ");
        run.join().expect("it ends")
    });
    waiting.ok();
}

// --- curl ---------------------------------------------------------------------------------------

#[test]
fn curl_uploads_resumes_and_appends_every_way() {
    let Some(tool) = Tool::find("curl") else { return };
    tool.write("a.txt", TEXT);
    tool.write("big.bin", &big());
    tool.write("empty.bin", b"");
    each_way(&WAYS, |way, depot| {
        let url = way.url(&depot.server);
        let curl = |arguments: &[&str], path: &str| {
            let url = format!("{url}/{path}");
            curl(&tool, &[curl_way(way), &CURL_BOB, arguments, &[&url]].concat())
        };
        curl(&["-T", "a.txt"], "").ok();
        curl(&["-T", "empty.bin"], "%C3%BCn%C3%AF%20%E6%97%A5%E6%9C%AC%20%27%22.bin").ok();
        assert_eq!((depot.read("a.txt"), depot.read("ünï 日本 '\".bin")), (TEXT.into(), Vec::new()));
        depot.write("big.bin", &part());
        curl(&["-C", "-", "-T", "big.bin"], "big.bin").ok();
        depot.was_resumed();
        // From the very start where nothing is there yet, and at an offset that is given.
        curl(&["-C", "-", "-T", "big.bin"], "whole.bin").ok();
        assert!(depot.read("whole.bin") == big());
        curl(&["-a", "-T", "a.txt"], "a.txt").ok();
        curl(&["-a", "-T", "a.txt"], "appended.txt").ok();
        assert_eq!((depot.read("a.txt"), depot.read("appended.txt")), (TEXT.repeat(2), TEXT.into()));
        assert!(curl(&[], "big.bin").ok() == big(), "and down again");
    });
}

#[test]
fn curl_makes_folders_on_its_way_by_every_method() {
    let Some(tool) = Tool::find("curl") else { return };
    tool.write("a.txt", TEXT);
    for method in ["multicwd", "singlecwd"] {
        let depot = Depot::new(&[]);
        let url = format!("{}new/with%20space/deep/a.txt", depot.server.url());
        let arguments = ["--ftp-method", method, "-T", "a.txt", &url];
        curl(&tool, &[&CURL_BOB, arguments.as_slice()].concat()).ends(9);
        assert_eq!(names(&depot.root), [""; 0], "{method}");
        let create = [&CURL_BOB, ["--ftp-create-dirs"].as_slice(), &arguments].concat();
        // curl makes folders one at a time only.
        if method == "multicwd" {
            curl(&tool, &create).ok();
            assert_eq!(depot.read("new/with space/deep/a.txt"), TEXT);
            curl(&tool, &create).ok();
        }
    }
}

#[test]
fn curl_changes_the_tree_by_quoted_commands() {
    let Some(tool) = Tool::find("curl") else { return };
    let depot = Depot::new(&[]);
    let url = depot.server.url();
    for name in ["one", "two", "three"] {
        tool.write(name, name.as_bytes());
    }
    let curl = |arguments: &[&str]| curl(&tool, &[&CURL_BOB, arguments].concat());
    let three = ["-T", "one", &url, "-T", "two", &url, "-T", "three", &url];
    curl(&three).ok();
    assert_eq!(names(&depot.root), ["one", "three", "two"]);
    let change =
        ["-Q", "MKD made", "-Q", "RNFR one", "-Q", "RNTO made/1", "-Q", "DELE two", "-Q", "SITE CHMOD 600 three"];
    curl(&[change.as_slice(), &["-l", &url]].concat()).ok();
    assert_eq!(
        (names(&depot.root), names(&depot.path("made"))),
        (vec!["made".into(), "three".into()], vec!["1".into()])
    );
    assert_eq!(mode(&depot.path("three")), 0o600);
    // Only once the upload is there: as those do who want nobody to see half a file.
    let file = format!("{url}made/up.tmp");
    curl(&["-T", "two", "-Q", "-RNFR up.tmp", "-Q", "-RNTO up", &file]).ok();
    assert_eq!((names(&depot.path("made")), depot.read("made/up")), (vec!["1".into(), "up".into()], b"two".into()));
    curl(&["-Q", "RMD made", &url]).ends(21);
    curl(&["-Q", "DELE made/1", "-Q", "DELE made/up", "-Q", "RMD made", &url]).ok();
    assert_eq!(names(&depot.root), ["three"]);
}

#[test]
fn curl_uploads_text_and_what_it_reads_from_a_pipe() {
    let Some(tool) = Tool::find("curl") else { return };
    let depot = Depot::new(&[]);
    let file = |name: &str| format!("{}{name}", depot.server.url());
    tool.write("text", b"one\ntwo\n\nthree");
    for (more, name) in [(&["-B"][..], "b"), (&["-B", "--crlf"], "crlf"), (&[], "type;type=a")] {
        curl(&tool, &[&CURL_BOB, more, &["-T", "text", &file(name)]].concat()).ok();
    }
    for name in ["b", "crlf", "type"] {
        assert_eq!(depot.read(name), b"one\ntwo\n\nthree", "{name}");
    }
    assert_eq!(depot.server.log().matches(": TYPE A").count(), 3);
    let text = String::from_utf8(TEXT.into()).expect("text");
    let arguments = ["-q", "-sS", "--noproxy", "*", "-u", "bob:secret", "-T", "-", &file("piped")];
    tool.run_with(&arguments, &text).ok();
    assert_eq!(depot.read("piped"), TEXT);
}

/// There was no room for all of it. Where curl has sent all before it hears of that it sees 552; else it sees
/// that the data connection was reset, and does not ask further.
fn refused_midway(run: Run) {
    match run.code {
        Some(70) => assert!(run.err.contains("< 552 "), "{}", run.err),
        Some(55) => assert!(run.err.contains("reset by peer"), "{}", run.err),
        other => panic!("{}: {other:?}\n{}", run.what, run.err),
    }
}

#[test]
fn curl_tells_why_an_upload_was_refused() {
    let Some(tool) = Tool::find("curl") else { return };
    let depot = Depot::new(&[]);
    depot.write("old", b"old");
    tool.write("new", b"new");
    tool.write("big.bin", &big());
    let put = |user: &str, more: &[&str], path: &str| {
        let (user, url) = (format!("{user}:secret"), format!("{}{path}", depot.server.url()));
        curl(&tool, &[&["-v", "-u", &user], more, &[&url]].concat())
    };
    // Whoever may only add gets no second file of a name.
    for more in [&["-T", "new"][..], &["-a", "-T", "new"], &["-C", "1", "-T", "new"]] {
        let refused = put("adder", more, "old").ends(25);
        assert!(refused.err.contains("< 550 "), "{}", refused.err);
    }
    put("adder", &["-T", "new"], "new").ok();
    put("adder", &["-T", "new"], "new").ends(25);
    put("adder", &["-Q", "DELE new"], "").ends(21);
    assert_eq!((depot.read("old"), depot.read("new")), (b"old".into(), b"new".into()));
    refused_midway(put("small", &["-T", "big.bin"], "big.bin"));
    put("small", &["-T", "new"], "missing/new").ends(9);
    put("small", &["-T", "new"], "new").ok();
    assert_eq!(names(&depot.folder.path().join("room")), ["new"]);
    // Not in place of a folder, and not with a wrong password.
    fs::create_dir(depot.path("folder")).expect("a folder");
    put("bob", &["-T", "new"], "folder").ends(25);
    curl(&tool, &["-u", "bob:wrong", "-T", "new", &depot.server.url()]).ends(67);
    let one = depot.server.login_as("one");
    let full = put("one", &[], "").ends(67);
    assert!(full.err.contains("< 530 ") && full.err.contains("maximum number"), "{}", full.err);
    drop(one);
}

// --- ncftp --------------------------------------------------------------------------------------

fn ncftpput(tool: &Tool, way: Way, depot: &Depot, arguments: &[&str]) -> Run {
    ncftp(tool, way, &depot.server, &[&["-V", "-t", "20", "-r", "1", "-u", "bob", "-p", PASSWORD], arguments].concat())
}

#[test]
fn ncftpput_uploads_resumes_and_appends_every_way() {
    let Some(tool) = Tool::find("ncftpput") else { return };
    for (name, bytes) in [("a.txt", TEXT), ("empty.bin", b""), ("lines.txt", b"one\n\ntwo\n"), ("ünï 日本 '1'", b"u")]
    {
        tool.write(name, bytes);
    }
    tool.write("big.bin", &big());
    each_way(&NCFTP_WAYS, |way, depot| {
        let put = |arguments: &[&str]| ncftpput(&tool, way, depot, arguments);
        let host = way.host();
        put(&[host, "/", "a.txt", "empty.bin", "ünï 日本 '1'"]).ok();
        assert_eq!((depot.read("a.txt"), depot.read("empty.bin")), (TEXT.into(), Vec::new()));
        assert_eq!(depot.read("ünï 日本 '1'"), b"u");
        put(&["-m", host, "/made/for this", "a.txt"]).ok();
        assert_eq!(depot.read("made/for this/a.txt"), TEXT);
        put(&["-A", host, "/", "a.txt"]).ok();
        assert_eq!(depot.read("a.txt"), TEXT.repeat(2));
        put(&["-a", host, "/", "lines.txt"]).ok();
        assert_eq!(depot.read("lines.txt"), b"one\n\ntwo\n");
        depot.server.wait_for_log("/lines.txt received, 12 bytes");
        put(&["-C", host, "a.txt", "/other name.txt"]).ok();
        assert_eq!(depot.read("other name.txt"), TEXT);
        put(&["-T", "part.", "-U", "077", host, "/made", "a.txt"]).ok();
        assert_eq!(
            (names(&depot.path("made")), mode(&depot.path("made/a.txt"))),
            (vec!["a.txt".into(), "for this".into()], 0o600)
        );
        depot.write("big.bin", &part());
        // With sendfile ncftp 3.2.6 sends all of the file, whatever it has told by REST.
        put(&["-s", "-z", host, "/", "big.bin"]).ok();
        depot.was_resumed();
        let missing = put(&[host, "/missing", "a.txt"]);
        assert_ne!(missing.code, Some(0), "{}", missing.what);
    });
}

#[test]
fn ncftpput_uploads_a_tree_every_way() {
    let Some(tool) = Tool::find("ncftpput") else { return };
    let grove = odd();
    // A name that the command line of ncftp's own buffers can't hold.
    fs::remove_file(grove.path([b'm'; 255])).expect("a file");
    each_way(&NCFTP_WAYS, |way, depot| {
        let root = grove.root.to_str().expect("UTF-8");
        ncftpput(&tool, way, depot, &["-R", way.host(), "/", root]).ok();
        assert_same(&snapshot(&grove.root), &depot.path("root"));
    });
}

// --- tnftp --------------------------------------------------------------------------------------

#[test]
fn tnftp_uploads_and_changes_the_tree_every_way() {
    let Some(tool) = Tool::find("tnftp") else { return };
    tool.write("a.txt", TEXT);
    tool.write("lines.txt", b"one\n\ntwo\n");
    tool.write("b 1.bin", b"b1");
    tool.write("b 2.bin", b"b2");
    tool.write("rest.bin", &big()[part().len()..]);
    tool.write("big.bin", &big());
    each_way(&WAYS, |way, depot| {
        let port = depot.server.port().to_string();
        let family = if way.is_v6() { "-6" } else { "-4" };
        let mode_flag = if way.is_active() { "-A" } else { "-p" };
        let plain = if matches!(way, Pasv | Port) { "epsv4\n" } else { "" };
        depot.write("big.bin", &part());
        let script = format!(
            "{plain}user bob {PASSWORD}\nbinary\nput a.txt\nput a.txt \"with space.txt\"\nappend a.txt a.txt\nmkdir made\n\
             cd made\nmput b?[12].bin\nrename \"b 1.bin\" \"b one.bin\"\ndelete \"b 2.bin\"\nchmod 600 \"b one.bin\"\ncdup\n\
             ascii\nput lines.txt\nbinary\nappend rest.bin big.bin\n\
             sunique\nput a.txt\nsunique\numask 077\nput a.txt private\nmkdir gone\nrmdir gone\nrmdir made\nquit\n"
        );
        let run = tool.run_with(&["-i", "-n", family, mode_flag, way.host(), &port], &script);
        let said = String::from_utf8_lossy(&run.ends(0).out).into_owned();
        assert_eq!(depot.read("a.txt"), TEXT.repeat(2), "{said}");
        assert_eq!(depot.read("with space.txt"), TEXT);
        assert_eq!(names(&depot.path("made")), ["b one.bin"], "{said}");
        assert_eq!((depot.read("made/b one.bin"), mode(&depot.path("made/b one.bin"))), (b"b1".into(), 0o600));
        assert_eq!(depot.read("lines.txt"), b"one\n\ntwo\n");
        depot.server.wait_for_log("/lines.txt received, 12 bytes");
        depot.was_resumed();
        assert_eq!(mode(&depot.path("private")), 0o600, "{said}");
        assert_eq!(count(&depot.server, "STOU"), 1);
        let unique = names(&depot.root).into_iter().filter(|name| name.starts_with("a.txt") && name != "a.txt");
        let unique: Vec<String> = unique.collect();
        assert_eq!(unique.len(), 1, "{said}");
        assert_eq!(depot.read(&unique[0]), TEXT);
        assert!(!depot.path("gone").exists());
    });
}

#[test]
fn tnftp_uploads_to_a_url() {
    let Some(tool) = Tool::find("tnftp") else { return };
    tool.write("a.txt", TEXT);
    tool.write("b.txt", b"b");
    each_way(&[Epsv, Epsv6], |way, depot| {
        let url = way.url(&depot.server).replace("//", "//bob:secret@");
        tool.run(&["-V", "-u", &format!("{url}/"), "a.txt", "b.txt"]).ok();
        tool.run(&["-V", "-u", &format!("{url}/other"), "a.txt"]).ok();
        assert_eq!(
            (depot.read("a.txt"), depot.read("b.txt"), depot.read("other")),
            (TEXT.into(), b"b".into(), TEXT.into())
        );
        let missing = tool.run(&["-V", "-u", &format!("{url}/missing/"), "a.txt"]);
        assert_ne!(missing.code, Some(0), "{}", missing.what);
    });
}

// --- wget, which can't upload --------------------------------------------------------------------

#[test]
fn wget_logs_in_with_a_password() {
    let Some(tool) = Tool::find("wget") else { return };
    each_way(&COMMON_WAYS, |way, depot| {
        depot.write("up.bin", &big());
        let url = format!("{}/up.bin", way.url(&depot.server));
        let got = wget(&tool, way, &["--user", "bob", "--password", PASSWORD, "-O", "-", &url]).ok();
        assert!(got == big(), "{way:?}: it differs");
        let wrong = wget(&tool, way, &["--user", "bob", "--password", "wrong", "-O", "-", &url]);
        assert_eq!(wrong.ends(6).out, b"");
    });
}

// --- Python's ftplib ----------------------------------------------------------------------------

/// Arguments: host, port, "passive" or "active".
const FTPLIB: &str = r#"
import ftplib, io, sys
host, port, mode = sys.argv[1:]
ftp = ftplib.FTP(timeout=60)
ftp.connect(host, int(port))
assert ftp.login("bob", "secret").startswith("230")
ftp.set_pasv(mode == "passive")

data = bytes(range(256)) * 8192

def stored(name):
    parts = []
    ftp.retrbinary("RETR " + name, parts.append)
    return b"".join(parts)

def denied(work, code):
    try:
        work()
    except ftplib.Error as error:
        assert str(error).startswith(code), error
    else:
        raise AssertionError("it should have failed")

assert ftp.storbinary("STOR bin", io.BytesIO(data)).startswith("226")
assert stored("bin") == data and ftp.size("bin") == len(data)
assert ftp.storbinary("STOR bin", io.BytesIO(data[-10:]), rest=len(data) - 10).startswith("226")
assert stored("bin") == data
assert ftp.storbinary("STOR bin", io.BytesIO(b"cut"), rest=3).startswith("226")
assert stored("bin") == data[:3] + b"cut"
assert ftp.storbinary("APPE bin", io.BytesIO(b"!")).startswith("226")
assert stored("bin") == data[:3] + b"cut!"
denied(lambda: ftp.storbinary("STOR bin", io.BytesIO(b"x"), rest=8), "554")
# What is refused has used the marker up.
assert ftp.storbinary("STOR bin", io.BytesIO(b"whole")).startswith("226")
assert stored("bin") == b"whole"
assert ftp.storlines("STOR text", io.BytesIO(b"one\r\ntwo\nthree")).startswith("226")
assert stored("text") == b"one\ntwo\nthree\n"
assert ftp.storbinary("STOR empty", io.BytesIO(b"")).startswith("226")
assert stored("empty") == b""

assert ftp.mkd('a "b" \u00fc') == '/a "b" \u00fc'
ftp.cwd('a "b" \u00fc')
assert ftp.pwd() == '/a "b" \u00fc'
assert ftp.storbinary("STOR in", io.BytesIO(b"in")).startswith("226")
assert ftp.rename("in", "/out").startswith("250")
ftp.cwd("..")
assert stored("out") == b"in"
assert ftp.rmd('a "b" \u00fc').startswith("250")
assert ftp.delete("out").startswith("250")
denied(lambda: ftp.delete("out"), "550")
denied(lambda: ftp.rmd("missing"), "550")
denied(lambda: ftp.rename("missing", "x"), "550")
denied(lambda: ftp.mkd("bin"), "550")
denied(lambda: ftp.storbinary("STOR missing/x", io.BytesIO(b"x")), "550")
reply = ftp.storbinary("STOU bin", io.BytesIO(b"unique"))
name = reply.rsplit("FILE: ", 1)[1]
assert reply.startswith("226") and name != "bin", reply
assert stored(name) == b"unique" and stored("bin") == b"whole"
assert ftp.sendcmd("MFMT 20200102030405 bin").startswith("213")
assert ftp.sendcmd("MDTM bin") == "213 20200102030405"
assert sorted(ftp.nlst()) == sorted(["bin", "text", "empty", name]), ftp.nlst()
assert ftp.quit().startswith("221")
"#;

/// Arguments: host, port, "passive" or "active".
const FTPLIB_ABORT: &str = r#"
import ftplib, io, sys
host, port, mode = sys.argv[1:]
ftp = ftplib.FTP(timeout=60)
ftp.connect(host, int(port))
ftp.login("bob", "secret")
ftp.set_pasv(mode == "passive")
ftp.voidcmd("TYPE I")
ftp.storbinary("STOR old", io.BytesIO(b"old"))
for name in ("old", "new"):
    data = ftp.transfercmd("STOR " + name)
    data.sendall(b"x" * 100000)
    reply = ftp.abort()  # Sends all of ABOR as urgent data.
    assert reply.startswith("426"), reply
    assert ftp.voidresp().startswith("226")
    data.close()
    assert ftp.voidcmd("NOOP").startswith("200")
assert ftp.nlst() == ["old"], ftp.nlst()
parts = []
ftp.retrbinary("RETR old", parts.append)
assert b"".join(parts) == b"old", parts
assert ftp.storbinary("STOR new", io.BytesIO(b"new")).startswith("226")
assert ftp.quit().startswith("221")
"#;

#[test]
fn ftplib_uploads_resumes_and_changes_the_tree_every_way() {
    let Some(tool) = Tool::find("python3") else { return };
    each_way(&COMMON_WAYS, |way, depot| {
        ftplib(&tool, way, &depot.server, FTPLIB, &[]).ok();
    });
}

#[test]
fn ftplib_aborts_uploads_with_urgent_data_and_goes_on() {
    let Some(tool) = Tool::find("python3") else { return };
    each_way(&COMMON_WAYS, |way, depot| {
        ftplib(&tool, way, &depot.server, FTPLIB_ABORT, &[]).ok();
        assert_eq!((depot.read("old"), depot.read("new")), (b"old".into(), b"new".into()));
    });
}

// --- suppaftp -----------------------------------------------------------------------------------

fn assert_code<T: std::fmt::Debug>(outcome: Result<T, FtpError>, code: u32) {
    match outcome {
        Err(FtpError::UnexpectedResponse(response)) => assert_eq!(response.status.code(), code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn suppaftp_uploads_resumes_and_changes_the_tree_every_way() {
    each_way(&SUPPAFTP_WAYS, |way, depot| {
        let mut ftp = suppaftp_as(way, &depot.server, "bob", PASSWORD);
        depot.write("big.bin", &part());
        within_patience(move || {
            ftp.resume_transfer(part().len()).expect("it is only noted");
            let rest = big()[part().len()..].to_vec();
            assert_eq!(ftp.put_file("big.bin", &mut rest.as_slice()).expect("STOR"), rest.len() as u64);
            ftp.put_file("new.bin", &mut b"new".as_slice()).expect("STOR");
            ftp.append_file("new.bin", &mut b"er".as_slice()).expect("APPE");
            ftp.append_file("fresh.bin", &mut b"fresh".as_slice()).expect("APPE");
            ftp.put_file("empty.bin", &mut b"".as_slice()).expect("STOR");
            ftp.mkdir("ünï 1").expect("MKD");
            assert_code(ftp.mkdir("ünï 1"), 550);
            ftp.cwd("ünï 1").expect("CWD");
            assert_eq!(ftp.pwd().expect("PWD"), "/ünï 1");
            ftp.put_file("x", &mut b"x".as_slice()).expect("STOR");
            ftp.rename("x", "../y").expect("RNFR, RNTO");
            ftp.cdup().expect("CDUP");
            ftp.rmdir("ünï 1").expect("RMD");
            ftp.put_file("gone", &mut b"x".as_slice()).expect("STOR");
            ftp.rm("gone").expect("DELE");
            assert_code(ftp.rm("gone"), 550);
            assert_code(ftp.rename("gone", "x"), 550);
            assert_code(ftp.put_file("missing/x", &mut b"x".as_slice()), 550);
            ftp.site("CHMOD 600 y").expect("SITE CHMOD");
            ftp.transfer_type(FileType::Ascii(FormatControl::Default)).expect("TYPE A");
            ftp.put_file("text", &mut b"one\ntwo\n".as_slice()).expect("STOR");
            ftp.quit().expect("QUIT");
        });
        depot.was_resumed();
        assert_eq!(names(&depot.root), ["big.bin", "empty.bin", "fresh.bin", "new.bin", "text", "y"]);
        assert_eq!((depot.read("new.bin"), depot.read("fresh.bin")), (b"newer".into(), b"fresh".into()));
        assert_eq!(
            (depot.read("empty.bin"), depot.read("y"), mode(&depot.path("y"))),
            (Vec::new(), b"x".into(), 0o600)
        );
    });
}

#[test]
fn suppaftp_aborts_an_upload_and_goes_on() {
    each_way(&SUPPAFTP_WAYS, |way, depot| {
        let mut ftp = suppaftp_as(way, &depot.server, "bob", PASSWORD);
        depot.write("old", b"old");
        within_patience(move || {
            for name in ["old", "new"] {
                let mut stream = ftp.put_with_stream(name).expect("STOR");
                stream.write_all(&[b'x'; 100_000]).expect("the server reads");
                ftp.abort(stream).expect("426, then 226");
            }
            ftp.put_file("last", &mut b"last".as_slice()).expect("STOR");
            ftp.quit().expect("QUIT");
        });
        assert_eq!((depot.read("old"), names(&depot.root)), (b"old".into(), vec!["last".to_owned(), "old".into()]));
    });
}

// --- A drop-box ---------------------------------------------------------------------------------

/// A server whose anonymous users may leave files, and see none.
fn drop_box(more: &[&str]) -> (TempDir, PathBuf, Server) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [root, incoming] = ["root", "incoming"].map(|name| folder.path().join(name));
    fs::create_dir(&root).expect("a folder");
    fs::create_dir(&incoming).expect("a folder");
    let flags = ["--anonymous", "dropbox", "--incoming", incoming.to_str().expect("UTF-8")];
    let server = Server::start(&root, &[&flags, more].concat());
    (folder, incoming, server)
}

#[test]
fn curl_leaves_files_in_a_drop_box_and_is_told_that_it_sees_none() {
    let Some(tool) = Tool::find("curl") else { return };
    let (_folder, incoming, server) = drop_box(&["--incoming-max-file", "1M"]);
    let url = server.url();
    tool.write("report.txt", TEXT);
    tool.write("big.bin", &big());
    for _ in 0..2 {
        curl(&tool, &["-T", "report.txt", &url]).ok();
    }
    let stored = names(&incoming);
    assert_eq!(stored.len(), 2, "{stored:?}");
    assert!(stored.iter().all(|name| fs::read(incoming.join(name)).expect("a file") == TEXT));
    // A listing, a download, a resumed upload and a deletion: all refused, each with its own exit code.
    for (arguments, code) in [
        (&["-v", &url][..], 19),
        (&["-v", "-l", &url], 19),
        (&["-v", &format!("{url}report.txt")], 78),
        (&["-v", "-Q", "DELE report.txt", &url], 21),
    ] {
        let refused = curl(&tool, arguments).ends(code);
        assert!(refused.err.contains("< 550 Permission denied"), "{}", refused.err);
    }
    refused_midway(curl(&tool, &["-v", "-T", "big.bin", &url]));
    assert_eq!(names(&incoming), stored);
}

#[test]
fn lftp_leaves_files_in_a_drop_box_and_is_told_that_it_sees_none() {
    let Some(tool) = Tool::find("lftp") else { return };
    let (_folder, incoming, server) = drop_box(&["--incoming-max-file", "3M"]);
    let lftp = |commands: &str| lftp_as(&tool, Pasv, &server, "", commands);
    tool.write("report.txt", TEXT);
    tool.write("big.bin", &big());
    lftp("put report.txt; put big.bin; mput report.*").ok();
    let stored = names(&incoming);
    assert_eq!(stored.len(), 3, "{stored:?}");
    assert!(fs::read(incoming.join("big.bin")).expect("a file") == big());
    for commands in ["ls", "cls", "get report.txt", "rm report.txt", "mkdir x"] {
        let refused = lftp(commands).ends(1);
        assert!(refused.err.contains("550 Permission denied"), "{commands}: {}", refused.err);
    }
    // To lftp 550 after NLST means that there are no files.
    assert_eq!(lftp("nlist").ok(), b"");
    // Told of the end of the data connection alone it would begin again, up to a thousand times.
    tool.write("large.bin", &big().repeat(8));
    for asks_first in ["no", "yes"] {
        let large = lftp(&format!("set ftp:use-allo {asks_first}; put large.bin")).ends(1);
        assert!(large.err.contains("552 That is larger than a file may be here"), "{}", large.err);
        // Where it asks first it has sent nothing.
        assert_eq!(server.log().matches("/large.bin failed here").count(), 1, "{asks_first}: {}", server.log());
    }
    assert_eq!(names(&incoming), stored);
}
