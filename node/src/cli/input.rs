//! Bytes and durations as people write them.

use std::{io::Read as _, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::output::Failure;

/// How the value on the command line is to be read.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Encoding {
    /// Key and value are written in hex.
    #[arg(long, conflicts_with = "base64")]
    hex: bool,
    /// Key and value are written in base64.
    #[arg(long)]
    base64: bool,
    /// Read the value from a file, `-` for stdin.
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
}

impl Encoding {
    pub(crate) fn bytes(&self, text: &str) -> Result<Vec<u8>, Failure> {
        if self.hex {
            return unhex(text).ok_or_else(|| Failure::usage(format!("{text:?} is not hex")));
        }
        if self.base64 {
            let bytes = STANDARD.decode(text);
            return bytes.map_err(|_| Failure::usage(format!("{text:?} is not base64")));
        }
        Ok(text.as_bytes().to_vec())
    }

    /// The value, from wherever it was given.
    pub(crate) fn value(&self, text: Option<&str>) -> Result<Vec<u8>, Failure> {
        match (text, &self.file) {
            (Some("-"), None) => stdin(),
            (Some(text), None) => self.bytes(text),
            (None, Some(path)) if path.as_os_str() == "-" => stdin(),
            (None, Some(path)) => std::fs::read(path)
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display()))),
            (None, None) => Err(Failure::usage("a put needs a VALUE or --file")),
            (Some(_), Some(_)) => Err(Failure::usage("give a VALUE or --file, not both")),
        }
    }
}

fn stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Two digits a byte.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// `250ms`, `5s`, `2m`, `1h`, `7d`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a duration like 5s"))?;
    let ms = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        unit => return Err(format!("{unit:?} is not a unit of time: ms, s, m, h or d")),
    };
    let ms = number
        .checked_mul(ms)
        .ok_or_else(|| format!("{text:?} is too long"))?;
    Ok(Duration::from_millis(ms))
}

/// `100`, `64KiB`, `1MiB`.
pub(crate) fn size(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u32 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a size like 1MiB"))?;
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        unit => return Err(format!("{unit:?} is not a unit of size: B, KiB or MiB")),
    };
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1h"), Ok(Duration::from_hours(1)));
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert!(duration("soon").is_err() && duration("5y").is_err() && duration("").is_err());
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert!(size("9999MiB").is_err());
    }

    #[test]
    fn hex_is_strict() {
        assert_eq!(unhex("00ff"), Some(vec![0, 255]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("zz"), None);
        assert_eq!(unhex("é"), None);
    }
}
