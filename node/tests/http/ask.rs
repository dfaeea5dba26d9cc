//! A client of plain HTTP that shows what was really sent.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

use crate::dev::Dev;

/// Only so that a broken test ends.
const PATIENCE: Duration = Duration::from_mins(1);

/// One node's interface, and who asks.
pub(crate) struct Web {
    address: String,
    pub(crate) token: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no json: {self:?}"))
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

impl Web {
    /// With the token that `dev` has left.
    pub(crate) fn of(dev: &Dev, number: u16) -> Self {
        let token = std::fs::read_to_string(dev.path("http.token")).unwrap();
        Self {
            address: format!("127.0.0.1:{}", dev.base + 500 + number - 1),
            token: token.trim().to_owned(),
        }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            address: self.address.clone(),
            token: token.to_owned(),
        }
    }

    pub(crate) fn without_token(&self) -> Self {
        self.with_token("")
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", path, headers, b"")
    }

    pub(crate) fn put(&self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        self.ask("PUT", path, headers, body)
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.ask("POST", path, &[], body)
    }

    pub(crate) fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("DELETE", path, headers, b"")
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut bytes = self
            .head(method, path, headers, Some(body.len()))
            .into_bytes();
        bytes.extend(body);
        self.raw(&bytes)
    }

    fn head(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: Option<usize>,
    ) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        if !self.token.is_empty() {
            head = head + "Authorization: Bearer " + &self.token + "\r\n";
        }
        for (name, value) in headers {
            head = head + name + ": " + value + "\r\n";
        }
        match length {
            Some(length) => {
                head + &format!("Content-Length: {length}\r\nConnection: close\r\n\r\n")
            }
            None => head + "\r\n",
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes as they are; the node may have closed before it has them all.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        let stream = self.connect();
        let mut sending = stream.try_clone().unwrap();
        let bytes = bytes.to_vec();
        let sent = std::thread::spawn(move || drop(sending.write_all(&bytes)));
        let mut reader = BufReader::new(stream);
        let mut answer = head(&mut reader);
        let length = answer
            .header("content-length")
            .map(|text| text.parse().unwrap());
        match length {
            Some(length) => {
                answer.body.resize(length, 0);
                reader.read_exact(&mut answer.body).unwrap();
            }
            None => panic!("an answer without a length: {answer:?}"),
        }
        drop(reader);
        sent.join().unwrap();
        answer
    }

    /// Server-sent events, from now on and those before.
    pub(crate) fn events(&self) -> Events {
        let mut stream = self.connect();
        let head_bytes = self.head("GET", "/events", &[], None);
        stream.write_all(head_bytes.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let answer = head(&mut reader);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        Events(reader)
    }

    /// All samples of `/metrics`, by name and labels.
    pub(crate) fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = self.get("/metrics", &[]);
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.ends_with("# EOF\n"), "OpenMetrics ends so");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        samples.collect()
    }
}

/// A stream of events that is open.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    /// The first that is meant.
    pub(crate) fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream ended");
            // Lines of the chunks' own lengths lie between.
            if let Some(data) = line.strip_prefix("data: ") {
                let event: Value = serde_json::from_str(data).unwrap();
                if is_it(&event) {
                    return event;
                }
            }
        }
    }
}

fn head(reader: &mut BufReader<TcpStream>) -> Answer {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let first = line();
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not an answer: {first:?}"));
    let mut headers = BTreeMap::new();
    loop {
        let header = line();
        let Some((name, value)) = header.split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Answer {
        status,
        headers,
        body: Vec::new(),
    }
}
