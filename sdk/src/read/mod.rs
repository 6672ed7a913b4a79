//! Reading files. [`plan`] cuts reads into pieces, the transport fetches them into the caller's memory, [`part`] verifies.

pub(crate) mod bad;
pub(crate) mod locations;
mod open_length;
pub mod part;
pub(crate) mod plan;
pub mod range;
mod sequence;

use std::io::{self, SeekFrom};
use std::sync::Arc;

use parking_lot::Mutex;
use ringfs_proto::Code;
use ringfs_proto::meta::data::{ReadHint, ReplicaInfoRequestV1};
use ringfs_proto::meta::namespace::{FileRefV1, GetBlockLocationsReplyV1, GetBlockLocationsRequestV1};
use ringfs_proto::ops::GetBlockLocations;

use crate::FileStatus;
use crate::client::Shared;
use crate::driver::process::PerProcess;
use crate::error::{Error, Fault, Result};
use crate::limits::REFRESHES_MAX;
use crate::patience::Patience;
use crate::transport::{Fetch, TransportError};
use bad::BadReplicas;
use locations::{Locations, Place};
use open_length::LengthOfOpen;
use plan::Piece;
use sequence::Sequence;

/// A file that is open for reading.
///
/// [`Self::read_at`] and [`Self::read_vectored_at`] serve any number of threads at once. [`Self::read`] keeps a position
/// and lets the datanode send ahead. Reads are short only at the end of the file. The end is where it was at
/// [`crate::Client::open`]; for a file that is still being written, a read at the end looks for more.
///
/// In a forked child a reader goes on with connections of its own.
#[derive(Debug)]
pub struct Reader {
    file: OpenFile,
    position: u64,
    sequence: Sequence,
}

/// What all reads of a handle share.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub shared: Arc<Shared>,
    pub path: String,
    pub hint: ReadHint,
    status: FileStatus,
    /// Where the file ended when it was opened.
    length: u64,
    known: PerProcess<Mutex<Locations>>,
}

impl Reader {
    pub(crate) fn open(shared: Arc<Shared>, path: &str) -> Result<Self> {
        let request = GetBlockLocationsRequestV1 {
            file: FileRefV1::Path(path.to_owned()),
            offset: 0,
            length: u64::MAX,
        };
        let reply = shared.namenode.call::<GetBlockLocations>("open", path, &request)?;
        Self::opened(shared, path, reply)
    }

    /// A file that was opened by this answer.
    pub(crate) fn opened(shared: Arc<Shared>, path: &str, reply: GetBlockLocationsReplyV1) -> Result<Self> {
        let (status, known) = (reply.status.clone(), PerProcess::new());
        let file = FileRefV1::Inode(status.inode);
        let request = GetBlockLocationsRequestV1 { file, offset: 0, length: u64::MAX };
        let hint = ReadHint::Normal;
        let mut file = OpenFile { shared, path: path.to_owned(), hint, status, length: 0, known };
        let locations = file.take_patiently(reply, &request)?;
        file.length = locations.length;
        file.known.get(|| Mutex::new(locations));
        Ok(Self { file, position: 0, sequence: Sequence::default() })
    }

    /// Reads several files from their beginnings into memory, which is no longer than they are: one replica of every block at
    /// first, all at once, then what has failed file by file. Returns the failure of each.
    pub(crate) fn read_all(files: Vec<(&Self, &mut [u8])>) -> Vec<Option<Error>> {
        let (readers, targets): (Vec<&Self>, Vec<&mut [u8]>) = files.into_iter().unzip();
        let mut ranges: Vec<_> = targets.into_iter().map(|target| [(0, target)]).collect();
        let (mut pieces, mut counts) = (Vec::with_capacity(ranges.len()), Vec::with_capacity(ranges.len()));
        for (reader, range) in readers.iter().zip(&mut ranges) {
            let cut = reader.file.located(range).map(|locations| plan::cut(range, &locations));
            counts.push(cut.map(|mut cut| {
                let count = cut.len();
                pieces.append(&mut cut);
                count
            }));
        }
        if let Some(reader) = readers.first().filter(|_| !pieces.iter().all(Piece::is_done)) {
            // What fails is asked for again below.
            let _failed = reader.file.round(&mut pieces);
        }
        let mut rest = &mut pieces[..];
        let read = readers.iter().zip(counts).map(|(reader, count)| {
            let count = count?;
            let (own, behind) = core::mem::take(&mut rest).split_at_mut(count);
            rest = behind;
            reader.file.read_pieces(own)
        });
        read.map(Result::err).collect()
    }

    /// Status of the file as it was opened.
    pub fn status(&self) -> &FileStatus {
        &self.file.status
    }

