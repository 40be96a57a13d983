//! Real clients against the real server: each lists, downloads, resumes and mirrors, and what it has
//! fetched is compared byte for byte with what is served.
//!
//! A client that is not installed is skipped, and says so, unless `PLIMSOLL_REQUIRE_CLIENTS` is set.

use crate::server::{PATIENCE, Server, big, eventually, has_ipv6};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};
use suppaftp::list::ListParser;
use suppaftp::types::FileType;
use suppaftp::{FtpError, FtpStream, Mode};
use tempfile::TempDir;

/// Longest time that one run of a client may take; one that hangs is killed, and fails its test.
const RUN_MAX: Duration = Duration::from_secs(150);

// --- Running clients ----------------------------------------------------------------------------

/// A client program with a home of its own, in which it runs.
pub(crate) struct Tool {
    program: PathBuf,
    home: TempDir,
}

/// What a run has left.
pub(crate) struct Run {
    pub(crate) what: String,
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Tool {
    /// Finds the program; without it the test is skipped, or fails where every client has to be there.
    pub(crate) fn find(name: &str) -> Option<Tool> {
        let program = if name == "python3" { python() } else { on_path(name) };
        let Some(program) = program else {
            assert!(std::env::var_os("PLIMSOLL_REQUIRE_CLIENTS").is_none(), "{name} is not installed");
            // Not through the test's captured output, which is thrown away when the test passes.
            let _ = writeln!(std::io::stderr(), "skipped: {name} is not installed");
            return None;
        };
        let home = tempfile::tempdir().expect("a temporary folder");
        Some(Tool { program, home })
    }

    /// A path in the home of the client.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The bytes of a file in the home of the client.
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Leaves a file in the home of the client.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).expect("a file");
    }

    /// Makes a folder in the home of the client.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).expect("a folder");
        path
    }

    /// Runs the client to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Run {
        self.run_with(arguments, "")
    }

    /// Runs the client to its end, with this on its standard input.
    pub(crate) fn run_with<A: AsRef<OsStr>>(&self, arguments: &[A], input: &str) -> Run {
        let words: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy().into_owned()).collect();
        let what = format!("{} {}", self.program.display(), words.join(" "));
        // Files and not pipes: a client that writes a lot must not wait for us.
        let files = tempfile::tempdir().expect("a temporary folder");
        let [stdin, stdout, stderr] = ["in", "out", "err"].map(|name| files.path().join(name));
        std::fs::write(&stdin, input).expect("a file");
        let create = |path: &Path| Stdio::from(File::create(path).expect("a file"));
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("TMPDIR", self.home.path())
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "dumb")
            .current_dir(self.home.path())
            .stdin(File::open(&stdin).expect("a file"))
            .stdout(create(&stdout))
            .stderr(create(&stderr))
            // A group of its own, so that what the client starts ends with it.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let end = Instant::now() + RUN_MAX;
        let status = loop {
            if let Some(status) = child.try_wait().expect("it is our child") {
                break Some(status);
            }
            if Instant::now() > end {
                let group = format!("-{}", child.id());
                let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let out = std::fs::read(&stdout).expect("a file");
        let err = String::from_utf8_lossy(&std::fs::read(&stderr).expect("a file")).into_owned();
        let Some(status) = status else {
            panic!("{what}: hangs\n{}\n{err}", String::from_utf8_lossy(&out));
        };
        Run { what, code: status.code(), out, err }
    }
}

impl Run {
    /// The client must have been content; gives what it has printed.
    pub(crate) fn ok(self) -> Vec<u8> {
        self.ends(0).out
    }

    /// The client must have ended with this code.
    pub(crate) fn ends(self, code: i32) -> Run {
        let Run { what, out, err, .. } = &self;
        let out = String::from_utf8_lossy(out);
        assert_eq!(self.code, Some(code), "{what}\n{out}\n{err}");
        self
    }

    /// What the client has printed, as sorted lines.
    pub(crate) fn lines(self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.ok()).into_owned();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// The program of this name on the search path.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The interpreter itself: what the search path has may be a script that needs the user's home.
fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let ask = || {
        let mut command = Command::new(on_path("python3")?);
        let out = command.args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
        let path = String::from_utf8(out.stdout).ok()?;
        out.status.success().then(|| path.trim_end().into())
    };
    PYTHON.get_or_init(ask).clone()
}

// --- Ways to open a data connection -------------------------------------------------------------

/// An address family, and the command that opens data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Pasv,
    Epsv,
    Port,
    Eprt,
    Epsv6,
    Eprt6,
}

pub(crate) use Way::{Eprt, Eprt6, Epsv, Epsv6, Pasv, Port};

/// Every way.
pub(crate) const WAYS: [Way; 6] = [Pasv, Epsv, Port, Eprt, Epsv6, Eprt6];

/// What most clients do: PASV and PORT over IPv4, EPSV and EPRT over IPv6.
pub(crate) const COMMON_WAYS: [Way; 4] = [Pasv, Port, Epsv6, Eprt6];

impl Way {
    pub(crate) fn is_v6(self) -> bool {
        matches!(self, Epsv6 | Eprt6)
    }

    pub(crate) fn is_active(self) -> bool {
        matches!(self, Port | Eprt | Eprt6)
    }

    /// Whether this host has it.
    pub(crate) fn is_here(self) -> bool {
        !self.is_v6() || has_ipv6()
    }

    pub(crate) fn verb(self) -> &'static str {
        match self {
            Pasv => "PASV",
            Epsv | Epsv6 => "EPSV",
            Port => "PORT",
            Eprt | Eprt6 => "EPRT",
        }
    }

    pub(crate) fn host(self) -> &'static str {
        if self.is_v6() { "::1" } else { "127.0.0.1" }
    }

    /// The URL of the root.
    pub(crate) fn url(self, server: &Server) -> String {
        if self.is_v6() {
            format!("ftp://[::1]:{}", server.port())
        } else {
            format!("ftp://127.0.0.1:{}", server.port())
        }
    }

    /// The client must have come this way, and no other.
    pub(crate) fn was_taken(self, server: &Server) {
        let seen = |verb: &str| server.log().contains(&format!(": {verb} "));
        eventually(&format!("the log to hold {}", self.verb()), || seen(self.verb()));
        let others = WAYS.into_iter().filter(|way| way.verb() != self.verb());
        for other in others {
            assert!(!seen(other.verb()), "{self:?}: the client sent {}", other.verb());
        }
        assert!(
            server.log().contains(if self.is_v6() { " [::1]:" } else { " 127.0.0.1:" }),
            "{self:?}: over the other family"
        );
    }
}

/// Runs `case` once for each way that this host has, each with a server of its own.
pub(crate) fn each_way(ways: &[Way], root: &Path, mut case: impl FnMut(Way, &Server)) {
    for way in ways.iter().copied().filter(|way| way.is_here()) {
        let server = Server::start(root, &[]);
        case(way, &server);
        way.was_taken(&server);
    }
}

