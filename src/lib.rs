//! rag-api answers questions over a company's documents, with citations, and shows only what the caller may read.
//!
//! One process, two paths. Read the modules in this order.
//!
//! **A question** goes `http/query` → [`answer`] ([`answer::guard`], the [`cache`], [`retrieve`], [`answer::prompt`],
//! [`llm`], [`answer::citation`]); retrieval goes [`embedding`] and [`vector_store`] → [`retrieve::fusion`] → the second
//! look at the [`catalog`] → [`rerank`].
//!
//! **A document** goes `http/documents` → [`ingest`] (original into [`blob`], row into [`catalog`], then 202) ⇢
//! [`ingest::worker`]: [`ingest::extract`] (a child process) → [`ingest::chunk`] → [`embedding`] → [`vector_store`] →
//! the flip in the [`catalog`].
//!
//! **The seams** are traits, each with one `Config`, one `build` and its backends in a folder of its own:
//! [`embedding::Embedder`], [`vector_store::VectorStore`], [`rerank::Reranker`], [`llm::Llm`], [`cache::Cache`],
//! [`limit::RateLimiter`], [`catalog::Catalog`]; [`blob`] stands on `object_store`.
//!
//! **Around them**: [`app`] builds everything from a [`config::Config`] and runs it; [`auth`] says who asks;
//! [`resilience`] has deadlines, retries and breakers; [`http`] is the only module that knows status codes;
//! [`telemetry`] has logs and metrics; [`models`] finds model files; [`document`] and [`error`] have what all share;
//! [`hold`] lets the crash tests stop a real process at a named point; [`eval`] measures retrieval and answers on
//! collections with judgements.
//!
//! # Invariants
//!
//! 1. Only [`app`], [`eval`] and the command line call a `build`. Only [`config`] reads the environment (`clippy.toml` forbids it
//!    elsewhere). Only [`http`] knows status codes.
//! 2. A backend file knows its trait and its vendor, and no sibling. Nothing above a seam has a type parameter.
//! 3. [`answer::prompt`], [`answer::citation`], [`answer::guard`], [`retrieve::filter`], [`retrieve::fusion`] and
//!    [`ingest::chunk`] do no I/O.
//! 4. Whatever answers or ingests drives the same [`retrieve::Retriever`], [`answer::Answerer`] and
//!    [`ingest::Ingester`]; the command line's `ingest` and `query` go through HTTP.
//! 5. A seam with several backends has one conformance suite (`tests/it`), which every backend runs. The embedded backend
//!    is a product feature, never a mock.
//! 6. Retries and breakers are wrappers round a trait, stacked in [`app`], never an `if` inside a backend.
//! 7. No search without a scope: [`vector_store::VectorStore::search`] takes a [`document::Scope`].
//! 8. What runs is what was configured, or the start fails with one line.
//!
//! # Bounds
//!
//! Everything that grows has one; those that can be set are in `config/default.toml`.
//!
//! | what | bound |
//! |---|---|
//! | a request | its deadline ([`http::Config::request_timeout`]), its body, its time to send the headers |
//! | requests at once | one semaphore per class ([`http::Config::max_concurrent_queries`]), then 503 |
//! | the answer cache | bytes ([`cache::Backend::Memory`]) |
//! | passage token vectors | bytes ([`rerank::Config::LateInteraction`]) |
//! | what evaluations keep on disk | bytes ([`eval::cache::MAX_BYTES`]) |
//! | texts that wait for a session | the scheduler's queue; callers wait, and are dropped with their request |
//! | a document | bytes, text, chunks, attempts, and the child's memory, CPU and wall time |
//! | writes that wait for the embedded store | one at a time; callers wait |

pub mod answer;
pub mod app;
pub mod auth;
pub mod blob;
pub mod cache;
pub mod catalog;
pub mod config;
pub mod document;
pub mod embedding;
pub mod error;
pub mod eval;
pub mod hold;
pub mod http;
pub mod ingest;
pub mod limit;
pub mod llm;
pub mod models;
pub mod rerank;
pub mod resilience;
pub mod retrieve;
pub mod telemetry;
pub mod vector_store;
