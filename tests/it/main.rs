//! Tests of the product from outside: one crate, one module per subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the helpers of tests fail as tests do, and print what they counted"
)]

mod support;

mod access;
mod answer;
mod auth;
mod blob;
mod cache;
mod catalog;
mod chunk;
mod cli;
mod config;
mod crash;
mod eval;
mod export;
mod extract;
#[cfg(feature = "edge")]
mod fleet;
mod http;
mod ingest;
mod limit;
mod llm;
mod models;
mod openapi;
mod postgres;
mod remote;
mod rerank;
mod resilience;
mod retrieve;
mod shared;
mod store;
mod worker;
