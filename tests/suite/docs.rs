//! The documents against the program: the table of verbs, the flags, the version, the links, the names of
//! tests.

use crate::server::Server;
use plimsoll::proto::verb::VERBS;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A path in the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every document, by its path in the repository.
fn documents() -> Vec<String> {
    let mut names = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    for entry in std::fs::read_dir(path("docs")).expect("docs/") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    assert!(names.len() > 3, "{names:?}");
    names
}

/// The rows of all tables of a document, cell by cell, without those that only draw lines.
fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter_map(|line| line.strip_prefix('|'))
        .map(|line| {
            // A bar in a cell is written with a backslash before it.
            let line = line.replace("\\|", "\0");
            let cells = line.trim_end().trim_end_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('\0', "|")).collect()
        })
        .filter(|cells: &Vec<String>| !cells[0].starts_with("--"))
        .collect()
}

/// The rows whose first cell is code that begins with `start`, without the back-quotes.
fn code_rows(text: &str, start: impl Fn(&str) -> bool) -> Vec<Vec<String>> {
    rows(text)
        .into_iter()
        .filter_map(|mut cells| {
            let code = cells[0].strip_prefix('`')?.strip_suffix('`')?.to_owned();
            cells[0] = code;
            start(&cells[0]).then_some(cells)
        })
        .collect()
}

#[test]
fn each_verb_has_one_row_in_commands_md_with_its_syntax_help_and_source() {
    let rows = code_rows(&read("docs/COMMANDS.md"), |code| {
        let verb = code.split(' ').next().unwrap_or_default();
        (3..=4).contains(&verb.len()) && verb.bytes().all(|byte| byte.is_ascii_uppercase())
    });
    let mut wrong = Vec::new();
    for verb in VERBS {
        let usage = format!("{} {}", verb.name, verb.syntax);
        let expected = [usage.trim(), verb.help, verb.source];
        let own: Vec<_> = rows.iter().filter(|cells| cells[0].split(' ').next() == Some(verb.name)).collect();
        if own.len() != 1 {
            wrong.push(format!("{} has {} rows", verb.name, own.len()));
        }
        for cells in own {
            if cells.get(..3).is_none_or(|cells| cells != expected) {
                wrong.push(format!("{cells:?}\n  should begin with {expected:?}"));
            }
        }
    }
    for cells in &rows {
        let name = cells[0].split(' ').next().unwrap_or_default();
        if !VERBS.iter().any(|verb| verb.name == name) {
            wrong.push(format!("{name} is not a verb"));
        }
    }
    assert!(wrong.is_empty(), "docs/COMMANDS.md:\n{}", wrong.join("\n"));
}

/// The flags in the help of a command, each with its default.
fn flags_of_help(command: &str) -> BTreeMap<String, String> {
    let help = Server::command().args([command, "--help"]).output().expect("it runs");
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let mut texts: Vec<(String, String)> = Vec::new();
    let options = help.lines().skip_while(|line| *line != "Options:").skip(1);
    for line in options.take_while(|line| !line.is_empty()) {
        match line.strip_prefix("  --") {
            Some(line) => {
                let (name, text) = line.split_once(' ').unwrap_or((line, ""));
                texts.push((format!("--{}", name.trim_end_matches(',')), text.trim().to_owned()));
            }
            None => {
                let (_, text) = texts.last_mut().expect("a flag comes first");
                text.push(' ');
                text.push_str(line.trim());
            }
        }
    }
    assert!(texts.len() > 12, "{help}");
    texts
        .into_iter()
        .map(|(name, text)| {
            let default = text
                .rsplit_once("(default")
                .map(|(_, default)| default.trim_start_matches(':').trim_end_matches(')').trim());
            (name, default.unwrap_or_default().to_owned())
        })
        .collect()
}

/// The flags in the tables of a document, each with its default.
fn flags_told(text: &str) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    for cells in code_rows(text, |code| code.starts_with("--")) {
        assert!(cells.len() == 3 && !cells[2].is_empty(), "{cells:?}");
        let name = cells[0].split(' ').next().unwrap_or_default().to_owned();
        let twice = told.insert(name, cells[1].clone());
        assert_eq!(twice, None, "{cells:?} is there twice");
    }
    told
}

#[test]
fn the_readme_has_exactly_the_flags_of_help_with_the_same_defaults() {
    assert_eq!(flags_told(&read("README.md")), flags_of_help("serve"));
}

/// The section of a document under this heading.
fn section(text: &str, heading: &str) -> String {
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).expect(heading);
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

