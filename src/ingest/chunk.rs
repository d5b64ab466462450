//! Cuts text into chunks.
