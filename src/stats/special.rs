//! Functions that evidence is made of, in logarithms: gamma, beta, the incomplete beta and the normal law.
//!
//! Its rule: a probability far below the smallest f64 is as exact as one near 1/2. So every tail is told as its
//! logarithm, and none is ever found by subtracting another from one while it is the smaller of the two.
//! Gamma is written as Stirling's formula plus its remainder δ, which stays small for any argument: terms of size
//! 10^8 that would cancel never appear (Loader, "Fast and accurate computation of binomial probabilities", 2000).

use std::f64::consts::{LN_2, SQRT_2};

/// ½ ln 2π.
const HALF_LN_2PI: f64 = 0.918_938_533_204_672_8;
/// Below this much of both parameters the continued fraction is the faster way to a tail of the beta law.
const FRACTION_BELOW: f64 = 400.0;

/// ln Γ(x), for x > 0.
pub fn ln_gamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// ln B(a, b), for a, b > 0, to about 1e-15 of itself also where both are large.
pub fn ln_beta(a: f64, b: f64) -> f64 {
    let sum = a + b;
    HALF_LN_2PI + a * ln_share(a, b) + b * ln_share(b, a) - 0.5 * (a.ln() + ln_share(b, a))
        + (remainder(a) + remainder(b) - remainder(sum))
}

/// ln(part / (part + other)).
fn ln_share(part: f64, other: f64) -> f64 {
    if part > other { -(other / part).ln_1p() } else { (part / (part + other)).ln() }
}

/// δ(x) = ln Γ(x) − [(x − ½) ln x − x + ½ ln 2π]: what Stirling's formula leaves.
fn remainder(x: f64) -> f64 {
    if x < 10.0 {
        return ln_gamma(x) - ((x - 0.5) * x.ln() - x + HALF_LN_2PI);
    }
    let y = 1.0 / (x * x);
    let series = [
        1.0 / 156.0,
        -691.0 / 360_360.0,
        1.0 / 1188.0,
        -1.0 / 1680.0,
        1.0 / 1260.0,
        -1.0 / 360.0,
        1.0 / 12.0,
    ];
    series.iter().fold(0.0, |sum, term| sum * y + term) / x
}

/// The beta law with parameters a and b, cut at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cut {
    /// ln[x^a (1 − x)^b / B(a, b)]: the scale that both tails have near the cut.
    pub ln_front: f64,
    /// ln I_x(a, b): the mass below the cut.
    pub ln_lower: f64,
    /// ln(1 − I_x(a, b)): the mass above it.
    pub ln_upper: f64,
}

/// Cuts the beta law of a, b > 0 at x in (0, 1): both tails to about 1e-10 of their logarithms, however small.
pub fn beta_cut(a: f64, b: f64, x: f64) -> Cut {
    let ln_front = ln_front(a, b, x);
    // The smaller tail is computed, the larger one is what is left.
    if x * (a + b + 2.0) < a + 1.0 {
        let ln_lower = ln_front + ln_tail_over_front(a, b, x);
        Cut { ln_front, ln_lower, ln_upper: ln_one_minus_exp(ln_lower) }
    } else {
        let ln_upper = ln_front + ln_tail_over_front(b, a, 1.0 - x);
        Cut { ln_front, ln_lower: ln_one_minus_exp(ln_upper), ln_upper }
    }
}

/// ln[x^a (1 − x)^b / B(a, b)], without the cancellation of its three terms.
pub fn ln_front(a: f64, b: f64, x: f64) -> f64 {
    let sum = a + b;
    let scale = 0.5 * (a.ln() + ln_share(b, a)) - HALF_LN_2PI;
    let distance = deviance(a, sum * x) + deviance(b, sum * (1.0 - x));
    scale - distance - remainder(a) - remainder(b) + remainder(sum)
}

/// a ln(a / m) + m − a, exact also where a and m are nearly the same.
fn deviance(a: f64, m: f64) -> f64 {
    let gap = (m - a) / a;
    if gap.abs() > 0.1 {
        return a * (a / m).ln() + m - a;
    }
    // gap − ln(1 + gap) as a series in gap / (2 + gap), all of whose terms fall quickly.
    let r = gap / (2.0 + gap);
    let square = r * r;
    let (mut sum, mut power, mut odd) = (0.0, square, 3.0);
    while power > 1e-18 {
        sum += power / odd;
        power *= square;
        odd += 2.0;
    }
    a * r * (gap - 2.0 * sum)
}

/// ln P(a, x), the regularised lower incomplete gamma function, for a, x > 0: to about 1e-11 of itself, by its series below
/// a + 1 and by the continued fraction of what is left above (DLMF 8.11.4 and 8.9.2).
pub fn ln_gamma_lower(a: f64, x: f64) -> f64 {
    const MOST: u32 = 1_000_000;
    // a ln x − x − ln Γ(a + 1), without the cancellation of its terms.
    let ln_front = -deviance(a, x) - remainder(a) - 0.5 * (2.0 * std::f64::consts::PI * a).ln();
    if x < a + 1.0 {
        let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
        while term > 1e-17 * sum && k < f64::from(MOST) {
            term *= x / (a + k);
            sum += term;
            k += 1.0;
        }
        return ln_front + sum.ln();
    }
    const TINY: f64 = 1e-300;
    let kept = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / kept(b);
    let mut h = d;
    for k in 1..MOST {
        let k = f64::from(k);
        let numerator = -k * (k - a);
        b += 2.0;
        d = 1.0 / kept(numerator * d + b);
        c = kept(b + numerator / c);
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
    }
    // Q = x^a e^(−x) h / Γ(a) = a · front · h.
    ln_one_minus_exp((ln_front + a.ln() + h.ln()).min(-f64::MIN_POSITIVE))
}

