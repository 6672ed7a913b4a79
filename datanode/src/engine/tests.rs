//! One suite for every engine: what the code above the seam relies on.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, IoSlice};
use std::net::{Ipv4Addr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_lite::future::{or, zip};

use super::*;
use crate::config::EngineChoice;

const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a case on one shard of an engine, and hands its panic on.
fn run_on<C: Case>(choice: EngineChoice, case: C) {
    let outcome = Arc::new(Mutex::new(None));
    let service = Running { case, outcome: outcome.clone() };
    let options = Options { choice, pin: false, io_threads: 2 };
    let mut engines = start(&options, vec![socket()], &service).expect("started");
    let begin = std::time::Instant::now();
    while outcome.lock().expect("held").is_none() {
        assert!(begin.elapsed() < DEADLINE * 2, "the case ends on {}", engines.name());
        std::thread::park_timeout(Duration::from_millis(5));
    }
    engines.stop();
    assert_eq!(*outcome.lock().expect("held"), Some(true), "the case passes on {}", engines.name());
}

/// Runs a case on both engines; says so loudly where io_uring is forbidden.
fn on_both<C: Case>(case: &C) {
    run_on(EngineChoice::Threads, case.clone());
    match super::glommio::probe() {
        Ok(()) => run_on(EngineChoice::Glommio, case.clone()),
        Err(error) => println!("SKIPPED on glommio: {error}"),
    }
}

#[allow(async_fn_in_trait, reason = "every future stays on its shard")]
trait Case: Clone + Send + 'static {
    async fn run<E: Engine>(&self, engine: &E);
}

#[derive(Clone)]
struct Running<C> {
    case: C,
    outcome: Arc<Mutex<Option<bool>>>,
}

/// Sets the outcome even when the case panics.
struct Verdict(Arc<Mutex<Option<bool>>>, bool);

impl Drop for Verdict {
    fn drop(&mut self) {
        *self.0.lock().expect("held") = Some(self.1);
    }
}

impl<C: Case> Service for Running<C> {
    async fn run<E: Engine>(self, engine: E, stop: Stop) {
        let mut verdict = Verdict(self.outcome, false);
        let too_late = async {
            engine.sleep(DEADLINE).await;
            panic!("the case takes too long");
        };
        or(self.case.run(&engine), too_late).await;
        verdict.1 = true;
        drop(verdict);
        stop.stopped().await;
    }
}

fn socket() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound")
}

async fn pair<E: Engine>(engine: &E) -> ((E::Reader, E::Writer), (E::Reader, E::Writer)) {
    let listener = engine.listen().expect("listening");
    let address = listener.address().expect("an address");
    assert!(engine.listen().is_err(), "a shard has one socket");
    let (near, far) = zip(engine.connect(address, DEADLINE), listener.accept()).await;
    let (reader, writer, _) = far.expect("accepted");
    (near.expect("connected"), (reader, writer))
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 253) as u8).collect()
}

#[derive(Clone)]
struct Files;

impl Case for Files {
    async fn run<E: Engine>(&self, engine: &E) {
        // Not the system's temporary directory, which may refuse direct I/O.
        let temp = tempfile::tempdir_in(".").expect("temporary directory");
        for access in [Access::Direct, Access::Buffered] {
            let path = temp.path().join(format!("{access:?}"));
            let missing = engine.open(&path, access, Create::Existing).await;
            assert_eq!(missing.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
            let file = engine.open(&path, access, Create::New).await.expect("made");
            assert!(engine.open(&path, access, Create::New).await.is_err(), "it is there");
            file.allocate(1 << 20, false).await.expect("allocated");
            let mut buffer = engine.buffer(1 << 16);
            assert_eq!(buffer.as_ref().len(), 1 << 16);
            buffer.as_mut().copy_from_slice(&content(1 << 16));
            for turn in 0..20u64 {
                let (written, returned) = file.write_at(buffer, 8192, turn * 8192).await;
                written.expect("written");
                buffer = returned;
                assert_eq!(buffer.as_ref().len(), 1 << 16, "the buffer comes back whole");
                buffer.as_mut().copy_from_slice(&content(1 << 16));
            }
            engine.recycle(buffer);
            file.sync_data().await.expect("synced");
            let read = file.read_at(8192, 12_288).await.expect("read");
            assert_eq!(&read.as_ref()[..8192], &content(8192)[..]);
            assert_eq!(&read.as_ref()[8192..], &content(4096)[..]);
            let end = file.read_at((1 << 20) - 4096, 8192).await.expect("read");
            assert_eq!(end.as_ref().len(), 4096, "short at the end of the file");
            file.close().await;
            let file = engine.open(&path, Access::Buffered, Create::Existing).await.expect("opened");
            file.write_small_at(b"small", 3).await.expect("written");
            assert_eq!(file.read_at(3, 5).await.expect("read").as_ref(), b"small");
            file.close().await;
        }
    }
}

#[test]
fn files_are_written_and_read() {
    on_both(&Files);
}

#[derive(Clone)]
struct Streams;

impl Case for Streams {
    async fn run<E: Engine>(&self, engine: &E) {
        let ((mut near_reader, mut near_writer), (mut far_reader, mut far_writer)) = pair(engine).await;
        let bytes = content(5 << 20);
        // Both directions at once, far beyond what sockets buffer, in more parts than one call takes.
        let parts: Vec<IoSlice<'_>> = bytes.chunks(400_000).map(IoSlice::new).collect();
        let there = async {
            near_writer.write_all_vectored(&parts).await.expect("sent");
        };
        let back = async {
            far_writer.write_all_vectored(&parts).await.expect("sent");
        };
        let received = zip(receive(&mut far_reader, 5 << 20), receive(&mut near_reader, 5 << 20));
        let (_, (far, near)) = zip(zip(there, back), received).await;
        assert!(far == bytes && near == bytes);
        near_writer.shut_down();
        assert_eq!(far_reader.read(&mut [0; 10]).await.expect("the end"), 0);
        assert_eq!(near_reader.read(&mut [0; 10]).await.expect("the end"), 0, "the other half notices");
        let cut = far_reader.read_exact(&mut [0; 10]).await;
        assert_eq!(cut.expect_err("cut").kind(), ErrorKind::UnexpectedEof);
    }
}

async fn receive<R: Reader>(reader: &mut R, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).await.expect("received");
    bytes
}

