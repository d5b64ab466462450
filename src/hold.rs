//! Named points at which the crash tests stop a real process and kill it.
//!
//! With `RAG_TEST_HOLD=POINT[:N]` and `RAG_TEST_HOLD_ADDRESS=ADDRESS:PORT` in the environment, the N-th arrival (the
//! first, unless given) at the point sends its name to the address and waits there for ever. Without them a point costs
//! one load.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The point that is armed, if one is.
#[derive(Debug)]
pub struct Hold {
    /// The point's name.
    pub point: String,
    /// Which arrival stops, from 1.
    pub arrival: u32,
    /// Told when it stops.
    pub address: SocketAddr,
}

static ARMED: OnceLock<Hold> = OnceLock::new();
static ARRIVALS: AtomicU32 = AtomicU32::new(0);

/// Arms a point for the life of the process.
pub fn arm(hold: Hold) {
    // A second call would come from a second start in one process, which only tests do: the first stays.
    let _ = ARMED.set(hold);
}

/// Waits here for ever if this point is armed.
pub async fn at(point: &'static str) {
    if reached(point) {
        std::future::pending::<()>().await;
    }
}

/// Notes that this point was passed, and goes on: for work that is to be killed while it runs.
pub fn passing(point: &'static str) {
    reached(point);
}

fn reached(point: &'static str) -> bool {
    let Some(hold) = ARMED.get() else { return false };
    if hold.point != point || ARRIVALS.fetch_add(1, Ordering::SeqCst) + 1 != hold.arrival {
        return false;
    }
    let told = TcpStream::connect(hold.address).and_then(|mut stream| stream.write_all(point.as_bytes()));
    if let Err(error) = told {
        tracing::error!(%error, "nobody hears that the hold was reached");
    }
    true
}
