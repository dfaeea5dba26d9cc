//! How far an import is: a bar on a terminal, a note now and then elsewhere if nothing moves.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinHandle, time::interval};

use super::{super::output::note, worker::Tally};

const REDRAW: Duration = Duration::from_millis(200);
/// Time without any line acknowledged after which that is told, again each time.
const STALLED: Duration = Duration::from_secs(5);
const BAR: usize = 30;

/// The task that tells.
pub(super) struct Progress(JoinHandle<()>);

impl Progress {
    /// `size` is the input's length, if it has one.
    pub(super) fn start(tally: Arc<Tally>, read: Arc<AtomicU64>, size: Option<u64>) -> Self {
        Self(tokio::spawn(tell(tally, read, size)))
    }

    pub(super) async fn end(self) {
        self.0.abort();
        let _ = self.0.await;
        if std::io::stderr().is_terminal() {
            draw("");
        }
    }
}

async fn tell(tally: Arc<Tally>, read: Arc<AtomicU64>, size: Option<u64>) {
    let terminal = std::io::stderr().is_terminal();
    let began = Instant::now();
    let (mut done, mut moved) = (0, began);
    let mut ticks = interval(REDRAW);
    loop {
        ticks.tick().await;
        let now = tally.imported_count();
        if now != done {
            (done, moved) = (now, Instant::now());
        }
        let trouble = tally.trouble().filter(|_| STALLED <= moved.elapsed());
        if terminal {
            let share = size.map(|size| share(read.load(Ordering::Relaxed), size));
            draw(&bar(share, done, began.elapsed(), trouble.as_deref()));
        } else if let Some(trouble) = trouble {
            note(&format!("{done} lines so far; still trying: {trouble}"));
            moved = Instant::now();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is drawn with two digits")]
fn share(read: u64, size: u64) -> f64 {
    (read as f64 / size.max(1) as f64).min(1.0)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is for the eye"
)]
fn bar(share: Option<f64>, done: u64, took: Duration, trouble: Option<&str>) -> String {
    let rate = (done as f64 / took.as_secs_f64().max(0.001)) as u64;
    let bar = share.map_or_else(String::new, |share| {
        let full = (share * BAR as f64) as usize;
        let (full, rest) = ("=".repeat(full), " ".repeat(BAR - full));
        format!("[{full}{rest}] {:3.0} %  ", share * 100.0)
    });
    let trouble = trouble.map_or_else(String::new, |why| format!("  still trying: {why}"));
    let line = format!("{bar}{done} lines  {rate}/s{trouble}");
    // A line that wraps could not be drawn over.
    line.chars().take(100).collect()
}

fn draw(text: &str) {
    let mut err = std::io::stderr().lock();
    // Nobody is harmed if it cannot be drawn.
    let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_share_count_and_trouble() {
        let took = Duration::from_secs(2);
        let text = bar(Some(0.5), 10, took, None);
        assert!(
            text.starts_with("[===============               ]  50 %"),
            "{text}"
        );
        assert!(text.ends_with("10 lines  5/s"), "{text}");
        assert_eq!(
            bar(None, 4, took, Some("why")),
            "4 lines  2/s  still trying: why"
        );
        assert!(share(3, 0) <= 1.0);
    }
}
