//! Every metric, declared once: a name that is not here does not exist, and its doc comment is its help.

use metrics::SharedString;

/// No labels.
pub const NONE: &[(&str, &str)] = &[];

/// What a label's value may be: a text that is always there costs no copy.
pub trait Value: Into<SharedString> + Clone {}

impl<T: Into<SharedString> + Clone> Value for T {}

/// A number that only grows.
#[derive(Debug)]
pub struct Counter {
    name: &'static str,
    help: &'static str,
}

impl Counter {
    /// Adds `n`.
    pub fn add<V: Value>(&self, n: u64, labels: &[(&'static str, V)]) {
        metrics::counter!(self.name, labels).increment(n);
    }

    /// Says how many there are in all, where somebody else counts.
    pub fn reach(&self, total: u64) {
        metrics::counter!(self.name).absolute(total);
    }
}

/// A number that is what it is now.
#[derive(Debug)]
pub struct Gauge {
    name: &'static str,
    help: &'static str,
}

impl Gauge {
    /// Sets it.
    pub fn set<V: Value>(&self, value: f64, labels: &[(&'static str, V)]) {
        metrics::gauge!(self.name, labels).set(value);
    }

    /// Moves it, down where `change` is negative.
    pub fn add<V: Value>(&self, change: f64, labels: &[(&'static str, V)]) {
        metrics::gauge!(self.name, labels).increment(change);
    }
}

/// A distribution.
#[derive(Debug)]
pub struct Histogram {
    name: &'static str,
    help: &'static str,
    buckets: &'static [f64],
}

impl Histogram {
    /// Notes a value (seconds where the name ends so).
    pub fn record<V: Value>(&self, value: f64, labels: &[(&'static str, V)]) {
        metrics::histogram!(self.name, labels).record(value);
    }

    /// Its name, for the exporter's buckets.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Upper limits of its buckets.
    pub fn buckets(&self) -> &'static [f64] {
        self.buckets
    }
}

/// The contract's buckets, with finer ones below 0.1 s.
const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

macro_rules! declare {
    ($($kind:ident $ident:ident = $name:literal, $help:literal $(, $buckets:expr)?;)*) => {
        $(
            #[doc = $help]
            pub static $ident: $kind = $kind { name: $name, help: $help $(, buckets: $buckets)? };
        )*

        /// Gives every metric's help to the installed recorder.
        pub fn describe() {
            $(declare!(@describe $kind $ident);)*
        }

        /// Every histogram, for the exporter.
        pub fn histograms() -> Vec<&'static Histogram> {
            [$(declare!(@histogram $kind $ident)),*].into_iter().flatten().collect()
        }
    };
    (@describe Counter $ident:ident) => { metrics::describe_counter!($ident.name, $ident.help) };
    (@describe Gauge $ident:ident) => { metrics::describe_gauge!($ident.name, $ident.help) };
    (@describe Histogram $ident:ident) => { metrics::describe_histogram!($ident.name, $ident.help) };
    (@histogram Histogram $ident:ident) => { Some(&$ident) };
    (@histogram $kind:ident $ident:ident) => { None };
}

declare! {
    Counter QUERIES = "rag_queries_total", "questions answered, by status (success, error) and model";
    Histogram QUERY_LATENCY = "rag_query_latency_seconds",
        "latency of questions by stage (total, embedding, retrieval, rerank, generation)", SECONDS;
    Counter TOKENS = "rag_tokens_total", "tokens of language models by type (input, output)";
    Counter GUARD_REMOVED = "rag_guard_removed_total", "pieces of questions that the guard removed, by pattern";
    Counter DEGRADED = "rag_degraded_total", "answers that did without something, by what (rerank, cache, generation)";
    Counter RECHECK_DROPPED = "rag_access_recheck_dropped_total",
        "hits that the catalog refused after the search, by reason (access, version, deleted); access means a bug";
    Counter CACHE = "rag_cache_requests_total", "cache look-ups by cache (answer, embedding) and result (hit, miss, error)";
    Gauge BREAKER_STATE = "rag_breaker_state", "state of each breaker: 0 closed, 1 half-open, 2 open";
    Counter BREAKER_OPENED = "rag_breaker_opened_total", "how often each breaker opened";
    Counter RETRIES = "rag_retries_total", "second and later tries, by target";
    Gauge DOCUMENTS = "rag_documents", "documents by status (processing, indexed, failed)";
    Gauge QUEUE_AGE = "rag_ingest_queue_age_seconds", "how long the oldest waiting document has waited";
    Counter INGESTED = "rag_ingest_documents_total", "documents finished, by outcome (indexed or the failure's reason)";
    Counter INGESTED_CHUNKS = "rag_ingest_chunks_total", "chunks written to the vector store";
    Histogram INGEST_STAGE = "rag_ingest_stage_seconds",
        "time of each stage of ingestion (extract, chunk, embed, publish)", SECONDS;
    Gauge SCHEDULER_WAITING = "rag_embedding_waiting", "texts that wait for a session, by pool (embedding, rerank) and class (interactive, bulk)";
    Counter SCHEDULER_DROPPED = "rag_embedding_dropped_total", "texts dropped because nobody waited any more, by pool and class";
    Counter SCHEDULER_TEXTS = "rag_embedding_texts_total", "texts embedded or judged, by pool and class";
    Histogram SCHEDULER_WAIT = "rag_embedding_wait_seconds", "time a text waited for a session, by pool and class", SECONDS;
    Counter TOKEN_VECTORS = "rag_rerank_passage_cache_total", "passage token vectors by result (hit, miss)";
    Histogram STORE_LATENCY = "rag_vector_store_seconds", "latency of the vector store by operation", SECONDS;
    Counter SHED = "rag_shed_total", "requests refused because of overload, by class (query, ingest, admin)";
    Gauge LIMITS_LOCAL = "rag_limits_local",
        "whether this process counts limits alone, with its share, because Redis is down (0, 1)";
    Counter RATE_LIMITED = "rag_rate_limited_total", "requests over a limit, by whose (address, key)";
    Counter HTTP_REQUESTS = "rag_http_requests_total", "requests by route, method and status";
    Histogram HTTP_LATENCY = "rag_http_request_seconds", "latency of requests by route", SECONDS;
    Gauge HTTP_IN_FLIGHT = "rag_http_requests_in_flight", "requests being served";
    Gauge DEPENDENCY_UP = "rag_dependency_up", "whether each dependency answered when it was last looked at (0, 1)";
    Counter LOG_DROPPED = "rag_log_lines_dropped_total", "log lines dropped because nobody read standard error in time";
    Gauge PROCESS_RESIDENT_MEMORY = "process_resident_memory_bytes", "resident memory of the process";
    Gauge PROCESS_THREADS = "process_threads", "threads of the process";
    Gauge PROCESS_OPEN_FDS = "process_open_fds", "open file descriptors of the process";
}
