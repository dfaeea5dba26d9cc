//! Lines from stdin: with editing, completion and history on a terminal, as they come otherwise.
//!
//! Reading blocks, so a thread of its own does it, one line whenever one is wanted: the prompt does
//! not appear between the lines of an answer, and connections are kept alive meanwhile.

use std::{
    env, fs,
    io::{BufRead as _, IsTerminal as _},
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use rustyline::{CompletionType, Config, Editor, error::ReadlineError, history::DefaultHistory};
use tokio::sync::mpsc;

use super::complete::Words;

/// What Ctrl-C does at the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// Forgets the line.
    Clears,
    /// Ends the input.
    Ends,
}

/// Lines as a person or a program writes them.
#[derive(Debug)]
pub(crate) struct Prompt {
    wanted: SyncSender<()>,
    lines: mpsc::Receiver<Vec<u8>>,
    asked: bool,
    terminal: bool,
}

impl Prompt {
    pub(crate) fn start(text: &'static str, interrupt: Interrupt, words: Words) -> Self {
        let terminal = std::io::stdin().is_terminal();
        let (wanted, asked) = sync_channel(1);
        let (told, lines) = mpsc::channel(1);
        thread::spawn(move || {
            if terminal {
                edit(text, interrupt, words, &asked, &told);
            } else {
                read(&asked, &told);
            }
        });
        Self {
            wanted,
            lines,
            asked: false,
            terminal,
        }
    }

    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The next line, without its end; `None` when there are no more. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        if !self.asked {
            self.wanted.send(()).ok()?;
            self.asked = true;
        }
        let line = self.lines.recv().await;
        self.asked = false;
        line
    }
}

fn read(asked: &Receiver<()>, told: &mpsc::Sender<Vec<u8>>) {
    let mut input = std::io::stdin().lock();
    while asked.recv().is_ok() {
        let mut line = Vec::new();
        match input.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        line.truncate(line.strip_suffix(b"\n").map_or(line.len(), <[u8]>::len));
        if told.blocking_send(line).is_err() {
            return;
        }
    }
}

fn edit(
    text: &str,
    interrupt: Interrupt,
    words: Words,
    asked: &Receiver<()>,
    told: &mpsc::Sender<Vec<u8>>,
) {
    // Tab first completes what all candidates share, then lists them.
    let listing = Config::builder().completion_type(CompletionType::List);
    let Ok(mut editor) = Editor::<Words, DefaultHistory>::with_config(listing.build()) else {
        return read(asked, told);
    };
    editor.set_helper(Some(words));
    let history = history();
    if let Some(path) = &history {
        // There is none at first.
        let _ = editor.load_history(path);
    }
    while asked.recv().is_ok() {
        let line = match editor.readline(text) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) if interrupt == Interrupt::Clears => String::new(),
            Err(_) => return,
        };
        if !line.trim().is_empty() {
            let _ = editor.add_history_entry(&line);
            if let Some(path) = &history {
                // A prompt without memory is a prompt all the same.
                let _ = editor.save_history(path);
            }
        }
        if told.blocking_send(line.into_bytes()).is_err() {
            return;
        }
    }
}

/// In the user's directory for what programs remember.
fn history() -> Option<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty());
    let state = state.map(PathBuf::from);
    let state = state.or_else(|| Some(env::home_dir()?.join(".local/state")))?;
    let dir = state.join("quorate");
    fs::create_dir_all(&dir).ok()?;
    Some(dir.join("history"))
}
