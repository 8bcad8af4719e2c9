//! Lines of bounded length, for every conversation that this crate has.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Reads up to and including the next `delimiter`, which is not kept. `None` at the end of the stream; a last line
/// without its delimiter counts as the end too.
///
/// When the future is dropped, what was read of the line is lost.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when the line is longer than `max`; the stream is of no more use then.
pub(crate) async fn read_until<R>(reader: &mut R, delimiter: u8, max: usize) -> io::Result<Option<Vec<u8>>>
where
    R: AsyncBufRead + Unpin + ?Sized,
{
    let mut line = Vec::new();
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(None);
        }
        let end = available.iter().position(|byte| *byte == delimiter);
        let taken = end.unwrap_or(available.len());
        if line.len() + taken > max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a line of more than {max} bytes"),
            ));
        }
        line.extend(available.iter().take(taken));
        reader.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// [`read_until`] a line feed.
pub(crate) async fn read_line<R>(reader: &mut R, max: usize) -> io::Result<Option<Vec<u8>>>
where
    R: AsyncBufRead + Unpin + ?Sized,
{
    read_until(reader, b'\n', max).await
}

#[cfg(test)]
mod tests {
    use tokio::io::BufReader;

    use super::*;

    #[tokio::test]
    async fn lines_come_one_by_one_whatever_the_buffer() {
        for capacity in 1..8 {
            let mut reader = BufReader::with_capacity(capacity, &b"one\n\nthree\nrest"[..]);
            assert_eq!(read_line(&mut reader, 5).await.unwrap().unwrap(), b"one");
            assert_eq!(read_line(&mut reader, 5).await.unwrap().unwrap(), b"");
            assert_eq!(read_line(&mut reader, 5).await.unwrap().unwrap(), b"three");
            assert_eq!(read_line(&mut reader, 5).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_an_error_before_it_is_kept() {
        let mut reader = BufReader::with_capacity(4, &b"123456\n"[..]);
        let error = read_line(&mut reader, 5).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
