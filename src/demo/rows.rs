//! The rows that the demo's caller sends: images which no version of the model was trained on.
//!
//! Each row brings its true digit, so accuracy can be counted, and what scikit-learn's own models say of it, so an
//! answer proves which version made it. Pure.

use super::model::PIXELS;

const FILE: &str = include_str!("../../examples/classifier/digits-test.csv");
const HEADER: &str = "label,1.0.0,2.0.0,3.0.0-rc1,pixels";

/// One image.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The digit it shows.
    pub label: u8,
    /// What each version says it shows, oldest version first.
    pub said: [u8; 3],
    /// Whole numbers 0 (white) to 16 (black), row by row.
    pub pixels: [f32; PIXELS],
}

/// A line that is not a row.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the test rows is not `label,said,said,said,64 pixels`: {text:?}")]
pub struct RowError {
    /// Counted from 1.
    pub line: usize,
    /// As it stands there.
    pub text: String,
}

impl Row {
    /// The rows that are part of the binary.
    ///
    /// # Errors
    /// Where the committed file was altered into something else.
    pub fn bundled() -> Result<Vec<Row>, RowError> {
        Row::parse_all(FILE)
    }

    fn parse_all(text: &str) -> Result<Vec<Row>, RowError> {
        let parse = |(index, line): (usize, &str)| {
            Row::parse(line).ok_or_else(|| RowError { line: index + 1, text: line.to_owned() })
        };
        let mut lines = text.lines().enumerate();
        match lines.next() {
            Some((_, HEADER)) => lines.map(parse).collect(),
            other => Err(RowError { line: 1, text: other.map_or("", |(_, line)| line).to_owned() }),
        }
    }

    fn parse(line: &str) -> Option<Row> {
        let mut fields = line.split(',');
        let mut digit = || fields.next()?.parse::<u8>().ok().filter(|&digit| digit <= 9);
        let (label, said) = (digit()?, [digit()?, digit()?, digit()?]);
        let text = fields.next()?;
        let mut pixels = [0.0; PIXELS];
        if text.len() != PIXELS || fields.next().is_some() {
            return None;
        }
        for (pixel, character) in pixels.iter_mut().zip(text.chars()) {
            // One character for each of the 17 shades.
            *pixel = character.to_digit(17)? as f32;
        }
        Some(Row { label, said, pixels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_rows_are_read() {
        let rows = Row::bundled().unwrap();
        assert_eq!(rows.len(), 600);
        assert_eq!((rows[0].label, rows[0].said), (4, [4, 4, 4]));
        assert_eq!(rows[0].pixels[..8], [0.0, 0.0, 0.0, 6.0, 15.0, 1.0, 0.0, 0.0]);
        assert!(rows.iter().any(|row| row.pixels.contains(&16.0)));
    }

    #[test]
    fn a_bad_line_is_named() {
        let short = format!("{HEADER}\n1,2,3,4,00ff");
        let error = Row::parse_all(&short).unwrap_err();
        assert_eq!((error.line, error.text.as_str()), (2, "1,2,3,4,00ff"));
        let pixels = "h".repeat(PIXELS);
        assert_eq!(Row::parse_all(&format!("{HEADER}\n1,2,3,4,{pixels}")).unwrap_err().line, 2);
        assert_eq!(Row::parse_all("label").unwrap_err().line, 1);
        let pixels = "0".repeat(PIXELS);
        assert_eq!(Row::parse_all(&format!("{HEADER}\n11,2,3,4,{pixels}")).unwrap_err().line, 2);
    }
}
