//! What the pure layer costs: `cargo bench --bench proto`, with a name behind it for a part of this.
//!
//! Each bench does one thing with inputs as a session has them, in buffers of the sizes that a worker has.
//! Nothing is compared with an earlier run, and nothing fails for being slow. `cargo test --bench proto` does
//! each once and measures nothing.

use std::fmt::Write;
use std::hint::black_box;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use plimsoll::limits::{DATA_BUFFER, REPLY_BUFFER};
use plimsoll::proto::listing::{Entry, Kind};

fn main() {
    divan::main();
}

/// Numbers that only look random, the same in each run.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        Dice(1)
    }

    /// One of 0 to `below - 1`.
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// One of these.
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap_or(0)]
    }
}

/// Lines listed in one go, so that the µs of a run are the ns of a line.
const LINES: u64 = 1_000;

/// 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600;

/// Names as they are found on servers, of some 10 to 40 bytes.
fn names() -> Vec<Vec<u8>> {
    let stems = ["README", "linux", "libfoobar-dev", "debian-archive-keyring", "gcc-core", "IMG"];
    let ends = [".tar.gz", ".iso", "_amd64.deb", ".txt", ".jpg", ""];
    let mut dice = Dice::new();
    let name = |number| format!("{}-{}.{number}{}", dice.pick(&stems), dice.roll(100), dice.pick(&ends));
    (0..LINES).map(name).map(String::into_bytes).collect()
}

/// What is known of the files of these names, changed within so many days before [`NOW`].
fn entries(names: &[Vec<u8>], days: u64) -> Vec<Entry<'_>> {
    let mut dice = Dice::new();
    let mut entries = Vec::new();
    for name in names {
        let kind = if dice.roll(10) == 0 { Kind::Folder } else { Kind::File };
        let most = dice.pick(&[10, 1_000, 10_000, 100_000, 1_000_000, 100_000_000, 10_000_000_000]);
        entries.push(Entry {
            name,
            kind,
            mode: if kind == Kind::Folder { 0o755 } else { 0o644 },
            size: dice.roll(most),
            modified: NOW - dice.roll(days * 86_400).cast_signed() - 1,
            links: if kind == Kind::Folder { 2 + dice.roll(20) } else { 1 },
            device: 0x801,
            inode: 1_000_000 + dice.roll(1 << 24),
            target: None,
        });
    }
    entries
}

fn bytes_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> BytesCount {
    BytesCount::new(parts.into_iter().map(<[u8]>::len).sum::<usize>())
}

mod listing {
    use super::*;
    use plimsoll::proto::listing::{Facts, LISTING_LINE_MAX, Perm, facts_line, long_line};

    /// A thousand lines, with files of one day, of a month, and of ten years.
    fn lines(bencher: Bencher<'_, '_>, days: u64, mut write: impl FnMut(&mut Vec<u8>, &Entry<'_>)) {
        let names = names();
        let entries = entries(&names, days);
        let mut line = Vec::with_capacity(LISTING_LINE_MAX);
        let mut bytes = 0;
        for entry in &entries {
            line.clear();
            write(&mut line, entry);
            bytes += line.len();
        }
        bencher.counter(ItemsCount::new(LINES)).counter(BytesCount::new(bytes)).bench_local(|| {
            for entry in &entries {
                line.clear();
                write(&mut line, black_box(entry));
                black_box(&line);
            }
        });
    }

    #[divan::bench(args = [1, 30, 3_650])]
    fn list(bencher: Bencher<'_, '_>, days: u64) {
        lines(bencher, days, |line, entry| long_line(line, entry, NOW));
    }

    #[divan::bench(args = [1, 30, 3_650])]
    fn mlsd(bencher: Bencher<'_, '_>, days: u64) {
        lines(bencher, days, |line, entry| facts_line(line, entry, Facts::ALL, Perm::All, entry.name));
    }

    /// The names alone.
    #[divan::bench]
    fn nlst(bencher: Bencher<'_, '_>) {
        lines(bencher, 1, |line, entry| plimsoll::proto::pathname::shown(entry.name, line));
    }
}

/// Lines of this many bytes on average, or none at all; with CRLF at their ends it is Windows text.
mod ascii {
    use super::*;
    use plimsoll::proto::ascii::{FromNetwork, to_network};