// --- Trees and their comparison -----------------------------------------------------------------

/// One entry of a tree.
#[derive(PartialEq, Eq, Clone)]
pub(crate) enum Node {
    Folder,
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// A tree by path.
pub(crate) type Tree = BTreeMap<Vec<u8>, Node>;

/// Reads a whole tree.
pub(crate) fn snapshot(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            let kind = path.symlink_metadata().expect("it is there").file_type();
            let node = if kind.is_dir() {
                folders.push(path.clone());
                Node::Folder
            } else if kind.is_symlink() {
                let target = path.read_link().expect("a link");
                Node::Link(target.as_os_str().as_bytes().to_vec())
            } else {
                Node::File(std::fs::read(&path).expect("a file"))
            };
            let name = path.strip_prefix(root).expect("below the root");
            tree.insert(name.as_os_str().as_bytes().to_vec(), node);
        }
    }
    tree
}

/// The tree as it is to a client that sees what links to files lead to, and no other links.
pub(crate) fn followed(root: &Path) -> Tree {
    let mut tree = snapshot(root);
    tree.retain(|name, node| match node {
        Node::Link(_) => match std::fs::read(root.join(OsStr::from_bytes(name))) {
            Ok(bytes) => {
                *node = Node::File(bytes);
                true
            }
            Err(_) => false,
        },
        Node::Folder | Node::File(_) => true,
    });
    tree
}

/// Fails unless both trees are the same, and tells the first differences.
pub(crate) fn assert_same(expected: &Tree, copy: &Path) {
    let copied = snapshot(copy);
    let text = |tree: &Tree, name: &[u8]| match tree.get(name) {
        None => "nothing".to_owned(),
        Some(Node::Folder) => "a folder".to_owned(),
        Some(Node::File(bytes)) => format!("a file of {} bytes", bytes.len()),
        Some(Node::Link(target)) => format!("a link to {}", target.escape_ascii()),
    };
    let differences: Vec<String> = expected
        .keys()
        .chain(copied.keys().filter(|name| !expected.contains_key(*name)))
        .filter(|name| expected.get(*name) != copied.get(*name))
        .map(|name| {
            let (source, copy) = (text(expected, name), text(&copied, name));
            format!("{}: {source} became {copy}", name.escape_ascii())
        })
        .collect();
    let first = differences.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} of {} differ:\n{first}", differences.len(), expected.len());
}

/// A tree under construction.
pub(crate) struct Grove {
    _folder: TempDir,
    pub(crate) root: PathBuf,
}

impl Grove {
    pub(crate) fn new() -> Grove {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).expect("a folder");
        Grove { _folder: folder, root }
    }

    pub(crate) fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.root.join(OsStr::from_bytes(name.as_ref()))
    }

    pub(crate) fn folder(&self, name: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(name)).expect("a folder");
    }

    pub(crate) fn file(&self, name: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }

    pub(crate) fn link(&self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) {
        symlink(OsStr::from_bytes(target.as_ref()), self.path(name)).expect("a link");
    }
}

/// Text with every kind of line end.
pub(crate) const TEXT: &[u8] = b"one\ntwo\r\nthree\rfour\n\n";
/// Text that survives clients that take every CR for a line end.
pub(crate) const LINES: &[u8] = b"first\nsecond\n\nlast\n";
/// [`TEXT`] after an ASCII transfer to a client that keeps what it gets.
pub(crate) const TEXT_ASCII: &[u8] = b"one\r\ntwo\r\r\nthree\rfour\r\n\r\n";

/// A few entries of each kind, with names that every client can carry.
pub(crate) fn small() -> Grove {
    let grove = Grove::new();
    grove.file("a.txt", TEXT);
    grove.file("sub/lines.txt", LINES);
    grove.file("big.bin", big());
    grove.file("empty.bin", b"");
    grove.file("sub/deep/x.bin", b"deep\0\xff\r\n");
    grove.file("with space/ünï 日本.txt", b"unicode\n");
    grove.file(b"bad\xe9/n\xfe\x80.txt", b"not UTF-8\n");
    grove.folder("empty");
    grove.link("link", "sub/deep/x.bin");
    grove.link("sub/up", "../a.txt");
    grove.link("tofolder", "sub");
    grove.link("dangling", "nowhere");
    grove
}

/// 2,000 files in 21 folders, with names of all kinds but those with control characters, and all kinds of links.
pub(crate) fn large() -> Grove {
    let grove = Grove::new();
    let noise = big();
    for number in 0..2000_usize {
        let mut name: Vec<u8> = format!("folder {}/", number % 20).into_bytes();
        match number / 20 % 10 {
            0 => name.extend_from_slice(b"plain"),
            1 => name.extend_from_slice(b"two  spaces"),
            2 => name.extend_from_slice(b" leading"),
            3 => name.extend_from_slice("ünïcödé 日本語 🚢 ".as_bytes()),
            4 => name.extend_from_slice(b"\xe9\xff\xfe\x80 \xc3"),
            5 => name.extend_from_slice(b"\"quoted\" 'q' `b` $x \\back #h %20 ;s &a |p <l> *g? [b] {c} ~"),
            6 => name.extend_from_slice(b"-rw-r--r-- 1 ftp ftp 7 Jan 1 1970 "),
            7 => name.extend_from_slice(b"a -> b "),
            8 => name.extend_from_slice(&[b'l'; 220]),
            _ => name.extend_from_slice(b"many...dots..."),
        }
        name.extend_from_slice(number.to_string().as_bytes());
        if number % 3 == 0 {
            name.push(b' ');
        }
        let start = number * 37;
        let length = number * 7919 % 6000;
        grove.file(&name, &noise[start..start + length]);
    }
    grove.file("a.txt", TEXT);
    grove.file("big.bin", &noise);
    grove.file("empty.bin", b"");
    grove.file(b"b\xe4d f\xf6lder/\xc3(\xff/n\xff\xff", b"bytes");
    grove.folder("empty");
    grove.file([b'm'; 255], b"the longest name");
    grove.folder("nested/empty/folders");
    grove.folder(b"\xfe empty");
    grove.link("folder 1/up", "../a.txt");
    grove.link("folder 2/sibling", "../folder 1");
    grove.link("self", ".");
    grove.link("dangling", "no where\u{fc}");
    grove.link(b"l\xefnk", b"b\xe4d f\xf6lder/\xc3(\xff/n\xff\xff");
    grove.link("absolute", "/a.txt");
    grove.link("outside", "../../..");
    grove
}

/// The first bytes of the big file: what an interrupted download leaves.
pub(crate) fn part() -> Vec<u8> {
    let mut bytes = big();
    bytes.truncate(1_234_567);
    bytes
}

/// The log must tell that the transfer has begun where the part ended, and of nothing sent twice.
fn was_resumed(server: &Server) {
    server.wait_for_log(&format!(": REST {}", part().len()));
    server.wait_for_log(&format!("/big.bin sent, {} bytes", big().len() - part().len()));
}

