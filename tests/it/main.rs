//! Tests of the product from outside: one crate, one module per subject.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a helper of tests fails and reports as they do")]

mod support;

mod access;
mod answer;
mod auth;
mod cache;
mod catalog;
mod chunk;
mod cli;
mod config;
mod crash;
mod extract;
mod http;
mod ingest;
mod limit;
mod llm;
mod models;
mod openapi;
mod rerank;
mod resilience;
mod retrieve;
mod store;
