//! Measures retrieval on collections with judgements, through the pipeline that answers questions.

pub mod collection;
pub mod index;
pub mod metrics;

pub use collection::Collection;
pub use index::Index;
