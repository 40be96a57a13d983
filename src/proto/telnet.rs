//! Telnet on the control connection (RFC 854): its commands are taken out of what a client has sent.
//!
//! Owns what is known of a sequence that has begun. Never holds bytes of it, and never answers: what a client
//! offers is not taken up.

use memchr::memchr;

use crate::limits::LINE_DISCARD_MAX;

/// Interpret As Command: begins a Telnet command; two of them are one byte of data.
pub(super) const IAC: u8 = 255;
const DONT: u8 = 254;
const WILL: u8 = 251;
const SB: u8 = 250;
const SE: u8 = 240;

/// Takes Telnet sequences out of a stream, wherever it was cut; holds no byte of them, but knows of one
/// that was withheld.
#[derive(Debug, Default)]
pub(super) struct Telnet {
    state: TelnetState,
    /// Bytes taken out since the last byte that was kept.
    stripped: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TelnetState {
    #[default]
    Text,
    Command,
    Option,
    Subnegotiation,
    SubnegotiationCommand,
}

/// What becomes of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Strip,
    Keep,
    /// And the IAC before it as well, which was none.
    KeepBoth,
}

impl Telnet {
    /// Decodes in place and gives the number of bytes kept, which now are the first ones.
    pub(super) fn decode(&mut self, bytes: &mut [u8]) -> usize {
        if self.is_endless() || bytes.is_empty() {
            return 0;
        }
        if self.state == TelnetState::Text && memchr(IAC, bytes).is_none() {
            self.stripped = 0;
            return bytes.len();
        }
        let mut kept = 0;
        for at in 0..bytes.len() {
            let byte = bytes[at];
            let step = self.step(byte);
            if step == Step::KeepBoth {
                bytes[kept] = IAC;
                kept += 1;
            }
            if step == Step::Strip {
                self.stripped += 1;
            } else {
                bytes[kept] = byte;
                kept += 1;
                self.stripped = 0;
            }
            if self.is_endless() {
                break;
            }
        }
        kept
    }

    /// Whether nothing but Telnet has come for so long that it is not meant as a conversation.
    pub(super) fn is_endless(&self) -> bool {
        self.stripped > LINE_DISCARD_MAX
    }

    /// Bytes at the end of what was decoded that the next one decides about: one IAC, or none.
    pub(super) fn withheld(&self) -> usize {
        usize::from(self.state == TelnetState::Command)
    }

    /// The byte that was withheld comes again, in front of the next ones.
    pub(super) fn take_back(&mut self) {
        self.state = TelnetState::Text;
        self.stripped = self.stripped.saturating_sub(1);
    }

    fn step(&mut self, byte: u8) -> Step {
        use Step::{Keep, KeepBoth, Strip};
        use TelnetState::{Command, Option, Subnegotiation, SubnegotiationCommand, Text};

        let (next, step) = match (self.state, byte) {
            (Text, IAC) => (Command, Strip),
            (Text, _) | (Command, IAC) => (Text, Keep),
            (Command, ..SE) => (Text, KeepBoth),
            (Command, WILL..=DONT) => (Option, Strip),
            (Command, SB) => (Subnegotiation, Strip),
            (Command, _) | (Option, _) | (SubnegotiationCommand, SE) => (Text, Strip),
            (Subnegotiation, IAC) => (SubnegotiationCommand, Strip),
            (Subnegotiation | SubnegotiationCommand, _) => (Subnegotiation, Strip),
        };
        self.state = next;
        step
    }
}
