use proptest::prelude::*;

use std::f64::consts::PI;

use super::*;

fn close(got: f64, want: f64, relative: f64) {
    assert!((got - want).abs() <= relative * want.abs(), "{got} instead of {want}");
}

/// (a, b, x, ln I, ln(1 − I)), computed with 60 digits by the power series of the incomplete beta function.
#[rustfmt::skip]
#[expect(clippy::excessive_precision, reason = "as they were computed")]
const CUTS: [(f64, f64, f64, f64, f64); 19] = [
    (0.5, 0.5, 0.3, -0.99693121102077808469, -0.46046545391587117116),
    (0.108, 2.05, 0.05, -0.22278997988805397179, -1.6108534495938634165),
    (5.108, 12.05, 0.05, -7.2529787563027968277, -0.00070831289432547565883),
    (3.0, 4.0, 0.5, -0.42121346507630355059, -1.067840630001356003),
    (30.0, 12.0, 0.5, -6.1367204185862179249, -0.0021643429686193536196),
    (100.0, 100.0, 0.51, -0.49228737072662887804, -0.9447588608442178477),
    (0.001, 50.0, 0.9, -2.2271241740730770708e-55, -125.84146896949951434),
    (400.0, 500.0, 0.4, -5.6755177452879439858, -0.0034347853505418706187),
    (450.0, 450.0, 0.5, -LN_2, -LN_2),
    (450.0, 450.0, 0.7, -2.7848051916558932873e-36, -81.868885425989076686),
    (1000.0, 99000.0, 0.0101, -0.46485962570085087945, -0.98946183449892262459),
    (1000.5, 99000.25, 0.02, -5.9531182490691922762e-138, -315.97282767542654215),
    (20000.0, 980000.0, 0.0202, -0.080020740228587879469, -2.5652130044481649612),
    (50000.0, 50000.0, 0.5, -LN_2, -LN_2),
    (1e6, 9e6, 0.1, -0.69292292725589851122, -0.69337148416481682051),
    (1e6, 9e6, 0.1003, -0.00078982694231984983581, -7.1440915843334366039),
    (1e6, 9e6, 0.2, 0.0, -366908.01972326012036),
    (5e6, 5e6, 0.45, -50258.354678697626283, 0.0),
    (1e7, 1e7, 0.5001, -0.20523817039656842184, -1.6844487555028241456),
];

#[test]
fn both_tails_of_the_beta_law() {
    for (a, b, x, lower, upper) in CUTS {
        let cut = beta_cut(a, b, x);
        // The cut itself is a rounded number: at 10^7 counts that alone moves a logarithm by some 1e-12.
        close(cut.ln_lower, lower, 1e-10);
        close(cut.ln_upper, upper, 1e-10);
    }
}

#[test]
fn ln_gamma_and_ln_beta_at_exact_values() {
    close(ln_gamma(11.0), 3_628_800_f64.ln(), 1e-15);
    // B(3, 4) = 1/60, B(½, ½) = π.
    close(ln_beta(3.0, 4.0), -60_f64.ln(), 1e-14);
    close(ln_beta(0.5, 0.5), PI.ln(), 1e-14);
    close(ln_beta(1.0, 1e7), -1e7_f64.ln(), 1e-13);
}

#[test]
fn the_incomplete_beta_is_a_sum_of_binomials() {
    // I_x(a, b) is P(at least a of a + b − 1 are below x), for whole a and b.
    for (a, b, x) in [(3, 5, 0.2_f64), (40, 2, 0.97), (120, 300, 0.31), (450, 500, 0.4), (900, 20_000, 0.05)]
    {
        let all = f64::from(a + b - 1);
        let term = |k: i32| {
            let k = f64::from(k);
            ln_gamma(all + 1.0) - ln_gamma(k + 1.0) - ln_gamma(all - k + 1.0)
                + k * x.ln()
                + (all - k) * (-x).ln_1p()
        };
        let total = |range: std::ops::Range<i32>| range.map(term).fold(f64::NEG_INFINITY, ln_add_exp);
        let cut = beta_cut(f64::from(a), f64::from(b), x);
        let (lower, upper) = (total(a..a + b), total(0..a));
        assert!((cut.ln_lower - lower).abs() < 1e-9 * (1.0 + lower.abs()), "{a} {b} {x}: {cut:?} {lower}");
        assert!((cut.ln_upper - upper).abs() < 1e-9 * (1.0 + upper.abs()), "{a} {b} {x}: {cut:?} {upper}");
    }
}