    /// Bytes in the file, as far as this reader knows.
    pub fn len(&self) -> u64 {
        self.file.known().lock().length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in the file, after a look for more if it is still written and has fewer than `wanted`.
    pub(crate) fn reachable_length(&self, wanted: u64) -> Result<u64> {
        self.file.look_for(wanted)?;
        Ok(self.len())
    }

    /// Tells the datanodes how the bytes will be used.
    pub fn set_hint(&mut self, hint: ReadHint) {
        self.file.hint = hint;
    }

    /// Reads at `offset` into `target`, without moving the position. Returns the bytes read: `target.len()`, or fewer at
    /// the end of the file.
    ///
    /// # Errors
    /// `DataUnavailable` when no replica gives right bytes within the call; the content of `target` is then undefined.
    pub fn read_at(&self, offset: u64, target: &mut [u8]) -> Result<usize> {
        self.file.read(&mut [(offset, target)])
    }

    /// Reads several ranges, `(offset, target)`, at once, in the order that suits the datanodes. Returns the bytes read
    /// in all: each target is filled, except for what lies beyond the end of the file.
    ///
    /// # Errors
    /// As [`Self::read_at`].
    ///
    /// ```no_run
    /// # let client = ringfs_sdk::Client::from_config()?;
    /// let reader = client.open("/datasets/train.bin")?;
    /// let (mut first, mut second) = ([0; 512], [0; 512]);
    /// reader.read_vectored_at(&mut [(0, &mut first), (1 << 20, &mut second)])?;
    /// # Ok::<(), ringfs_sdk::Error>(())
    /// ```
    pub fn read_vectored_at(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<usize> {
        self.file.read(ranges)
    }

    /// Reads at the position and moves it. Returns the bytes read: `target.len()`, or fewer at the end of the file.
    ///
    /// # Errors
    /// As [`Self::read_at`]; the position then stays.
    pub fn read(&mut self, target: &mut [u8]) -> Result<usize> {
        let len = self.sequence.read(&self.file, self.position, target)?;
        self.position += len as u64;
        Ok(len)
    }

    /// The position of [`Self::read`].
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves the position; it may lie beyond the end of the file.
    pub fn seek_to(&mut self, position: u64) {
        self.position = position;
    }
}

impl io::Read for Reader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        Ok(Self::read(self, target)?)
    }
}

impl io::Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.len().checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl OpenFile {
    /// What this process knows; a forked child begins with the length alone.
    fn known(&self) -> &Mutex<Locations> {
        self.known.get(|| Mutex::new(Locations::new(self.length)))
    }

    /// A copy of what is known, with all blocks of `ranges` in it.
    fn located(&self, ranges: &[(u64, &mut [u8])]) -> Result<Locations> {
        let wanted_end =
            ranges.iter().map(|(offset, target)| offset.saturating_add(target.len() as u64)).max();
        self.look_for(wanted_end.unwrap_or(0))?;
        for _ in 0..=REFRESHES_MAX {
            let missing = {
                let known = self.known().lock();
                match plan::first_unlocated(ranges, &known) {
                    None => return Ok(known.clone()),
                    Some(missing) => missing,
                }
            };
            self.locate(missing.0)?;
        }
        Err(self.error(Fault::NoReplica("the namenode knows no block for a part of the file".to_owned())))
    }

    /// Asks where a file that is still written ends, if less than `wanted` bytes of it are known.
    fn look_for(&self, wanted: u64) -> Result<()> {
        let known_length = self.known().lock().length;
        if self.status.is_open && wanted > known_length { self.locate(known_length) } else { Ok(()) }
    }

    /// The block that holds a byte of the file.
    pub fn place(&self, offset: u64) -> Result<Option<Arc<Place>>> {
        let mut byte = [0];
        let locations = self.located(&[(offset, &mut byte)])?;
        Ok(locations.find(offset))
    }

    /// Fetches the blocks from `offset` on.
    fn locate(&self, offset: u64) -> Result<()> {
        let file = FileRefV1::Inode(self.status.inode);
        let request = GetBlockLocationsRequestV1 { file, offset, length: u64::MAX };
        let reply =
            self.shared.namenode.call::<GetBlockLocations>("locate blocks of", &self.path, &request)?;
        let found = self.take_patiently(reply, &request)?;
        let mut known = self.known().lock();
        if self.status.is_open {
            // Bytes that readers have seen do not go away.
            known.length = known.length.max(found.length);
        }
        known.add(found.into_places());
        Ok(())
    }

    /// Takes an answer. While nobody says for certain how long its open block is, asks again until the deadline (HDFS:
    /// `DFSInputStream.openInfo`).
    fn take_patiently(
        &self,
        reply: GetBlockLocationsReplyV1,
        request: &GetBlockLocationsRequestV1,
    ) -> Result<Locations> {
        let mut reply = reply;
        let mut patience = Patience::new(&self.shared);
        loop {
            let error = match self.take(&reply) {
                Ok(locations) => return Ok(locations),
                Err(error) => error,
            };
            if !patience.pause() {
                return Err(error);
            }
            reply =
                self.shared.namenode.call::<GetBlockLocations>("locate blocks of", &self.path, request)?;
        }
    }

