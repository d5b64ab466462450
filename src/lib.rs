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
//! [`telemetry`] has logs and metrics; [`redis`] connects the backends that keep something there; `remote` asks the
//! models of other servers; [`models`] finds model files; [`document`] and [`error`] have what all share;
//! [`backup`] takes everything out and back in, and has vectors made anew;
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
//!    [`ingest::Ingester`]; the command line's `ingest` and `query` go through HTTP, and [`backup`] moves what
//!    was ingested.
//! 5. A seam with several backends has one conformance suite (`tests/it`), which every backend runs. The embedded backend
//!    is a product feature, never a mock.
//! 6. Retries and breakers are wrappers round a trait, stacked in [`app`] or a `build`, never an `if` inside a backend.
//! 7. No search without a scope: [`vector_store::VectorStore::search`] takes a [`document::Scope`].
//! 8. What runs is what was configured, or the start fails with one line.
//!
//! # Bounds
//!
//! Everything that grows has one, and everything that waits a deadline. Those with a setting are in
//! `config/default.toml`; the others are constants of the module that is named.
//!
//! | what | bound | where |
//! |---|---|---|
//! | connections | `max_connections`; 32 of scrapers; 10 s for a head of 32 KiB and 100 headers; 30 s for a client that does not read | `http/server`, `http/connection` |
//! | an HTTP/2 connection | 128 requests at once, 256 KiB ahead of each and 1 MiB of all | `http/server` |
//! | a request | `request_timeout_seconds`, 15 s without a byte of its body | `http/guard` |
//! | bodies | 1 MiB of a question; `max_upload_bytes` of a file, twice that of a form, with 64 files and 64 KiB a field; of a file, 64 KiB in memory, the rest in the temporary folder | `http/extract`, `http/upload` |
//! | requests at once | `max_concurrent_queries`, `max_concurrent_ingests`, 16 for keys | `http/admission` |
//! | requests that wait for those | 4 for each place, 250 ms, none that would wait longer | `http/admission` |
//! | buckets of keys' limits | 100,000, then the fullest go; in Redis until they are full | [`limit`] |
//! | a call of Redis | 200 ms, none without a connection; 1,024 that wait for each | `redis` |
//! | addresses that are remembered | those not yet back at their whole burst, looked through every 5 s | `http/address` |
//! | keys that are remembered | 10,000, for 3 s | [`auth`] |
//! | a question | 2,000 characters, 50 passages, 64 conditions with 1,000 values | [`answer`], [`retrieve::filter`] |
//! | hits of a branch | 4 × `top_k`, at least 100; 4,096 to end a tie; 5 rounds | [`retrieve`], [`vector_store`] |
//! | answers that are being made | as many as questions at once, and one | `answer/flight` |
//! | the answer cache | `cache_max_bytes`, `cache_ttl_seconds`; 250 ms for a look; in Redis 1 MiB a value | [`cache`] |
//! | pieces of a stream that wait for its reader | 16, and 64 events | [`answer`], `http/sse` |
//! | texts that wait for a session | 256 of each class and pool; their callers wait and are dropped with their request | `embedding/scheduler` |
//! | a call of a remote embedding model | 32 texts of 8,000 bytes, 128 KiB in all; 2 s with a question, 20 s with chunks; 64 and 4 of them at once, whose callers wait within 60 s; 16 MiB of an answer | `embedding/openai` |
//! | a call of a remote reranker | 20 passages of 8,000 bytes, 2 s, 1 MiB of an answer | `rerank/cohere` |
//! | passages' token vectors | `late_interaction_cache_bytes` | [`rerank`] |
//! | what a language model sends | `max_output_tokens`; 1 MiB an event | [`llm`] |
//! | second tries | 10 a second beside a fifth of the first ones | [`resilience`] |
//! | a request to Qdrant | 256 points or 3 MiB that are written, 256 ids that are read, 64 MiB of an answer; 4 s for one that reads, 30 s for one that writes; two connections, 3 s to make one | `vector_store/qdrant` |
//! | calls of the embedded store | one writer, as many searches as cores, one optimization; callers wait | `vector_store/edge` |
//! | its log | 32 MiB, then the segments are written out; files of 4 MiB, 256 points an entry | `vector_store/edge` |
//! | counts of terms | the words of tenants with 10,000 points or more | `vector_store/edge/terms` |
//! | connections to SQLite | one writer, four readers, 5 s to get one; a log of 64 MiB is cut | `catalog/sqlite` |
//! | connections to PostgreSQL | `database_max_connections`; `database_timeout_seconds` to get one and for a statement, half of it for a lock, thrice for a call, six times for a start; 10 minutes for a migration | `catalog/postgres` |
//! | requests that may be repeated, ids of deleted documents | 24 hours | [`catalog`] |
//! | documents that wait | rows on disk; each key adds no more than `ingest_rate_limit_requests` | [`catalog`], [`limit`] |
//! | documents at work | `worker_concurrency` of them, 64 MiB of their texts, 5 attempts, 60 setbacks | [`ingest::worker`] |
//! | a document | 50,000 chunks; `extract_memory_bytes` and `extract_timeout_seconds` of the child | [`ingest`] |
//! | an original in a bucket | 2 parts of 8 MiB on their way and one that is filled; 5 s for a connection, 30 s of silence, 4 second tries within 15 s | [`blob`] |
//! | copies of originals | those of the documents that are read, in the temporary folder | [`blob`] |
//! | originals that a sweep deletes | 10,000 | `ingest/worker/housekeeping` |
//! | a backup in memory | a line of 8 MiB, a page of 100 documents, 128 points, 2 parts of an original | [`backup`] |
//! | what evaluations keep on disk | 2 GiB, then the oldest go | [`eval::cache`] |
//! | series of metrics | routes, methods, statuses, models and reasons: nothing that a client can invent | [`telemetry`] |
//! | log lines that wait to be written | 8,192, then lines are dropped and counted | [`telemetry`] |
//! | samples of histograms | those of 5 s, then folded into buckets | [`telemetry`] |

pub mod answer;
pub mod app;
pub mod auth;
pub mod backup;
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
mod process;
pub mod redis;
mod remote;
pub mod rerank;
pub mod resilience;
pub mod retrieve;
pub mod telemetry;
pub mod vector_store;
