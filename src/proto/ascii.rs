//! The ASCII representation type (RFC 959 §3.1.1.1): LF in a file is CRLF on the data connection.
//!
//! Converts between buffers that the caller owns, in chunks of any size, and exactly: what was sent and
//! is sent back is the same file, even if it had CRs in it. Never allocates, never reads or writes a
//! descriptor.

use memchr::memchr;

/// Converts from the file to the data connection: every LF becomes CRLF, also one that has a CR before
/// it already. Gives the bytes taken from `input` and the bytes written to `output`, and stops where
/// either ends. A pair is never cut, so `output` needs two bytes for progress to be certain.
pub fn to_network(input: &[u8], output: &mut [u8]) -> (usize, usize) {
    let (mut consumed, mut produced) = (0, 0);
    loop {
        let (rest, room) = (&input[consumed..], &mut output[produced..]);
        let window = &rest[..rest.len().min(room.len())];
        let line_end = memchr(b'\n', window);
        let plain = line_end.unwrap_or(window.len());
        room[..plain].copy_from_slice(&window[..plain]);
        consumed += plain;
        produced += plain;
        let Some(pair) = room.get_mut(plain..plain + 2).filter(|_| line_end.is_some()) else {
            return (consumed, produced);
        };
        pair.copy_from_slice(b"\r\n");
        consumed += 1;
        produced += 2;
    }
}

/// Converts from the data connection to the file: CRLF becomes LF, and a CR with anything else after
/// it, or nothing, stays. One for each transfer: it holds a CR at the end of a chunk back until
/// it is known what follows.
#[derive(Debug, Default)]
pub struct FromNetwork {
    holds_cr: bool,
}

impl FromNetwork {
    /// For the start of a transfer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the bytes taken from `input` and the bytes written to `output`, and stops where either
    /// ends; what was not taken is to be pushed again. `output` needs one byte for progress.
    pub fn push(&mut self, input: &[u8], output: &mut [u8]) -> (usize, usize) {
        let (mut consumed, mut produced) = (0, 0);
        while let (Some(&next), Some(slot)) = (input.get(consumed), output.get_mut(produced)) {
            if self.holds_cr {
                self.holds_cr = false;
                consumed += usize::from(next == b'\n');
                *slot = if next == b'\n' { b'\n' } else { b'\r' };
                produced += 1;
                continue;
            }
            let (rest, room) = (&input[consumed..], &mut output[produced..]);
            let window = &rest[..rest.len().min(room.len())];
            let cr = memchr(b'\r', window);
            let plain = cr.unwrap_or(window.len());
            room[..plain].copy_from_slice(&window[..plain]);
            consumed += plain + usize::from(cr.is_some());
            produced += plain;
            self.holds_cr = cr.is_some();
        }
        (consumed, produced)
    }

    /// The end of the transfer: the CR that was its last byte, if it was one.
    pub fn finish(&mut self) -> Option<u8> {
        std::mem::take(&mut self.holds_cr).then_some(b'\r')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reference_to(file: &[u8]) -> Vec<u8> {
        let mut network = Vec::new();
        for &byte in file {
            if byte == b'\n' {
                network.push(b'\r');
            }
            network.push(byte);
        }
        network
    }

    fn reference_from(network: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        for (at, &byte) in network.iter().enumerate() {
            if !(byte == b'\r' && network.get(at + 1) == Some(&b'\n')) {
                file.push(byte);
            }
        }
        file
    }

    /// Runs a conversion with input and output in chunks of these sizes, over and over.
    fn in_chunks(
        input: &[u8],
        sizes: &[(usize, usize)],
        mut convert: impl FnMut(&[u8], &mut [u8]) -> (usize, usize),
    ) -> Vec<u8> {
        let mut result = Vec::new();
        let mut rest = input;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let &(take, give) = sizes.next().unwrap();
            let mut output = vec![b'#'; give];
            let (consumed, produced) = convert(&rest[..take.min(rest.len())], &mut output);
            assert!(consumed + produced > 0, "no progress");
            assert!(output[produced..].iter().all(|&byte| byte == b'#'));
            result.extend_from_slice(&output[..produced]);
            rest = &rest[consumed..];
        }
        result
    }

    fn from_network(network: &[u8], sizes: &[(usize, usize)]) -> Vec<u8> {
        let mut from = FromNetwork::new();
        let mut file = in_chunks(network, sizes, |input, output| from.push(input, output));
        file.extend(from.finish());
        assert_eq!(from.finish(), None);
        file
    }

    #[test]
    fn each_lf_gets_a_cr() {
        let mut output = [0; 16];
        let (consumed, produced) = to_network(b"a\n\r\n\nb", &mut output);
        assert_eq!((consumed, &output[..produced]), (6, &b"a\r\n\r\r\n\r\nb"[..]));
    }

    #[test]
    fn a_pair_is_never_cut() {
        let mut output = [0; 3];
        assert_eq!(to_network(b"ab\n", &mut output), (2, 2));
        assert_eq!(to_network(b"a\nb", &mut output), (2, 3));
        assert_eq!(to_network(b"\n", &mut output[..1]), (0, 0));
        assert_eq!(to_network(b"", &mut output), (0, 0));
    }

    #[test]
    fn a_lone_cr_is_kept() {
        assert_eq!(from_network(b"a\rb\r\r\nc\n\r\n\r", &[(99, 99)]), b"a\rb\r\nc\n\n\r");
        let mut from = FromNetwork::new();
        let mut output = [0; 2];
        assert_eq!(from.push(b"a\r", &mut output), (2, 1));
        assert_eq!(from.push(b"\n", &mut output), (1, 1));
        assert_eq!((output[0], from.finish()), (b'\n', None));
    }

    /// Bytes in which line ends are frequent, or rare.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let byte = |plain| prop_oneof![2 => Just(b'\r'), 2 => Just(b'\n'), plain => any::<u8>()];
        prop_oneof![proptest::collection::vec(byte(3), 0..200), proptest::collection::vec(byte(100), 0..400)]
    }

    /// Sizes of chunks: some that cut everywhere, and some that hold lines.
    fn sizes(give: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
        prop_oneof![
            proptest::collection::vec((1usize..9, give..9), 1..6),
            proptest::collection::vec((1usize..99, give..99), 1..6),
        ]
    }

    /// Every way to cut a text in two, with output that ends anywhere.
    #[test]
    fn a_cut_makes_no_difference_wherever_it_is() {
        let text =
            b"a\r\nbc\r\r\n\n\r\n\rd\n\r\n0123456789012345678901234567890\r\n01234567890123456789012345678901\r\nx\r";
        for cut in 1..text.len() {
            for give in 2..2 * text.len() {
                let sizes = [(cut, give), (text.len(), give)];
                assert_eq!(in_chunks(text, &sizes, to_network), reference_to(text), "{cut} {give}");
                assert_eq!(from_network(text, &sizes), reference_from(text), "{cut} {give}");
            }
        }
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference_on_the_way_out(
            text in texts(),
            sizes in sizes(2),
        ) {
            prop_assert_eq!(in_chunks(&text, &sizes, to_network), reference_to(&text));
        }

        #[test]
        fn chunks_make_no_difference_on_the_way_in(
            text in texts(),
            sizes in sizes(1),
        ) {
            prop_assert_eq!(from_network(&text, &sizes), reference_from(&text));
        }

        #[test]
        fn the_way_back_gives_the_same_file(
            text in texts(),
            out in sizes(2),
            back in sizes(1),
        ) {
            let network = in_chunks(&text, &out, to_network);
            prop_assert_eq!(from_network(&network, &back), text);
        }
    }
}
