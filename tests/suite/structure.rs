//! The shape of the sources: which module may depend on which, and who alone may touch files, wait and
//! send. It reads `src/` as text, without comments, literals and unit tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Which modules each module may use besides itself. `main -> server -> session -> {data, vfs, auth,
/// policy, config} -> proto -> limits`; the log knows how a date is written, and nothing else.
const MAY_USE: [(&str, &[&str]); 17] = [
    ("main", &["config", "load", "logger", "passwd", "server"]),
    // The load generator is a client: it knows nothing of the server.
    ("load", &["config", "proto", "limits"]),
    // The accounts file, for those who keep it.
    ("passwd", &["auth", "config", "proto", "limits"]),
    ("server", &["session", "config", "data", "vfs", "auth", "policy", "journal", "deny", "swap", "proto", "limits"]),
    ("session", &["data", "vfs", "auth", "policy", "journal", "swap", "config", "proto", "limits"]),
    ("config", &["proto", "units", "limits"]),
    ("data", &["proto", "limits"]),
    ("vfs", &["proto", "limits"]),
    ("auth", &["proto", "units", "limits"]),
    ("policy", &["auth", "proto", "limits"]),
    ("journal", &["proto", "limits"]),
    ("deny", &["proto", "limits"]),
    ("swap", &[]),
    ("logger", &["proto"]),
    ("proto", &["limits"]),
    ("units", &["limits"]),
    ("limits", &[]),
];

/// The files that hold `unsafe` code.
const UNSAFE: [&str; 2] = ["data/tcp.rs", "server/schedule.rs"];

/// Files that are tests as a whole: their `mod` lines stand under `#[cfg(test)]`.
const TESTS_ONLY: [&str; 3] = ["server/registry_stress.rs", "data/fake_watch.rs", "vfs/races.rs"];

/// Paths that stand for access to files, and the files that may hold each outside `vfs/`.
const FILE_ACCESS: [&str; 4] = ["std::fs", "std::os::unix::fs", "rustix::fs", "rustix::path"];
const FILE_ACCESS_EXEMPT: [(&str, &str); 16] = [
    // The accounts file, at start and when it is read again.
    ("auth/accounts.rs", "std::fs::File"),
    ("auth/accounts.rs", "rustix::fs"),
    ("auth/accounts.rs", "rustix::fs::FileType"),
    ("auth/accounts.rs", "rustix::fs::Mode"),
    ("auth/accounts.rs", "rustix::fs::OFlags"),
    // What --json and --plot name.
    ("load/files.rs", "std::fs"),
    ("load/files.rs", "rustix::fs::FileType"),
    ("load/files.rs", "rustix::fs::fstat"),
    // What the kernel tells of a process.
    ("load/pool_server.rs", "std::fs"),
    // At start: the memory limits of the cgroups.
    ("server/host.rs", "std::fs"),
    // A type of poll's, which rustix keeps there.
    ("server/acceptor.rs", "rustix::fs::Timespec"),
    ("data/wait.rs", "rustix::fs::Timespec"),
    // From a descriptor that vfs has opened.
    ("data/transfer.rs", "rustix::fs::sendfile"),
    // What --transfer-log and --events name.
    ("journal/sink.rs", "rustix::fs"),
    // At start and at a reload: what --deny-file names.
    ("deny.rs", "rustix::fs"),
    // At start: the text of the greeting.
    ("config/banner.rs", "std::fs::File"),
];
/// Where files are touched: those that are served, and the accounts file, which is edited outside the server.
const FILE_HOMES: [&str; 2] = ["vfs/", "passwd/file.rs"];
/// Methods that touch files through a path.
const FILE_METHODS: [&str; 6] =
    ["exists", "canonicalize", "metadata", "symlink_metadata", "read_dir", "set_permissions"];

/// Paths that wait for descriptors, and the files that may.
const WAITING: [&str; 8] = [
    "rustix::event::poll",
    "rustix::event::ppoll",
    "rustix::event::epoll",
    "rustix::event::select",
    "rustix::event::pselect",
    "rustix::event::pause",
    "polling",
    "mio",
];
/// The journal waits for nothing: it only asks whether standard output takes more.
const WAITERS: [&str; 3] = ["data/wait.rs", "server/acceptor.rs", "journal/sink.rs"];