/// How many commands with this verb have been logged.
pub(crate) fn count(server: &Server, verb: &str) -> usize {
    server.log().matches(&format!(": {verb} ")).count()
}

// --- curl ---------------------------------------------------------------------------------------

/// Runs curl without the user's settings.
pub(crate) fn curl(tool: &Tool, arguments: &[&str]) -> Run {
    let mut all = vec!["-q", "-sS", "-g", "--noproxy", "*"];
    all.extend_from_slice(arguments);
    tool.run(&all)
}

pub(crate) fn curl_way(way: Way) -> &'static [&'static str] {
    match way {
        Pasv => &["--disable-epsv"],
        Epsv | Epsv6 => &[],
        Port => &["--disable-eprt", "-P", "-"],
        Eprt | Eprt6 => &["-P", "-"],
    }
}

#[test]
fn curl_lists_downloads_resumes_and_converts_every_way() {
    let Some(tool) = Tool::find("curl") else { return };
    let grove = small();
    each_way(&WAYS, &grove.root, |way, server| {
        let url = way.url(server);
        let curl = |arguments: &[&str], path: &str| {
            let url = format!("{url}/{path}");
            curl(&tool, &[curl_way(way), arguments, &[&url]].concat())
        };
        let listed = curl(&["-l"], "").lines().join("|");
        assert_eq!(listed, "a.txt|bad\u{fffd}|big.bin|dangling|empty|empty.bin|link|sub|tofolder|with space");
        assert_eq!(curl(&[], "empty/").ok(), b"");
        let long = String::from_utf8(curl(&[], "sub/").ok()).expect("ASCII names");
        let long: Vec<&str> = long.lines().collect();
        assert!(long[0].starts_with("drwx") && long[0].ends_with(" deep"), "{long:?}");
        assert!(long[2].starts_with("lrwx") && long[2].ends_with(" up -> ../a.txt"), "{long:?}");

        assert_eq!(curl(&[], "a.txt").ok(), TEXT);
        // Whether curl takes the CRs of line ends away depends on its version.
        for ascii in [curl(&["-B"], "sub/lines.txt"), curl(&[], "sub/lines.txt;type=a")] {
            assert_eq!(String::from_utf8_lossy(&ascii.ok()).replace('\r', "").as_bytes(), LINES);
        }
        server.wait_for_log(&format!("/sub/lines.txt sent, {} bytes", LINES.len() + 4));
        assert_eq!(curl(&[], "empty.bin").ok(), b"");
        assert_eq!(curl(&[], "with%20space/%C3%BCn%C3%AF%20%E6%97%A5%E6%9C%AC.txt").ok(), b"unicode\n");
        assert_eq!(curl(&[], "bad%E9/n%FE%80.txt").ok(), b"not UTF-8\n");

        tool.write("big.bin", &part());
        curl(&["-C", "-", "-o", "big.bin"], "big.bin").ok();
        assert!(tool.read("big.bin") == big(), "{way:?}: the resumed file differs");
        was_resumed(server);
    });
}

#[test]
fn curl_fetches_ranges() {
    let Some(tool) = Tool::find("curl") else { return };
    let grove = small();
    let server = Server::start(&grove.root, &[]);
    let whole = big();
    let url = format!("{}big.bin", server.url());
    let range = |range: &str| curl(&tool, &["-r", range, &url]).ok();
    assert!(range("1000000-1000099") == whole[1_000_000..1_000_100]);
    assert!(range("0-0") == whole[..1]);
    assert!(range("3000000-") == whole[3_000_000..]);
    assert!(range("-50") == whole[whole.len() - 50..]);
}

#[test]
fn curl_asks_for_the_head_and_keeps_the_time_of_a_file() {
    let Some(tool) = Tool::find("curl") else { return };
    let grove = small();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let file = File::options().write(true).open(grove.path("a.txt")).expect("a file");
    file.set_modified(time).expect("a time");
    let server = Server::start(&grove.root, &[]);
    let url = format!("{}a.txt", server.url());
    let head = String::from_utf8(curl(&tool, &["-I", &url]).ok()).expect("text");
    assert!(head.contains("Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r", TEXT.len())), "{head}");
    assert!(head.contains("Accept-ranges: bytes"), "{head}");
    curl(&tool, &["-R", "-O", &url]).ok();
    let kept = tool.path("a.txt").metadata().expect("a file").modified().expect("a time");
    assert_eq!(kept, time);
    // Not newer than a day later, so there is nothing to fetch.
    assert_eq!(curl(&tool, &["-z", "10 Sep 2001 12:00", &url]).ok(), b"");
}

#[test]
fn curl_changes_folders_by_every_method() {
    let Some(tool) = Tool::find("curl") else { return };
    let grove = small();
    for (method, folders) in [("multicwd", 2), ("singlecwd", 1), ("nocwd", 0)] {
        let server = Server::start(&grove.root, &[]);
        let url = format!("{}sub/deep/", server.url());
        let fetched = curl(&tool, &["--ftp-method", method, &format!("{url}x.bin")]).ok();
        assert_eq!(fetched, b"deep\0\xff\r\n", "{method}");
        eventually("the session to end", || server.log().contains("session ended: quit"));
        assert_eq!(count(&server, "CWD"), folders, "{method}");
        // NLST names what can be fetched as it is, so with the folder that it was given.
        let names = curl(&tool, &["--ftp-method", method, "-l", &url]).lines();
        assert_eq!(names, [if folders == 0 { "sub/deep/x.bin" } else { "x.bin" }]);
        // A second file over the same connection, from another folder.
        let other = format!("{}with%20space/%C3%BCn%C3%AF%20%E6%97%A5%E6%9C%AC.txt", server.url());
        let both = curl(&tool, &["--ftp-method", method, &format!("{url}x.bin"), &other]).ok();
        assert_eq!(both, b"deep\0\xff\r\nunicode\n", "{method}");
    }
}

#[test]
fn curl_reuses_one_connection_for_many_files() {
    let Some(tool) = Tool::find("curl") else { return };
    let grove = Grove::new();
    for number in 0..50 {
        grove.file(format!("{number}.txt"), format!("file {number}\n"));
    }
    let server = Server::start(&grove.root, &[]);
    // Here curl's own patterns make the names.
    let url = format!("{}[0-49].txt", server.url());
    tool.run(&["-q", "-sS", "--noproxy", "*", "-o", "#1.got", &url]).ok();
    for number in 0..50 {
        assert_eq!(tool.read(&format!("{number}.got")), format!("file {number}\n").into_bytes());
    }
    eventually("the session to end", || server.log().contains("session ended"));
    assert_eq!(server.log().matches("session ended").count(), 1);
}

