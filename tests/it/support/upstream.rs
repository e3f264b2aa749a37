//! A model server that does what a test's script says, down to the frame, and remembers every request.
//!
//! Probes of readiness are answered beside the script and not remembered.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::wire::{Deframer, frame, push};
use super::{pairs, soon};

type Script = Arc<dyn Fn(Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What was seen of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// Which connection it came on, from 0 in the order of their first requests.
    pub(crate) connection: usize,
    pub(crate) path: String,
    pub(crate) authority: Option<String>,
    pub(crate) headers: HeaderMap,
    /// Those that the script read.
    pub(crate) messages: Vec<Bytes>,
    /// Whether the script saw the end of the messages.
    pub(crate) ended: bool,
    /// The peer's reset, where the script looked for one.
    pub(crate) reset: Option<Reason>,
}

/// A server; dropping it ends it and its connections.
pub(crate) struct Upstream {
    pub(crate) url: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    script: Script,
    builder: Builder,
    ready: AtomicBool,
    hushed: AtomicBool,
    requests: Mutex<Vec<Request>>,
    changed: watch::Sender<()>,
    connections: Mutex<usize>,
    order: watch::Sender<Order>,
}

/// What all connections shall do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Serve,
    /// GOAWAY, and finish what was begun.
    Retire,
    /// Close the sockets.
    Cut,
}

impl Upstream {
    /// On a TCP port of its own.
    pub(crate) async fn start<F>(script: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // As hyper's servers have it. With the 64 KB of the specification h2 takes some 150 small frames that are not
        // read yet for an attack, and ends the connection.
        let mut builder = Builder::new();
        builder.initial_connection_window_size(1 << 20);
        Self::with(builder, script).await
    }

    /// With settings of its own.
    pub(crate) async fn with<F>(
        builder: Builder,
        script: impl Fn(Incoming) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Shared::new(builder, script);
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).listen_tcp(listener));
        Upstream { url, shared, _tasks: tasks }
    }

    /// On a TCP port of its own, by TLS.
    pub(crate) async fn secure<F>(
        config: rustls::ServerConfig,
        script: impl Fn(Incoming) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut builder = Builder::new();
        builder.initial_connection_window_size(1 << 20);
        let shared = Shared::new(builder, script);
        let url = format!("https://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).listen_tls(listener, Arc::new(config).into()));
        Upstream { url, shared, _tasks: tasks }
    }

    /// On a unix socket.
    pub(crate) fn at<F>(path: &Path, script: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = UnixListener::bind(path).unwrap();
        let shared = Shared::new(Builder::new(), script);
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).listen_unix(listener));
        Upstream { url: format!("unix:{}", path.display()), shared, _tasks: tasks }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    /// What it says to probes from now on.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.shared.ready.store(ready, Ordering::Relaxed);
    }

    /// Has it answer nothing that comes from now on, probes neither, as a process that hangs; or answer again.
    pub(crate) fn hush(&self, hushed: bool) {
        self.shared.hushed.store(hushed, Ordering::Relaxed);
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Remembers headers and messages of no request so far, for a test that runs long.
    pub(crate) fn forget(&self) {
        self.shared.requests.lock().unwrap().iter_mut().for_each(|request| *request = Request::default());
    }

    /// Waits until the requests are as `good` wants them, and returns them.
    pub(crate) async fn until(&self, what: &str, good: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        self.wait(what, good).await;
        self.requests()
    }

    /// Waits until the requests are as `good` wants them.
    pub(crate) async fn wait(&self, what: &str, good: impl Fn(&[Request]) -> bool) {
        let mut changes = self.shared.changed.subscribe();
        soon(what, async {
            while !good(&self.shared.requests.lock().unwrap()) {
                changes.changed().await.unwrap();
            }
        })
        .await;
    }

    /// Sends GOAWAY on all connections; new ones are served.
    pub(crate) fn retire(&self) {
        self.order(Order::Retire);
    }

    /// Closes all connections, whatever is on them; new ones are served.
    pub(crate) fn cut(&self) {
        self.order(Order::Cut);
    }

    fn order(&self, order: Order) {
        self.shared.order.send_replace(order);
    }
}