    /// What a worker reads in one go.
    const CHUNK: usize = DATA_BUFFER / 3;
    const LENGTHS: [&str; 4] = ["10", "60", "1000", "none"];

    /// A chunk of text whose lines are between half and one and a half times as long as `mean`.
    fn text(mean: &str, line_end: &[u8]) -> Vec<u8> {
        let mut dice = Dice::new();
        let mut text = Vec::new();
        let mean: Option<u64> = mean.parse().ok();
        while text.len() < CHUNK {
            let length = mean.map_or(CHUNK as u64, |mean| mean / 2 + dice.roll(mean + 1));
            text.extend((0..length).map(|_| dice.pick(b"abcdefgh ijklmnop qrstuvwxyz")));
            text.extend_from_slice(line_end);
        }
        text.truncate(CHUNK);
        text
    }

    fn convert(bencher: Bencher<'_, '_>, text: &[u8], mut convert: impl FnMut(&[u8], &mut [u8]) -> (usize, usize)) {
        let mut output = vec![0; CHUNK * 2];
        bencher.counter(BytesCount::new(text.len())).bench_local(|| {
            let (consumed, produced) = convert(black_box(text), &mut output);
            assert_eq!(consumed, text.len());
            black_box(&output[..produced]);
        });
    }

    #[divan::bench(args = LENGTHS)]
    fn out(bencher: Bencher<'_, '_>, mean: &str) {
        convert(bencher, &text(mean, b"\n"), to_network);
    }

    #[divan::bench(args = LENGTHS)]
    fn out_of_crlf(bencher: Bencher<'_, '_>, mean: &str) {
        convert(bencher, &text(mean, b"\r\n"), to_network);
    }

    #[divan::bench(args = LENGTHS)]
    fn back(bencher: Bencher<'_, '_>, mean: &str) {
        let mut from = FromNetwork::new();
        convert(bencher, &text(mean, b"\r\n"), |input, output| from.push(input, output));
    }

    /// No more than a copy, to compare with.
    #[divan::bench]
    fn copy(bencher: Bencher<'_, '_>) {
        convert(bencher, &text("60", b"\n"), |input, output| {
            output[..input.len()].copy_from_slice(input);
            (input.len(), input.len())
        });
    }
}

mod command {
    use super::*;
    use plimsoll::proto::command::Request;
    use plimsoll::proto::line::LineBuffer;

    /// A session of a client that lists and downloads.
    const SESSION: [&[u8]; 16] = [
        b"USER anonymous\r\n",
        b"PASS guest@example.com\r\n",
        b"SYST\r\n",
        b"FEAT\r\n",
        b"OPTS UTF8 ON\r\n",
        b"PWD\r\n",
        b"TYPE I\r\n",
        b"CWD /pub/linux/kernel/v6.x\r\n",
        b"PASV\r\n",
        b"MLSD\r\n",
        b"EPSV\r\n",
        b"SIZE linux-6.18.tar.xz\r\n",
        b"MDTM linux-6.18.tar.xz\r\n",
        b"REST 1048576\r\n",
        b"RETR linux-6.18.tar.xz\r\n",
        b"QUIT\r\n",
    ];

    fn run(buffer: &mut LineBuffer, received: &[u8]) -> usize {
        let spare = buffer.spare();
        spare[..received.len()].copy_from_slice(received);
        buffer.filled(received.len());
        let mut commands = 0;
        while let Some(line) = buffer.peek_line() {
            let line = line.unwrap_or_default();
            let command = Request::parse(line).and_then(|request| request.command().map(drop));
            commands += usize::from(black_box(command).is_ok());
            buffer.consume_line();
        }
        commands
    }

    /// Each as it is received: from the bytes to the typed command.
    #[divan::bench]
    fn one_by_one(bencher: Bencher<'_, '_>) {
        let mut buffer = LineBuffer::new();
        bencher.counter(ItemsCount::new(SESSION.len())).counter(bytes_of(SESSION)).bench_local(|| {
            let commands: usize = SESSION.iter().map(|line| run(&mut buffer, black_box(line))).sum();
            assert_eq!(commands, SESSION.len());
        });
    }

