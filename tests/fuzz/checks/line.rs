//! Lines: the same ones whatever the chunks are, within the one buffer.

use super::byte;
use plimsoll::limits::{LINE_DISCARD_MAX, LINE_MAX};
use plimsoll::proto::line::{LineBuffer, LineError};

type Line = Result<Vec<u8>, LineError>;

/// Longest stream that is made of an input: lines that are too long, and then one that does not end.
const STREAM_MAX: usize = 2 * LINE_DISCARD_MAX;

/// The first byte says how the rest is meant, three more give the sizes of chunks.
pub fn check(mut data: &[u8]) {
    let mode = byte(&mut data);
    let sizes = [byte(&mut data), byte(&mut data), byte(&mut data)].map(|size| usize::from(size).pow(2) / 8 + 1);
    let stream = if mode & 12 != 12 { data.to_vec() } else { repeated(data) };
    let expected = reference(&stream);
    let mut buffer = LineBuffer::new();
    for (sizes, lazy) in [(&sizes[..], mode & 2 != 0), (&[usize::MAX][..], false)] {
        assert_eq!(lines(&mut buffer, &stream, sizes, lazy), expected);
        // The same buffer serves the next connection.
        buffer.reset();
    }
}

/// Pairs of a byte and how often it comes, so that a short input makes a long line.
fn repeated(data: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    for pair in data.chunks_exact(2) {
        let times = usize::from(pair[1]).pow(2).max(1);
        if stream.len() + times > STREAM_MAX {
            break;
        }
        stream.resize(stream.len() + times, pair[0]);
    }
    stream
}

fn lines(buffer: &mut LineBuffer, stream: &[u8], sizes: &[usize], lazy: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut rest = stream;
    for &size in sizes.iter().cycle() {
        let spare = buffer.spare();
        assert!(spare.len() <= LINE_MAX);
        let count = size.min(spare.len()).min(rest.len());
        spare[..count].copy_from_slice(&rest[..count]);
        buffer.filled(count);
        rest = &rest[count..];
        if lazy && !rest.is_empty() {
            let _ = buffer.peek_line();
            if !buffer.is_full() {
                continue;
            }
        }
        while let Some(line) = buffer.peek_line() {
            let line = line.map(<[u8]>::to_vec);
            assert!(line.as_ref().map_or(0, Vec::len) <= LINE_MAX);
            lines.push(line);
            if lines.last() == Some(&Err(LineError::Endless)) {
                return lines;
            }
            buffer.consume_line();
        }
        assert!(!buffer.is_full(), "a drained buffer has room");
        if rest.is_empty() {
            return lines;
        }
    }
    unreachable!("there is always a size")
}

/// The rules, told over the whole stream at once.
pub fn reference(stream: &[u8]) -> Vec<Line> {
    let (text, endless) = without_telnet(stream);
    let first = text.iter().position(|&b| b == b'\n');
    let bare = first.is_some_and(|at| at == 0 || text[at - 1] != b'\r');
    let mut lines = Vec::new();
    let mut start = 0;
    for at in 0..text.len() {
        let line = &text[start..=at];
        if line.len() > LINE_DISCARD_MAX {
            lines.push(Err(LineError::Endless));
            return lines;
        }
        if line.ends_with(b"\r\n") || (bare && line.ends_with(b"\n")) {
            start = at + 1;
            lines.push(if line.len() > LINE_MAX {
                Err(LineError::TooLong)
            } else {
                let line = &line[..line.len() - 1];
                Ok(without_nul(line.strip_suffix(b"\r").unwrap_or(line)))
            });
        }
    }
    if endless {
        lines.push(Err(LineError::Endless));
    }
    lines
}

fn without_nul(line: &[u8]) -> Vec<u8> {
    let kept = |at: usize| !(line[at] == 0 && at > 0 && line[at - 1] == b'\r');
    (0..line.len()).filter(|&at| kept(at)).map(|at| line[at]).collect()
}

/// RFC 854, byte by byte; also whether too much came that was nothing else.
fn without_telnet(stream: &[u8]) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    let (mut at, mut last_kept) = (0, 0);
    let mut subnegotiation = false;
    while at < stream.len() {
        let length = match (&stream[at..], subnegotiation) {
            ([255, 240, ..], true) => {
                subnegotiation = false;
                2
            }
            ([255, ..], true) => 2,
            (_, true) => 1,
            ([255, 255, ..], false) => {
                // Of the two, the first is taken out.
                if at + 1 - last_kept > LINE_DISCARD_MAX {
                    return (text, true);
                }
                text.push(255);
                last_kept = at + 2;
                2
            }
            ([255, 250, ..], false) => {
                subnegotiation = true;
                2
            }
            // No command of Telnet: both are text.
            ([255, kept @ ..240, ..], false) => {
                if at + 1 - last_kept > LINE_DISCARD_MAX {
                    return (text, true);
                }
                text.extend([255, *kept]);
                last_kept = at + 2;
                2
            }
            ([255, 251..=254, ..], false) => 3,
            ([255, ..], false) => 2,
            ([kept, ..], false) => {
                text.push(*kept);
                last_kept = at + 1;
                1
            }
            ([], _) => unreachable!("there is a byte"),
        };
        at += length;
        if at.min(stream.len()) - last_kept > LINE_DISCARD_MAX {
            return (text, true);
        }
    }
    (text, false)
}
