//! A real PostgreSQL, one for all tests of this process, with a database for each of them.
//!
//! With `RAG_TEST_POSTGRES_URL=postgres://USER:PASSWORD@HOST:PORT/?PARAMETERS` the databases are made on that server, or
//! behind that pooler, by that user.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

use super::eventually;

/// The user that may do everything.
const USER: &str = "rag";
/// Its password, to be looked for where it must not be.
pub(crate) const PASSWORD: &str = "swordfish";

/// Runs a program until its input ends, which is when the test process ends, however it does; stops and starts it when
/// told to.
const KEEPER: &str = r#"
folder=$1; shift
start() { "$@" >>"$folder/log" 2>&1 & pid=$!; }
start "$@"
while read -r command; do
    case $command in
        stop) kill -INT "$pid"; wait "$pid" ;;
        start) start "$@" ;;
    esac
    echo "$command"
done
kill -QUIT "$pid"; wait "$pid"
rm -rf "$folder"
"#;

static SHARED: OnceCell<(Place, Option<Postgres>)> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A new, empty database of the shared server; its URL.
#[allow(clippy::disallowed_methods, reason = "tests find their servers by the environment")]
pub(crate) async fn database() -> String {
    let shared = SHARED.get_or_init(|| async {
        match std::env::var("RAG_TEST_POSTGRES_URL") {
            Ok(url) => (Place::of(&url), None),
            Err(_) => {
                let server = Postgres::start().await;
                (server.place.clone(), Some(server))
            }
        }
    });
    shared.await.0.database().await
}

/// A connection to a database, to look and to interfere.
pub(crate) async fn connect(url: &str) -> PgConnection {
    let options: PgConnectOptions = url.parse().expect("a URL");
    PgConnection::connect_with(&options.extra_float_digits(None)).await.expect("a connection")
}

/// Where databases can be made: the parts of their URLs before and after the name.
#[derive(Clone)]
struct Place {
    server: String,
    parameters: String,
}

impl Place {
    fn of(url: &str) -> Self {
        let (server, parameters) = url.split_once('?').unwrap_or((url, ""));
        let parameters = if parameters.is_empty() { String::new() } else { format!("?{parameters}") };
        Self { server: server.trim_end_matches('/').to_owned(), parameters }
    }

    fn url(&self, database: &str) -> String {
        format!("{}/{database}{}", self.server, self.parameters)
    }

    async fn database(&self) -> String {
        let name = format!("test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut connection = connect(&self.url("postgres")).await;
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a database");
        self.url(&name)
    }
}

/// A running server.
pub(crate) struct Postgres {
    place: Place,
    /// The keeper, and its output.
    keeper: Mutex<(Child, BufReader<ChildStdout>)>,
}

impl Postgres {
    /// Starts a server on a free port, as another user where this is root, who may not.
    pub(crate) async fn start() -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("rag-api-postgres-").tempdir().expect("a folder").keep();
        let (uid, gid) = owner(&folder);
        let secret = folder.join("password");
        std::fs::write(&secret, PASSWORD).expect("the password's file");
        chown(&secret, Some(uid), Some(gid)).expect("the password's owner");
        chown(&folder, Some(uid), Some(gid)).expect("the folder's owner");
        let data = folder.join("data");

        let mut initdb = Command::new(programs.join("initdb"));
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--username", USER]);
        initdb.arg("--pwfile").arg(&secret).arg("--pgdata").arg(&data).current_dir(&folder);
        let made = as_user(&mut initdb, uid, gid).output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(&folder).arg(programs.join("postgres")).arg("-D").arg(&data);
        keeper.args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=32MB",
            "max_connections=300",
            "deadlock_timeout=3s",
        ] {
            keeper.args(["-c", setting]);
        }
        keeper.current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = as_user(&mut keeper, uid, gid).spawn().expect("a shell");
        let output = BufReader::new(keeper.stdout.take().expect("its output"));
        let place = Place::of(&format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{port}"));
        let server = Self { place, keeper: Mutex::new((keeper, output)) };
        server.is_up().await;
        server
    }

    /// Ends the server, and with it every connection.
    pub(crate) fn stop(&self) {
        self.tell("stop");
    }

    /// Starts it again.
    pub(crate) async fn start_again(&self) {
        self.tell("start");
        self.is_up().await;
    }

    /// A new, empty database; its URL.
    pub(crate) async fn database(&self) -> String {
        self.place.database().await
    }

    async fn is_up(&self) {
        let options: PgConnectOptions = self.place.url("postgres").parse().expect("a URL");
        eventually("PostgreSQL", || async { PgConnection::connect_with(&options).await.is_ok() }).await;
    }

    fn tell(&self, command: &str) {
        let mut keeper = self.keeper.lock().expect("no panic");
        writeln!(keeper.0.stdin.as_ref().expect("its input"), "{command}").expect("the keeper reads");
        let mut done = String::new();
        keeper.1.read_line(&mut done).expect("the keeper answers");
        assert_eq!(done.trim(), command);
    }
}

/// The folder of the newest `initdb`: Debian's are not on the path. Fails with the command that installs it.
#[allow(clippy::disallowed_methods, reason = "tests find their servers by the path")]
fn programs() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |folder: &Path| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let mut found: Vec<_> = debian.map(|entry| entry.path()).filter(|folder| version(folder).is_some()).collect();
    found.sort_by_key(|folder| version(folder));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = found.into_iter().rev().map(|folder| folder.join("bin")).chain(std::env::split_paths(&path));
    candidates
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
        .expect("no PostgreSQL here: run ./deploy/setup servers")
}

/// Who is to own a server's folder: whoever runs the tests, but nobody in the place of root.
fn owner(folder: &Path) -> (u32, u32) {
    let folder = folder.metadata().expect("the folder is there");
    if folder.uid() != 0 {
        return (folder.uid(), folder.gid());
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("the list of users");
    let nobody = users.lines().find(|line| line.starts_with("nobody:")).expect("a user nobody");
    let ids: Vec<u32> = nobody.split(':').skip(2).take(2).map(|id| id.parse().expect("a number")).collect();
    (ids[0], ids[1])
}

fn as_user(command: &mut Command, uid: u32, gid: u32) -> &mut Command {
    command.uid(uid).gid(gid)
}
