//! What was found by fuzzing or on the way there, and takes more than a seed to show.

use crate::checks::replies;
use crate::server::Server;
use std::io::Read;

/// Entries whose listing is more than the kernel holds for a client that does not read.
const ENTRIES: usize = 6_000;

/// The listing of STAT is a reply of several lines. A session that is ended in the middle of it has to
/// end it, too: the 421 after it would be a line of it to a strict client, which waits for `213 `.
#[test]
fn a_status_that_is_cut_short_is_still_a_whole_reply() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..ENTRIES {
        std::fs::write(folder.path().join(format!("{number:0>120}")), "").unwrap();
    }
    let server = Server::start(folder.path(), &["--stall-timeout", "300ms"]);
    let mut client = server.login();
    client.send("STAT /");
    server.wait_for_log("marked: Reply");
    let mut heard = Vec::new();
    client.stream.read_to_end(&mut heard).unwrap();
    let (replies, rest) = replies::parse(&heard);
    assert!(rest.is_empty(), "half a reply: {:?}", String::from_utf8_lossy(rest).lines().last());
    let codes: Vec<u16> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [213, 421]);
    assert!(replies[0].lines.len() < ENTRIES, "the listing was not cut short");
}
