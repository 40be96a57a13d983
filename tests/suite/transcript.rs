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
