//! Accounts: who gets in, who does not and hears nothing of why, caps for each user, and SIGHUP.

use crate::members::{HASH, PASSWORD, accounts, serve};
use crate::server::{Client, Server, eventually, tree};
use std::fs;
use std::path::Path;
use std::process::Output;

/// What a start that must fail prints, and its exit code.
fn refused(root: &Path, flags: &[&str]) -> (String, i32) {
    let output: Output =
        Server::command().arg("serve").arg(root).args(["--listen", "127.0.0.1:0"]).args(flags).output().unwrap();
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

#[test]
fn a_user_gets_in_and_nobody_learns_who_is_one() {
    let (folder, root) = tree();
    let users = accounts(folder.path(), &[("bob", ""), ("old", "expires=2020-01-01"), ("far", "from=192.0.2.0/24")]);
    let server = serve(&root, &users, &[]);
    let mut bob = server.login_as("bob");
    assert!(bob.expect("STAT", "211").contains("Logged in as bob"));
    assert!(!bob.fetch("RETR a.txt").is_empty());
    let replies: Vec<Vec<String>> =
        [("bob", "wrong"), ("nobody", PASSWORD), ("old", PASSWORD), ("far", PASSWORD), ("", "")]
            .map(|(user, password)| {
                let mut client = server.connect();
                // A name that is missing is no argument at all.
                let user = if user.is_empty() { "x y\tz" } else { user };
                vec![client.command(&format!("USER {user}")), client.command(&format!("PASS {password}"))]
            })
            .into();
    for other in &replies {
        assert_eq!(other, &replies[0]);
    }
    assert!(replies[0][0].starts_with("331 ") && replies[0][1].starts_with("530 "), "{:?}", replies[0]);
    // The anonymous user is there as well, and needs none of this.
    server.login();
    let log = server.log();
    assert!(!log.contains(PASSWORD) && !log.contains(HASH), "a secret is in the log");
}

#[test]
fn three_failures_end_a_session() {
    let (folder, root) = tree();
    let server = serve(&root, &accounts(folder.path(), &[("bob", "")]), &[]);
    let mut client = server.connect();
    for expected in ["530 ", "530 ", "421 "] {
        client.expect("USER bob", "331 ");
        client.expect("PASS wrong", expected);
    }
    client.expect_end();
}

#[test]
fn an_address_that_guesses_has_to_wait_and_no_worker_waits_with_it() {
    let (folder, root) = tree();
    let server = serve(&root, &accounts(folder.path(), &[("bob", "")]), &["--workers", "2"]);
    let mut held_off = false;
    for _ in 0..20 {
        let mut client = server.connect();
        client.expect("USER bob", "331 ");
        let reply = client.command("PASS wrong");
        if reply.starts_with("421 ") && reply.contains("address") {
            client.expect_end();
            held_off = true;
            break;
        }
        assert!(reply.starts_with("530 "), "{reply}");
    }
    assert!(held_off, "nobody is held off");
    // The right password does not help now, and says nothing of being right.
    let mut bob = server.connect();
    bob.expect("USER bob", "331 ");
    assert!(bob.command(&format!("PASS {PASSWORD}")).contains("address"));
    // Others are served, and so is the anonymous user from there.
    server.login();
    if let Ok(listener) = std::net::TcpListener::bind("127.0.0.2:0") {
        drop(listener);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.2:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.connect(&server.v4().into()).unwrap();
        let mut other = Client::over(socket.into());
        other.log_in_as("bob");
    }
}

#[test]
fn each_user_has_a_cap_that_is_given_back_however_a_session_ends() {
    let (folder, root) = tree();
    let users = accounts(folder.path(), &[("one", "max-sessions=1"), ("two", ""), ("many", "max-sessions=9")]);
    let server = serve(&root, &users, &["--max-per-user", "2"]);
    let full = |user: &str| {
        let mut client = server.connect();
        client.expect(&format!("USER {user}"), "331 ");
        let reply = client.command(&format!("PASS {PASSWORD}"));
        // One who got in has to be gone before the next may come.
        client.expect("QUIT", "221 ");
        client.expect_end();
        reply.starts_with("530 ") && reply.contains("maximum number")
    };
    let enters = |user: &str| {
        let mut client = None;
        eventually("the place to be free", || {
            let mut other = server.connect();
            other.expect(&format!("USER {user}"), "331 ");
            let entered = other.command(&format!("PASS {PASSWORD}")).starts_with("230 ");
            client = entered.then_some(other);
            entered
        });
        client.unwrap()
    };
    for (user, cap) in [("one", 1), ("two", 2), ("many", 9)] {
        let mut held: Vec<Client> = (0..cap).map(|_| server.login_as(user)).collect();
        assert!(full(user), "{user}");
        let ends: [&dyn Fn(&mut Client); 4] = [
            &|client| drop(client.expect("QUIT", "221 ")),
            &|client| drop(client.expect("REIN", "220 ")),
            &|client| drop(client.expect("USER two", "331 ")),
            &|client| client.stream.shutdown(std::net::Shutdown::Both).unwrap(),
        ];
        for end in ends {
            let mut client = held.pop().unwrap();
            end(&mut client);
            held.push(enters(user));
            assert!(full(user), "{user}");
        }
    }
}

#[test]
fn sighup_reads_the_accounts_and_the_banner_again_and_disturbs_nobody() {
    let (folder, root) = tree();
    let banner = folder.path().join("banner");
    fs::write(&banner, "first\n").unwrap();
    let users = accounts(folder.path(), &[("bob", "write=all")]);
    let flag = format!("@{}", banner.display());
    let server = serve(&root, &users, &["--banner", &flag, "--log", "warn"]);
    let mut bob = server.login_as("bob");
    let reload = || {
        let before = server.log().matches("reloaded").count();
        server.signal("HUP");
        eventually("the server to reload", || server.log().matches("reloaded").count() > before);
    };
    accounts(folder.path(), &[("eve", "write=all")]);
    fs::write(&banner, "second\n").unwrap();
    reload();
    let (_, greeting) = Client::try_connect(server.v4());
    assert_eq!(greeting, "220 second");
    server.login_as("eve");
    bob.store("STOR still", b"here");
    let mut again = server.connect();
    again.expect("USER bob", "331 ");
    again.expect(&format!("PASS {PASSWORD}"), "530 ");
    // What is broken is not taken, and says where it is broken.
    fs::write(&users, format!("eve:{HASH}\nbad line\n")).unwrap();
    fs::write(&banner, "\n").unwrap();
    reload();
    let log = server.log();
    assert!(log.contains(&format!("{}:2: ", users.display())), "{log}");
    server.login_as("eve");
    assert_eq!(Client::try_connect(server.v4()).1, "220 second");
}

#[test]
fn what_is_wrong_with_the_accounts_is_told_at_start() {
    let (folder, root) = tree();
    let users = folder.path().join("users");
    let path = users.to_str().unwrap();
    for (text, line, what) in [
        ("bob\n", 1, ""),
        (&format!(":{HASH}\n"), 1, "name"),
        (&format!("bob:{HASH}:\n"), 1, "colon"),
        (&format!("bob:{HASH}\nbob:{HASH}\n"), 2, "bob"),
        (&format!("# fine\n\nbob:{HASH}:write=maybe\n"), 3, "write"),
        (&format!("bob:{HASH}:speed=1\n"), 1, "speed"),
        (&format!("bob:{HASH}:{HASH}\n"), 1, "key=value"),
        ("bob:plain\n", 1, "hash"),
        (&format!("anonymous:{HASH}\n"), 1, "anonymous"),
    ] {
        fs::write(&users, text).unwrap();
        let (told, code) = refused(&root, &["--accounts", path]);
        assert!(told.starts_with(&format!("plimsoll: --accounts: {path}:{line}: ")), "{text:?}: {told}");
        assert!(told.contains(what) && told.lines().count() == 1 && code == 1, "{text:?}: {told}");
        assert!(!told.contains(HASH), "{told}");
    }
    fs::write(&users, format!("bob:{HASH}:root=/no/such/folder\n")).unwrap();
    fs::set_permissions(&users, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (told, _) = refused(&root, &["--accounts", path]);
    assert!(told.starts_with("plimsoll: --accounts: user \"bob\": ") && told.lines().count() == 1, "{told}");
    let (told, _) = refused(&root, &["--accounts", "/no/such/file"]);
    assert!(told.starts_with("plimsoll: --accounts: ") && told.lines().count() == 1, "{told}");
    let (told, _) = refused(&root, &["--deny-file", "/no/such/file"]);
    assert!(told.starts_with("plimsoll: --deny-file: ") && told.lines().count() == 1, "{told}");
    let (told, _) = refused(&root, &["--transfer-log", "/no/such/folder/log"]);
    assert!(told.starts_with("plimsoll: --transfer-log: ") && told.lines().count() == 1, "{told}");
    let (told, _) = refused(&root, &["--anonymous", "dropbox", "--incoming", "/no/such/folder"]);
    assert!(told.starts_with("plimsoll: --incoming: ") && told.lines().count() == 1, "{told}");
}

#[test]
fn an_account_has_an_idle_timeout_of_its_own() {
    let (folder, root) = tree();
    let users = accounts(folder.path(), &[("short", "idle-timeout=200ms"), ("long", "")]);
    let server = serve(&root, &users, &[]);
    let (mut short, mut long) = (server.login_as("short"), server.login_as("long"));
    assert!(short.reply().starts_with("421 Idle"));
    long.expect("NOOP", "200 ");
}

#[test]
fn nobody_is_anonymous_where_the_operator_does_not_want_it() {
    let (folder, root) = tree();
    let server = serve(&root, &accounts(folder.path(), &[("bob", "")]), &["--anonymous", "off"]);
    let mut guest = server.connect();
    guest.expect("USER anonymous", "331 ");
    guest.expect("PASS a@b", "530 ");
    server.login_as("bob");
}

#[test]
fn those_on_the_deny_list_are_turned_away() {
    let (folder, root) = tree();
    let list = folder.path().join("deny");
    fs::write(&list, "# nobody yet\n192.0.2.0/24\n").unwrap();
    let server = Server::start(&root, &["--deny-file", list.to_str().unwrap()]);
    let mut before = server.login();
    fs::write(&list, "127.0.0.0/8\n::1\n").unwrap();
    server.signal("HUP");
    server.wait_for_log("reloaded: --deny-file");
    let (mut denied, greeting) = Client::try_connect(server.v4());
    assert!(greeting.starts_with("421 "), "{greeting}");
    denied.expect_end();
    before.expect("NOOP", "200 ");
}

#[test]
fn the_text_of_a_folder_is_shown_to_those_who_enter_it() {
    let (_folder, root) = tree();
    fs::write(root.join("sub/.message"), "Hello\r\n226 not a reply\n\u{1b}[31mred\n").unwrap();
    let server = Server::start(&root, &["--messages"]);
    let mut guest = server.login();
    let reply = guest.expect("CWD sub", "250-");
    assert!(
        reply.contains("\n Hello\n") && reply.contains("\n 226 not a reply\n") && !reply.contains('\u{1b}'),
        "{reply}"
    );
    assert_eq!(guest.expect("CWD ..", "250 ").lines().count(), 1);
    let server = Server::start(&root, &[]);
    assert_eq!(server.login().expect("CWD sub", "250 ").lines().count(), 1);
}

#[test]
fn what_is_done_is_written_down() {
    let (folder, root) = tree();
    let [xferlog, events] = ["xferlog", "events"].map(|name| folder.path().join(name));
    let users = accounts(folder.path(), &[("bob", "write=all")]);
    let flags = ["--transfer-log", xferlog.to_str().unwrap(), "--events", events.to_str().unwrap(), "--log", "warn"];
    let server = serve(&root, &users, &flags);
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let mut bob = server.login_as("bob");
    bob.store("STOR new\tfile", b"12345");
    bob.fetch("RETR a.txt");
    bob.expect("DELE a.txt", "250 ");
    let mut wrong = server.connect();
    wrong.expect("USER bob", "331 ");
    wrong.expect("PASS no", "530 ");
    bob.expect("SITE CHMOD 600 sub/b.txt", "200 ");
    bob.expect("QUIT", "221 ");
    eventually("the events", || read(&events).lines().count() >= 7);
    eventually("the end of the session", || {
        let has = |line: &str, words: &[&str]| words.iter().all(|word| line.contains(word));
        let log = read(&events);
        log.lines().any(|line| has(line, &["\"ended\"", "\"bob\"", "\"quit\""]))
            && log.lines().any(|line| has(line, &["SITE CHMOD", "600"]))
    });
    eventually("the transfers", || read(&xferlog).lines().count() == 2);
    let log = read(&xferlog);
    let first: Vec<&str> = log.lines().next().unwrap().split(' ').collect();
    assert!(first.len() >= 18 && first.contains(&"bob") && first.contains(&"i"), "{log}");
    assert!(!read(&events).contains(PASSWORD));
    // Moved away and opened anew, as logrotate does.
    let moved = folder.path().join("events.1");
    fs::rename(&events, &moved).unwrap();
    server.signal("HUP");
    server.wait_for_log("reloaded");
    server.login();
    eventually("the new file", || read(&events).contains("anonymous"));
    assert!(read(&moved).contains("bob"));
}
