//! Replies: any text is one of them.

use super::{byte, part, replies};
use plimsoll::proto::reply::{Reply, first_line, inner_line};

/// Two bytes for the code, then texts, each with its length before it.
pub fn check(mut data: &[u8]) {
    let code = 100 + (u16::from(byte(&mut data)) * 256 + u16::from(byte(&mut data))) % 500;
    let (first, last) = (part(&mut data), part(&mut data));
    let mut inner = Vec::new();
    while !data.is_empty() {
        inner.push(part(&mut data).to_vec());
    }
    let mut one = Vec::new();
    let reply = Reply::with(code, first);
    reply.encode(&mut one);
    expect(&one, code, 1);
    assert_eq!(reply.closes(), code == 221 || code == 421);

    let mut several = Vec::new();
    Reply::lines(code, first, inner.clone(), last).encode(&mut several);
    expect(&several, code, inner.len() + 2);

    let mut streamed = Vec::new();
    first_line(&mut streamed, code, first);
    for text in &inner {
        inner_line(&mut streamed, text);
    }
    Reply::with(code, last).encode(&mut streamed);
    assert_eq!(streamed, several);
}

fn expect(bytes: &[u8], code: u16, lines: usize) {
    let (parsed, rest) = replies::parse(bytes);
    assert!(rest.is_empty());
    let [reply] = &parsed[..] else { panic!("{} replies", parsed.len()) };
    assert_eq!((reply.code, reply.lines.len()), (code, lines));
}
