//! The contents of a request while it is taken in: small ones in memory, others in a file without a name, which is gone
//! with the last who knows it, also where the process is killed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// A content that is longer is not kept in memory. (A request has 64 files at most: 4 MiB.)
const IN_MEMORY: usize = 64 << 10;
/// Bytes that are written and read at once.
const BLOCK: usize = 256 << 10;

/// A content as it came; clones share it.
#[derive(Debug, Clone)]
pub struct Spooled {
    place: Place,
    bytes: u64,
    sha256: [u8; 32],
}

#[derive(Debug, Clone)]
enum Place {
    Memory(Bytes),
    /// The request's file, and where in it the content begins.
    File(Arc<File>, u64),
}

impl Spooled {
    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its SHA-256.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The content, from its beginning.
    pub fn stream(&self) -> BoxStream<'static, Result<Bytes>> {
        let (file, start) = match &self.place {
            Place::Memory(content) => return stream::iter([Ok(content.clone())]).boxed(),
            Place::File(file, start) => (file.clone(), *start),
        };
        let end = start + self.bytes;
        stream::try_unfold((file, start), move |(file, at)| async move {
            let length = BLOCK.min(usize::try_from(end - at).unwrap_or(BLOCK));
            if length == 0 {
                return Ok(None);
            }
            let (block, file) = blocking(move || {
                let mut block = BytesMut::zeroed(length);
                file.read_exact_at(&mut block, at).map(|()| (block.freeze(), file))
            })
            .await?;
            Ok(Some((block, (file, at + length as u64))))
        })
        .boxed()
    }
}

impl From<String> for Spooled {
    fn from(text: String) -> Self {
        let sha256 = Sha256::digest(&text).into();
        Self { bytes: text.len() as u64, sha256, place: Place::Memory(text.into()) }
    }
}

/// Takes the contents of one request, one after the other.
#[derive(Debug, Default)]
pub struct Spool {
    file: Option<Arc<File>>,
    /// Where in the file the next block goes.
    end: u64,
}

impl Spool {
    /// Begins a content.
    pub fn begin(&mut self) -> Content<'_> {
        let start = self.end;
        Content { spool: self, start, bytes: 0, sha256: Sha256::new(), block: BytesMut::new() }
    }

    /// Writes a block at the end of the file, which is made with the first.
    async fn append(&mut self, block: Bytes) -> Result<()> {
        let (file, at, length) = (self.file.clone(), self.end, block.len() as u64);
        let file = blocking(move || {
            let file = file.map_or_else(|| tempfile::tempfile().map(Arc::new), Ok)?;
            file.write_all_at(&block, at).map(|()| file)
        })
        .await?;
        self.file = Some(file);
        self.end += length;
        Ok(())
    }
}

/// A content that is coming.
#[derive(Debug)]
pub struct Content<'a> {
    spool: &'a mut Spool,
    start: u64,
    bytes: u64,
    sha256: Sha256,
    /// What is not in the file yet.
    block: BytesMut,
}

impl Content<'_> {
    /// Takes the next piece.
    pub async fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.sha256.update(piece);
        self.bytes += piece.len() as u64;
        self.block.extend_from_slice(piece);
        if self.block.len() >= BLOCK {
            self.spool.append(self.block.split().freeze()).await?;
        }
        Ok(())
    }

    /// Its size so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The whole content.
    pub async fn finish(self) -> Result<Spooled> {
        let (bytes, sha256) = (self.bytes, self.sha256.finalize().into());
        let in_file = self.spool.end > self.start;
        if !in_file && self.block.len() <= IN_MEMORY {
            return Ok(Spooled { place: Place::Memory(self.block.freeze()), bytes, sha256 });
        }
        self.spool.append(self.block.freeze()).await?;
        match &self.spool.file {
            Some(file) => Ok(Spooled { place: Place::File(file.clone(), self.start), bytes, sha256 }),
            None => Err(Error::new(ErrorKind::Internal, "an upload's file is not there")),
        }
    }
}

/// Work on the file, where it holds up nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Error::internal("an upload could not be kept", error))?;
    done.map_err(|error| Error::unavailable("an upload could not be kept: the temporary folder cannot be used", error))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    async fn read(content: &Spooled) -> Vec<u8> {
        let blocks: Vec<Bytes> = content.stream().try_collect().await.unwrap();
        assert!(blocks.iter().all(|block| block.len() <= BLOCK));
        blocks.concat()
    }

    #[tokio::test]
    async fn every_content_is_itself_however_long_and_in_whatever_pieces() {
        let mut spool = Spool::default();
        let mut kept = Vec::new();
        for (n, size) in
            [0, 1, IN_MEMORY, IN_MEMORY + 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 10].into_iter().enumerate()
        {
            let whole: Vec<u8> = (0..size).map(|byte| (byte % 251 + n) as u8).collect();
            let mut content = spool.begin();
            for piece in whole.chunks(10_007) {
                content.write(piece).await.unwrap();
            }
            kept.push((whole, content.finish().await.unwrap()));
        }
        for (whole, content) in &kept {
            assert_eq!(matches!(content.place, Place::Memory(_)), whole.len() <= IN_MEMORY, "{}", whole.len());
            assert_eq!(content.bytes(), whole.len() as u64);
            assert_eq!(content.sha256()[..], Sha256::digest(whole)[..]);
            // Twice: it is not used up.
            for _ in 0..2 {
                assert!(read(content).await == *whole, "{}", whole.len());
            }
        }
    }

    #[tokio::test]
    async fn what_was_broken_off_is_not_in_what_comes_after() {
        let mut spool = Spool::default();
        spool.begin().write(&vec![1; 2 * BLOCK]).await.unwrap();
        let mut content = spool.begin();
        content.write(&vec![2; BLOCK]).await.unwrap();
        let content = content.finish().await.unwrap();
        assert!(read(&content).await == vec![2; BLOCK]);
    }
}
