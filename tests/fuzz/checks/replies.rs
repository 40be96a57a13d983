//! What a client with a strict parser makes of the bytes on the control connection.

/// One reply: its code, and its lines without their ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The three digits.
    pub code: u16,
    /// Its lines, whole.
    pub lines: Vec<Vec<u8>>,
}

/// Reads replies off the front of `bytes`, as many as are whole; what is left is the start of another.
///
/// # Panics
/// Where something is not a reply.
pub fn parse(mut bytes: &[u8]) -> (Vec<Parsed>, &[u8]) {
    let mut replies = Vec::new();
    while let Some((reply, rest)) = one(bytes) {
        replies.push(reply);
        bytes = rest;
    }
    (replies, bytes)
}

fn one(bytes: &[u8]) -> Option<(Parsed, &[u8])> {
    let (first, mut rest) = line(bytes)?;
    assert!(
        first.len() >= 4 && first[..3].iter().all(u8::is_ascii_digit) && (b'1'..=b'5').contains(&first[0]),
        "not a reply: {:?}",
        String::from_utf8_lossy(first)
    );
    let code = first[..3].iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let mut lines = vec![first.to_vec()];
    if first[3] == b'-' {
        let last = [&first[..3], b" "].concat();
        loop {
            let (next, later) = line(rest)?;
            rest = later;
            lines.push(next.to_vec());
            if next.starts_with(&last) {
                break;
            }
            assert!(next.starts_with(b" "), "no inner line: {:?}", String::from_utf8_lossy(next));
        }
    } else {
        assert_eq!(first[3], b' ', "not a reply: {:?}", String::from_utf8_lossy(first));
    }
    Some((Parsed { code, lines }, rest))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&b| b == b'\n')?;
    let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
    let line = line.strip_suffix(b"\r").expect("a line ends with CRLF");
    assert!(line.iter().all(|&b| b >= 0x20 && b != 0x7F), "a control byte in {line:?}");
    // A byte 255 is a Telnet command unless it is doubled.
    let runs = line.split(|&b| b != 0xFF).map(<[u8]>::len);
    assert!(runs.into_iter().all(|run| run.is_multiple_of(2)), "a Telnet command in {line:?}");
    Some((line, rest))
}
