//! The documents against the program: the table of verbs, the flags, the version, the links.

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

/// The flags of `serve --help`, each with its default.
fn flags_of_help() -> BTreeMap<String, String> {
    let help = Server::command().args(["serve", "--help"]).output().expect("it runs");
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
    assert!(texts.len() > 15, "{help}");
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

#[test]
fn the_readme_has_exactly_the_flags_of_help_with_the_same_defaults() {
    let rows = code_rows(&read("README.md"), |code| code.starts_with("--"));
    let mut told = BTreeMap::new();
    for cells in rows {
        assert!(cells.len() == 3 && !cells[2].is_empty(), "{cells:?}");
        let name = cells[0].split(' ').next().unwrap_or_default().to_owned();
        let twice = told.insert(name, cells[1].clone());
        assert_eq!(twice, None, "{cells:?} is there twice");
    }
    assert_eq!(told, flags_of_help());
}

#[test]
fn no_document_tells_of_a_flag_that_serve_does_not_have() {
    let flags = flags_of_help();
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