    fn take(&self, reply: &GetBlockLocationsReplyV1) -> Result<Locations> {
        let mut locations = Locations::new(reply.status.length);
        let mut places = Vec::with_capacity(reply.blocks.len());
        for block in &reply.blocks {
            let mut place = Place::new(block.clone());
            if block.is_open {
                place.located.block.length = self.visible_length(&place)?;
            }
            locations.length = locations.length.max(place.end());
            places.push(Arc::new(place));
        }
        locations.add(places);
        Ok(locations)
    }

    /// How much of an open block readers may see, from any replica that answers.
    fn visible_length(&self, place: &Place) -> Result<u64> {
        let located = &place.located;
        let request = ReplicaInfoRequestV1 { capability: located.capability, block: located.block.block };
        let mut word = LengthOfOpen::default();
        for node in &place.replicas {
            let answer = self.shared.transport.replica_info(*node, &request);
            if let Some(length) = word.hear(*node, located.block.stamp, answer) {
                return Ok(length);
            }
        }
        word.conclude(place).map_err(|reason| self.error(Fault::NoReplica(reason)))
    }

    fn read(&self, ranges: &mut [(u64, &mut [u8])]) -> Result<usize> {
        let locations = self.located(ranges)?;
        let available =
            |offset: u64, len: usize| locations.length.saturating_sub(offset).min(len as u64) as usize;
        let total = ranges.iter().map(|(offset, target)| available(*offset, target.len())).sum();
        let mut pieces = plan::cut(ranges, &locations);
        self.read_pieces(&mut pieces)?;
        Ok(total)
    }

    fn read_pieces(&self, pieces: &mut [Piece<'_>]) -> Result<()> {
        let read = self.try_read_pieces(pieces);
        self.shared.bad_replicas.get(BadReplicas::default).report(&self.shared);
        read
    }

    /// Asks one replica after the other. When all have failed, locations are fetched anew, with pauses from the second
    /// time on: until the deadline as long as some replica may come back, else a few times.
    fn try_read_pieces(&self, pieces: &mut [Piece<'_>]) -> Result<()> {
        let mut patience = None;
        let mut failure = None;
        let mut refreshes = 0;
        while !pieces.iter().all(Piece::is_done) {
            let mut stuck =
                pieces.iter().filter(|piece| !piece.is_done() && piece.needs_refresh()).peekable();
            if stuck.peek().is_some() {
                let is_hopeful = refreshes < REFRESHES_MAX || stuck.all(Piece::is_worth_waiting);
                let patience = patience.get_or_insert_with(|| Patience::new(&self.shared));
                // The first refresh is for stale knowledge; the next ones wait for datanodes that come back.
                if !is_hopeful || (refreshes > 0 && !patience.pause()) {
                    let reason = failure.map_or_else(
                        || "no replica is known".to_owned(),
                        |error: TransportError| error.to_string(),
                    );
                    return Err(self.error(Fault::NoReplica(reason)));
                }
                refreshes += 1;
                self.refresh(pieces)?;
            }
            failure = self.round(pieces).or(failure);
        }
        Ok(())
    }

    /// Asks one replica for each piece. Returns the last failure.
    fn round(&self, pieces: &mut [Piece<'_>]) -> Option<TransportError> {
        let mut open: Vec<usize> = Vec::with_capacity(pieces.len());
        let mut fetches: Vec<Fetch<'_>> = Vec::with_capacity(pieces.len());
        for (index, piece) in pieces.iter_mut().enumerate().filter(|(_, piece)| !piece.is_done()) {
            if let Some(fetch) = piece.fetch() {
                open.push(index);
                fetches.push(fetch);
            }
        }
        self.shared.transport.fetch(&mut fetches, self.hint);
        let outcome = |fetch: Fetch<'_>| {
            let error = match fetch.result {
                Some(Ok(())) => None,
                Some(Err(error)) => Some(error),
                None => Some(TransportError::unreachable(
                    fetch.node,
                    io::Error::other("the fetch was not completed"),
                )),
            };
            (fetch.node, fetch.progress.verified_len(), error)
        };
        let outcomes: Vec<_> = fetches.into_iter().map(outcome).collect();
        let mut failure = None;
        for (index, (node, verified_len, error)) in open.into_iter().zip(outcomes) {
            if let Some(piece) = pieces.get_mut(index) {
                if error.as_ref().and_then(TransportError::code) == Some(Code::ChecksumMismatch)
                    && let Some(replica) = piece.replica_at(node)
                {
                    self.shared.bad_replicas.get(BadReplicas::default).note(replica);
                }
                piece.settle(node, verified_len, error.as_ref());
            }
            if let Some(error) = error {
                tracing::debug!(path = self.path, %error, "a replica failed");
                failure = Some(error);
            }
        }
        failure
    }

    fn refresh(&self, pieces: &mut [Piece<'_>]) -> Result<()> {
        for piece in pieces.iter_mut().filter(|piece| !piece.is_done() && piece.needs_refresh()) {
            self.locate(piece.offset)?;
            if let Some(place) = self.known().lock().find(piece.offset) {
                piece.refresh(place);
            }
        }
        Ok(())
    }

    fn error(&self, fault: Fault) -> Error {
        Error::new("read", &self.path, fault)
    }
}
