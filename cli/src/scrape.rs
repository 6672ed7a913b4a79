//! The metrics of a server, fetched from its HTTP face.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Bytes of an answer that are read at most.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Fetches the metrics, as text in Prometheus form.
///
/// # Errors
/// A sentence for the user.
pub fn fetch(address: &str, deadline: Duration) -> Result<String, String> {
    let answer = get(address, deadline).map_err(|error| format!("metrics of {address}: {error}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(format!("metrics of {address}: {}", answer.lines().next().unwrap_or("no answer"))),
    }
}

fn get(address: &str, deadline: Duration) -> std::io::Result<String> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "no such host");
    for resolved in address.to_socket_addrs()? {
        match get_from(resolved, address, deadline) {
            Ok(answer) => return Ok(answer),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn get_from(resolved: SocketAddr, address: &str, deadline: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&resolved, deadline)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.set_write_timeout(Some(deadline))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The values by name, those of several labels summed. Lines that are no values are skipped.
pub fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series).trim_end();
        if let Ok(value) = value.parse::<f64>() {
            *values.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_summed_over_labels() {
        let text = "# HELP a b\n# TYPE a counter\na{op=\"x y\"} 2\na{op=\"z\"} 3\nb 1.5\nnonsense\nc word\n";
        assert_eq!(parse(text), BTreeMap::from([("a".to_owned(), 5.0), ("b".to_owned(), 1.5)]));
    }
}
