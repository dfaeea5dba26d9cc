//! `quorate dev`: a cluster of real processes on this machine.
//!
//! Makes certificates and configuration once, then starts one `quorate serve` per node and waits
//! until each says that it is ready. A directory that has been used before goes on with its data,
//! and nodes that run already are left as they are. What cannot be started leaves nothing behind:
//! no process, and no files of a cluster that never was.

mod layout;
mod seat;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{
    layout::{Layout, Lock},
    seat::Seat,
};
use super::{
    complete::Words,
    manual,
    output::{Failure, Format, line, note},
    prompt::{Interrupt, Prompt},
    session::Session,
    shell::Shell,
};

/// Run a cluster on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    shape: layout::Shape,
    /// Where certificates, configuration and data live.
    #[arg(long, default_value = "quorate-dev", global = true)]
    dir: PathBuf,
    /// Begin anew: stop what runs there and remove its data.
    #[arg(long)]
    fresh: bool,
    /// Return once the cluster is ready and leave it running.
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Stop all nodes.
    Stop,
    /// Start one more node, which joins the cluster and waits for a place in its ring.
    Add,
    /// Do something to one node.
    Node {
        /// What to do.
        #[arg(value_parser = ["start", "stop", "kill", "pause", "resume"])]
        action: String,
        /// Its number, 1 for n1.
        number: u16,
    },
}

/// What is understood at the prompt beside every command.
const OWN_WORDS: &[(&str, &[&str])] = &[
    (":kill", NAMES),
    (":start", NAMES),
    (":stop", NAMES),
    (":pause", NAMES),
    (":resume", NAMES),
    (":quit", &[]),
];
const NAMES: &[&str] = &["n1", "n2", "n3", "n4", "n5"];

/// What has been done so far, to be undone if the rest fails.
#[derive(Default)]
struct Done {
    made: Option<Layout>,
    started: Vec<Seat>,
}

impl Done {
    /// Undoes it; the reason why is worth more than a failure to do so.
    fn undo(self) {
        for seat in &self.started {
            let _ = seat.end("KILL");
        }
        if let Some(layout) = self.made {
            let _ = layout.remove();
        }
    }
}

/// A cluster that is ready.
struct Cluster {
    seats: Vec<Seat>,
    took: Duration,
    /// Some node ran before this program did.
    shared: bool,
}

impl Dev {
    pub(crate) async fn run(&self, session: Session, format: Format) -> Result<(), Failure> {
        match &self.verb {
            None => self.cluster(session, format).await,
            Some(Verb::Stop) => {
                let stopped = stop_all(&self.dir)?;
                let text = format!("stopped {stopped} nodes");
                answer(format, &json!({ "stopped": stopped }), &text)
            }
            Some(Verb::Add) => self.add(format).await,
            Some(Verb::Node { action, number }) => {
                let seat = Seat::numbered(&self.dir, *number)?;
                seat.act(action).await?;
                let json = json!({ "node": seat.name, "done": action });
                answer(format, &json, &format!("{action} {}", seat.name))
            }
        }
    }

    async fn add(&self, format: Format) -> Result<(), Failure> {
        let _lock = Lock::take(&self.dir)?;
        let layout = Layout::of(&self.dir)?;
        let seat = layout.add()?;
        let started = async {
            seat.check_ports()?;
            seat.spawn()?;
            seat.wait_ready().await
        };
        if let Err(failure) = started.await {
            // Why it did not start is worth more than a failure to clear up.
            let _ = seat.end("KILL");
            let _ = layout.take_back(&seat);
            return Err(failure);
        }
        let name = &seat.name;
        let json = json!({
            "node": name, "address": seat.quic.to_string(), "http": seat.http.to_string(),
            "zone": seat.zone,
        });
        let text = format!(
            "{name} has joined at {} and holds nothing yet\n  next      quorate ring stage join \
             {name}\n            quorate ring plan",
            seat.quic
        );
        answer(format, &json, &text)
    }

    async fn cluster(&self, session: Session, format: Format) -> Result<(), Failure> {
        let mut end = End::watch()?;
        let mut done = Done::default();
        // Biased: a wish to end comes before anything else.
        let up = tokio::select! {
            biased;
            () = end.wanted() => Err(Failure::usage("interrupted before the cluster was ready")),
            up = self.up(&mut done) => up,
        };
        let cluster = match up {
            Ok(cluster) => cluster,
            Err(failure) => {
                done.undo();
                return Err(failure);
            }
        };
        let text = self.banner(format, &cluster)?;
        let written = io::stdout().write_all(text.as_bytes());
        if let Err(error) = written.and_then(|()| io::stdout().flush()) {
            // Nobody reads: nobody will say when to stop either.
            if !self.detach && !cluster.shared {
                stop_all(&self.dir)?;
            }
            return Err(error.into());
        }
        if self.detach {
            return Ok(());
        }
        let prompted = self.prompt(session, format, &cluster, &mut end).await;
        if cluster.shared {
            note("the nodes ran before and go on; quorate dev stop ends them");
            return prompted;
        }
        stop_all(&self.dir).and(prompted)
    }

