//! Where the lines of a listing go: over a data connection, or into a reply.

use crate::data::port::DataError;
use crate::data::transfer::Outgoing;
use crate::session::control::ControlConnection;

/// Where lines go.
pub(super) trait Sink {
    /// Takes one line without its end.
    fn line(&mut self, text: &[u8]) -> Result<(), DataError>;
    /// Nothing to write, but time has passed.
    fn breathe(&mut self) -> Result<(), DataError>;
}

/// Lines over a data connection: CRLF in every representation type (RFC 959 §4.1.3), gathered in the
/// worker's buffer.
pub(super) struct DataSink<'a, 'b> {
    sender: &'a mut Outgoing<'b>,
    buffer: &'a mut [u8],
    used: usize,
}

impl<'a, 'b> DataSink<'a, 'b> {
    pub(super) fn new(sender: &'a mut Outgoing<'b>, buffer: &'a mut [u8]) -> Self {
        DataSink { sender, buffer, used: 0 }
    }

    /// Sends what is left.
    pub(super) fn end(mut self) -> Result<(), DataError> {
        self.flush()
    }

    fn flush(&mut self) -> Result<(), DataError> {
        let used = std::mem::take(&mut self.used);
        self.sender.bytes(self.buffer.get(..used).unwrap_or_default())
    }
}

impl Sink for DataSink<'_, '_> {
    fn line(&mut self, text: &[u8]) -> Result<(), DataError> {
        if self.buffer.len() - self.used < text.len() + 2 {
            self.flush()?;
        }
        for part in [text, b"\r\n"] {
            if let Some(room) = self.buffer.get_mut(self.used..self.used + part.len()) {
                room.copy_from_slice(part);
                self.used += part.len();
            }
        }
        Ok(())
    }

    fn breathe(&mut self) -> Result<(), DataError> {
        self.sender.breathe()
    }
}

/// Lines over the control connection, as the inner lines of a reply.
pub(super) struct ControlSink<'a, 'b>(pub(super) &'a mut ControlConnection<'b>);

impl Sink for ControlSink<'_, '_> {
    fn line(&mut self, text: &[u8]) -> Result<(), DataError> {
        Ok(self.0.send_inner(text)?)
    }

    fn breathe(&mut self) -> Result<(), DataError> {
        Ok(self.0.check()?)
    }
}
