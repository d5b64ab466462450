//! Token vectors as int8, and MaxSim over them. Pure arithmetic.

use simsimd::SpatialSimilarity;

use crate::embedding::TokenVectors;

/// Rows of int8 with one scale each: a quarter of the memory of `f32`, at an error below 0.01 of a cosine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    values: Box<[i8]>,
    scales: Box<[f32]>,
    dimensions: usize,
}

impl Matrix {
    /// Quantises each row by its largest absolute value.
    pub(super) fn quantise(vectors: &TokenVectors) -> Self {
        let mut values = Vec::with_capacity(vectors.values.len());
        let mut scales = Vec::with_capacity(vectors.ids.len());
        // (`max(1)`: chunks of nothing are not allowed, and there are none of an empty matrix.)
        for row in vectors.values.chunks_exact(vectors.dimensions.max(1)) {
            let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
            scales.push(scale);
            let steps = 1.0 / scale;
            values.extend(row.iter().map(|value| (value * steps).round_ties_even() as i8));
        }
        Self { values: values.into(), scales: scales.into(), dimensions: vectors.dimensions }
    }

    pub(super) fn rows(&self) -> usize {
        self.scales.len()
    }

    /// Memory of its numbers.
    pub(super) fn bytes(&self) -> usize {
        self.values.len() + size_of_val(&*self.scales)
    }

    fn iter(&self) -> impl Iterator<Item = (&[i8], f32)> {
        self.values.chunks_exact(self.dimensions.max(1)).zip(self.scales.iter().copied())
    }
}

/// For each question token the cosine to the passage's nearest token, averaged by `weights` (one per question token) and
/// held within 0..=1. Nothing to compare is 0.
pub(super) fn max_sim(question: &Matrix, weights: &[f32], passage: &Matrix) -> f32 {
    let total: f32 = weights.iter().sum();
    if passage.rows() == 0 || total <= 0.0 {
        return 0.0;
    }
    let mut sum = 0.0;
    for ((row, scale), weight) in question.iter().zip(weights) {
        let nearest = passage.iter().map(|(other, other_scale)| dot(row, other) * other_scale);
        sum += weight * scale * nearest.fold(f32::NEG_INFINITY, f32::max);
    }
    (sum / total).clamp(0.0, 1.0)
}

/// The dot product, by the processor's own instructions for int8 where it has some: a question against 20 passages is
/// some 20 million multiplications. 127² × 2¹⁷ values fit an `i32`.
fn dot(left: &[i8], right: &[i8]) -> f32 {
    // (None: the lengths differ, and rows of one model do not.)
    i8::dot(left, right).unwrap_or(0.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: &[&[f32]]) -> Matrix {
        let mut vectors = TokenVectors { ids: Vec::new(), values: Vec::new(), dimensions: rows[0].len() };
        for row in rows {
            let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            vectors.ids.push(0);
            vectors.values.extend(row.iter().map(|value| value / norm));
        }
        Matrix::quantise(&vectors)
    }

    #[test]
    fn each_question_token_finds_its_nearest() {
        let question = matrix(&[&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0]]);
        let passage = matrix(&[&[0.0, 0.0, 1.0], &[0.0, 2.0, 0.0], &[1.0, 1.0, 0.0]]);
        let expected = (0.5_f32.sqrt() + 1.0) / 2.0;
        assert!((max_sim(&question, &[1.0, 1.0], &passage) - expected).abs() < 0.01);
        assert!((max_sim(&question, &[0.0, 3.0], &passage) - 1.0).abs() < 0.01);
    }

    #[test]
    fn scores_stay_within_their_bounds() {
        let one = matrix(&[&[1.0, 2.0]]);
        let opposite = matrix(&[&[-1.0, -2.0]]);
        let none = Matrix::quantise(&TokenVectors { ids: vec![], values: vec![], dimensions: 2 });
        assert_eq!(max_sim(&one, &[1.0], &opposite), 0.0);
        assert_eq!(max_sim(&one, &[1.0], &none), 0.0);
        assert_eq!(max_sim(&none, &[], &one), 0.0);
        assert!(max_sim(&one, &[1.0], &one) > 0.99);
    }

    #[test]
    fn int8_is_near_f32() {
        // A fixed sequence that looks random (the multiplier is Knuth's).
        let value = |seed: u32| seed.wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5;
        let row = |offset: u32| (0..391).map(|i| value(offset + i)).collect::<Vec<f32>>();
        for offset in 0..50 {
            let (left, right) = (row(offset), row(offset * 7 + 13));
            let cosine = left.iter().zip(&right).map(|(a, b)| a * b).sum::<f32>()
                / (left.iter().map(|a| a * a).sum::<f32>() * right.iter().map(|b| b * b).sum::<f32>()).sqrt();
            let (left, right) = (matrix(&[&left]), matrix(&[&right]));
            let quantised = dot(&left.values, &right.values) * left.scales[0] * right.scales[0];
            assert!((quantised - cosine).abs() < 0.01, "{quantised} {cosine}");
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        assert_eq!(dot(&[-127; 4096], &[127; 4096]), (-127 * 127 * 4096) as f32);
    }
}
