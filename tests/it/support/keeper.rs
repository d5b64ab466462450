//! Servers of other makes, as processes that end with this one.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Runs a program until its own standard input ends, which it does with this process, however that ends.
const KEEPER: &str = r#""$@" >server.log 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null"#;

/// A server that runs until this value is dropped.
pub(crate) struct Kept {
    keeper: Child,
    server: Pid,
}

impl Kept {
    /// Starts `command` in `dir`, where its output goes to `server.log`.
    pub(crate) fn start(command: &[impl AsRef<OsStr>], dir: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "keeper"]).args(command).current_dir(dir);
        let mut keeper = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        let stdout = keeper.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("a process id");
        let server = line.trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
        Self { keeper, server }
    }

    /// Waits until `ready`; fails if the server ends before.
    pub(crate) fn wait_until(&self, dir: &Path, ready: impl Fn() -> bool) {
        while !ready() {
            let log = || std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
            assert!(test_kill_process(self.server).is_ok(), "the server ended:\n{}", log());
            std::thread::yield_now();
        }
    }

    /// It hangs: connections stay, and nothing answers.
    pub(crate) fn pause(&self) {
        kill_process(self.server, Signal::STOP).expect("it runs");
    }

    pub(crate) fn resume(&self) {
        kill_process(self.server, Signal::CONT).expect("it runs");
    }

    /// SIGKILL.
    pub(crate) fn end(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port()
}