#[test]
fn curl_lists_by_a_pattern_and_runs_quoted_commands() {
    let Some(tool) = Tool::find("curl") else { return };
    let grove = small();
    let server = Server::start(&grove.root, &[]);
    let url = server.url();
    assert_eq!(curl(&tool, &["-X", "NLST *.bin", &url]).lines(), ["big.bin", "empty.bin"]);
    let file = format!("{url}a.txt");
    // Before the transfer, after the change of folder, and after the transfer.
    let quoted = ["-Q", "NOOP", "-Q", "+SYST", "-Q", "-PWD", "-Q", "*DELE a.txt", &file];
    assert_eq!(curl(&tool, &quoted).ok(), TEXT);
    for verb in ["NOOP", "SYST", "PWD", "DELE"] {
        server.wait_for_log(&format!(": {verb} "));
    }
    curl(&tool, &["-Q", "DELE a.txt", &file]).ends(21);
    assert!(grove.path("a.txt").exists());
}

#[test]
fn curl_tells_failures_apart() {
    let Some(tool) = Tool::find("curl") else { return };
    let grove = small();
    let server = Server::start(&grove.root, &[]);
    let file = |name: &str| format!("{}{name}", server.url());
    // Remote file not found, also where the folder is there.
    curl(&tool, &[&file("missing.txt")]).ends(78);
    curl(&tool, &[&file("sub/missing.txt")]).ends(78);
    curl(&tool, &["-I", &file("missing.txt")]).ends(78);
    // No access to the folder.
    curl(&tool, &[&file("nowhere/missing.txt")]).ends(9);
    curl(&tool, &[&file("a.txt/")]).ends(9);
    // Login denied.
    curl(&tool, &["-u", "joe:secret", &file("a.txt")]).ends(67);
    // Read-only: the upload fails.
    tool.write("up.txt", b"up");
    curl(&tool, &["-T", "up.txt", &file("up.txt")]).ends(25);
    assert!(!grove.path("up.txt").exists());
    // PRET is not known here.
    curl(&tool, &["--ftp-pret", &file("a.txt")]).ends(84);
    // TLS is not there, and whoever insists on it gets nothing.
    curl(&tool, &["--ssl-reqd", &file("a.txt")]).ends(64);
    assert_eq!(curl(&tool, &["--ssl", &file("a.txt")]).ok(), TEXT);
}

// --- lftp ---------------------------------------------------------------------------------------

/// Runs lftp without the user's settings; any command that fails ends it.
pub(crate) fn lftp(tool: &Tool, way: Way, server: &Server, commands: &str) -> Run {
    lftp_as(tool, way, server, "", commands)
}

/// The same for a user: `login` is `-u NAME,PASSWORD`.
pub(crate) fn lftp_as(tool: &Tool, way: Way, server: &Server, login: &str, commands: &str) -> Run {
    let passive = if way.is_active() { "off" } else { "on" };
    let epsv = if way == Epsv { "on" } else { "off" };
    let script = format!(
        "set cmd:fail-exit yes; set net:max-retries 2; set net:timeout 20; set net:reconnect-interval-base 1; \
         set xfer:clobber on; \
         set ftp:passive-mode {passive}; set ftp:prefer-epsv {epsv}; open {login} {}/; {commands}",
        way.url(server)
    );
    tool.run(&["--norc", "-c", &script])
}

/// The ways that lftp knows, but for EPRT over IPv6, which has a test of its own.
pub(crate) const LFTP_WAYS: [Way; 4] = [Pasv, Epsv, Port, Epsv6];

/// Has lftp use LIST, which tells where links lead; by itself it takes MLSD, and follows them.
pub(crate) const BY_LIST: &str = "set ftp:use-mlsd off";

#[test]
fn lftp_lists_downloads_resumes_and_converts_every_way() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = small();
    each_way(&LFTP_WAYS, &grove.root, |way, server| {
        let lftp = |commands: &str| lftp(&tool, way, server, commands);
        let listed = lftp("cls -1").lines().join("|");
        assert_eq!(listed, "a.txt|bad\u{fffd}/|big.bin|dangling@|empty.bin|empty/|link|sub/|tofolder@|with space/");
        assert_eq!(lftp("nlist empty").ok(), b"");
        assert_eq!(lftp("cat 'with space/ünï 日本.txt'").ok(), b"unicode\n");
        assert_eq!(lftp("cat empty.bin").ok(), b"");
        lftp("get a.txt -o image.txt").ok();
        assert_eq!(tool.read("image.txt"), TEXT);
        // lftp takes the CRs of line ends away.
        lftp("get -a a.txt -o ascii.txt").ok();
        assert_eq!(tool.read("ascii.txt"), TEXT);
        server.wait_for_log(&format!("/a.txt sent, {} bytes", TEXT_ASCII.len()));
        tool.write("big.bin", &part());
        lftp("get -c big.bin").ok();
        assert!(tool.read("big.bin") == big(), "{way:?}: the resumed file differs");
        was_resumed(server);
    });
}

#[test]
fn lftp_mirrors_a_small_tree_every_way() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = small();
    each_way(&LFTP_WAYS, &grove.root, |way, server| {
        lftp(&tool, way, server, &format!("mirror / {way:?}")).ok();
        assert_same(&followed(&grove.root), &tool.path(&format!("{way:?}")));
        lftp(&tool, way, server, &format!("{BY_LIST}; mirror / {way:?}-links")).ok();
        assert_same(&snapshot(&grove.root), &tool.path(&format!("{way:?}-links")));
    });
}

#[test]
fn lftp_that_announces_no_address_over_ipv6_gets_its_files_all_the_same() {
    let Some(tool) = Tool::find("lftp").filter(|_| has_ipv6()) else {
        return;
    };
    let grove = small();
    let server = Server::start(&grove.root, &[]);
    // In active mode it sends "EPRT |2|::|port|", and goes passive where that is refused.
    lftp(&tool, Eprt6, &server, "mirror / copy").ok();
    server.wait_for_log(": EPRT |2|::|");
    assert_same(&followed(&grove.root), &tool.path("copy"));
}

#[test]
fn lftp_mirrors_two_thousand_files_of_every_name_byte_for_byte() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = large();
    let expected = snapshot(&grove.root);
    assert!(expected.len() > 2000);
    each_way(&[Pasv, Port, Epsv6], &grove.root, |way, server| {
        let name = format!("{way:?}");
        lftp(&tool, way, server, &format!("{BY_LIST}; mirror / {name}")).ok();
        assert_same(&expected, &tool.path(&name));
    });
}

#[test]
fn lftp_mirrors_two_thousand_files_over_four_connections() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = large();
    let expected = snapshot(&grove.root);
    each_way(&[Epsv], &grove.root, |way, server| {
        lftp(&tool, way, server, &format!("{BY_LIST}; mirror --parallel=4 / copy")).ok();
        assert_same(&expected, &tool.path("copy"));
        eventually("the sessions to end", || count(server, "QUIT") >= 2);
        assert!(server.log().matches("anonymous logged in").count() >= 4);
    });
}

