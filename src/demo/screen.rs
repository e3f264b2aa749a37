//! Where the demo's lines go.
//!
//! On a terminal a block stays at the bottom and is drawn again in place, each time in one write and over what stood
//! there, so that nothing flickers; it is never larger than the terminal. Anywhere else each state is one more plain
//! line, with no control codes. What the lines say is made elsewhere, by pure functions.

use std::io::{self, Write};
use std::time::Duration;

use ratatui::crossterm::terminal;

const CLEAR_TO_LINE_END: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Columns and rows, where nobody says.
const USUAL: (u16, u16) = (80, 24);

/// Where the demo's text goes.
pub struct Screen<W> {
    out: W,
    /// Whether lines may be drawn again.
    live: bool,
    /// Columns and rows of the terminal, asked for at each drawing, for windows change.
    size: fn() -> (u16, u16),
    /// Rows of the block at the bottom.
    drawn: usize,
}

/// Whether a terminal does what it is told: `TERM=dumb` says that it does not.
pub fn obeys() -> bool {
    std::env::var_os("TERM").is_none_or(|name| name != "dumb")
}

impl<W: Write> Screen<W> {
    /// Writes to `out`; `live` where that is a terminal which lines may be drawn on again.
    pub fn new(out: W, live: bool) -> Screen<W> {
        Screen { out, live, size: || terminal::size().unwrap_or(USUAL), drawn: 0 }
    }

    /// Whether it draws in place.
    pub fn live(&self) -> bool {
        self.live
    }

    /// How often what changes is told: in place it may be often, else after each `lines`.
    pub fn every(&self, lines: Duration) -> Duration {
        if self.live { Duration::from_millis(250) } else { lines }
    }

    /// Says lines that stay, above the block at the bottom.
    ///
    /// # Errors
    /// Whatever the output says, for instance that nobody reads it any more.
    pub fn say(&mut self, lines: &[String]) -> io::Result<()> {
        // With nothing to say the block stays.
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = self.back();
        if !text.is_empty() {
            text.push_str(CLEAR_BELOW);
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = 0;
        self.write(&text)
    }

    /// Shows how far it is: as a `block` on a terminal, else as one `line`.
    ///
    /// # Errors
    /// As [`Screen::say`].
    pub fn show(&mut self, block: &[String], line: &str) -> io::Result<()> {
        if !self.live {
            return self.say(&[line.to_owned()]);
        }
        let (columns, rows) = (self.size)();
        // The last row is the cursor's, and of a block that is too high its end says how to get out.
        let room = usize::from(rows).saturating_sub(1).max(1);
        let block = &block[block.len().saturating_sub(room)..];
        let mut text = self.back();
        for line in block {
            text.push_str(&cut(line, usize::from(columns).saturating_sub(1)));
            text.push_str(CLEAR_TO_LINE_END);
            text.push('\n');
        }
        text.push_str(CLEAR_BELOW);
        self.drawn = block.len();
        self.write(&text)
    }

    /// To the first row of the block.
    fn back(&self) -> String {
        if self.drawn == 0 {
            return String::new();
        }
        format!("\x1b[{}A\r", self.drawn)
    }

    /// At once: a terminal never shows half of it.
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// As much of a line as fits: none is wrapped, so that there are as many rows to go back as lines were drawn.
fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    line.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).into()
    }

    /// What is written, one entry for each write.
    #[derive(Default)]
    struct Writes(Vec<String>);

    impl Write for &mut Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_terminal_is_drawn_in_place_over_what_stood_there() {
        let mut writes = Writes::default();
        let mut screen = Screen { size: || (80, 24), ..Screen::new(&mut writes, true) };
        screen.show(&block(), "line").unwrap();
        screen.show(&block(), "line").unwrap();
        screen.say(&[]).unwrap();
        screen.say(&["after".into()]).unwrap();
        let frame = "a\x1b[K\nb\x1b[K\nc\x1b[K\n\x1b[J";
        let again = format!("\x1b[3A\r{frame}");
        assert_eq!(
            writes.0,
            [frame, &again, "\x1b[3A\r\x1b[Jafter\n"],
            "a write for each, and none for nothing"
        );
    }

    #[test]
    fn a_small_terminal_gets_the_end_of_the_block() {
        let mut writes = Writes::default();
        let mut screen = Screen { size: || (3, 3), ..Screen::new(&mut writes, true) };
        screen.show(&["one", "·two", "three"].map(str::to_owned), "line").unwrap();
        screen.show(&block(), "line").unwrap();
        assert_eq!(writes.0[0], "·…\x1b[K\nt…\x1b[K\n\x1b[J");
        assert!(writes.0[1].starts_with("\x1b[2A\r"), "as many rows back as were drawn");
    }

    #[test]
    fn anything_else_gets_plain_lines() {
        let mut bytes = Vec::new();
        let mut screen = Screen::new(&mut bytes, false);
        screen.show(&block(), "line").unwrap();
        screen.say(&["after".into()]).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "line\nafter\n");
    }
}
