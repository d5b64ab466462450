//! An original out of its pieces.

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::io::AsyncBufRead;

use crate::backup::line::{File, Line};
use crate::backup::lines::Lines;
use crate::blob::Blobs;
use crate::document::hex;
use crate::error::{Error, Result};

/// Stores an original as its lines come. Whatever is wrong with it leaves nothing.
pub(super) async fn store<R>(lines: &mut Lines<R>, file: &File, blobs: &Blobs, blob: &str) -> Result<()>
where
    R: AsyncBufRead + Unpin + Send,
{
    blobs.put_stream(blob, pieces(lines, file).boxed()).await.map(drop)
}

/// Reads an original and does nothing with it.
pub(super) async fn pass_over<R>(lines: &mut Lines<R>, file: &File) -> Result<()>
where
    R: AsyncBufRead + Unpin + Send,
{
    pieces(lines, file).try_for_each(|_| async { Ok(()) }).await
}

/// The content, piece by piece; an error in the place of its end if it has not the hash that it should have.
fn pieces<'a, R>(lines: &'a mut Lines<R>, file: &File) -> impl stream::Stream<Item = Result<Bytes>> + Send + use<'a, R>
where
    R: AsyncBufRead + Unpin + Send,
{
    let state = Reading { lines, hash: Sha256::new(), left: file.bytes, sha256: file.sha256.clone() };
    stream::try_unfold(state, |mut reading| async move {
        let piece = reading.next().await?;
        Ok::<_, Error>(piece.map(|piece| (piece, reading)))
    })
}

struct Reading<'a, R> {
    lines: &'a mut Lines<R>,
    hash: Sha256,
    left: u64,
    sha256: String,
}

impl<R: AsyncBufRead + Unpin + Send> Reading<'_, R> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left == 0 {
            let hash = std::mem::take(&mut self.hash).finalize();
            let is_whole = hex(&hash) == self.sha256;
            return if is_whole { Ok(None) } else { Err(self.lines.damaged("an original has not its SHA-256")) };
        }
        let piece = match self.lines.next().await? {
            Line::Original(piece) => piece.bytes(),
            _ => return Err(self.lines.damaged("an original ends too early")),
        };
        let piece = piece.filter(|piece| !piece.is_empty() && piece.len() as u64 <= self.left);
        let piece = piece.ok_or_else(|| self.lines.damaged("it is no piece of an original"))?;
        self.left -= piece.len() as u64;
        self.hash.update(&piece);
        Ok(Some(piece.into()))
    }
}
