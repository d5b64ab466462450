//! Weighted reciprocal rank fusion.
