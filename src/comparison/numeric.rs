//! Two outputs number by number: numpy's `isclose`, or steps of the type.

use super::found::{Held, Kind};
use super::tensor::Type;
use crate::config::Numeric;
use crate::stats::closeness::{Tolerance, place, steps};

/// A number as it lies in raw contents.
pub(super) trait Number: Copy {
    /// Its bytes.
    const WIDTH: usize;

    /// Reads one; what is missing counts as zero.
    fn read(bytes: &[u8]) -> Self;
    /// As the widest float; whole numbers above 2^53 are rounded.
    fn value(self) -> f64;
    /// Where it is among all of its type.
    fn place(self) -> i64;
}

macro_rules! number {
    ($name:ty, $value:expr, $place:expr) => {
        impl Number for $name {
            const WIDTH: usize = size_of::<$name>();

            #[inline]
            fn read(bytes: &[u8]) -> Self {
                <$name>::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default())
            }

            #[inline]
            fn value(self) -> f64 {
                $value(self)
            }

            #[inline]
            fn place(self) -> i64 {
                $place(self)
            }
        }
    };
}

number!(u8, f64::from, i64::from);
number!(u16, f64::from, i64::from);
number!(u32, f64::from, i64::from);
number!(i8, f64::from, i64::from);
number!(i16, f64::from, i64::from);
number!(i32, f64::from, i64::from);
number!(i64, |x| x as f64, |x| x);
number!(u64, |x| x as f64, |x: u64| (x ^ (1 << 63)).cast_signed());
number!(half::f16, f64::from, |x: half::f16| place(x.to_bits().into(), 16));
number!(half::bf16, f64::from, |x: half::bf16| place(x.to_bits().into(), 16));
number!(f32, f64::from, |x: f32| place(x.to_bits().into(), 32));
number!(f64, |x| x, |x: f64| place(x.to_bits(), 64));

/// Runs a function that is generic over a number's type with the one that a type has; texts have none.
macro_rules! by_type {
    ($kind:expr, $function:ident ( $($argument:expr),* ), $else:expr) => {
        match $kind {
            $crate::comparison::tensor::Type::Bool | $crate::comparison::tensor::Type::U8 => $function::<u8>($($argument),*),
            $crate::comparison::tensor::Type::U16 => $function::<u16>($($argument),*),
            $crate::comparison::tensor::Type::U32 => $function::<u32>($($argument),*),
            $crate::comparison::tensor::Type::U64 => $function::<u64>($($argument),*),
            $crate::comparison::tensor::Type::I8 => $function::<i8>($($argument),*),
            $crate::comparison::tensor::Type::I16 => $function::<i16>($($argument),*),
            $crate::comparison::tensor::Type::I32 => $function::<i32>($($argument),*),
            $crate::comparison::tensor::Type::I64 => $function::<i64>($($argument),*),
            $crate::comparison::tensor::Type::F16 => $function::<half::f16>($($argument),*),
            $crate::comparison::tensor::Type::Bf16 => $function::<half::bf16>($($argument),*),
            $crate::comparison::tensor::Type::F32 => $function::<f32>($($argument),*),
            $crate::comparison::tensor::Type::F64 => $function::<f64>($($argument),*),
            $crate::comparison::tensor::Type::Bytes => $else,
        }
    };
}
pub(super) use by_type;

