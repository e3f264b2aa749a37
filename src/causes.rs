//! Why an error came, in words: a library's own words are often about what it was at, and the cause further down has
//! the one that helps.

use std::error::Error;

/// What went wrong, and all that it came from; what is said once is not said again.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(found) = cause {
        let said = found.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = found.source();
    }
    text
}

/// What it all came from.
pub fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot connect")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn every_cause_is_said_once() {
        let refused = Outer(io::Error::other("refused"));
        assert_eq!(chain(&refused), "cannot connect: refused");
        assert_eq!(chain(&Outer(io::Error::other("connect"))), "cannot connect");
        assert_eq!(innermost(&refused).to_string(), "refused");
    }
}
