//! A real server that speaks S3 and checks signatures: `s3s-fs`, over a folder.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::LazyLock;

use rag_api::blob;
use rag_api::config::LoadOptions;
use tempfile::TempDir;
use uuid::Uuid;

use super::keeper::{Kept, free_port};

/// One server for all tests that leave it as it is; each has a bucket of its own.
pub(crate) static SHARED: LazyLock<S3Server> = LazyLock::new(S3Server::start);

pub(crate) const KEY_ID: &str = "AKIATESTTESTTEST";
pub(crate) const SECRET: &str = "a/secret+of/the+tests";

/// The server, with its data in a temporary folder.
pub(crate) struct S3Server {
    port: u16,
    dir: TempDir,
    running: Kept,
}

impl S3Server {
    pub(crate) fn start() -> Self {
        super::install_tls();
        let (port, dir) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
        std::fs::create_dir(dir.path().join("data")).expect("a folder");
        let (program, number) = (program().display().to_string(), port.to_string());
        let command =
            [&program, "--host", "127.0.0.1", "--port", &number, "--access-key", KEY_ID, "--secret-key", SECRET];
        let running = Kept::start(&[&command[..], &["data"]].concat(), dir.path());
        running.wait_until(dir.path(), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { port, dir, running }
    }

    /// A fresh bucket.
    pub(crate) fn make_bucket(&self) -> String {
        let name = format!("bucket-{}", Uuid::new_v4());
        std::fs::create_dir(self.folder(&name)).expect("a folder");
        name
    }

    /// Where the server keeps the objects of a bucket.
    pub(crate) fn folder(&self, bucket: &str) -> PathBuf {
        self.dir.path().join("data").join(bucket)
    }

    /// Parts of uploads that did not finish.
    pub(crate) fn unfinished_uploads(&self) -> usize {
        let files = std::fs::read_dir(self.dir.path().join("data")).expect("a folder");
        files
            .filter(|file| {
                file.as_ref().is_ok_and(|file| file.file_name().to_string_lossy().starts_with(".upload_id-"))
            })
            .count()
    }

    pub(crate) fn kill(&mut self) {
        self.running.end();
    }

    pub(crate) fn environment(&self) -> [(&'static str, String); 3] {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
    }

    /// What the configuration makes of `s3://…` on this server, with changes.
    pub(crate) fn config(&self, url: &str, changes: &[(&str, &str)]) -> blob::Config {
        let mut environment = vec![("HOME".to_owned(), "/nowhere".to_owned())];
        environment.push(("RAG_STORAGE_URL".to_owned(), url.to_owned()));
        environment.extend(self.environment().map(|(name, value)| (name.to_owned(), value)));
        environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let options = LoadOptions { environment: Some(environment), ..LoadOptions::default() };
        rag_api::config::load(options).expect("a right URL").config.blob
    }
}

fn program() -> PathBuf {
    let program = super::cache_dir().join("tools/s3s/bin/s3s-fs");
    assert!(program.is_file(), "no S3 server in {}: run ./deploy/setup servers", program.display());
    program
}