#[test]
fn lftp_mirrors_by_mlsd_with_times_to_the_second() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = small();
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_234_567_891);
    for name in ["a.txt", "big.bin", "sub/deep/x.bin"] {
        let file = File::options().write(true).open(grove.path(name)).expect("a file");
        file.set_modified(time).expect("a time");
    }
    let server = Server::start(&grove.root, &[]);
    lftp(&tool, Pasv, &server, "mirror / copy").ok();
    server.wait_for_log(": MLSD ");
    assert_same(&followed(&grove.root), &tool.path("copy"));
    for name in ["a.txt", "big.bin", "sub/deep/x.bin"] {
        let copy = tool.path("copy").join(name).metadata().expect("a file");
        assert_eq!(copy.modified().expect("a time"), time, "{name}");
    }
}

#[test]
fn lftp_mirrors_the_files_that_links_lead_to() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = Grove::new();
    grove.file("a/x.bin", b"x\0");
    grove.link("file", "a/x.bin");
    grove.link("a/absolute", "/file");
    let server = Server::start(&grove.root, &[]);
    lftp(&tool, Pasv, &server, &format!("{BY_LIST}; mirror -L / copy")).ok();
    let file = || Node::File(b"x\0".to_vec());
    let expected = Tree::from([
        (b"a".to_vec(), Node::Folder),
        (b"a/x.bin".to_vec(), file()),
        (b"a/absolute".to_vec(), file()),
        (b"file".to_vec(), file()),
    ]);
    assert_same(&expected, &tool.path("copy"));
}

#[test]
fn lftp_sees_hidden_files_only_when_it_asks_for_them() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = Grove::new();
    grove.file("a.txt", TEXT);
    grove.file(".hidden/.file", b"h");
    let server = Server::start(&grove.root, &[]);
    lftp(&tool, Pasv, &server, &format!("{BY_LIST}; mirror / shown")).ok();
    assert_eq!(snapshot(&tool.path("shown")).len(), 1);
    lftp(&tool, Pasv, &server, &format!("{BY_LIST}; set ftp:list-options -a; mirror / all")).ok();
    assert_same(&snapshot(&grove.root), &tool.path("all"));
}

#[test]
fn lftp_mirrors_again_and_fetches_only_what_is_new() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = small();
    let mirror = format!("{BY_LIST}; mirror / copy");
    let first = Server::start(&grove.root, &[]);
    lftp(&tool, Pasv, &first, &mirror).ok();
    grove.file("new.txt", b"new\n");
    let second = Server::start(&grove.root, &[]);
    lftp(&tool, Pasv, &second, &mirror).ok();
    assert_same(&snapshot(&grove.root), &tool.path("copy"));
    eventually("the session to end", || count(&second, "QUIT") == 1);
    assert_eq!(count(&second, "RETR"), 1, "{}", second.log());
    // What is gone is gone there as well.
    std::fs::remove_file(grove.path("a.txt")).expect("a file");
    std::fs::remove_file(grove.path("sub/up")).expect("a link");
    lftp(&tool, Pasv, &second, &format!("{BY_LIST}; mirror --delete / copy")).ok();
    assert_same(&snapshot(&grove.root), &tool.path("copy"));
}

#[test]
fn lftp_fetches_a_file_in_four_parts_at_once() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = Grove::new();
    // Large enough that four parts are worth it to lftp.
    let mut bytes = Vec::new();
    for round in 0..8_u8 {
        bytes.extend(big().iter().map(|byte| byte ^ round));
    }
    grove.file("large.bin", &bytes);
    each_way(&[Pasv, Port], &grove.root, |way, server| {
        // Slowly, so that the first part does not reach the others before they begin.
        let commands = "set net:limit-rate 2M; set pget:min-chunk-size 64K; pget -n 4 large.bin -o copy.bin";
        lftp(&tool, way, server, commands).ok();
        assert!(tool.read("copy.bin") == bytes, "{way:?}: the parts differ");
        eventually("three restarts", || count(server, "REST") == 3);
    });
}

#[test]
fn lftp_fetches_by_pattern_and_is_told_what_is_missing() {
    let Some(tool) = Tool::find("lftp") else { return };
    let grove = small();
    let server = Server::start(&grove.root, &[]);
    tool.folder("got");
    lftp(&tool, Pasv, &server, "mget -O got *.txt e*.bin").ok();
    let names: Vec<_> = snapshot(&tool.path("got")).into_keys().collect();
    assert_eq!(names, [b"a.txt".to_vec(), b"empty.bin".to_vec()]);
    let missing = lftp(&tool, Pasv, &server, "get missing.txt").ends(1);
    assert!(missing.err.contains("No such file"), "{}", missing.err);
    let folder = lftp(&tool, Pasv, &server, "cd nowhere").ends(1);
    assert!(folder.err.contains("No such file"), "{}", folder.err);
    let upload = lftp(&tool, Pasv, &server, "mkdir made").ends(1);
    assert!(upload.err.contains("550 Permission denied"), "{}", upload.err);
    assert!(!grove.path("made").exists());
}

// --- wget ---------------------------------------------------------------------------------------

pub(crate) fn wget(tool: &Tool, way: Way, arguments: &[&str]) -> Run {
    let mut all = vec!["--no-config", "-nv", "--no-proxy", "-t", "1", "-T", "30"];
    if way.is_active() {
        all.push("--no-passive-ftp");
    }
    all.extend_from_slice(arguments);
    tool.run(&all)
}

#[test]
fn wget_lists_downloads_resumes_and_converts_every_way() {
    let Some(tool) = Tool::find("wget") else { return };
    let grove = small();
    each_way(&COMMON_WAYS, &grove.root, |way, server| {
        let url = way.url(server);
        let fetch = |path: &str| wget(&tool, way, &["-O", "-", &format!("{url}/{path}")]);
        assert_eq!(fetch("a.txt").ok(), TEXT);
        assert_eq!(fetch("a.txt;type=a").ok(), TEXT_ASCII);
        assert_eq!(fetch("empty.bin").ok(), b"");
        assert_eq!(fetch("sub/deep/x.bin").ok(), b"deep\0\xff\r\n");
        let unicode = "with%20space/%C3%BCn%C3%AF%20%E6%97%A5%E6%9C%AC.txt";
        assert_eq!(fetch(unicode).ok(), b"unicode\n");
        let index = String::from_utf8_lossy(&fetch("").ok()).into_owned();
        for name in ["a.txt", "big.bin", "sub/", "with%20space/"] {
            assert!(index.contains(&format!("/{name}\">")), "{name} in {index}");
        }
        tool.write("big.bin", &part());
        wget(&tool, way, &["-c", &format!("{url}/big.bin")]).ok();
        assert!(tool.read("big.bin") == big(), "{way:?}: the resumed file differs");
        was_resumed(server);
        fetch("missing.txt").ends(8);
        wget(&tool, way, &["--spider", &format!("{url}/a.txt")]).ok();
        wget(&tool, way, &["--spider", &format!("{url}/missing.txt")]).ends(8);
    });
}