    /// All in one segment.
    #[divan::bench]
    fn pipelined(bencher: Bencher<'_, '_>) {
        let mut buffer = LineBuffer::new();
        let segment = SESSION.concat();
        bencher.counter(ItemsCount::new(SESSION.len())).counter(BytesCount::new(segment.len())).bench_local(|| {
            assert_eq!(run(&mut buffer, black_box(&segment)), SESSION.len());
        });
    }

    /// Verb and argument alone, without the line buffer.
    #[divan::bench(args = ["USER anonymous", "RETR linux-6.18.tar.xz", "ENC x", "XYZZ", "PORT 192,0,2,7,195,80"])]
    fn parse(line: &str) -> bool {
        Request::parse(line.as_bytes()).is_ok_and(|request| request.command().is_ok())
    }
}

mod reply {
    use super::*;
    use plimsoll::proto::pathname::quote;
    use plimsoll::proto::reply::Reply;

    fn encode(bencher: Bencher<'_, '_>, reply: &Reply) {
        let mut out = Vec::with_capacity(REPLY_BUFFER);
        reply.encode(&mut out);
        bencher.counter(BytesCount::new(out.len())).bench_local(|| {
            out.clear();
            black_box(reply).encode(&mut out);
            black_box(&out);
        });
    }

    #[divan::bench]
    fn short(bencher: Bencher<'_, '_>) {
        encode(bencher, &Reply::new(200, "Representation type is I."));
    }

    #[divan::bench]
    fn path(bencher: Bencher<'_, '_>) {
        let mut text = Vec::new();
        quote(b"/pub/linux/kernel/v6.x", &mut text);
        text.extend_from_slice(b" is the current directory");
        encode(bencher, &Reply::with(257, text));
    }

    #[divan::bench]
    fn features(bencher: Bencher<'_, '_>) {
        let features = ["EPRT", "EPSV", "MDTM", "MLST type*;size*;modify*;perm*;unique*;UNIX.mode*;", "PASV"];
        let features = features.iter().map(|feature| feature.as_bytes().to_vec()).collect();
        encode(bencher, &Reply::lines(211, "Extensions:", features, "End"));
    }
}

mod name {
    use super::*;
    use plimsoll::proto::glob;
    use plimsoll::proto::pathname::{Escaped, VirtualPath};

    /// A thousand names against one pattern.
    #[divan::bench(args = ["*", "*.tar.gz", "lib*-dev*.deb", "*-[0-9]*.?so", "*a*a*a*a*b"])]
    fn fits(bencher: Bencher<'_, '_>, pattern: &str) {
        let names = names();
        let bytes = bytes_of(names.iter().map(Vec::as_slice));
        bencher.counter(ItemsCount::new(LINES)).counter(bytes).bench_local(|| {
            names.iter().filter(|name| glob::matches(black_box(pattern).as_bytes(), black_box(name))).count()
        });
    }

    /// As the log shows them.
    #[divan::bench(args = ["plain", "umlauts", "controls"])]
    fn escaped(bencher: Bencher<'_, '_>, kind: &str) {
        let name = match kind {
            "plain" => "linux-6.18.tar.xz",
            "umlauts" => "Größe und Übersicht.txt",
            _ => "a\r\n\x1b[2Jb",
        };
        let mut text = String::with_capacity(REPLY_BUFFER);
        bencher.counter(BytesCount::new(name.len())).bench_local(|| {
            text.clear();
            let written = write!(text, "{}", Escaped(black_box(name).as_bytes()));
            black_box(&text);
            written
        });
    }

    #[divan::bench(args = ["linux-6.18.tar.xz", "/pub/linux/kernel/v6.x/linux-6.18.tar.xz", "../../doc/./README"])]
    fn join(bencher: Bencher<'_, '_>, argument: &str) {
        let folder = VirtualPath::root().join(b"/pub/linux/kernel/v6.x").unwrap_or_else(|_| VirtualPath::root());
        bencher
            .counter(BytesCount::new(argument.len()))
            .bench_local(|| black_box(&folder).join(black_box(argument).as_bytes()));
    }
}
