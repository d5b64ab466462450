//! What this process asks of the operating system.

/// How much lower the priority of work on documents is than that of questions: a niceness (see `nice(1)`). At 5, two
/// threads that want one core share it about 3 to 1.
pub(crate) const BULK_NICENESS: i32 = 5;

/// Lowers the priority of the calling thread by so much niceness. On Linux niceness is a thread's own, though the call is
/// named after the process.
pub(crate) fn lower_priority(niceness: i32) {
    // Best effort: what runs at its usual priority is late for others, not wrong.
    if let Err(error) = rustix::process::nice(niceness) {
        tracing::debug!(%error, "the priority of a thread cannot be lowered");
    }
}