/// Runs `wget -m` into a folder and takes away the listings that it leaves there.
fn wget_mirror(tool: &Tool, way: Way, url: &str, name: &str, more: &[&str]) -> PathBuf {
    let folder = tool.path(name);
    let prefix = folder.to_str().expect("a plain path");
    let url = format!("{url}/");
    let fixed = ["-m", "-nH", "-P", prefix, &url];
    wget(tool, way, &[more, &fixed].concat()).ok();
    for path in snapshot(&folder).into_keys().filter(|path| path.ends_with(b".listing")) {
        std::fs::remove_file(folder.join(OsStr::from_bytes(&path))).expect("a listing");
    }
    folder
}

#[test]
fn wget_mirrors_a_tree_every_way() {
    let Some(tool) = Tool::find("wget") else { return };
    let grove = small();
    each_way(&COMMON_WAYS, &grove.root, |way, server| {
        let links = "--retr-symlinks=no";
        let copy = wget_mirror(&tool, way, &way.url(server), &format!("{way:?}"), &[links]);
        assert_same(&snapshot(&grove.root), &copy);
    });
}

#[test]
fn wget_mirrors_two_thousand_files() {
    let Some(tool) = Tool::find("wget") else { return };
    let grove = large();
    // Names that wget can't carry itself: it takes white space at the start for the listing's own,
    // what follows a percent sign for a code and what looks like a link for one, does not double 0xFF, and
    // shortens the longest.
    for entry in std::fs::read_dir(&grove.root).expect("a folder") {
        let folder = entry.expect("an entry").path();
        let is_folder = folder.symlink_metadata().expect("it is there").is_dir();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().filter(|_| is_folder) {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").as_bytes();
            let hard = [b' ', b'%', b'>', 0xff];
            if name.starts_with(b" ") || name.iter().any(|byte| hard[1..].contains(byte)) {
                let moved: Vec<u8> = name.iter().map(|b| if hard.contains(b) { b'_' } else { *b }).collect();
                std::fs::rename(&path, folder.join(OsStr::from_bytes(&moved))).expect("a new name");
            }
        }
    }
    std::fs::remove_file(grove.path(b"l\xefnk")).expect("a link");
    std::fs::remove_file(grove.path([b'm'; 255])).expect("a file");
    std::fs::remove_dir_all(grove.path(b"b\xe4d f\xf6lder")).expect("a folder");
    let expected = snapshot(&grove.root);
    assert!(expected.len() > 2000);
    let server = Server::start(&grove.root, &[]);
    let copy = wget_mirror(&tool, Pasv, &Pasv.url(&server), "copy", &["--retr-symlinks=no"]);
    assert_same(&expected, &copy);
}

#[test]
fn wget_mirrors_again_and_fetches_nothing() {
    let Some(tool) = Tool::find("wget") else { return };
    let grove = small();
    let first = Server::start(&grove.root, &[]);
    let copy = wget_mirror(&tool, Pasv, &Pasv.url(&first), "copy", &["--retr-symlinks=no"]);
    let second = Server::start(&grove.root, &[]);
    wget_mirror(&tool, Pasv, &Pasv.url(&second), "copy", &["--retr-symlinks=no"]);
    assert_same(&snapshot(&grove.root), &copy);
    eventually("the session to end", || second.log().contains("session ended"));
    assert!(count(&second, "LIST") > 0);
    assert_eq!(count(&second, "RETR"), 0);
}

// --- ncftp --------------------------------------------------------------------------------------

/// The ways that ncftp knows: it has no IPv6.
pub(crate) const NCFTP_WAYS: [Way; 2] = [Pasv, Port];

pub(crate) fn ncftp(tool: &Tool, way: Way, server: &Server, arguments: &[&str]) -> Run {
    let port = server.port().to_string();
    let mode = if way.is_active() { "-E" } else { "-F" };
    let mut all = vec![mode, "-P", &port];
    all.extend_from_slice(arguments);
    tool.run(&all)
}

#[test]
fn ncftpls_lists_every_way() {
    let Some(tool) = Tool::find("ncftpls") else { return };
    let grove = small();
    each_way(&NCFTP_WAYS, &grove.root, |way, server| {
        let url = way.url(server);
        let short = ncftp(&tool, way, server, &["-1", &format!("{url}/")]).lines();
        assert!(short.iter().any(|name| name == "with space"), "{short:?}");
        assert_eq!(short.len(), 10, "{short:?}");
        let long = ncftp(&tool, way, server, &["-l", &format!("{url}/sub/")]).lines();
        assert!(long.iter().any(|line| line.ends_with("up -> ../a.txt")), "{long:?}");
    });
}

#[test]
fn ncftpget_downloads_resumes_and_converts_every_way() {
    let Some(tool) = Tool::find("ncftpget") else { return };
    let grove = small();
    each_way(&NCFTP_WAYS, &grove.root, |way, server| {
        let get = |arguments: &[&str]| ncftp(&tool, way, server, &[&["-V"], arguments].concat());
        let host = way.host();
        let folder = format!("{way:?}");
        tool.folder(&folder);
        let file = |name: &str| tool.read(&format!("{folder}/{name}"));
        get(&[host, &folder, "/a.txt", "/empty.bin", "/sub/deep/x.bin"]).ok();
        assert_eq!(file("a.txt"), TEXT);
        assert_eq!(file("empty.bin"), b"");
        assert_eq!(file("x.bin"), b"deep\0\xff\r\n");
        assert_eq!(get(&["-c", host, "/with space/ünï 日本.txt"]).ok(), b"unicode\n");
        // ncftp takes the CRs of line ends away, and every other as well.
        get(&["-a", host, &folder, "/sub/lines.txt"]).ok();
        assert_eq!(file("lines.txt"), LINES);
        server.wait_for_log(&format!("/sub/lines.txt sent, {} bytes", LINES.len() + 4));
        tool.write(&format!("{folder}/big.bin"), &part());
        get(&["-z", host, &folder, "/big.bin"]).ok();
        assert!(file("big.bin") == big(), "{way:?}: the resumed file differs");
        was_resumed(server);
        get(&[host, &folder, "/missing.txt"]).ends(3);
    });
}

#[test]
fn ncftpget_mirrors_a_tree_every_way() {
    let Some(tool) = Tool::find("ncftpget") else { return };
    let grove = small();
    // It takes a failure on a link that leads nowhere for a failure of the whole.
    std::fs::remove_file(grove.path("dangling")).expect("a link");
    each_way(&NCFTP_WAYS, &grove.root, |way, server| {
        let name = format!("{way:?}");
        tool.folder(&name);
        ncftp(&tool, way, server, &["-V", "-R", "-T", way.host(), &name, "/"]).ok();
        assert_same(&followed(&grove.root), &tool.path(&name));
    });
}

// --- tnftp --------------------------------------------------------------------------------------