    async fn up(&self, done: &mut Done) -> Result<Cluster, Failure> {
        let began = Instant::now();
        let _lock = Lock::take(&self.dir)?;
        if self.fresh && Layout::exists(&self.dir) {
            stop_all(&self.dir)?;
            Layout::of(&self.dir)?.remove()?;
        }
        if Layout::exists(&self.dir) {
            self.shape.check(&Seat::all(&self.dir)?)?;
        } else {
            done.made = Some(Layout::make(&self.dir, &self.shape)?);
        }
        let seats = Seat::all(&self.dir)?;
        let idle = || seats.iter().filter(|seat| seat.pid().is_none());
        for seat in idle() {
            seat.check_ports()?;
        }
        let idle: Vec<&Seat> = idle().collect();
        let shared = idle.len() < seats.len();
        for seat in idle {
            seat.spawn()?;
            done.started.push(seat.clone());
        }
        for seat in &seats {
            seat.wait_ready().await?;
        }
        Ok(Cluster {
            seats,
            took: began.elapsed(),
            shared,
        })
    }

    /// What a person or a program needs to know of a cluster that is ready.
    fn banner(&self, format: Format, cluster: &Cluster) -> Result<String, Failure> {
        let (seats, dir) = (&cluster.seats, &self.dir);
        let token = Layout::token(dir)?;
        if format == Format::Json {
            let nodes = seats.iter().map(|seat| {
                json!({
                    "name": seat.name, "address": seat.quic.to_string(),
                    "http": seat.http.to_string(), "zone": seat.zone,
                })
            });
            let json = json!({
                "ready": true, "nodes": nodes.collect::<Vec<_>>(), "token": token,
                "profile": dir.join("client.toml"), "seconds": cluster.took.as_secs_f64(),
            });
            return Ok(format!("{json}\n"));
        }
        let shown = dir.display();
        let (profile, at) = if dir == Path::new("quorate-dev") {
            (String::new(), String::new())
        } else {
            let profile = format!(" --profile {shown}/client.toml");
            (profile, format!(" --dir {shown}"))
        };
        let rows = seats.iter().map(|seat| {
            let (quic, http) = (seat.quic.to_string(), format!("http://{}/", seat.http));
            format!("  {:<5} {quic:<17} {http:<25} {}", seat.name, seat.zone)
        });
        let (rows, http) = (rows.collect::<Vec<_>>().join("\n"), seats[0].http);
        let stop = if self.detach {
            format!("  stop it   quorate dev stop{at}\n")
        } else {
            String::new()
        };
        // The token stands after the #, where no server, proxy or log ever sees it.
        Ok(format!(
            "quorate {}  dev cluster: {} node processes, data in {shown}

  node  quic              http                      zone
{rows}
  ready in {:.2} s   TLS on (throw-away CA)

  try       quorate{profile} put default hello world
            quorate{profile} get default hello
            curl -H \"Authorization: Bearer $(cat {shown}/http.token)\" \
             http://{http}/kv/default/hello
  look      http://{http}/#token={token}
  break it  quorate dev node kill 2{at}     (start, stop, pause, resume)
{stop}",
            env!("CARGO_PKG_VERSION"),
            seats.len(),
            cluster.took.as_secs_f64()
        ))
    }

    /// Reads commands, data's and those that break things, until the input or the user ends.
    async fn prompt(
        &self,
        mut session: Session,
        format: Format,
        cluster: &Cluster,
        end: &mut End,
    ) -> Result<(), Failure> {
        note("  :kill n2  :start n2  :pause n2  :resume n2  :stop n2  :quit   put, get, ... too");
        session.target.profile = Some(self.dir.join("client.toml"));
        let mut shell = Shell::new(session, format);
        let words = Words::new(manual::grammar(), OWN_WORDS);
        let mut prompt = Prompt::start("dev> ", Interrupt::Ends, words);
        let terminal = prompt.is_terminal();
        let commands = async {
            while let Some(text) = prompt.next().await {
                let text = text.trim_ascii();
                match text.strip_prefix(b":") {
                    Some(b"quit") => return,
                    Some(verb) => obey(&cluster.seats, &String::from_utf8_lossy(verb)).await,
                    None if matches!(text, b"exit" | b"quit") => return,
                    None => shell.obey(text).await,
                }
            }
            if !terminal {
                // Without anybody to read from there are still signals.
                std::future::pending::<()>().await;
            }
        };
        // Biased: a wish to end comes before anything else.
        tokio::select! {
            biased;
            () = end.wanted() => {
                if terminal {
                    // The line editor cannot put the terminal back while it waits for a key.
                    let _ = Command::new("stty").arg("sane").status();
                }
            }
            () = commands => {}
        }
        Ok(())
    }
}

/// Signals that ask for the end.
struct End([Signal; 3]);

impl End {
    fn watch() -> Result<Self, Failure> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn wanted(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn stop_all(dir: &Path) -> Result<usize, Failure> {
    let seats = Seat::all(dir)?;
    let running: Vec<&Seat> = seats.iter().filter(|seat| seat.ask_to_stop()).collect();
    for seat in &running {
        seat.end("TERM")?;
    }
    Ok(running.len())
}

async fn obey(seats: &[Seat], text: &str) {
    let mut words = text.split_whitespace();
    let (action, who) = (words.next().unwrap_or_default(), words.next());
    let seat = seats.iter().find(|seat| Some(seat.name.as_str()) == who);
    let result = match seat {
        Some(seat) => seat.act(action).await,
        None => Err(Failure::usage("which node? for example :kill n2")),
    };
    match result {
        Ok(()) => note("ok"),
        Err(failure) => note(&format!("error: {failure}")),
    }
}

fn answer(format: Format, json: &serde_json::Value, text: &str) -> Result<(), Failure> {
    match format {
        Format::Json => line(&json.to_string()),
        Format::Table => line(text),
    }
}
