//! Completion at the prompt: commands, options and their values, and words used before.
//!
//! Commands and options come from the grammar that also parses, so that none is missing. Names of
//! buckets, keys and nodes are not asked of the cluster, which may be what is being repaired: they
//! are completed from what earlier lines gave for the same argument.

use std::{borrow::Cow, collections::BTreeSet};

use clap::{Arg, ArgAction, Command as Grammar};
use rustyline::{
    Context, Helper,
    completion::Completer,
    highlight::Highlighter,
    hint::{Hinter, HistoryHinter},
    history::SearchDirection,
    validate::Validator,
};

/// Earlier lines that are looked through for words; the newest.
const LINES_MAX: usize = 500;

/// What can be said at a prompt.
pub(crate) struct Words {
    grammar: Grammar,
    /// Words of the prompt itself, with what may follow each.
    own: &'static [(&'static str, &'static [&'static str])],
    earlier: HistoryHinter,
}

/// What is already there, left of the word that is being written.
struct Place<'g> {
    command: &'g Grammar,
    /// Positional arguments already given.
    positionals: usize,
    /// The option whose value comes next.
    option: Option<&'g Arg>,
}

impl<'g> Place<'g> {
    /// The positional argument that comes next, if nothing but one can.
    fn awaits(&self) -> Option<&'g Arg> {
        let argument = self.command.get_positionals().nth(self.positionals);
        argument.filter(|_| self.option.is_none())
    }
}

impl Words {
    pub(crate) fn new(
        mut grammar: Grammar,
        own: &'static [(&'static str, &'static [&'static str])],
    ) -> Self {
        grammar.build();
        Self {
            grammar,
            own,
            earlier: HistoryHinter::new(),
        }
    }

    /// Where the last word of `line` begins, and what it may become.
    fn candidates(&self, line: &str, earlier: &[&str]) -> (usize, Vec<String>) {
        let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let (before, word) = line.split_at(start);
        let mut before: Vec<&str> = before.split_whitespace().collect();
        if before.first() == Some(&"quorate") {
            before.remove(0);
        }
        let mut found: BTreeSet<String> = BTreeSet::new();
        match before.as_slice() {
            [] => found.extend(self.own.iter().map(|(verb, _)| (*verb).to_owned())),
            [verb] => {
                let own = self.own.iter().find(|(own, _)| own == verb);
                found.extend(
                    own.into_iter()
                        .flat_map(|(_, rest)| rest.iter().map(ToString::to_string)),
                );
            }
            _ => {}
        }
        let place = self.place(&before);
        match place.option {
            Some(option) => found.extend(values(option)),
            None if word.starts_with('-') => found.extend(options(place.command)),
            None => {
                let commands = place.command.get_subcommands();
                // After a word that is no command nothing is known.
                let commands = commands.filter(|_| place.positionals == 0);
                found.extend(commands.map(|command| command.get_name().to_owned()));
                let argument = place.command.get_positionals().nth(place.positionals);
                found.extend(argument.into_iter().flat_map(values));
            }
        }
        if let Some(argument) = place.awaits()
            && !word.starts_with('-')
        {
            found.extend(self.used(argument, earlier));
        }
        found.retain(|candidate| candidate.starts_with(word) && candidate != word);
        (start, found.into_iter().collect())
    }

    /// What earlier lines gave for an argument of that name, whatever their command.
    fn used(&self, argument: &Arg, earlier: &[&str]) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        if argument.get_id() == "bucket" {
            used.insert("default".to_owned());
        }
        for line in earlier {
            let words: Vec<&str> = line.split_whitespace().collect();
            let words = words.strip_prefix(&["quorate"]).unwrap_or(&words);
            let said = words.iter().enumerate().filter(|(at, word)| {
                let awaited = self.place(&words[..*at]).awaits().map(Arg::get_id);
                !word.starts_with('-') && awaited == Some(argument.get_id())
            });
            used.extend(said.map(|(_, word)| (*word).to_owned()));
        }
        used
    }

    fn place(&self, before: &[&str]) -> Place<'_> {
        let mut place = Place {
            command: &self.grammar,
            positionals: 0,
            option: None,
        };
        for word in before {
            if place.option.take().is_some() {
                continue;
            }
            if let Some(name) = word.strip_prefix("--") {
                let mut arguments = place.command.get_arguments();
                let option = arguments.find(|argument| argument.get_long() == Some(name));
                place.option = option.filter(|option| takes_value(option));
            } else if let Some(inner) = place.command.find_subcommand(word) {
                place.command = inner;
                place.positionals = 0;
            } else if !word.starts_with('-') {
                place.positionals += 1;
            }
        }
        place
    }
}

fn takes_value(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append)
}

fn values(argument: &Arg) -> Vec<String> {
    let values = argument.get_possible_values();
    values
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect()
}

fn options(command: &Grammar) -> impl Iterator<Item = String> {
    let shown = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set());
    shown.filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
}

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let history = context.history();
        let first = history.len().saturating_sub(LINES_MAX);
        let lines = (first..history.len())
            .filter_map(|at| history.get(at, SearchDirection::Forward).ok().flatten());
        let lines: Vec<Cow<'_, str>> = lines.map(|found| found.entry).collect();
        let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        let (start, mut found) = self.candidates(&line[..at], &lines);
        if let [one] = found.as_mut_slice() {
            one.push(' ');
        }
        Ok((start, found))
    }
}

impl Hinter for Words {
    type Hint = String;

    fn hint(&self, line: &str, at: usize, context: &Context<'_>) -> Option<String> {
        self.earlier.hint(line, at, context)
    }
}

impl Highlighter for Words {
    /// What is only proposed is dim.
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }
}

impl Validator for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::manual::grammar;

    fn candidates(line: &str) -> Vec<String> {
        let words = Words::new(grammar(), &[(":kill", &["n1", "n2"])]);
        let earlier = [
            "put carts anna milk",
            "get carts berta",
            "quorate put users x y",
            "ring stage weight n3 2",
        ];
        words.candidates(line, &earlier).1
    }

    #[test]
    fn commands_options_and_values_are_completed() {
        assert_eq!(candidates("expl"), ["explain"]);
        assert_eq!(
            candidates("quorate ring stage re"),
            ["remove", "replace", "resize"]
        );
        assert_eq!(candidates("put b k v --slo"), ["--sloppy"]);
        assert_eq!(candidates("put b k v --sloppy "), ["false", "true"]);
        assert_eq!(candidates("--pin --output j"), ["json"]);
        assert_eq!(candidates("--output json clus"), ["cluster"]);
        assert_eq!(candidates("dev node k"), ["kill"]);
        assert_eq!(candidates("completions f"), ["fish"]);
        assert_eq!(candidates("get b k -"), candidates("get b k --"));
    }

    #[test]
    fn words_used_before_are_completed_where_they_may_stand() {
        assert_eq!(candidates("put "), ["carts", "default", "users"]);
        assert_eq!(candidates("export de"), ["default"]);
        assert_eq!(candidates("put --w 2 carts be"), ["berta"]);
        assert_eq!(candidates("put carts berta an"), Vec::<String>::new());
        assert_eq!(candidates("ring stage leave "), ["n3"]);
        assert_eq!(
            candidates("cluster "),
            ["check", "help", "status", "wait-converged"]
        );
    }

    #[test]
    fn a_prompt_has_words_of_its_own() {
        assert_eq!(candidates(":"), [":kill"]);
        assert_eq!(candidates(":kill n"), ["n1", "n2"]);
        assert_eq!(candidates("nonsense --what "), Vec::<String>::new());
    }
}
