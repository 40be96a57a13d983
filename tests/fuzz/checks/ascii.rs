//! ASCII conversion: exact whatever the chunks are, there and back.

use super::byte;
use plimsoll::proto::ascii::{FromNetwork, to_network};

/// The first byte gives the sizes of the chunks, the rest is a file.
pub fn check(mut data: &[u8]) {
    let sizes = byte(&mut data);
    let (take, give) = (usize::from(sizes & 15) + 1, usize::from(sizes >> 4) + 2);
    let mut expected = Vec::new();
    for &b in data {
        if b == b'\n' {
            expected.push(b'\r');
        }
        expected.push(b);
    }
    let network = in_chunks(data, take, give, to_network);
    assert_eq!(network, expected, "out");
    let mut from = FromNetwork::new();
    let mut back = in_chunks(&network, give, take, |input, output| from.push(input, output));
    back.extend(from.finish());
    assert_eq!(from.finish(), None);
    assert_eq!(back, data, "there and back");

    // What a client sends need not be what was sent to it.
    let mut expected = Vec::new();
    for (at, &b) in data.iter().enumerate() {
        if !(b == b'\r' && data.get(at + 1) == Some(&b'\n')) {
            expected.push(b);
        }
    }
    let mut from = FromNetwork::new();
    let mut file = in_chunks(data, take, give, |input, output| from.push(input, output));
    file.extend(from.finish());
    assert_eq!(file, expected, "in");
}

fn in_chunks(
    input: &[u8],
    take: usize,
    give: usize,
    mut convert: impl FnMut(&[u8], &mut [u8]) -> (usize, usize),
) -> Vec<u8> {
    let mut result = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let mut output = vec![0; give];
        let (consumed, produced) = convert(&rest[..take.min(rest.len())], &mut output);
        assert!(consumed + produced > 0, "no progress");
        result.extend_from_slice(&output[..produced]);
        rest = &rest[consumed..];
    }
    result
}
