//! What a client has sent on the control connection: Telnet taken out (RFC 854), cut into lines
//! (RFC 959 §5.3), in a buffer of fixed size.
//!
//! Owns the bytes between the socket and the command parser. Never reads a socket, never looks at what
//! a line says, and never hands out a part of a line. What comes out depends on the bytes alone, not on
//! how they were cut into segments on their way.

use std::ops::Range;

use memchr::{memchr, memchr2};

use crate::limits::{LINE_DISCARD_MAX, LINE_MAX};
use crate::proto::telnet::{IAC, Telnet};

/// Why a line cannot be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// The line, its end included, was longer than [`LINE_MAX`]. All of it is gone, the next line is
    /// intact.
    TooLong,
    /// More than [`LINE_DISCARD_MAX`] bytes came without a command in them. Final: nothing more comes
    /// out before [`LineBuffer::reset`].
    Endless,
}

/// At most [`LINE_MAX`] bytes of commands that were received and not yet run.
///
/// A line ends with CRLF, and a bare LF is an ordinary byte of it. Only if the first LF of a
/// connection has no CR before it, as from someone who types with nc, LF ends every line of this
/// connection, and a CR right before it is dropped. The first LF decides even where it ends a line that
/// is too long. CR NUL stands for CR (RFC 854, RFC 2640 §3.1); any other byte is kept as it is, a byte 255
/// too where no Telnet command can follow it: ncftp, wget and curl do not double it in names.
#[derive(Debug)]
pub struct LineBuffer {
    /// One more than [`LINE_MAX`], for a byte 255 of which it is not known yet what it is.
    bytes: Box<[u8]>,
    /// Where the oldest line begins.
    start: usize,
    /// Where the received bytes end, Telnet sequences already taken out.
    end: usize,
    /// No line ends between `start` and here.
    scanned: usize,
    found: Option<Found>,
    line_end: Option<LineEnd>,
    discarded: Option<Discarded>,
    telnet: Telnet,
}

/// What `peek_line` has found at the start of the buffer; `next` is where the following line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Line { length: usize, next: usize },
    TooLong { next: usize },
    Endless,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    CrLf,
    Lf,
}

/// The part of an over-long line that is already gone.
#[derive(Clone, Copy, Debug)]
struct Discarded {
    length: usize,
    ends_with_cr: bool,
}

impl LineBuffer {
    /// An empty buffer for a new connection. This is its only allocation.
    pub fn new() -> Self {
        Self {
            // Zeroes of the allocator's, which cost no memory before they are used.
            bytes: vec![0; LINE_MAX + 1].into_boxed_slice(),
            start: 0,
            end: 0,
            scanned: 0,
            found: None,
            line_end: None,
            discarded: None,
            telnet: Telnet::default(),
        }
    }

    /// Forgets everything, so that the next connection can use the same memory.
    pub fn reset(&mut self) {
        self.clear();
        self.found = None;
        self.line_end = None;
        self.discarded = None;
        self.telnet = Telnet::default();
    }

    /// Where the next bytes from the socket belong; tell [`Self::filled`] how many came. Empty when
    /// [`Self::is_full`]: a receive into it would look like the end of the connection.
    pub fn spare(&mut self) -> &mut [u8] {
        // Moving no more bytes than were consumed keeps the cost linear; a full buffer leaves no choice.
        if self.start > 0 && (self.end >= LINE_MAX || self.end - self.start <= self.start) {
            self.compact();
        }
        let room = self.room();
        &mut self.bytes[room]
    }

    /// What can be received into: nothing if it is full, and at least a byte if it is not.
    fn room(&self) -> Range<usize> {
        let begin = (self.end + self.telnet.withheld()).min(self.bytes.len());
        let end = if self.is_full() { begin } else { LINE_MAX.max(begin + 1) };
        begin..end
    }

    /// `n` bytes were received into [`Self::spare`]. More than fitted there are not believed.
    pub fn filled(&mut self, n: usize) {
        if self.found == Some(Found::Endless) {
            return;
        }
        let room = self.room();
        let end = room.end.min(room.start.saturating_add(n));
        if end == room.start {
            return;
        }
        if room.start > self.end {
            self.bytes[self.end] = IAC;
            self.telnet.take_back();
        }
        self.end += self.telnet.decode(&mut self.bytes[self.end..end]);
    }

    /// Whether nothing more can be received before a line was consumed. Ask after [`Self::peek_line`]:
    /// it drops what it knows to be too long, and where it gives `None` the buffer is not full.
    pub fn is_full(&self) -> bool {
        self.end - self.start >= LINE_MAX
    }

