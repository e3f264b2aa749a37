//! Quantities with their units: `5%`, `250ms`, `4MiB`. Each type can only hold a value in its range.

/// A share of a whole in steps of 0.001 %: 0 to 100,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// Everything.
    pub const ALL: Percent = Percent(100_000);
    /// Nothing.
    pub const NONE: Percent = Percent(0);

    /// From thousandths of a percent; `None` above 100,000.
    pub fn from_thousandths(thousandths: u32) -> Option<Self> {
        (thousandths <= 100_000).then_some(Percent(thousandths))
    }

    /// Thousandths of a percent, 0 to 100,000.
    pub fn thousandths(self) -> u32 {
        self.0
    }

    /// As a probability, 0.0 to 1.0.
    pub fn probability(self) -> f64 {
        f64::from(self.0) / 100_000.0
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Size {
    /// As `usize`, saturating.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}
