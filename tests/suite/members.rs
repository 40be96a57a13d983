//! What tests of accounts and uploads share: an accounts file, and clients that log in with a password.

use crate::server::{Client, Server};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// The hash of [`PASSWORD`], as `openssl passwd -5 -salt saltsalt secret` makes it.
pub const HASH: &str = "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA";

/// The password of every account.
pub const PASSWORD: &str = "secret";

/// Writes an accounts file with a line for each `(name, keys)`, and gives its path.
pub fn accounts(folder: &Path, users: &[(&str, &str)]) -> PathBuf {
    let path = folder.join("accounts");
    let line = |name: &str, keys: &str| match keys {
        "" => format!("{name}:{HASH}\n"),
        keys => format!("{name}:{HASH}:{keys}\n"),
    };
    let lines: String = users.iter().map(|(name, keys)| line(name, keys)).collect();
    std::fs::write(&path, lines).expect("a file");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    path
}

/// A server of `root` with one user, `bob`, who may change everything, and more flags.
pub fn bobs(folder: &Path, root: &Path, flags: &[&str]) -> Server {
    serve(root, &accounts(folder, &[("bob", "write=all")]), flags)
}

/// A server with this accounts file.
pub fn serve(root: &Path, accounts: &Path, flags: &[&str]) -> Server {
    let mut all = vec!["--accounts", accounts.to_str().expect("UTF-8")];
    all.extend(flags);
    Server::start(root, &all)
}

impl Client {
    /// Logs in with [`PASSWORD`] and sets TYPE I.
    pub fn log_in_as(&mut self, user: &str) {
        self.expect(&format!("USER {user}"), "331 ");
        self.expect(&format!("PASS {PASSWORD}"), "230 ");
        self.expect("TYPE I", "200 ");
    }

    /// Uploads these bytes with a transfer command over EPSV; gives the final reply.
    pub fn upload(&mut self, command: &str, bytes: &[u8]) -> String {
        let mut data = self.begin_upload(command);
        // A server that refuses while it is sent to is told of by its reply.
        let _ = data.write_all(bytes);
        drop(data);
        self.reply()
    }

    /// The same, which must be stored.
    pub fn store(&mut self, command: &str, bytes: &[u8]) -> String {
        let reply = self.upload(command, bytes);
        assert!(reply.starts_with("226 "), "{command}: {reply}");
        reply
    }

    /// Begins an upload: 150 has come.
    pub fn begin_upload(&mut self, command: &str) -> TcpStream {
        let data = self.passive(true);
        self.expect(command, "150 ");
        data
    }

    /// A transfer that is refused before there is a data connection.
    pub fn refused(&mut self, command: &str, start: &str) -> String {
        let mut data = self.passive(true);
        let reply = self.expect(command, start);
        let mut rest = Vec::new();
        // Ended or reset: nothing comes.
        let _ = data.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{command}");
        reply
    }
}

impl Server {
    /// A new control connection over IPv4, logged in with [`PASSWORD`], in image type.
    pub fn login_as(&self, user: &str) -> Client {
        let mut client = self.connect();
        client.log_in_as(user);
        client
    }
}

/// The names in a folder, in order, hidden ones too.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("it is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("it is read").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Closes a connection with a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).expect("a socket option");
}