#[test]
fn the_flags_of_load_are_told_with_the_same_defaults() {
    let text = section(&read("docs/OPERATIONS.md"), "Putting load on a server");
    assert_eq!(flags_told(&text), flags_of_help("load"));
    // Examples of it anywhere.
    let flags = flags_of_help("load");
    let mut seen = 0;
    for name in documents() {
        let text = read(&name);
        for line in text.lines().filter(|line| line.contains("plimsoll load ")) {
            let own = line.split("plimsoll load ").nth(1).and_then(|own| own.split('`').next()).unwrap_or_default();
            for word in own.split([' ', '=', ';', ',', ')']).filter(|word| word.starts_with("--")) {
                seen += 1;
                assert!(flags.contains_key(word), "{name}: {word} in {line:?}");
            }
        }
    }
    assert!(seen > 5, "the documents give examples");
}

#[test]
fn the_flags_of_passwd_are_told_with_the_same_defaults() {
    let text = section(&read("docs/OPERATIONS.md"), "Accounts");
    let flags = flags_of_help("passwd");
    assert_eq!(flags_told(&text), flags);
    let examples = text.lines().filter(|line| line.contains("plimsoll passwd /"));
    let words = examples.flat_map(|line| line.split([' ', '=']).filter(|word| word.starts_with("--")));
    let given: BTreeSet<&str> = words.collect();
    assert!(given.len() > 4 && given.iter().all(|flag| flags.contains_key(*flag)), "{given:?}");
}

#[test]
fn no_document_tells_of_a_flag_that_serve_does_not_have() {
    let flags = flags_of_help("serve");
    let mut seen = 0;
    for name in documents() {
        let text = read(&name);
        let commands = text.lines().filter(|line| line.contains("plimsoll serve "));
        for line in commands {
            // Only what follows the name of the command is plimsoll's.
            let own = line.split("plimsoll serve ").nth(1).unwrap_or_default();
            for word in own.split([' ', '`', '=', ';', ',']).filter(|word| word.starts_with("--")) {
                seen += 1;
                assert!(flags.contains_key(word), "{name}: {word} in {line:?}");
            }
        }
    }
    assert!(seen > 5, "the documents give examples");
}

#[test]
fn the_readme_tells_the_two_commands() {
    let readme = read("README.md");
    let commands: Vec<&str> = readme.lines().map(str::trim).collect();
    assert!(commands.contains(&"scripts/test"));
    assert!(
        commands.iter().any(|line| line.starts_with("cargo run --release -- serve")),
        "cargo run --release -- serve"
    );
    for script in ["scripts/test", ".ci/run"] {
        let mode = path(script).metadata().expect(script).permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} is executable");
    }
}

/// Links of a document: what stands in parentheses after a text in brackets.
fn links(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut links = Vec::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if !fenced {
            let ends = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            links.extend(ends.map(str::to_owned));
        }
    }
    links
}

/// The anchors of a document: its headings as they are in addresses.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let headings = text.lines().filter(|line| {
        fenced ^= line.trim_start().starts_with("```");
        !fenced && line.starts_with('#')
    });
    headings
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn relative_links_in_documents_lead_somewhere() {
    let mut followed = 0;
    for name in documents() {
        let text = read(&name);
        let folder = path(&name).parent().expect("a folder").to_owned();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path(&name) } else { folder.join(file) };
            assert!(target.exists(), "{name}: {link} leads nowhere");
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&target).expect("a text");
                assert!(anchors(&text).contains(anchor), "{name}: {link}: there is no such heading");
            }
        }
    }
    assert!(followed > 10, "the documents refer to each other");
}

/// What stands in back-quotes in a line.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names in a path of Rust, `a::b::c`; `None` where the code is something else.
fn names_in(code: &str) -> Option<Vec<&str>> {
    let names: Vec<&str> = code.split("::").collect();
    let is_name = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (names.len() > 1 && names.iter().all(is_name)).then_some(names)
}

/// Folders of `tests/` whose names begin the names of their tests.
const TEST_FOLDERS: [&str; 4] = ["hostile", "soak", "stress", "suite"];

/// The source of a module: `suite::docs` is `tests/suite/docs.rs`, `vfs` is `src/vfs/mod.rs`.
fn module(names: &[&str]) -> Option<String> {
    let base = if TEST_FOLDERS.contains(names.first()?) { "tests" } else { "src" };
    let place = path(base).join(names.join("/"));
    let files = [place.with_extension("rs"), place.join("mod.rs")];
    files.iter().find_map(|file| std::fs::read_to_string(file).ok())
}

/// The functions under `#[test]`, those of proptest as well.
fn tests_in(source: &str) -> BTreeSet<&str> {
    let mut tests = BTreeSet::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" {
            marked = true;
        } else if let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next()) {
            if marked {
                tests.insert(name);
            }
            marked = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            marked = false;
        }
    }
    tests
}

/// Whether a source defines this function, type or constant.
fn defines(source: &str, name: &str) -> bool {
    const KINDS: [&str; 7] = ["fn", "struct", "enum", "trait", "type", "const", "static"];
    source.lines().any(|line| {
        let words: Vec<&str> = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        words.windows(2).any(|pair| KINDS.contains(&pair[0]) && pair[1] == name)
    })
}