/// All numbers of raw contents.
pub(super) fn numbers<'a, T: Number + 'a>(bytes: &'a [u8]) -> impl Iterator<Item = T> + Clone + 'a {
    bytes.chunks_exact(T::WIDTH).map(T::read)
}

/// What two numbers of a type may be apart where nothing is declared: as PyTorch's tests have it.
fn usual(kind: Type) -> (f64, f64) {
    match kind {
        Type::F16 => (1e-5, 1e-3),
        Type::Bf16 => (1e-5, 1.6e-2),
        Type::F32 => (1e-5, 1.3e-6),
        Type::F64 => (1e-7, 1e-7),
        _ => (0.0, 0.0),
    }
}

/// The sums of a pass over both.
#[derive(Debug, Default)]
struct Sums {
    outside: u64,
    max_abs: f64,
    max_rel: f64,
    max_ulp: u64,
    /// Of candidate − served, and of its size.
    difference: f64,
    size: f64,
    /// Products: candidate · served, and each with itself.
    products: [f64; 3],
    finite: u64,
    non_finite: bool,
}

/// Compares `rows` rows of numbers of one type; `served` and `candidate` have equally many.
///
/// # Errors
/// [`Kind::Unsupported`] where they are texts.
pub(super) fn compare(
    numeric: &Numeric,
    kind: Type,
    (served, candidate): (&[u8], &[u8]),
    rows: usize,
) -> Result<Held, Kind> {
    let declared = numeric.absolute.is_some() || numeric.relative.is_some() || numeric.ulp.is_some();
    let (absolute, relative) = match declared {
        true => (numeric.absolute.unwrap_or(0.0), numeric.relative.unwrap_or(0.0)),
        false => usual(kind),
    };
    let tolerance = Tolerance { absolute, relative, equal_nan: numeric.equal_nan };
    if served == candidate && numeric.equal_nan {
        let figures = figures(&Sums { finite: 1, products: [1.0; 3], ..Sums::default() }, 1);
        return Ok(Held { rows: rows as u64, figures, ..Held::default() });
    }
    let width = served.len() / rows.max(1);
    by_type!(
        kind,
        pass(&tolerance, numeric.ulp.unwrap_or(0), (served, candidate), width),
        Err(Kind::Unsupported)
    )
}

fn pass<T: Number>(
    tolerance: &Tolerance,
    ulp: u64,
    (served, candidate): (&[u8], &[u8]),
    width: usize,
) -> Result<Held, Kind> {
    let mut sums = Sums::default();
    let (mut rows, mut differing) = (0, 0);
    let width = width.max(T::WIDTH);
    for (one, other) in served.chunks_exact(width).zip(candidate.chunks_exact(width)) {
        let before = sums.outside;
        for (served, candidate) in numbers::<T>(one).zip(numbers::<T>(other)) {
            sums.add(tolerance, ulp, served, candidate);
        }
        rows += 1;
        differing += u64::from(sums.outside > before);
    }
    let values = (served.len() / T::WIDTH) as u64;
    let figures = figures(&sums, values.max(1));
    Ok(Held { rows, differing, distance: sums.max_abs, non_finite: sums.non_finite, figures })
}

impl Sums {
    #[inline]
    fn add<T: Number>(&mut self, tolerance: &Tolerance, ulp: u64, served: T, candidate: T) {
        let (b, a) = (served.value(), candidate.value());
        let gap = a - b;
        if !gap.is_finite() {
            // One of both is no number, or both are.
            if !tolerance.is_close(a, b) {
                self.outside += 1;
                self.non_finite |= a.is_finite() != b.is_finite() || a.is_nan() != b.is_nan();
            }
            return;
        }
        let apart = steps(served.place(), candidate.place());
        let size = gap.abs();
        self.max_abs = self.max_abs.max(size);
        if b != 0.0 {
            self.max_rel = self.max_rel.max(size / b.abs());
        }
        self.max_ulp = self.max_ulp.max(apart);
        self.difference += gap;
        self.size += size;
        self.products[0] += a * b;
        self.products[1] += a * a;
        self.products[2] += b * b;
        self.finite += 1;
        // Of large whole numbers the float says less than the number.
        let close = apart == 0 || apart <= ulp || size > 0.0 && tolerance.is_close(a, b);
        self.outside += u64::from(!close);
    }
}

fn figures(sums: &Sums, values: u64) -> Vec<(&'static str, f64)> {
    let finite = sums.finite.max(1) as f64;
    let [both, one, other] = sums.products;
    let length = (one * other).sqrt();
    vec![
        ("max_abs", sums.max_abs),
        ("max_rel", sums.max_rel),
        ("max_ulp", sums.max_ulp as f64),
        ("bias", sums.difference / finite),
        ("mean_abs", sums.size / finite),
        ("outside", sums.outside as f64 / values as f64),
        ("cosine", if length > 0.0 { both / length } else { f64::from(u8::from(one == other)) }),
    ]
}
