//! `quorate shell`: many commands over one connection.
//!
//! A person gets a prompt and the usual answers. A program, which is whoever is no terminal, gets
//! exactly one JSON line per command, in order: the answer with `exit` added, the items of a
//! stream as one list. An error is an answer like any other.

use clap::{Command as Grammar, FromArgMatches as _};
use serde_json::{Value, json};

use super::{
    Cli, Command,
    complete::Words,
    fail, manual,
    output::{Failure, Format, Out, line, note},
    parse_failure,
    prompt::{Interrupt, Prompt},
    session::{Session, Target},
};

/// Runs commands until the input ends.
pub(crate) async fn run(session: Session, format: Format) -> Result<(), Failure> {
    let mut shell = Shell::new(session, format);
    let words = Words::new(manual::grammar(), &[("exit", &[]), ("quit", &[])]);
    let mut prompt = Prompt::start("quorate> ", Interrupt::Clears, words);
    if prompt.is_terminal() {
        note("any command, without the word quorate; Tab completes, exit ends, help lists them");
    }
    while let Some(text) = prompt.next().await {
        if !prompt.is_terminal() {
            if let Some(answer) = shell.answer(&text).await {
                line(&answer.to_string())?;
            }
        } else if matches!(text.trim_ascii(), b"exit" | b"quit") {
            break;
        } else {
            // Biased: Ctrl-C ends what hangs or never ends, and not the shell.
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => note("interrupted"),
                () = shell.obey(&text) => {}
            }
        }
    }
    shell.session.close().await;
    Ok(())
}

/// Runs one line after the other.
pub(crate) struct Shell {
    grammar: Grammar,
    pub(crate) session: Session,
    format: Format,
}

/// What a line asks for.
enum Wish {
    Nothing,
    Help(String),
    Run(Box<Parsed>),
}

struct Parsed {
    command: Command,
    target: Target,
    format: Format,
}

impl Shell {
    pub(crate) fn new(session: Session, format: Format) -> Self {
        Self {
            grammar: manual::grammar().no_binary_name(true),
            session,
            format,
        }
    }

    /// The one JSON line for a command; none for a line without one.
    async fn answer(&mut self, text: &[u8]) -> Option<Value> {
        let mut out = Out::keeping();
        let result = match self.parse(text) {
            Ok(Wish::Nothing) => return None,
            Ok(Wish::Help(help)) => Ok((json!({ "help": help }), 0)),
            Ok(Wish::Run(parsed)) => {
                let target = &parsed.target;
                let run = self.session.execute_at(target, &parsed.command, &mut out);
                Box::pin(run).await.map(|exit| (out.kept(), exit))
            }
            Err(failure) => Err(failure),
        };
        let (mut answer, exit) =
            result.unwrap_or_else(|failure| (failure.to_json(), failure.code.exit_code()));
        answer["exit"] = json!(exit);
        Some(answer)
    }

    /// Runs a command for a person.
    pub(crate) async fn obey(&mut self, text: &[u8]) {
        let (result, format) = match self.parse(text) {
            Ok(Wish::Nothing) => return,
            Ok(Wish::Help(help)) => (line(&help), self.format),
            Ok(Wish::Run(parsed)) => {
                let mut out = Out::stdout(parsed.format);
                let target = &parsed.target;
                let run = self.session.execute_at(target, &parsed.command, &mut out);
                (Box::pin(run).await.map(drop), parsed.format)
            }
            Err(failure) => (Err(failure), self.format),
        };
        if let Err(failure) = result {
            fail(&failure, format);
        }
    }

    fn parse(&mut self, text: &[u8]) -> Result<Wish, Failure> {
        let text = std::str::from_utf8(text);
        let text =
            text.map_err(|_| Failure::usage("a command is UTF-8; see --hex and --base64"))?;
        let words = shlex::split(text);
        let words = words.ok_or_else(|| Failure::usage("a quote is not closed"))?;
        let words = match &words[..] {
            [] => return Ok(Wish::Nothing),
            [first, rest @ ..] if first == "quorate" => rest,
            all => all,
        };
        let matches = match self.grammar.try_get_matches_from_mut(words) {
            Ok(matches) => matches,
            Err(error) if error.use_stderr() => return Err(parse_failure(&error)),
            Err(help) => return Ok(Wish::Help(help.to_string())),
        };
        let cli = Cli::from_arg_matches(&matches).map_err(|error| parse_failure(&error))?;
        let put = matches!(&cli.command, Command::Put(put) if put.reads_stdin());
        let import = matches!(&cli.command, Command::Import(import) if import.reads_stdin());
        if put || import {
            let message = "stdin is where the commands come from: give the file's name";
            return Err(Failure::usage(message));
        }
        let said = matches.value_source("output") == Some(clap::parser::ValueSource::CommandLine);
        Ok(Wish::Run(Box::new(Parsed {
            target: self.session.target.overridden(&cli, &matches),
            format: if said { cli.output } else { self.format },
            command: cli.command,
        })))
    }
}
