//! Measures retrieval and answers on collections with judgements, in this process.
//!
//! [`collection`] and [`originals`] read what is measured on, [`models`] loads what is measured, through a [`cache`] of
//! what it computed before, [`index`] makes a collection searchable, [`ranking`] asks it as the server would, [`answers`]
//! answers over it; [`metrics`], [`spans`], [`text`], [`citations`] and [`statistics`] are pure arithmetic.

pub mod answers;
pub mod cache;
mod cached;
pub mod citations;
pub mod collection;
pub mod index;
pub mod metrics;
pub mod models;
pub mod originals;
pub mod ranking;
pub mod spans;
pub mod statistics;
pub mod text;

pub use collection::Collection;
pub use index::Index;
pub use models::Models;