/// Paths that write to a descriptor, and the files that may.
const SENDING: [&str; 8] = [
    "rustix::net::send",
    "rustix::net::sendto",
    "rustix::net::sendmsg",
    "rustix::net::sendmmsg",
    "rustix::fs::sendfile",
    "rustix::io::write",
    "rustix::io::writev",
    "std::io::Write",
];
const SENDERS: [&str; 5] =
    ["session/control.rs", "server/acceptor.rs", "data/transfer.rs", "load/client.rs", "load/wire.rs"];
const SENDING_EXEMPT: [(&str, &str); 12] = [
    // The accounts file and standard output.
    ("passwd/file.rs", "std::io::Write"),
    ("passwd/mod.rs", "std::io::Write"),
    // The bell of the acceptor, an eventfd.
    ("server/wake.rs", "rustix::io::write"),
    // The files of --transfer-log and --events.
    ("journal/sink.rs", "rustix::io::write"),
    // Into a line in memory.
    ("journal/json.rs", "std::io::Write"),
    ("journal/xferlog.rs", "std::io::Write"),
    // Standard output and standard error.
    ("server/mod.rs", "std::io::Write"),
    ("main.rs", "std::io::Write"),
    ("logger.rs", "std::io::Write"),
    ("load/mod.rs", "std::io::Write"),
    // What --json and --plot name.
    ("load/files.rs", "std::io::Write"),
    ("load/progress.rs", "std::io::Write"),
];
/// Methods of sockets that send.
const SENDING_METHODS: [&str; 7] =
    ["send_to", "send_with_flags", "send_vectored", "send_out_of_band", "sendfile", "sendmsg", "write_vectored"];

/// What the pure layer must not know: sockets, files, clock, threads, log.
const IMPURE: [&str; 10] = [
    "std::fs",
    "std::io",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::thread",
    "log",
    "rustix",
    "socket2",
];

/// Most lines of a file in `src/` before its tests; a table may be longer.
const LINES_MAX: usize = 350;
const TABLES: [&str; 2] = ["proto/verb.rs", "limits.rs"];

// --- Reading sources ----------------------------------------------------------------------------

/// Finds what in a file breaks one rule.
type Rule = fn(&Source) -> Vec<String>;

/// One file of `src/`.
struct Source {
    /// Its path below `src/`.
    name: String,
    /// All of its lines.
    text: String,
}

impl Source {
    fn new(name: &str, text: &str) -> Source {
        Source { name: name.to_owned(), text: text.to_owned() }
    }

    /// The lines before the unit tests.
    fn own_lines(&self) -> Vec<&str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests"));
        lines[..tests.unwrap_or(lines.len())].to_vec()
    }

    /// What the compiler sees outside unit tests, without comments and literals.
    fn code(&self) -> String {
        plain(&self.own_lines().join("\n"))
    }

    /// The module of the crate that it belongs to.
    fn module(&self) -> &str {
        self.name.trim_end_matches(".rs").split('/').next().unwrap_or_default()
    }

    /// How deep its own module lies below the crate.
    fn depth(&self) -> usize {
        let path = self.name.trim_end_matches(".rs");
        let path = path.trim_end_matches("/mod");
        if matches!(path, "lib" | "main") { 0 } else { path.split('/').count() }
    }

    /// Modules of the crate that its code names, by `crate::`, `plimsoll::` or enough of `super::`.
    fn modules_used(&self) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for path in paths(&self.code()) {
            let parts: Vec<&str> = path.split("::").collect();
            let ups = parts.iter().take_while(|part| **part == "super").count();
            let start = match parts[0] {
                "crate" | "plimsoll" => 1,
                "super" if ups == self.depth() => ups,
                _ => continue,
            };
            if let Some(module) = parts.get(start) {
                used.insert((*module).to_owned());
            }
        }
        used
    }
}

/// Every file of `src/`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
                if TESTS_ONLY.contains(&name.as_str()) {
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("UTF-8");
                sources.push(Source { name, text });
            }
        }
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(sources.len() > 30, "these are not all sources");
    sources
}

