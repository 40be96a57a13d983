//! A first conversation.

use crate::server::{Server, big, tree};

#[test]
fn a_file_is_fetched_whole_and_the_session_ends_in_order() {
    let (_folder, root) = tree();
    let server = Server::start(&root, &[]);
    let mut client = server.login();
    assert_eq!(client.fetch("RETR big.bin"), big());
    client.expect("QUIT", "221 ");
    client.expect_end();
}

#[test]
fn the_server_tells_where_it_is_how_to_try_it_and_what_it_can_cost() {
    let (_folder, root) = tree();
    let server = Server::start_at(&root, "127.0.0.1:0", &["--workers", "8", "--queue", "4"]);
    let [ready, try_it, load_line] = server.ready() else { panic!("{:?}", server.ready()) };
    assert!(ready.starts_with("plimsoll ") && ready.ends_with(&format!("listening on {}", server.v4())), "{ready}");
    assert_eq!(*try_it, format!("try {}", server.url()));
    assert!(load_line.starts_with("load line: 8 sessions, 4 queued, worst case "), "{load_line}");
}