#[test]
fn tnftp_lists_downloads_resumes_and_converts_every_way() {
    let Some(tool) = Tool::find("tnftp") else { return };
    let grove = small();
    each_way(&WAYS, &grove.root, |way, server| {
        let port = server.port().to_string();
        let family = if way.is_v6() { "-6" } else { "-4" };
        let mode = if way.is_active() { "-A" } else { "-p" };
        // It takes the extended commands unless it is told not to.
        let plain = if matches!(way, Pasv | Port) { "epsv4\n" } else { "" };
        tool.write("resumed.bin", &part());
        let script = format!(
            "{plain}binary\nls\nget a.txt image.txt\nget empty.bin\nget \"with space/ünï 日本.txt\" unicode.txt\n\
             reget big.bin resumed.bin\ncd sub/deep\npwd\nmls . names.out\nmget *.bin\ncd /\nsize a.txt\n\
             modtime a.txt\nascii\nget a.txt ascii.txt\nget missing.txt\nquit\n"
        );
        let run = tool.run_with(&["-i", family, mode, "-a", way.host(), &port], &script);
        let said = String::from_utf8_lossy(&run.ends(0).out).into_owned();
        assert!(said.contains("with space"), "{said}");
        assert!(said.contains("Remote directory: /sub/deep"), "{said}");
        assert_eq!(tool.read("image.txt"), TEXT, "{said}");
        assert_eq!(tool.read("empty.bin"), b"");
        assert_eq!(tool.read("unicode.txt"), b"unicode\n");
        assert_eq!(tool.read("x.bin"), b"deep\0\xff\r\n");
        assert_eq!(tool.read("names.out"), b"x.bin\n");
        // tnftp takes the CRs of line ends away.
        assert_eq!(tool.read("ascii.txt"), TEXT);
        assert!(tool.read("resumed.bin") == big(), "{way:?}: the resumed file differs");
        was_resumed(server);
        server.wait_for_log("missing.txt");
        for name in ["image.txt", "empty.bin", "unicode.txt", "x.bin", "names.out", "ascii.txt"] {
            std::fs::remove_file(tool.path(name)).expect("a file");
        }
    });
}

#[test]
fn tnftp_fetches_urls() {
    let Some(tool) = Tool::find("tnftp") else { return };
    let grove = small();
    each_way(&[Epsv, Epsv6], &grove.root, |way, server| {
        let url = way.url(server);
        tool.run(&["-o", "x.bin", &format!("{url}/sub/deep/x.bin")]).ok();
        assert_eq!(tool.read("x.bin"), b"deep\0\xff\r\n");
        tool.run(&["-o", "a.txt", &format!("{url}/a.txt;type=i")]).ok();
        assert_eq!(tool.read("a.txt"), TEXT);
        assert_ne!(tool.run(&["-o", "m", &format!("{url}/missing.txt")]).code, Some(0));
    });
}

// --- Python's ftplib ----------------------------------------------------------------------------

/// Arguments: host, port, "passive" or "active", root of what is served, folder to copy into.
const FTPLIB: &str = r#"
import ftplib, os, sys
host, port, mode, root, copy = sys.argv[1:]
root, copy = os.fsencode(root), os.fsencode(copy)
ftp = ftplib.FTP(timeout=60)
ftp.encoding = "latin-1"  # Names are bytes.
ftp.connect(host, int(port))
assert ftp.login().startswith("230")
ftp.set_pasv(mode == "passive")
assert ftp.pwd() == "/"

source = open(root + b"/big.bin", "rb").read()
names = [name.encode("latin-1") for name in ftp.nlst()]
assert sorted(names) == sorted(os.listdir(root)), names
lines = []
ftp.dir("sub", lines.append)
assert any(line.endswith("up -> ../a.txt") for line in lines), lines
assert ftp.nlst("empty") == []

def fetch(name, rest=None):
    parts = []
    reply = ftp.retrbinary("RETR " + name, parts.append, rest=rest)
    assert reply.startswith("226"), reply
    return b"".join(parts)

assert fetch("big.bin") == source
assert fetch("big.bin", rest=1234567) == source[1234567:]
assert fetch("big.bin", rest=len(source)) == b""
assert ftp.size("big.bin") == len(source)
text = []
ftp.retrlines("RETR a.txt", text.append)
# Python takes a lone CR for a line end.
assert text == ["one", "two", "", "three", "four", ""], text
for wrong in (lambda: fetch("missing"), lambda: ftp.cwd("missing"), lambda: ftp.mkd("made"),
              lambda: fetch("big.bin", rest=len(source) + 1)):
    try:
        wrong()
    except ftplib.error_perm as error:
        assert str(error)[:3] in ("550", "554"), error
    else:
        raise AssertionError("it should have failed")

def walk(remote, local):
    os.makedirs(local)
    ftp.cwd(remote)
    assert ftp.pwd() == remote
    folders = []
    for name, facts in list(ftp.mlsd(facts=["type", "size", "modify"])):
        target = os.path.join(local, name.encode("latin-1"))
        if facts["type"] == "dir":
            folders.append((name, target))
        elif facts["type"] == "file":
            body = fetch(name)
            assert len(body) == int(facts["size"]), (name, facts)
            open(target, "wb").write(body)
        else:
            assert facts["type"] in ("cdir", "pdir") or facts["type"].startswith("OS.unix=s"), facts
    for name, target in folders:
        walk(remote.rstrip("/") + "/" + name, target)

walk("/", copy)
assert ftp.quit().startswith("221")
"#;

/// Arguments: host, port, "passive" or "active".
const FTPLIB_ABORT: &str = r#"
import ftplib, sys
host, port, mode = sys.argv[1:]
ftp = ftplib.FTP(timeout=60)
ftp.connect(host, int(port))
ftp.login()
ftp.set_pasv(mode == "passive")
ftp.voidcmd("TYPE I")
for turn in range(3):
    data, size = ftp.ntransfercmd("RETR large.bin")
    assert size == 256 << 20, size
    assert len(data.recv(1000)) > 0
    reply = ftp.abort()  # Sends all of ABOR as urgent data.
    assert reply.startswith("426"), reply
    reply = ftp.voidresp()
    assert reply.startswith("226"), reply
    data.close()
    assert ftp.voidcmd("NOOP").startswith("200")
    parts = []
    ftp.retrbinary("RETR small.bin", parts.append)
    assert b"".join(parts) == b"small", parts
assert ftp.quit().startswith("221")
"#;

/// Runs a script with Python, on its own and without the user's settings.
pub(crate) fn ftplib(tool: &Tool, way: Way, server: &Server, script: &str, more: &[&Path]) -> Run {
    tool.write("script.py", script.as_bytes());
    let port = server.port().to_string();
    let mode = if way.is_active() { "active" } else { "passive" };
    let mut arguments = ["-I", "-B", "script.py", way.host(), &port, mode].map(OsStr::new).to_vec();
    arguments.extend(more.iter().map(|path| path.as_os_str()));
    tool.run(&arguments)
}