impl Shared {
    fn new<F>(builder: Builder, script: impl Fn(Incoming) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Arc::new(Shared {
            script: Arc::new(move |incoming| Box::pin(script(incoming))),
            builder,
            ready: AtomicBool::new(true),
            hushed: AtomicBool::new(false),
            requests: Mutex::default(),
            changed: watch::Sender::new(()),
            connections: Mutex::default(),
            order: watch::Sender::new(Order::Serve),
        })
    }

    async fn listen_tcp(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            connections.spawn(Arc::clone(&self).serve(socket));
        }
    }

    async fn listen_tls(self: Arc<Self>, listener: TcpListener, acceptor: TlsAcceptor) {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let (shared, acceptor) = (Arc::clone(&self), acceptor.clone());
            connections.spawn(async move {
                if let Ok(socket) = acceptor.accept(socket).await {
                    shared.serve(socket).await;
                }
            });
        }
    }

    async fn listen_unix(self: Arc<Self>, listener: UnixListener) {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            connections.spawn(Arc::clone(&self).serve(socket));
        }
    }

    async fn serve(self: Arc<Self>, socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let mut order = self.order.subscribe();
        order.mark_unchanged();
        let Ok(mut connection) = self.builder.handshake(socket).await else { return };
        let mut scripts = JoinSet::new();
        let mut number = None;
        loop {
            tokio::select! {
                accepted = connection.accept() => {
                    let Some(Ok((request, respond))) = accepted else { return };
                    let probe = self.take(request, respond, &mut number);
                    scripts.spawn(probe);
                }
                Ok(()) = order.changed() => {
                    let now = *order.borrow_and_update();
                    match now {
                        Order::Serve => {}
                        Order::Retire => connection.graceful_shutdown(),
                        Order::Cut => return,
                    }
                }
            }
        }
    }

    /// What is to be done about one request.
    fn take(
        self: &Arc<Self>,
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        number: &mut Option<usize>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let hushed = self.hushed.load(Ordering::Relaxed);
        let is_probe = path.ends_with("/ModelReady") || path.ends_with("/ServerReady");
        if hushed && is_probe {
            return Box::pin(async move {
                let _unanswered = (respond, body);
                std::future::pending().await
            });
        }
        if is_probe {
            let ready = self.ready.load(Ordering::Relaxed);
            return Box::pin(async move {
                let answer = if ready { frame(0, &[8, 1]) } else { frame(0, b"") };
                if let Ok(mut stream) = respond.send_response(ok(&[]), false) {
                    let _ = stream.send_data(answer, false);
                    let _ = stream.send_trailers(pairs(&[("grpc-status", "0")]));
                }
            });
        }
        let connection = *number.get_or_insert_with(|| {
            let mut connections = self.connections.lock().unwrap();
            *connections += 1;
            *connections - 1
        });
        let request = Request {
            connection,
            path,
            authority: head.uri.authority().map(ToString::to_string),
            headers: head.headers,
            ..Request::default()
        };
        let mut requests = self.requests.lock().unwrap();
        requests.push(request);
        let index = requests.len() - 1;
        drop(requests);
        self.changed.send_replace(());
        let shared = Arc::clone(self);
        let incoming = Incoming { index, body, respond, stream: None, deframer: Deframer::default(), shared };
        if hushed {
            return Box::pin(async move {
                let _unanswered = incoming;
                std::future::pending().await
            });
        }
        (self.script)(incoming)
    }
}

/// Response headers with this metadata.
pub(crate) fn ok(extra: &[(&str, &str)]) -> Response<()> {
    let mut response = Response::new(());
    *response.headers_mut() = pairs(&[("content-type", "application/grpc")]);
    response.headers_mut().extend(pairs(extra));
    response
}

