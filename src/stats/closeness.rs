//! How near two numbers are: within a tolerance, and in steps of their own type.
//!
//! The tolerance is numpy's `isclose`: |a − b| ≤ absolute + relative · |b|, where b is the reference; an infinity is
//! near the same infinity alone, and NaN near NaN only where that is asked for.

/// What is near enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// In the values' own unit.
    pub absolute: f64,
    /// As part of the reference's size.
    pub relative: f64,
    /// Whether two NaN are the same.
    pub equal_nan: bool,
}

impl Tolerance {
    /// Whether `a` is near the reference `b`.
    #[inline]
    pub fn is_close(&self, a: f64, b: f64) -> bool {
        let near = (a - b).abs() <= self.absolute + self.relative * b.abs();
        // Beside an infinite reference everything would be near.
        (near && b.is_finite()) || a == b || (self.equal_nan && a.is_nan() && b.is_nan())
    }
}

/// The place of a number among all of its type, from its bits; +0 and −0 have the same.
#[inline]
pub fn place(bits: u64, width: u32) -> i64 {
    let sign = 1 << (width - 1);
    let size = (bits & (sign - 1)) as i64;
    if bits & sign == 0 { size } else { -size }
}

/// How many numbers of the type lie between two, given by [`place`]: units in the last place.
#[inline]
pub fn steps(a: i64, b: i64) -> u64 {
    a.abs_diff(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::oracle::{Case, number};

    #[test]
    fn published_closeness() {
        let case = Case::named("allclose_ulp");
        let values = |name: &str| -> Vec<f32> {
            let all = case.input()[name].as_array().unwrap();
            all.iter().map(|text| text.as_str().unwrap().parse().unwrap()).collect()
        };
        let (actual, reference) = (values("actual"), values("expected"));
        let (absolute, relative) = (number(&case.input()["atol"]), number(&case.input()["rtol"]));
        for (name, equal_nan) in [("isclose", false), ("isclose_equal_nan", true)] {
            let tolerance = Tolerance { absolute, relative, equal_nan };
            for (at, want) in case.expected()[name].as_array().unwrap().iter().enumerate() {
                let close = tolerance.is_close(actual[at].into(), reference[at].into());
                assert_eq!(close, want.as_bool().unwrap(), "{name} {at}");
            }
        }
        for (at, want) in case.expected()["ulp"].as_array().unwrap().iter().enumerate() {
            let Some(want) = want.as_u64() else { continue };
            let of = |value: f32| place(value.to_bits().into(), 32);
            assert_eq!(steps(of(actual[at]), of(reference[at])), want, "{at}");
        }
    }

    #[test]
    fn steps_count_in_every_width() {
        assert_eq!(steps(place(1.0_f64.to_bits(), 64), place(1.0_f64.next_up().to_bits(), 64)), 1);
        assert_eq!(steps(place((-0.0_f64).to_bits(), 64), place(0, 64)), 0);
        assert_eq!(steps(place(0x8001, 16), place(0x0001, 16)), 2);
    }
}