#[test]
fn ftplib_lists_downloads_resumes_and_mirrors_by_mlsd_every_way() {
    let Some(tool) = Tool::find("python3") else { return };
    let grove = small();
    each_way(&COMMON_WAYS, &grove.root, |way, server| {
        let copy = tool.path(&format!("{way:?}"));
        ftplib(&tool, way, server, FTPLIB, &[&grove.root, &copy]).ok();
        assert_same(&followed(&grove.root), &copy);
        server.wait_for_log(": REST 1234567");
    });
}

#[test]
fn ftplib_aborts_downloads_with_urgent_data_and_goes_on() {
    let Some(tool) = Tool::find("python3") else { return };
    let grove = Grove::new();
    grove.file("small.bin", b"small");
    let large = File::create(grove.path("large.bin")).expect("a file");
    large.set_len(256 << 20).expect("a sparse file");
    each_way(&COMMON_WAYS, &grove.root, |way, server| {
        ftplib(&tool, way, server, FTPLIB_ABORT, &[]).ok();
    });
}

// --- suppaftp -----------------------------------------------------------------------------------

/// Runs `work` in a thread of its own, and fails where it does not end.
pub(crate) fn within_patience(work: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match ended.recv_timeout(RUN_MAX) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("suppaftp hangs"),
        // It is done, or has panicked with what is wrong.
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

/// The ways that suppaftp knows.
pub(crate) const SUPPAFTP_WAYS: [Way; 5] = [Pasv, Epsv, Port, Epsv6, Eprt6];

fn suppaftp(way: Way, server: &Server) -> FtpStream {
    suppaftp_as(way, server, "anonymous", "a@b")
}

/// A client of this user, in image type.
pub(crate) fn suppaftp_as(way: Way, server: &Server, user: &str, password: &str) -> FtpStream {
    let address = if way.is_v6() { server.v6() } else { server.v4() };
    let ftp = FtpStream::connect(address).expect("the server greets");
    let mut ftp = match way {
        Port | Eprt | Eprt6 => ftp.active_mode(PATIENCE),
        Pasv | Epsv | Epsv6 => ftp,
    };
    match way {
        Pasv => ftp.set_mode(Mode::Passive),
        Epsv | Epsv6 => ftp.set_mode(Mode::ExtendedPassive),
        Port | Eprt | Eprt6 => {}
    }
    ftp.login(user, password).expect("the user may");
    ftp.transfer_type(FileType::Binary).expect("TYPE I");
    ftp
}

#[test]
fn suppaftp_lists_downloads_and_resumes_every_way() {
    let grove = small();
    each_way(&SUPPAFTP_WAYS, &grove.root, |way, server| {
        let mut ftp = suppaftp(way, server);
        within_patience(move || {
            let mut names = ftp.nlst(Some("sub")).expect("NLST");
            names.sort();
            assert_eq!(names, ["sub/deep", "sub/lines.txt", "sub/up"]);
            let listed = ftp.list(Some("sub")).expect("LIST");
            let files: Vec<_> =
                listed.iter().map(|line| ListParser::parse_posix(line).expect("a line as of ls")).collect();
            assert_eq!(files.len(), 3);
            assert!(files[0].is_directory() && files[0].name() == "deep", "{listed:?}");
            assert!(files[1].is_file() && files[1].size() == LINES.len(), "{listed:?}");
            assert!(files[2].is_symlink() && files[2].name() == "up", "{listed:?}");
            let machine = ftp.mlsd(Some("sub/deep")).expect("MLSD");
            let found: Vec<_> = machine
                .iter()
                .map(|line| ListParser::parse_mlsd(line).expect("facts"))
                .filter(|file| file.name() == "x.bin" && file.size() == 8 && file.is_file())
                .collect();
            assert_eq!(found.len(), 1, "{machine:?}");
            assert!(ftp.mlst(Some("a.txt")).expect("MLST").ends_with("a.txt"));
            assert_eq!(ftp.size("big.bin").expect("SIZE"), big().len());
            assert!(ftp.mdtm("big.bin").is_ok());
            assert!(ftp.feat().expect("FEAT").contains_key("MLST"));

            assert!(ftp.retr_as_buffer("big.bin").expect("RETR").into_inner() == big());
            let rest = part().len();
            ftp.resume_transfer(rest).expect("it is only noted");
            assert!(ftp.retr_as_buffer("big.bin").expect("RETR").into_inner() == big()[rest..]);
            ftp.transfer_type(FileType::Ascii(suppaftp::types::FormatControl::Default)).expect("TYPE A");
            let text = ftp.retr_as_buffer("a.txt").expect("RETR").into_inner();
            assert_eq!(text, TEXT_ASCII);
            ftp.cwd("with space").expect("CWD");
            assert_eq!(ftp.pwd().expect("PWD"), "/with space");
            ftp.cdup().expect("CDUP");
            match ftp.retr_as_buffer("missing") {
                Err(FtpError::UnexpectedResponse(response)) => assert_eq!(response.status.code(), 550),
                other => panic!("{other:?}"),
            }
            ftp.quit().expect("QUIT");
        });
        was_resumed(server);
    });
}

#[test]
fn suppaftp_aborts_a_download_and_goes_on() {
    let grove = small();
    let large = File::create(grove.path("large.bin")).expect("a file");
    large.set_len(256 << 20).expect("a sparse file");
    each_way(&SUPPAFTP_WAYS, &grove.root, |way, server| {
        let mut ftp = suppaftp(way, server);
        within_patience(move || {
            let mut stream = ftp.retr_as_stream("large.bin").expect("RETR");
            let mut some = [0; 1000];
            std::io::Read::read_exact(&mut stream, &mut some).expect("bytes");
            ftp.abort(stream).expect("426, then 226");
            assert!(ftp.retr_as_buffer("big.bin").expect("RETR").into_inner() == big());
            ftp.quit().expect("QUIT");
        });
    });
}

#[test]
fn suppaftp_mirrors_a_tree() {
    let grove = small();
    // It speaks UTF-8 only.
    std::fs::remove_dir_all(grove.path(b"bad\xe9")).expect("a folder");
    let expected = followed(&grove.root);
    let server = Server::start(&grove.root, &[]);
    let copy = tempfile::tempdir().expect("a temporary folder");
    let target = copy.path().to_owned();
    let mut ftp = suppaftp(Epsv, &server);
    within_patience(move || {
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for line in ftp.mlsd(Some(&format!("/{folder}"))).expect("MLSD") {
                // Its own parser gives up on a kind of the system's own.
                if line.contains("type=OS.unix=") || line.contains("type=cdir") || line.contains("type=pdir") {
                    continue;
                }
                let entry = ListParser::parse_mlsd(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                let path = format!("{folder}{}", entry.name());
                if entry.is_directory() {
                    std::fs::create_dir(target.join(&path)).expect("a folder");
                    folders.push(format!("{path}/"));
                } else {
                    let bytes = ftp.retr_as_buffer(&format!("/{path}")).expect("RETR").into_inner();
                    std::fs::write(target.join(&path), bytes).expect("a file");
                }
            }
        }
        ftp.quit().expect("QUIT");
    });
    assert_same(&expected, copy.path());
}