#[test]
fn streams_carry_both_directions_at_once() {
    on_both(&Streams);
}

#[derive(Clone)]
struct SendFile;

impl Case for SendFile {
    async fn run<E: Engine>(&self, engine: &E) {
        let temp = tempfile::tempdir_in(".").expect("temporary directory");
        let path = temp.path().join("file");
        std::fs::write(&path, content(3 << 20)).expect("written");
        let file = engine.open(&path, Access::BufferedRead, Create::Existing).await.expect("opened");
        let ((mut reader, _kept), (_far_reader, mut writer)) = pair(engine).await;
        let send = async {
            writer.send_file(&file, 1000, (3 << 20) - 2000).await.expect("sent");
            let beyond = writer.send_file(&file, (3 << 20) - 10, 20).await;
            assert_eq!(beyond.expect_err("beyond the end").kind(), ErrorKind::UnexpectedEof);
        };
        let mut bytes = vec![0; (3 << 20) - 2000];
        zip(send, async { reader.read_exact(&mut bytes).await.expect("received") }).await;
        assert!(bytes == content(3 << 20)[1000..(3 << 20) - 1000]);
    }
}

#[test]
fn files_are_sent_from_the_page_cache() {
    on_both(&SendFile);
}

#[derive(Clone)]
struct Tasks;

impl Case for Tasks {
    async fn run<E: Engine>(&self, engine: &E) {
        assert_eq!(engine.shard(), 0);
        let order = Rc::new(RefCell::new(Vec::new()));
        for (weight, name) in [(Weight::Background, "background"), (Weight::Foreground, "foreground")] {
            let (order, clock) = (order.clone(), engine.clone());
            engine.spawn(weight, async move {
                clock.sleep(Duration::from_millis(1)).await;
                order.borrow_mut().push(name);
            });
        }
        while order.borrow().len() < 2 {
            engine.sleep(Duration::from_millis(1)).await;
        }
        let here = std::thread::current().id();
        let there = engine.blocking(move || std::thread::current().id()).await;
        assert_ne!(here, there, "what blocks runs elsewhere");
        // A port that nobody listens on: taken and given back.
        let address = socket().local_addr().expect("an address");
        assert!(engine.connect(address, DEADLINE).await.is_err());
        // A future that is dropped while it waits leaves everything usable.
        let ((mut reader, _writer), (_far_reader, mut far_writer)) = pair(engine).await;
        let is_cut = Cell::new(false);
        let mut byte = [0];
        or(async { drop(reader.read(&mut byte).await) }, async {
            engine.sleep(Duration::from_millis(5)).await;
            is_cut.set(true);
        })
        .await;
        assert!(is_cut.get());
        far_writer.write_all_vectored(&[IoSlice::new(b"x")]).await.expect("sent");
        assert_eq!(reader.read(&mut byte).await.expect("received"), 1);
    }
}

#[test]
fn tasks_timers_and_helpers_work() {
    on_both(&Tasks);
}

#[test]
fn an_engine_that_is_not_to_be_had_is_refused_or_replaced() {
    let options = |choice| Options { choice, pin: false, io_threads: 1 };
    let service = Running { case: Tasks, outcome: Arc::default() };
    let threads = start(&options(EngineChoice::Threads), vec![socket()], &service).expect("started");
    assert_eq!(threads.name(), "threads");
    let auto = start(&options(EngineChoice::Auto), vec![socket()], &service).expect("started");
    let expected = if super::glommio::probe().is_ok() { "glommio" } else { "threads" };
    assert_eq!(auto.name(), expected);
}
