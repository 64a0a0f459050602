//! One file, whole: raw bytes or a gzip stream, told by its first two bytes and never by its name. Never holds more than [`LIMIT`].

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::DataError;

/// The largest data file, packed or not: twenty times MNIST, and small enough that a hostile one does no harm.
pub(super) const LIMIT: u64 = 1 << 30;

/// The contents of a file, unpacked if it is a gzip stream.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let failed = |source| DataError::Io { path: path.into(), source };
    // Opening a named pipe would wait for ever.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let mut stored = Vec::new();
    File::open(path).and_then(|file| file.take(LIMIT + 1).read_to_end(&mut stored)).map_err(failed)?;
    if stored.len() as u64 > LIMIT {
        return Err(DataError::TooLarge { path: path.into(), limit: LIMIT });
    }
    if stored.starts_with(&[0x1f, 0x8b]) { gunzip(path, &stored, LIMIT) } else { Ok(stored) }
}

/// Unpacks a gzip stream to its very end, so that its checksum is compared; gives up past `limit` bytes.
pub(super) fn gunzip(path: &Path, stored: &[u8], limit: u64) -> Result<Vec<u8>, DataError> {
    let mut data = Vec::new();
    let outcome = MultiGzDecoder::new(stored).take(limit + 1).read_to_end(&mut data);
    let unpacked = data.len();
    match outcome {
        Ok(_) if unpacked as u64 > limit => Err(DataError::TooLarge { path: path.into(), limit }),
        Ok(_) => Ok(data),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(DataError::GzipTruncated { path: path.into(), stored: stored.len(), unpacked })
        }
        Err(error) => Err(DataError::GzipCorrupt { path: path.into(), reason: error.to_string(), unpacked }),
    }
}