    /// The oldest line, without its end, or why there is none to be had; `None` until a whole line was
    /// received. Gives the same again until [`Self::consume_line`].
    pub fn peek_line(&mut self) -> Option<Result<&[u8], LineError>> {
        if self.found.is_none() {
            self.found = self.find();
        }
        match self.found? {
            Found::Line { length, .. } => Some(Ok(&self.bytes[self.start..self.start + length])),
            Found::TooLong { .. } => Some(Err(LineError::TooLong)),
            Found::Endless => Some(Err(LineError::Endless)),
        }
    }

    /// Drops the line or the error that [`Self::peek_line`] gave last; does nothing if it gave none.
    /// [`LineError::Endless`] stays.
    pub fn consume_line(&mut self) {
        let Some(Found::Line { next, .. } | Found::TooLong { next }) = self.found else {
            return;
        };
        self.found = None;
        self.discarded = None;
        self.start = next;
        if self.start == self.end {
            self.clear();
        }
    }

    fn find(&mut self) -> Option<Found> {
        let Some((line_end, next)) = self.find_line_end() else {
            return self.discard_if_too_long();
        };
        match self.discarded {
            // By the one byte that was withheld.
            None if next - self.start > LINE_MAX => Some(Found::TooLong { next }),
            None => {
                let line = &mut self.bytes[self.start..line_end];
                Some(Found::Line { length: decode_cr_nul(line), next })
            }
            Some(gone) if gone.length + (next - self.start) > LINE_DISCARD_MAX => Some(self.give_up()),
            Some(_) => Some(Found::TooLong { next }),
        }
    }

    /// Where the oldest line ends and where the next one begins. Looks at each byte only once.
    fn find_line_end(&mut self) -> Option<(usize, usize)> {
        while let Some(offset) = memchr(b'\n', &self.bytes[self.scanned..self.end]) {
            let lf = self.scanned + offset;
            self.scanned = lf + 1;
            let held_cr = lf > self.start && self.bytes[lf - 1] == b'\r';
            let gone_cr = lf == self.start && self.discarded.is_some_and(|gone| gone.ends_with_cr);
            let after_cr = held_cr || gone_cr;
            let decided = if after_cr { LineEnd::CrLf } else { LineEnd::Lf };
            let line_end = *self.line_end.get_or_insert(decided);
            if after_cr || line_end == LineEnd::Lf {
                return Some((lf - usize::from(held_cr), lf + 1));
            }
        }
        self.scanned = self.end;
        None
    }

    /// What is held has no line end in it: drops it where it cannot become a line any more.
    fn discard_if_too_long(&mut self) -> Option<Found> {
        if self.telnet.is_endless() {
            return Some(self.give_up());
        }
        if self.discarded.is_none() && !self.is_full() {
            return None;
        }
        let mut gone = self.discarded.unwrap_or(Discarded { length: 0, ends_with_cr: false });
        if let Some(&last) = self.bytes[self.start..self.end].last() {
            gone.length += self.end - self.start;
            gone.ends_with_cr = last == b'\r';
        }
        self.discarded = Some(gone);
        self.clear();
        (gone.length > LINE_DISCARD_MAX).then_some(Found::Endless)
    }

    fn give_up(&mut self) -> Found {
        self.clear();
        Found::Endless
    }

    fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
        self.scanned = 0;
    }

    fn compact(&mut self) {
        let start = self.start;
        self.bytes.copy_within(start..self.end, 0);
        self.start = 0;
        self.end -= start;
        self.scanned -= start;
        if let Some(Found::Line { next, .. } | Found::TooLong { next }) = &mut self.found {
            *next -= start;
        }
    }
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Turns CR NUL into CR in place and gives the new length. This is done on a finished line only:
/// before, the bytes CR NUL LF would be taken for a line end.
fn decode_cr_nul(line: &mut [u8]) -> usize {
    if memchr2(b'\r', 0, line).is_none() {
        return line.len();
    }
    let mut kept = 0;
    let mut after_cr = false;
    for at in 0..line.len() {
        let byte = line[at];
        if !(after_cr && byte == 0) {
            line[kept] = byte;
            kept += 1;
        }
        after_cr = byte == b'\r';
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Line = Result<Vec<u8>, LineError>;

    /// Receives up to `count` bytes of `stream` and gives what is left of it.
    fn receive<'a>(buffer: &mut LineBuffer, stream: &'a [u8], count: usize) -> &'a [u8] {
        let spare = buffer.spare();
        let count = count.min(spare.len()).min(stream.len());
        spare[..count].copy_from_slice(&stream[..count]);
        buffer.filled(count);
        &stream[count..]
    }

    fn drain(buffer: &mut LineBuffer, lines: &mut Vec<Line>) -> bool {
        while let Some(line) = buffer.peek_line() {
            let line = line.map(<[u8]>::to_vec);
            assert_eq!(buffer.peek_line().map(|again| again.map(<[u8]>::to_vec)), Some(line.clone()));
            lines.push(line.clone());
            if line == Err(LineError::Endless) {
                return false;
            }
            buffer.consume_line();
        }
        true
    }

    /// The lines of a stream that arrives in chunks of these sizes, over and over. A lazy reader takes
    /// lines out only when there is no room left.
    fn lines_of(stream: &[u8], chunks: &[usize], lazy: bool) -> Vec<Line> {
        let mut buffer = LineBuffer::new();
        let mut lines = Vec::new();
        let mut rest = stream;
        for &chunk in chunks.iter().cycle() {
            rest = receive(&mut buffer, rest, chunk);
            assert!(buffer.end <= LINE_MAX + 1 && buffer.start <= buffer.end);
            if lazy && !rest.is_empty() {
                // Peeking is what drops an over-long line; it must not disturb what is received later.
                let _ = buffer.peek_line();
                if !buffer.is_full() {
                    continue;
                }
            }
            if !drain(&mut buffer, &mut lines) || rest.is_empty() {
                break;
            }
            assert!(!buffer.is_full(), "a drained buffer has room");
        }
        lines
    }

    fn lines(stream: &[u8]) -> Vec<Line> {
        lines_of(stream, &[usize::MAX], false)
    }

    fn ok(line: &[u8]) -> Line {
        Ok(line.to_vec())
    }

    /// The same rules, told over the whole stream at once.
    fn reference(stream: &[u8]) -> Vec<Line> {
        let (text, endless) = without_telnet(stream);
        let first = text.iter().position(|&byte| byte == b'\n');
        let bare = first.is_some_and(|at| at == 0 || text[at - 1] != b'\r');
        let mut lines = Vec::new();
        let mut line: Vec<u8> = Vec::new();
        for byte in text {
            line.push(byte);
            if line.len() > LINE_DISCARD_MAX {
                lines.push(Err(LineError::Endless));
                return lines;
            }
            if line.ends_with(b"\r\n") || (bare && line.ends_with(b"\n")) {
                lines.push(if line.len() > LINE_MAX {
                    Err(LineError::TooLong)
                } else {
                    let text = line.strip_suffix(b"\n").unwrap();
                    Ok(without_nul(text.strip_suffix(b"\r").unwrap_or(text)))
                });
                line.clear();
            }
        }
        if endless {
            lines.push(Err(LineError::Endless));
        }
        lines
    }

    fn without_telnet(stream: &[u8]) -> (Vec<u8>, bool) {
        let mut text = Vec::new();
        let mut at = 0;
        let mut run = 0;
        while at < stream.len() {
            let rest = &stream[at..];
            let (length, kept) = match rest {
                [255, 255, ..] => (2, Some(255)),
                [255, 251..=254, ..] => (3, None),
                [255, 250, body @ ..] => {
                    let mut end = 0;
                    while end < body.len() && !body[end..].starts_with(&[255, 240]) {
                        end += if body[end] == 255 { 2 } else { 1 };
                    }
                    (end + 4, None)
                }
                [255, 0..=239, ..] => (1, Some(255)),
                [255, ..] => (2, None),
                [byte, ..] => (1, Some(*byte)),
                [] => unreachable!(),
            };
            let length = length.min(rest.len());
            run += length;
            if kept.is_some() {
                run = 0;
            }
            text.extend(kept);
            if run > LINE_DISCARD_MAX {
                return (text, true);
            }
            at += length;
        }
        (text, false)
    }

    fn without_nul(line: &[u8]) -> Vec<u8> {
        let mut text: Vec<u8> = Vec::new();
        let mut previous = 0;
        for &byte in line {
            if !(previous == b'\r' && byte == 0) {
                text.push(byte);
            }
            previous = byte;
        }
        text
    }

    #[test]
    fn lines_end_with_crlf_and_a_bare_lf_splits_nothing() {
        let stream = b"USER ftp\r\nRETR a\nDELE b\r\nCWD \n\r\n\r\nQUIT";
        let expected = [&b"USER ftp"[..], b"RETR a\nDELE b", b"CWD \n", b""].map(ok);
        assert_eq!(lines(stream), expected);
    }

    #[test]
    fn a_bare_lf_at_the_first_line_makes_lf_the_line_end() {
        let stream = b"USER ftp\nPASS x\r\n\nCWD a\r\0\n";
        assert_eq!(lines(stream), [&b"USER ftp"[..], b"PASS x", b"", b"CWD a\r"].map(ok));
    }

    #[test]
    fn odd_bytes_are_kept_and_cr_nul_is_cr() {
        let stream = b"NOOP\r\nCWD \r\0\nx\0y\rz\x80\xFE\r\0\0\r\r\n";
        assert_eq!(lines(stream), [ok(b"NOOP"), ok(b"CWD \r\nx\0y\rz\x80\xFE\r\0\r")]);
    }

    #[test]
    fn telnet_is_taken_out_wherever_it_is() {
        let stream =
            b"\xFF\xF4\xFF\xF2AB\xFF\xFB\x01OR\r\xFF\xF1\n\xFF\xFAjunk\r\n\xFF\xFF\xFF\xF0CWD \xFF\xFF\xFF\xFFx\r\n";
        assert_eq!(lines(stream), [ok(b"ABOR"), ok(b"CWD \xFF\xFFx")]);
        assert_eq!(lines_of(stream, &[1], false), lines(stream));
    }

    #[test]
    fn a_255_that_begins_no_telnet_command_is_a_byte_of_the_name() {
        let stream = b"CWD \xFF\r\nCWD \xFFa\xFF\xFF/\xFF\r\n\xFF\xF1CWD \xFF\x80\xFF\xF1\xEF\r\n";
        let expected = [&b"CWD \xFF"[..], b"CWD \xFFa\xFF/\xFF", b"CWD \xFF\x80\xEF"].map(ok);
        assert_eq!(lines(stream), expected);
        assert_eq!(lines_of(stream, &[1], false), expected);
    }

    #[test]
    fn the_longest_line_fits_and_one_byte_more_does_not() {
        for (length, fits) in [(LINE_MAX - 2, true), (LINE_MAX - 1, false), (LINE_MAX, false)] {
            let mut stream = vec![b'x'; length];
            stream.extend_from_slice(b"\r\nA\nB\r\n");
            let first = if fits { ok(&vec![b'x'; length]) } else { Err(LineError::TooLong) };
            assert_eq!(lines(&stream), [first, ok(b"A\nB")], "{length}");
            assert_eq!(lines_of(&stream, &[1], false), lines(&stream), "{length}");
        }
    }

    #[test]
    fn a_255_is_no_reason_for_a_longer_line() {
        for (length, fits) in [(LINE_MAX - 4, true), (LINE_MAX - 3, false), (LINE_MAX - 2, false)] {
            let stream = [&vec![b'x'; length][..], b"\xFFy\r\nA\r\n"].concat();
            let long = stream[..length + 2].to_vec();
            let first = if fits { Ok(long) } else { Err(LineError::TooLong) };
            for chunks in [[1, 1], [length + 1, 1], [length, 2], [stream.len(), 1]] {
                for lazy in [false, true] {
                    assert_eq!(lines_of(&stream, &chunks, lazy), [first.clone(), ok(b"A")], "{length} {chunks:?}");
                }
            }
        }
    }

    #[test]
    fn an_over_long_first_line_decides_the_line_end_as_any_other() {
        let long = vec![b'x'; LINE_MAX + 10];
        let bare = [&long[..], b"\nA\nB\r\n"].concat();
        assert_eq!(lines(&bare), [Err(LineError::TooLong), ok(b"A"), ok(b"B")]);
        let crlf = [&long[..], b"\r\nA\nB\r\n"].concat();
        assert_eq!(lines(&crlf), [Err(LineError::TooLong), ok(b"A\nB")]);
    }

    #[test]
    fn an_endless_line_is_final_until_reset() {
        let mut buffer = LineBuffer::new();
        receive(&mut buffer, b"USER ftp\r\n", usize::MAX);
        assert_eq!(buffer.peek_line(), Some(Ok(&b"USER ftp"[..])));
        buffer.consume_line();
        let stream = vec![b'x'; LINE_DISCARD_MAX + LINE_MAX];
        let mut rest = &stream[..];
        let mut received = 0;
        while buffer.peek_line().is_none() {
            assert!(!rest.is_empty(), "never endless");
            let before = rest.len();
            rest = receive(&mut buffer, rest, usize::MAX);
            received += before - rest.len();
        }
        assert!(received > LINE_DISCARD_MAX && received <= LINE_DISCARD_MAX + LINE_MAX);
        for _ in 0..3 {
            assert_eq!(buffer.peek_line(), Some(Err(LineError::Endless)));
            buffer.consume_line();
            receive(&mut buffer, b"\r\nNOOP\r\n", usize::MAX);
        }
        buffer.reset();
        assert_eq!(buffer.peek_line(), None);
        receive(&mut buffer, b"NOOP\n", usize::MAX);
        assert_eq!(buffer.peek_line(), Some(Ok(&b"NOOP"[..])));
    }

    #[test]
    fn endless_begins_with_the_first_byte_too_many() {
        for (length, error) in [(LINE_DISCARD_MAX - 2, LineError::TooLong), (LINE_DISCARD_MAX - 1, LineError::Endless)]
        {
            let stream = [&vec![b'x'; length][..], b"\r\n"].concat();
            assert_eq!(lines(&stream), [Err(error)]);
            assert_eq!(lines_of(&stream, &[1], false), [Err(error)]);
        }
    }

    #[test]
    fn nothing_but_telnet_is_endless_too() {
        let unfinished = [&b"NOOP\r\n\xFF\xFA"[..], &vec![b'x'; LINE_DISCARD_MAX]].concat();
        assert_eq!(lines(&unfinished), [ok(b"NOOP"), Err(LineError::Endless)]);
        let keep_alive = b"\xFF\xF1".repeat(LINE_DISCARD_MAX / 2);
        assert_eq!(lines(&keep_alive), []);
        assert_eq!(lines(&[&keep_alive[..], b"NOOP\r\n"].concat()), [ok(b"NOOP")]);
        assert_eq!(lines(&[&keep_alive[..], b"\xFF\xF1"].concat()), [Err(LineError::Endless)]);
    }

    #[test]
    fn no_byte_is_looked_at_twice_and_a_waiting_line_survives_what_follows() {
        let mut buffer = LineBuffer::new();
        receive(&mut buffer, b"NOOP\r\nRETR \r\0file\r\n", usize::MAX);
        assert_eq!(buffer.peek_line(), Some(Ok(&b"NOOP"[..])));
        buffer.consume_line();
        assert_eq!(buffer.peek_line(), Some(Ok(&b"RETR \rfile"[..])));
        let mut received = 0;
        while !buffer.is_full() {
            receive(&mut buffer, b"x", 1);
            received += 1;
            assert_eq!(buffer.peek_line(), Some(Ok(&b"RETR \rfile"[..])));
        }
        assert!(buffer.spare().is_empty());
        assert_eq!(received, LINE_MAX - b"RETR \r\0file\r\n".len());
        buffer.consume_line();
        assert_eq!(buffer.peek_line(), None);
        assert_eq!(buffer.scanned, buffer.end);
        assert_eq!(buffer.end - buffer.start, received);
        assert!(!buffer.spare().is_empty());
    }

    /// A stream of parts that matter to the decoder.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            8 => proptest::collection::vec(any::<u8>(), 0..6),
            8 => prop::sample::select(vec![
                &b"\r\n"[..], b"\n", b"\r", b"\0", b"\r\0", b"\r\0\n", b"RETR a", b"\xFF\xFF", b"\xFF\xFA",
                b"\xFF\xF0", b"\xFF\xFD\x06", b"\xFF\xF4\xFF\xF2", b"\xFF",
            ])
            .prop_map(<[u8]>::to_vec),
            1 => (LINE_MAX - 8..LINE_MAX + 4).prop_map(|length| vec![b'x'; length]),
        ];
        proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_chunks(
            stream in streams(),
            chunks in proptest::collection::vec(prop_oneof![1usize..4, 1usize..6000], 1..8),
            lazy in any::<bool>(),
        ) {
            prop_assert_eq!(lines_of(&stream, &chunks, lazy), reference(&stream));
        }

        #[test]
        fn any_bytes_give_the_lines_of_the_reference(
            stream in proptest::collection::vec(any::<u8>(), 0..400),
            chunk in 1usize..20,
        ) {
            prop_assert_eq!(lines_of(&stream, &[chunk], false), reference(&stream));
        }
    }
}
