//! Where the demo's lines go.
//!
//! On a terminal a block stays at the bottom and is drawn again in place; anywhere else each state is one more plain
//! line, with no control codes. What the lines say is made elsewhere, by pure functions.

use std::io::{self, Write};

/// Draws without a wrapped line, so that the number of lines drawn is the number of rows to go back.
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";
const CLEAR_TO_LINE_END: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Where the demo's text goes.
pub struct Screen<W> {
    out: W,
    /// Whether lines may be drawn again.
    live: bool,
    /// Rows of the block at the bottom.
    drawn: usize,
}

impl<W: Write> Screen<W> {
    /// Writes to `out`; `live` where that is a terminal.
    pub fn new(out: W, live: bool) -> Screen<W> {
        Screen { out, live, drawn: 0 }
    }

    /// Whether it draws in place.
    pub fn live(&self) -> bool {
        self.live
    }

    /// Says lines that stay, above the block at the bottom.
    ///
    /// # Errors
    /// Whatever the output says, for instance that nobody reads it any more.
    pub fn say(&mut self, lines: &[String]) -> io::Result<()> {
        self.back()?;
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        self.out.flush()
    }

    /// Shows how far it is: as a `block` on a terminal, else as one `line`.
    ///
    /// # Errors
    /// As [`Screen::say`].
    pub fn show(&mut self, block: &[String], line: &str) -> io::Result<()> {
        if !self.live {
            return self.say(&[line.to_owned()]);
        }
        self.back()?;
        write!(self.out, "{WRAP_OFF}")?;
        for line in block {
            writeln!(self.out, "{line}{CLEAR_TO_LINE_END}")?;
        }
        write!(self.out, "{WRAP_ON}")?;
        self.drawn = block.len();
        self.out.flush()
    }

    fn back(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            write!(self.out, "\x1b[{}A\r{CLEAR_BELOW}", self.drawn)?;
            self.drawn = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).into()
    }

    #[test]
    fn a_terminal_is_drawn_in_place() {
        let mut bytes = Vec::new();
        let mut screen = Screen::new(&mut bytes, true);
        screen.show(&block(), "line").unwrap();
        screen.show(&block(), "line").unwrap();
        screen.say(&["after".into()]).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches("\x1b[3A\r\x1b[J").count(), 2);
        assert!(text.ends_with("\x1b[3A\r\x1b[Jafter\n") && !text.contains("line"));
        assert_eq!(text.matches(WRAP_OFF).count(), text.matches(WRAP_ON).count());
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
