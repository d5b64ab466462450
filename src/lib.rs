//! rag-api answers questions over a company's documents, with citations, and shows only what the caller may read.

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