/// The code without comments and without what stands in literals; lines stay lines.
fn plain(code: &str) -> String {
    let characters: Vec<char> = code.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let mut out = String::new();
    let mut index = 0;
    while index < characters.len() {
        let word_before = index > 0 && is_word(at(index - 1));
        let hashes = characters[index + 1..].iter().take_while(|c| **c == '#').count();
        match at(index) {
            '/' if at(index + 1) == '/' => {
                while index < characters.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            // A raw string ends with as many number signs as it began with.
            'r' if !word_before && at(index + 1 + hashes) == '"' => {
                let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                index += hashes + 2;
                while index < characters.len() && !characters[index..].starts_with(&end) {
                    index += 1;
                }
                index += end.len();
                out.push_str("\"\"");
            }
            '"' => {
                index += 1;
                while index < characters.len() && at(index) != '"' {
                    index += if at(index) == '\\' { 2 } else { 1 };
                }
                index += 1;
                out.push_str("\"\"");
            }
            // A character, and not a lifetime.
            '\'' if at(index + 1) == '\\' || at(index + 2) == '\'' => {
                index += if at(index + 1) == '\\' { 3 } else { 2 };
                while index < characters.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
                out.push_str("' '");
            }
            other => {
                out.push(other);
                index += 1;
            }
        }
    }
    out
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Every path in the code: those of `use` with their groups spelt out, and those on the spot.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some(start) = rest.find(|c: char| is_word(c)) {
        rest = &rest[start..];
        let end = path_end(rest);
        let path: String = rest[..end].split_whitespace().collect();
        rest = &rest[end..];
        if path == "use" {
            let end = rest.find(';').unwrap_or(rest.len());
            expand("", &rest[..end], &mut found);
            rest = &rest[end..];
        } else {
            found.insert(path);
        }
    }
    found
}

/// Where the path ends with which the text begins.
fn path_end(text: &str) -> usize {
    let mut end = 0;
    loop {
        let word = text[end..].find(|c: char| !is_word(c)).unwrap_or(text.len() - end);
        end += word;
        let after = text[end..].trim_start();
        let Some(next) = after.strip_prefix("::") else {
            return end;
        };
        let next = next.trim_start();
        if !next.starts_with(is_word) {
            return end;
        }
        end = text.len() - next.len();
    }
}

/// Spells out one tree of a `use` item.
fn expand(prefix: &str, tree: &str, found: &mut BTreeSet<String>) {
    let tree = tree.trim();
    let joined = |part: &str| match (prefix.is_empty(), part) {
        (true, part) => part.to_owned(),
        (false, "self") => prefix.to_owned(),
        (false, part) => format!("{prefix}::{part}"),
    };
    if let Some(open) = tree.find('{') {
        let head = tree[..open].trim().trim_end_matches("::");
        let prefix = if head.is_empty() { prefix.to_owned() } else { joined(head) };
        // The last brace closes this group, those before it close groups inside.
        let inner = &tree[open + 1..];
        let inner = inner.strip_suffix('}').unwrap_or(inner);
        let (mut depth, mut start) = (0, 0);
        for (index, character) in inner.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&prefix, &inner[start..index], found);
                    start = index + 1;
                }
                _ => {}
            }
        }
        expand(&prefix, &inner[start..], found);
    } else if !tree.is_empty() {
        let path = tree.split(" as ").next().unwrap_or(tree);
        found.insert(joined(&path.split_whitespace().collect::<String>()));
    }
}

/// Whether `path` is `of` or lies below it.
fn is_below(path: &str, of: &str) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Whether the code calls a method of this name.
fn calls(code: &str, method: &str) -> bool {
    let squeezed: String = code.split_whitespace().collect();
    squeezed.contains(&format!(".{method}("))
}

