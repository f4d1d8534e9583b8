//! Decoder of server-sent events (WHATWG HTML, section 9.2.6), fed with whatever pieces the network gives.
//!
//! Invariants: the same bytes give the same events, however they are cut; no input panics; memory is bounded by
//! [`EVENT_BYTES_MAX`]. Reconnection fields (`id`, `retry`) are ignored: a broken answer is asked for anew.

/// Largest line and largest event in bytes. A chunk of an answer is below a kilobyte; tool arguments may be larger.
pub(crate) const EVENT_BYTES_MAX: usize = 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The event's type; empty where none was given.
    pub(crate) name: String,
    /// Data lines, joined by line feeds. Bytes that are no UTF-8 became U+FFFD.
    pub(crate) data: String,
}

/// The stream is no reasonable event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {EVENT_BYTES_MAX} bytes")]
pub(crate) struct TooLarge;

/// State between two pieces of a stream.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// A carriage return ended the last line; a line feed right after it belongs to it.
    after_cr: bool,
    /// The first line, which may carry a byte order mark, is over.
    started: bool,
}

impl Decoder {
    /// Takes the next bytes and appends the events that they complete.
    ///
    /// # Errors
    /// [`TooLarge`]; events before it have been appended, and the decoder is of no further use.
    pub(crate) fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), TooLarge> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend_line(&bytes[..end])?;
            self.end_line(events)?;
            let is_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if is_cr {
                self.after_cr = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        self.extend_line(bytes)
    }

    /// Ends the stream: what is pending counts as if its blank line had come. The standard drops it, but some servers
    /// end their last event with the connection. The caller must check that the event is whole.
    pub(crate) fn finish(mut self) -> Option<Event> {
        let mut events = Vec::new();
        // An event that is too large ends like one that was cut: it is not there.
        let whole = self.end_line(&mut events).is_ok() && self.end_line(&mut events).is_ok();
        events.into_iter().next().filter(|_| whole)
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        if self.line.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(TooLarge);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), TooLarge> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.started, true) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if line.is_empty() {
            self.dispatch(events);
        } else {
            self.field(&line)?;
        }
        line.clear();
        self.line = line;
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), TooLarge> {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"data" if self.data.len() + value.len() + 1 > EVENT_BYTES_MAX => return Err(TooLarge),
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            // Comments (an empty field name) keep connections open; everything else is for reconnecting or unknown.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        if std::mem::take(&mut self.has_data) {
            events.push(Event { name: text(&self.name), data: text(&self.data) });
        }
        self.name.clear();
        self.data.clear();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Option<Event>) {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for piece in pieces {
            decoder.push(piece, &mut events).unwrap();
        }
        (events, decoder.finish())
    }

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.into(), data: data.into() }
    }

    #[test]
    fn reads_every_line_ending_and_ignores_what_is_not_ours() {
        let stream = b"\xEF\xBB\xBF: ping\r\nevent: a\r\ndata: 1\r\ndata:2\r\n\r\nid: 7\nretry: 5\ndata\n\ndata:  x\r\revent: no\n\n";
        let (events, rest) = decode([&stream[..]]);
        assert_eq!(events, [event("a", "1\n2"), event("", ""), event("", " x")]);
        assert_eq!(rest, None);
    }

    #[test]
    fn an_event_without_its_blank_line_comes_out_at_the_end() {
        assert_eq!(decode([&b"data: [DONE]"[..]]), (vec![], Some(event("", "[DONE]"))));
        assert_eq!(decode([&b"data: [DONE]\n"[..]]).1, Some(event("", "[DONE]")));
        assert_eq!(decode([&b"data: 1\n\nevent: x"[..]]).1, None);
    }

    #[test]
    fn refuses_what_would_grow_without_end() {
        let mut events = Vec::new();
        let mut decoder = Decoder::default();
        let endless = vec![b'x'; EVENT_BYTES_MAX / 2 + 1];
        decoder.push(&endless, &mut events).unwrap();
        assert_eq!(decoder.push(&endless, &mut events), Err(TooLarge));

        let mut decoder = Decoder::default();
        let line = [b"data: ".as_slice(), &vec![b'x'; EVENT_BYTES_MAX / 2], b"\n"].concat();
        decoder.push(&line, &mut events).unwrap();
        assert_eq!(decoder.push(&line, &mut events), Err(TooLarge));
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: [&[u8]; 11] = [
            b"data: ",
            b"event:",
            b":",
            b" ",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"{\"a\":1}",
            "ä€".as_bytes(),
            b"\xFF\xEF\xBB\xBF",
        ];
        let piece = prop::sample::select(&PIECES);
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_cuts_do_not_matter(stream in stream(), cuts in prop::collection::vec(0_usize..200, 0..20)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
            prop_assert_eq!(decode(pieces), decode([&stream[..]]));
        }

        #[test]
        fn garbage_never_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            decode(pieces.iter().map(Vec::as_slice));
        }
    }
}