#[test]
fn the_normal_law_at_known_values() {
    close(normal_cdf(1.959_963_984_540_054), 0.975, 1e-14);
    close(normal_quantile(0.975), 1.959_963_984_540_054, 1e-13);
    close(normal_quantile(1e-10), -6.361_340_902_404_056, 1e-12);
    assert!(normal_quantile(0.5).abs() < 1e-14);
    close(ln_normal_cdf(-10.0), -53.231_285_150_512_47, 1e-13);
    close(ln_normal_cdf(-40.0), -804.608_442_013_754, 1e-13);
    close(ln_normal_cdf(9.0), -1.128_588_405_953_840_5e-19, 1e-10);
}

proptest! {
    #[test]
    fn the_tails_are_mirror_images_and_make_one(a in 0.001..5e3f64, b in 0.001..5e3f64, x in 0.001..0.999f64) {
        let (cut, mirror) = (beta_cut(a, b, x), beta_cut(b, a, 1.0 - x));
        let allowed = |value: f64| 1e-9 * (1.0 + value.abs());
        prop_assert!((cut.ln_lower - mirror.ln_upper).abs() <= allowed(cut.ln_lower), "{:?} {:?}", cut, mirror);
        prop_assert!((cut.ln_lower.exp() + cut.ln_upper.exp() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_two_ways_to_a_tail_agree(a in 300.0..3e4f64, b in 300.0..3e4f64, sigmas in 0.0..40.0f64) {
        let mean = a / (a + b);
        let x = mean - sigmas * (mean * (1.0 - mean) / (a + b)).sqrt();
        prop_assume!(x > 0.0);
        let (one, other) = (fraction(a, b, x).ln() - a.ln(), quadrature(a, b, x));
        prop_assert!((one - other).abs() < 1e-9, "{} {}", one, other);
    }

    #[test]
    fn lower_tails_grow_with_the_cut(a in 0.01..1e6f64, b in 0.01..1e6f64, x in 0.01..0.98f64) {
        prop_assert!(beta_cut(a, b, x + 0.01).ln_lower >= beta_cut(a, b, x).ln_lower);
    }

    #[test]
    fn the_quantile_undoes_the_normal_law(z in -35.0..5.0f64) {
        let back = normal_quantile(normal_cdf(z));
        prop_assert!((back - z).abs() < 1e-6, "{} {}", back, z);
    }
}

#[test]
fn the_lower_tail_of_the_gamma_law() {
    // P(1, x) = 1 − e^(−x); P(½, x) = erf(√x); P(a, a) → ½ + 1/(3 sqrt(2πa)).
    for x in [1e-6, 0.3, 1.0, 2.5, 30.0] {
        close(ln_gamma_lower(1.0, x), ln_one_minus_exp(-x), 1e-11);
        close(ln_gamma_lower(0.5, x), (-libm::erfc(x.sqrt())).ln_1p(), 1e-9);
    }
    for a in [1e3, 1e5, 1e7] {
        let half = 0.5 + 1.0 / (3.0 * (2.0 * PI * a).sqrt());
        close(ln_gamma_lower(a, a), half.ln(), 1e-5 / a.sqrt());
    }
}

proptest! {
    #[test]
    fn tails_of_the_gamma_law_are_one_step_apart(a in 0.2..1e4f64, times in 0.3..3.0f64) {
        // P(a, x) − P(a + 1, x) = x^a e^(−x) / Γ(a + 1).
        let x = a * times;
        let (here, next) = (ln_gamma_lower(a, x).exp(), ln_gamma_lower(a + 1.0, x).exp());
        let step = (a * x.ln() - x - ln_gamma(a + 1.0)).exp();
        prop_assert!((here - next - step).abs() < 1e-9, "{} {}", here - next, step);
    }
}
