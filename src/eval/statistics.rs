//! Means, and how sure they are.

use rand::{Rng, SeedableRng};

/// Samples of a bootstrap.
const SAMPLES: usize = 2000;
/// Share of the samples that an interval leaves out at each end.
const TAIL: f64 = 0.025;

/// The mean of what is known; `None` if nothing is.
pub fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_u32);
    for value in values.into_iter().flatten() {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// The 95 % interval of the mean of paired differences: percentiles of the means of samples with replacement (Efron's
/// bootstrap), the same for a seed. `None` without differences.
pub fn interval(differences: &[f64], seed: u64) -> Option<(f64, f64)> {
    if differences.is_empty() {
        return None;
    }
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let count = differences.len();
    let mut sample = || (0..count).map(|_| differences[random.random_range(0..count)]).sum::<f64>() / count as f64;
    let mut means: Vec<f64> = (0..SAMPLES).map(|_| sample()).collect();
    means.sort_by(f64::total_cmp);
    let outside = (SAMPLES as f64 * TAIL) as usize;
    Some((means[outside], means[SAMPLES - 1 - outside]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_what_is_known() {
        assert_eq!(mean([Some(1.0), None, Some(2.0)]), Some(1.5));
        assert_eq!(mean([None]), None);
    }

    /// The mean of n differences of ±1 has the standard error 1/√n: about ±1.96/20 around the middle for 400.
    #[test]
    fn an_interval_is_as_wide_as_the_standard_error_says() {
        let differences: Vec<f64> = (0..400).map(|n| if n % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let (low, high) = interval(&differences, 1).unwrap();
        assert!((-0.12..=-0.08).contains(&low) && (0.08..=0.12).contains(&high), "{low} {high}");
        assert_eq!(interval(&differences, 1), interval(&differences, 1));
        assert_eq!(interval(&[0.5; 10], 1), Some((0.5, 0.5)));
        assert_eq!(interval(&[], 1), None);
    }
}
