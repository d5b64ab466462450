//! A TCP proxy before a server, which troubles those who pass.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with connections, those that are there and those that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Passes everything on.
    None,
    /// Ends connections at once, with a reset.
    Refused,
    /// Keeps connections and passes nothing on.
    Hung,
    /// Passes everything on, 5 s late.
    Slow,
    /// Passes one piece of the answer on, then resets.
    Reset,
}

/// A running proxy. It ends with this value.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    trouble: watch::Sender<Trouble>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy before what listens on this port of this machine.
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let trouble = watch::Sender::new(Trouble::None);
        let receiver = trouble.subscribe();
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, SocketAddr::from(([127, 0, 0, 1], target)), receiver.clone()));
            }
        });
        Self { port, trouble, serving }
    }

    pub(crate) fn trouble(&self, trouble: Trouble) {
        self.trouble.send_replace(trouble);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One connection, until either side ends it or trouble does.
async fn pass(client: TcpStream, target: SocketAddr, mut trouble: watch::Receiver<Trouble>) {
    let reset = |stream: &TcpStream| stream.set_zero_linger();
    if *trouble.borrow_and_update() == Trouble::Refused {
        let _ = reset(&client);
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let trouble = Arc::new(trouble);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let ended = {
        let up = pump(&mut from_client, &mut to_server, (*trouble).clone(), false);
        let down = pump(&mut from_server, &mut to_client, (*trouble).clone(), true);
        tokio::select! {
            ended = up => ended,
            ended = down => ended,
        }
    };
    if ended == Ended::Reset {
        let client = from_client.reunite(to_client).expect("its halves");
        let _ = reset(&client);
    }
}

#[derive(PartialEq)]
enum Ended {
    Closed,
    Reset,
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut trouble: watch::Receiver<Trouble>,
    answers: bool,
) -> Ended {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // Trouble that begins meets connections that wait, too.
        let now = *trouble.borrow_and_update();
        if now == Trouble::Refused {
            return Ended::Reset;
        }
        if now == Trouble::Hung {
            if trouble.changed().await.is_err() {
                return Ended::Closed;
            }
            continue;
        }
        let read = tokio::select! {
            changed = trouble.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Ended::Closed,
            },
            read = from.read(&mut buffer) => read,
        };
        let Ok(length @ 1..) = read else { return Ended::Closed };
        let now = *trouble.borrow();
        match now {
            Trouble::Slow => tokio::time::sleep(Duration::from_secs(5)).await,
            Trouble::Reset if answers => {
                let _ = to.write_all(&buffer[..length / 2]).await;
                return Ended::Reset;
            }
            _ => {}
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return Ended::Closed;
        }
    }
}