/// One request in the hands of a script.
pub(crate) struct Incoming {
    index: usize,
    pub(crate) body: RecvStream,
    pub(crate) respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
    deframer: Deframer,
    shared: Arc<Shared>,
}

impl Incoming {
    /// What is known of it.
    pub(crate) fn request(&self) -> Request {
        self.shared.requests.lock().unwrap()[self.index].clone()
    }

    fn note(&self, note: impl FnOnce(&mut Request)) {
        note(&mut self.shared.requests.lock().unwrap()[self.index]);
        self.shared.changed.send_replace(());
    }

    /// The next message, without its flag; `None` at their end or when the peer broke off.
    pub(crate) async fn message(&mut self) -> Option<Bytes> {
        self.flagged().await.map(|(_, message)| message)
    }

    /// The next message and its flag.
    pub(crate) async fn flagged(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some((flag, message)) = self.deframer.next() {
                self.note(|request| request.messages.push(message.clone()));
                return Some((flag, message));
            }
            match self.body.data().await {
                Some(Ok(data)) => {
                    let _ = self.body.flow_control().release_capacity(data.len());
                    self.deframer.push(&data);
                }
                Some(Err(error)) => {
                    self.note(|request| request.reset = error.reason());
                    return None;
                }
                None => {
                    self.note(|request| request.ended = true);
                    return None;
                }
            }
        }
    }

    /// All messages up to their end.
    pub(crate) async fn messages(&mut self) -> Vec<Bytes> {
        let mut messages = Vec::new();
        while let Some(message) = self.message().await {
            messages.push(message);
        }
        messages
    }

    /// Waits until the peer breaks the call off, and notes how.
    pub(crate) async fn until_reset(&mut self) {
        let reset = match &mut self.stream {
            Some(stream) => poll_fn(|cx| stream.poll_reset(cx)).await,
            None => poll_fn(|cx| self.respond.poll_reset(cx)).await,
        };
        let reason = reset.unwrap_or(Reason::CONNECT_ERROR);
        self.note(|request| request.reset = Some(reason));
    }

    /// Sends response headers.
    pub(crate) fn headers(&mut self, extra: &[(&str, &str)]) {
        self.stream = self.respond.send_response(ok(extra), false).ok();
    }

    /// Sends a message as the window allows; headers too, where none were sent.
    pub(crate) async fn send(&mut self, message: &[u8]) {
        self.send_raw(frame(0, message)).await;
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&mut self, bytes: Bytes) {
        if let Some(stream) = self.stream() {
            // A peer that is gone is seen by whoever looks for it.
            let _ = push(stream, bytes, false).await;
        }
    }

    /// The response's stream, opened where it is not yet.
    pub(crate) fn stream(&mut self) -> Option<&mut SendStream<Bytes>> {
        if self.stream.is_none() {
            self.headers(&[]);
        }
        self.stream.as_mut()
    }

    /// Ends with these trailers.
    pub(crate) fn trailers(&mut self, trailers: &[(&str, &str)]) {
        if let Some(stream) = self.stream() {
            let _ = stream.send_trailers(pairs(trailers));
        }
    }

    /// Ends with headers alone.
    pub(crate) fn only(&mut self, extra: &[(&str, &str)]) {
        let _ = self.respond.send_response(ok(extra), true);
    }

    /// Ends with an HTTP status alone.
    pub(crate) fn http(&mut self, status: u16) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let _ = self.respond.send_response(response, true);
    }

    /// Ends with a reset.
    pub(crate) fn reset(&mut self, reason: Reason) {
        match &mut self.stream {
            Some(stream) => stream.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Sends all messages back once all are there, and OK.
    pub(crate) async fn echo(mut self) {
        for message in self.messages().await {
            self.send(&message).await;
        }
        self.trailers(&[("grpc-status", "0")]);
    }
}