/// Fails with every violation that `check` finds in `src/`.
fn assert_none(rule: &str, check: impl Fn(&Source) -> Vec<String>) {
    let found: Vec<String> = sources()
        .iter()
        .flat_map(|source| check(source).into_iter().map(|what| format!("src/{}: {what}", source.name)))
        .collect();
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

// --- Rules --------------------------------------------------------------------------------------

fn wrong_dependencies(source: &Source) -> Vec<String> {
    if source.name == "lib.rs" {
        return Vec::new();
    }
    let Some((module, allowed)) = MAY_USE.iter().find(|(module, _)| *module == source.module()) else {
        return vec!["this module has no place in the order yet: give it one in MAY_USE".to_owned()];
    };
    source
        .modules_used()
        .into_iter()
        .filter(|used| used != module && !allowed.contains(&used.as_str()))
        .map(|used| format!("{module} must not use {used}, only {}", allowed.join(", ")))
        .collect()
}

/// Paths below one of `of`, in a file other than `homes` and not exempt.
fn strangers(source: &Source, of: &[&str], homes: &[&str], exempt: &[(&str, &str)]) -> Vec<String> {
    if homes.iter().any(|home| source.name.starts_with(home)) {
        return Vec::new();
    }
    paths(&source.code())
        .into_iter()
        .filter(|path| of.iter().any(|of| is_below(path, of)))
        .filter(|path| !exempt.contains(&(source.name.as_str(), path.as_str())))
        .collect()
}

fn file_access(source: &Source) -> Vec<String> {
    let mut found = strangers(source, &FILE_ACCESS, &FILE_HOMES, &FILE_ACCESS_EXEMPT);
    if !FILE_HOMES.iter().any(|home| source.name.starts_with(home)) {
        let code = source.code();
        let called = FILE_METHODS.iter().filter(|method| calls(&code, method));
        found.extend(called.map(|method| format!(".{method}()")));
    }
    found
}

fn waiting(source: &Source) -> Vec<String> {
    strangers(source, &WAITING, &WAITERS, &[])
}

fn sending(source: &Source) -> Vec<String> {
    let mut found = strangers(source, &SENDING, &SENDERS, &SENDING_EXEMPT);
    if !SENDERS.contains(&source.name.as_str()) {
        let code = source.code();
        let called = SENDING_METHODS.iter().filter(|method| calls(&code, method));
        found.extend(called.map(|method| format!(".{method}()")));
    }
    found
}

fn impurities(source: &Source) -> Vec<String> {
    if source.module() != "proto" && source.module() != "policy" && source.module() != "limits" {
        return Vec::new();
    }
    strangers(source, &IMPURE, &[], &[])
}

fn dangers(source: &Source) -> Vec<String> {
    let code = source.code();
    let mut found = Vec::new();
    if paths(&code).contains("unsafe") && !UNSAFE.contains(&source.name.as_str()) {
        found.push("unsafe".to_owned());
    }
    for method in ["unwrap", "expect", "unwrap_err", "expect_err"] {
        if calls(&code, method) {
            found.push(format!(".{method}()"));
        }
    }
    for name in ["panic", "todo", "unimplemented", "unreachable", "dbg"] {
        let call = format!("{name}!");
        let begins = |(at, _): (usize, &str)| !code[..at].ends_with(is_word);
        if code.match_indices(&call).any(begins) {
            found.push(call);
        }
    }
    found
}

fn too_long(source: &Source) -> Vec<String> {
    let lines = source.own_lines().len();
    if lines <= LINES_MAX || TABLES.contains(&source.name.as_str()) {
        return Vec::new();
    }
    vec![format!("{lines} lines before its tests")]
}

#[test]
fn dependencies_point_down_only() {
    assert_none("dependencies point up", wrong_dependencies);
}

#[test]
fn only_vfs_touches_files() {
    assert_none("file access outside vfs", file_access);
}

#[test]
fn only_one_place_of_a_worker_and_the_acceptor_wait_for_descriptors() {
    assert_none("waits in another place", waiting);
}

#[test]
fn only_replies_refusals_and_transfers_are_sent() {
    assert_none("sends in another place", sending);
}

#[test]
fn no_exemption_is_left_over() {
    let sources = sources();
    for (name, path) in FILE_ACCESS_EXEMPT.iter().chain(&SENDING_EXEMPT) {
        let used = |source: &Source| source.name == *name && paths(&source.code()).contains(*path);
        assert!(sources.iter().any(used), "{name} has no {path} any more");
    }
    for name in WAITERS.iter().chain(&SENDERS).chain(&TABLES).chain(&FILE_HOMES) {
        assert!(sources.iter().any(|source| source.name.starts_with(*name)), "{name} is gone");
    }
}

#[test]
fn the_protocol_layer_is_pure() {
    assert_none("not pure", impurities);
}

#[test]
fn nothing_outside_tests_is_unsafe_or_panics() {
    assert_none("not allowed outside tests", dangers);
}

#[test]
fn no_file_is_long() {
    assert_none(&format!("more than {LINES_MAX} lines"), too_long);
}

#[test]
fn main_is_an_outline() {
    let sources = sources();
    let main = sources.iter().find(|source| source.name == "main.rs").expect("main.rs");
    let lines = main.text.lines().count();
    assert!(lines < 60, "src/main.rs has {lines} lines");
}

#[test]
fn unit_tests_stand_at_the_end_of_their_file() {
    assert_none("something follows the unit tests", |source| {
        let tests: Vec<&str> = source.text.lines().skip(source.own_lines().len() + 1).collect();
        let end = tests.iter().position(|line| *line == "}");
        let after = end.map_or(&[][..], |end| &tests[end + 1..]);
        after.iter().take(1).map(|line| (*line).to_owned()).collect()
    });
}

#[test]
fn every_module_says_what_it_is() {
    assert_none("begins without //!", |source| {
        if source.text.starts_with("//! ") {
            Vec::new()
        } else {
            vec![source.text.lines().next().unwrap_or_default().to_owned()]
        }
    });
}

// --- The scanner itself -------------------------------------------------------------------------

#[test]
fn the_scanner_sees_through_groups_comments_and_literals() {
    let code = plain(
        "// use crate::a;\nuse crate::{b::{self, C}, d as e, f::*};\nlet x = \"crate::g\"; let y = '\"'; \
         let z = r#\"crate::h \" \"#; fn i<'a>(c: &'a crate::j::K) { super :: l(); b'\\''; crate::m }",
    );
    let found = paths(&code);
    for path in ["crate::b", "crate::b::C", "crate::d", "crate::f::*", "crate::j::K", "super::l", "crate::m"] {
        assert!(found.contains(path), "{path} in {found:?}");
    }
    for path in ["crate::a", "crate::g", "crate::h"] {
        assert!(!found.contains(path), "{path} in {found:?}");
    }
}

#[test]
fn every_rule_can_be_broken() {
    let broken: [(&str, &str, Rule); 21] = [
        ("proto/a.rs", "use crate::vfs::Root;", wrong_dependencies),
        ("proto/a.rs", "use crate::{limits, session::Seat};", wrong_dependencies),
        ("proto/a.rs", "fn a() { super::super::data::b() }", wrong_dependencies),
        ("proto/mod.rs", "use super::data::b;", wrong_dependencies),
        ("auth.rs", "use super::session;", wrong_dependencies),
        ("session/a.rs", "fn a(_: crate::server::Server) {}", wrong_dependencies),
        ("limits.rs", "use crate::proto;", wrong_dependencies),
        ("main.rs", "use plimsoll::{logger, vfs::Root};", wrong_dependencies),
        ("newcomer.rs", "", wrong_dependencies),
        ("session/a.rs", "use std::{fs::File, io};", file_access),
        ("session/a.rs", "fn a() { rustix::fs::openat(b) }", file_access),
        ("config/mod.rs", "fn a(p: &Path) { p\n.canonicalize() }", file_access),
        ("session/a.rs", "use rustix::event::{PollFd, poll};", waiting),
        ("session/a.rs", "use rustix::net::{recv, send};", sending),
        ("data/port.rs", "fn a() { socket.send_to(b, c) }", sending),
        ("proto/a.rs", "use std::io::Read;", impurities),
        ("policy.rs", "fn a() { log::info!() }", impurities),
        ("vfs/a.rs", "fn a() { unsafe { b() } }", dangers),
        ("vfs/a.rs", "fn a() { b\n.unwrap() }", dangers),
        ("vfs/a.rs", "fn a() { panic!() }", dangers),
        ("vfs/a.rs", &"//\n".repeat(LINES_MAX + 1), too_long),
    ];
    for (name, text, rule) in broken {
        assert_eq!(rule(&Source::new(name, text)).len(), 1, "{name}: {text}");
    }
    let fine: [(&str, &str, Rule); 8] = [
        ("session/mod.rs", "use super::vfs::Root; use crate::proto;", wrong_dependencies),
        ("session/a.rs", "use super::super::data::b; use super::list;", wrong_dependencies),
        ("vfs/a.rs", "use rustix::fs::openat;", file_access),
        ("data/wait.rs", "use rustix::event::poll; use rustix::fs::Timespec;", waiting),
        ("data/wait.rs", "use rustix::fs::Timespec;", file_access),
        ("session/control.rs", "use rustix::net::send;", sending),
        ("vfs/a.rs", "#[expect(a)]\nfn a() { b.unwrap_or(c) } // unsafe", dangers),
        ("vfs/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\nfn b() { c.unwrap() }\n}", dangers),
    ];
    for (name, text, rule) in fine {
        assert_eq!(rule(&Source::new(name, text)), Vec::<String>::new(), "{name}: {text}");
    }
}