/// What is wrong with a path of Rust in a document. One that does not begin with a module of this
/// repository is no concern of ours, unless it has to be a test.
fn fault(names: &[&str], must_be_test: bool) -> Option<&'static str> {
    let must_be_test = must_be_test || TEST_FOLDERS.contains(&names[0]);
    let found = (1..=names.len()).rev().find_map(|depth| Some((depth, module(&names[..depth])?)));
    let Some((depth, source)) = found else {
        return must_be_test.then_some("there is no such file");
    };
    let tests = tests_in(&source);
    match &names[depth..] {
        [] if must_be_test => tests.is_empty().then_some("it has no tests"),
        [name] if tests.contains(name) => None,
        _ if must_be_test => Some("there is no such test"),
        rest => (!rest.iter().all(|name| defines(&source, name))).then_some("there is no such thing"),
    }
}

/// The cells under `Tests` in all tables of a document.
fn cells_of_tests(text: &str) -> Vec<String> {
    let mut cells = Vec::new();
    for table in text.split("\n\n") {
        let mut rows = rows(table).into_iter();
        let column = rows.next().and_then(|head| head.iter().position(|cell| cell == "Tests"));
        if let Some(column) = column {
            cells.extend(rows.map(|mut row| row.swap_remove(column)));
        }
    }
    cells
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let mut wrong = BTreeSet::new();
    let mut seen = 0;
    // What the changelog tells of may be gone.
    for name in documents().into_iter().filter(|name| name != "CHANGELOG.md") {
        let text = read(&name);
        for code in text.lines().flat_map(code) {
            let fault = names_in(code).and_then(|names| fault(&names, false));
            wrong.extend(fault.map(|fault| format!("{name}: {code}: {fault}")));
        }
        for cell in cells_of_tests(&text) {
            let mut tests = 0;
            for code in code(&cell) {
                tests += 1;
                let fault = match names_in(code) {
                    Some(names) => fault(&names, true),
                    None => (!path(code).is_file()).then_some("neither a test nor a script"),
                };
                wrong.extend(fault.map(|fault| format!("{name}: {code}: {fault}")));
            }
            // A row without a test has to say so.
            if tests == 0 && !cell.starts_with("none: ") && !cell.contains("not yet tested") {
                wrong.insert(format!("{name}: no test in {cell:?}"));
            }
            seen += tests;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 200, "the documents name tests: {seen}");
}

#[test]
fn a_wrong_name_of_a_test_would_be_seen() {
    for (code, must_be_test) in [
        ("suite::docs::a_wrong_name_of_a_test_would_be_seen", true),
        ("suite::docs", true),
        ("vfs::walk::the_walk_finds_what_the_kernel_finds", true),
        ("proto::command::no_line_panics", true),
        ("server::registry", false),
        ("server::Server::start", false),
        ("somebody::elses", false),
    ] {
        assert_eq!(fault(&names_in(code).expect("a path"), must_be_test), None, "{code}");
    }
    for (code, must_be_test) in [
        // No test, but a function; no function; no file; a file without tests; a module; nobody's.
        ("suite::docs::documents", false),
        ("suite::docs::no_such_test", false),
        ("suite::no_such_file::no_such_test", false),
        ("hostile::netns", false),
        ("server::Server::start", true),
        ("server::no_such_module", false),
        ("vfs::walk::no_such_test", true),
        ("somebody::elses", true),
    ] {
        assert!(fault(&names_in(code).expect("a path"), must_be_test).is_some(), "{code}");
    }
    let table = "| A | Tests |\n|---|---|\n| `a` | `b::c`, `d` |\n\n| A |\n|---|\n| e |\n";
    assert_eq!(cells_of_tests(table), ["`b::c`, `d`"]);
    for code in ["a", "a::", "a::b c", "a::…", "[::]:21"] {
        assert_eq!(names_in(code), None, "{code}");
    }
}

#[test]
fn the_changelog_begins_with_the_version_of_the_program() {
    let changelog = read("CHANGELOG.md");
    let first = changelog
        .lines()
        .find_map(|line| line.strip_prefix("## ["))
        .and_then(|line| line.split(']').next())
        .expect("a version");
    if first == "Unreleased" {
        assert!(changelog.contains(concat!("\n## [", env!("CARGO_PKG_VERSION"), "]")));
    } else {
        assert_eq!(first, env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn both_licences_are_there_as_the_manifest_promises() {
    assert_eq!(env!("CARGO_PKG_LICENSE"), "MIT OR Apache-2.0");
    assert!(read("LICENSE-MIT").contains("Permission is hereby granted, free of charge"));
    assert!(read("LICENSE-APACHE").contains("Version 2.0, January 2004"));
}