/// ln(1 − e^y), for y ≤ 0.
pub fn ln_one_minus_exp(y: f64) -> f64 {
    if y > -LN_2 { (-y.exp_m1()).ln() } else { (-y.exp()).ln_1p() }
}

/// ln(e^a + e^b).
pub fn ln_add_exp(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// ln of the tail below x, where x is below the mean, over x^a (1 − x)^b / B(a, b).
fn ln_tail_over_front(a: f64, b: f64, x: f64) -> f64 {
    if a.min(b) < FRACTION_BELOW { fraction(a, b, x).ln() - a.ln() } else { quadrature(a, b, x) }
}

/// The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let kept = |value: f64| if value.abs() < TINY { TINY } else { value };
    let sum = a + b;
    let mut numerator = 1.0;
    let mut denominator = 1.0 / kept(1.0 - sum * x / (a + 1.0));
    let mut value = denominator;
    let mut m = 1.0;
    // Where it is used it ends within a few hundred steps; the bound only keeps a NaN from running for ever.
    while m < 1e5 {
        let place = a + 2.0 * m;
        let even = m * (b - m) * x / ((place - 1.0) * place);
        denominator = 1.0 / kept(1.0 + even * denominator);
        numerator = kept(1.0 + even / numerator);
        value *= denominator * numerator;
        let odd = -(a + m) * (sum + m) * x / (place * (place + 1.0));
        denominator = 1.0 / kept(1.0 + odd * denominator);
        numerator = kept(1.0 + odd / numerator);
        let step = denominator * numerator;
        value *= step;
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
        m += 1.0;
    }
    value
}

/// The tail of a beta law of many counts as an integral: there it lies between an exponential and a normal one, so
/// that few points of Gauss and Legendre are enough, in a time that does not grow with the counts.
fn quadrature(a: f64, b: f64, x: f64) -> f64 {
    // The integrand falls by e^−DROP within the range, if its curvature stays as it is at x.
    const DROP: f64 = 45.0;
    let slope = (a - 1.0) / x - (b - 1.0) / (1.0 - x);
    let curve = (a - 1.0) / (x * x) + (b - 1.0) / ((1.0 - x) * (1.0 - x));
    let slope = slope.max(0.0);
    let range = (2.0 * DROP / (slope + (slope * slope + 2.0 * DROP * curve).sqrt())).min(x);
    let at = |u: f64| ((a - 1.0) * (-u / x).ln_1p() + (b - 1.0) * (u / (1.0 - x)).ln_1p()).exp();
    let half = 0.5 * range;
    let sum: f64 = GAUSS_LEGENDRE
        .iter()
        .map(|(node, weight)| weight * (at(half * (1.0 - node)) + at(half * (1.0 + node))))
        .sum();
    // The front carries one power more of x and 1 − x than the density.
    (half * sum).ln() - x.ln() - (-x).ln_1p()
}

/// Positive nodes and weights of the Gauss–Legendre rule of 24 points on (−1, 1).
const GAUSS_LEGENDRE: [(f64, f64); 12] = [
    (0.064_056_892_862_605_63, 0.127_938_195_346_752_16),
    (0.191_118_867_473_616_3, 0.125_837_456_346_828_3),
    (0.315_042_679_696_163_4, 0.121_670_472_927_803_39),
    (0.433_793_507_626_045_1, 0.115_505_668_053_725_6),
    (0.545_421_471_388_839_6, 0.107_444_270_115_965_63),
    (0.648_093_651_936_975_5, 0.097_618_652_104_113_88),
    (0.740_124_191_578_554_4, 0.086_190_161_531_953_27),
    (0.820_001_985_973_903, 0.073_346_481_411_080_3),
    (0.886_415_527_004_401_1, 0.059_298_584_915_436_78),
    (0.938_274_552_002_732_8, 0.044_277_438_817_419_81),
    (0.974_728_555_971_309_5, 0.028_531_388_628_933_663),
    (0.995_187_219_997_021_3, 0.012_341_229_799_987_198),
];

/// Φ(z): the mass of the standard normal law below z.
pub fn normal_cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}

/// ln Φ(z), also far below where Φ itself is no f64 any more.
pub fn ln_normal_cdf(z: f64) -> f64 {
    if z > 0.0 {
        return (-0.5 * libm::erfc(z / SQRT_2)).ln_1p();
    }
    if z > -30.0 {
        return (0.5 * libm::erfc(-z / SQRT_2)).ln();
    }
    // The asymptotic series of Mills' ratio; its next term is below 1e-14 here.
    let y = 1.0 / (z * z);
    let series = 1.0 - y * (1.0 - y * (3.0 - y * (15.0 - 105.0 * y)));
    -0.5 * z * z - HALF_LN_2PI - (-z).ln() + series.ln()
}

/// The z with Φ(z) = p, for p in (0, 1).
pub fn normal_quantile(p: f64) -> f64 {
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    let target = p.ln();
    // ln Φ is concave and steep to the left, so that Newton's steps from there do not run away.
    let mut z = -(2.0 * (LN_2 - target)).sqrt().max(0.1);
    for _ in 0..64 {
        let value = ln_normal_cdf(z);
        let slope = (-0.5 * z * z - HALF_LN_2PI - value).exp();
        let step = (value - target) / slope;
        z -= step;
        if step.abs() <= 1e-15 * z.abs() {
            break;
        }
    }
    z
}

#[cfg(test)]
mod tests;
