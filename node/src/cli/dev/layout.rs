//! The directory of a dev cluster: certificates, one configuration per node, a client profile.
//!
//! `client.toml` is written last, and its presence says that all is there; a marker says that a
//! directory was being filled, so that one that was interrupted can be filled again. A directory
//! with anything else in it is refused.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use quorate_client::wire::ErrorCode;

use super::{
    super::{output::Failure, tls},
    seat::Seat,
};

const PROFILE: &str = "client.toml";
const MARKER: &str = ".incomplete";
const LOCK: &str = ".lock";
const TOKEN: &str = "http.token";

/// How many nodes, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Shape {
    /// How many nodes: 3 if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    nodes: Option<u16>,
    /// QUIC port of the first node: 7400 if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    base_port: Option<u16>,
    /// HTTP port of the first node: 8400 if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    base_http: Option<u16>,
    /// How many zones the nodes are spread over: 1 if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    zones: Option<u16>,
}

impl Shape {
    /// A directory that exists keeps its shape.
    pub(super) fn check(&self, seats: &[Seat]) -> Result<(), Failure> {
        let zones = seats.iter().map(|seat| &seat.zone);
        let zones = zones.collect::<BTreeSet<_>>().len();
        let first = &seats[0];
        for (flag, given, is) in [
            ("--nodes", self.nodes, seats.len()),
            ("--base-port", self.base_port, first.quic.port().into()),
            ("--base-http", self.base_http, first.http.port().into()),
            ("--zones", self.zones, zones),
        ] {
            if given.is_some_and(|given| usize::from(given) != is) {
                return Err(Failure::usage(format!(
                    "this directory's cluster was made with {flag} {is}: leave {flag} out, use \
                     another --dir, or begin anew with --fresh"
                )));
            }
        }
        Ok(())
    }

    fn nodes(&self) -> u16 {
        self.nodes.unwrap_or(3)
    }

    fn zone(&self, number: u16) -> String {
        format!("z{}", (number - 1) % self.zones.unwrap_or(1) + 1)
    }

    /// QUIC and HTTP port of a node.
    fn ports(&self, number: u16) -> Result<(u16, u16), Failure> {
        let port = |base: u16| {
            let port = base.checked_add(number - 1);
            let message = || format!("there are not {number} ports from {base} on");
            port.ok_or_else(|| Failure::usage(message()))
        };
        Ok((
            port(self.base_port.unwrap_or(7400))?,
            port(self.base_http.unwrap_or(8400))?,
        ))
    }
}

/// One at a time starts or makes a cluster in a directory.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the directory if there is none.
    pub(super) fn take(dir: &Path) -> Result<Self, Failure> {
        let problem = |error: io::Error| Failure::usage(format!("{}: {error}", dir.display()));
        fs::create_dir_all(dir).map_err(problem)?;
        let file = File::create(dir.join(LOCK)).map_err(problem)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                let message = format!("another `quorate dev` is starting in {}", dir.display());
                Err(Failure::new(ErrorCode::Conflict, message))
            }
            Err(TryLockError::Error(error)) => Err(problem(error)),
        }
    }
}

/// A directory that holds a dev cluster.
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// True if the directory holds a cluster.
    pub(super) fn exists(dir: &Path) -> bool {
        dir.join(PROFILE).exists()
    }

    pub(super) fn of(dir: &Path) -> Result<Self, Failure> {
        Seat::all(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// The bearer token for HTTP; made when it is asked for the first time.
    pub(super) fn token(dir: &Path) -> Result<String, Failure> {
        let path = dir.join(TOKEN);
        if !path.exists() {
            let token = tls::token(&dir.join("ca"), "admin", "dev-admin", None)?;
            tls::write(&path, &format!("{token}\n"), 0o600)?;
        }
        Ok(fs::read_to_string(path)?.trim().to_owned())
    }

    /// Removes the cluster with all its data; an empty directory stays.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        clear(&self.dir)
    }

    /// Fills a directory.
    pub(super) fn make(dir: &Path, shape: &Shape) -> Result<Self, Failure> {
        let marker = dir.join(MARKER);
        if marker.exists() {
            clear(dir)?;
        }
        let mut entries = fs::read_dir(dir)?.filter_map(Result::ok);
        if let Some(entry) = entries.find(|entry| entry.file_name() != LOCK) {
            let message = format!(
                "{} is no dev cluster and not empty ({} is there): use another --dir",
                dir.display(),
                entry.file_name().display()
            );
            return Err(Failure::usage(message));
        }
        shape.ports(shape.nodes())?;
        File::create(&marker)?;
        let layout = Self {
            dir: dir.to_owned(),
        };
        match layout.fill(shape) {
            Ok(()) => {
                fs::remove_file(&marker)?;
                Ok(layout)
            }
            Err(failure) => {
                // What went wrong first is worth telling.
                let _ = layout.remove();
                Err(failure)
            }
        }
    }

    fn fill(&self, shape: &Shape) -> Result<(), Failure> {
        let ca = self.dir.join("ca");
        tls::authority(&ca, "dev")?;
        let (mut members, mut addresses) = (String::new(), Vec::new());
        for number in 1..=shape.nodes() {
            let (port, _) = shape.ports(number)?;
            let _ = write!(
                members,
                "\n[[members]]\nname = \"n{number}\"\naddress = \"127.0.0.1:{port}\"\n\
                 zone = \"{}\"\nweight = 1\n",
                shape.zone(number)
            );
            addresses.push(format!("\"127.0.0.1:{port}\""));
        }
        // So that the bucket `default` of a cluster of one or two can be written.
        let replicas = match shape.nodes() {
            few @ (1 | 2) => format!("replicas_max = {few}\n"),
            _ => String::new(),
        };
        let cluster = format!("\n[cluster]\nname = \"dev\"\npartitions = 256\n{replicas}{members}");
        for number in 1..=shape.nodes() {
            self.furnish(
                number,
                shape.ports(number)?,
                &shape.zone(number),
                ("", &cluster),
            )?;
        }
        tls::client(&ca, "admin", &self.dir.join("client"), "dev-admin")?;
        self.write_profile(&addresses)
    }

    /// Certificate and configuration of one node, with what comes before and after the rest.
    fn furnish(
        &self,
        number: u16,
        (port, http): (u16, u16),
        zone: &str,
        (before, after): (&str, &str),
    ) -> Result<(), Failure> {
        let home = self.dir.join(format!("node{number}"));
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let ca = self.dir.join("ca");
        tls::node(&ca, &hosts, &home.join("tls"), &format!("n{number}"))?;
        let text = format!(
            "name = \"n{number}\"\nlisten = \"127.0.0.1:{port}\"\n\
             http = \"127.0.0.1:{http}\"\ndata_dir = \"data\"\nzone = \"{zone}\"\n{before}\n[tls]\n\
             ca = \"tls/ca.pem\"\ncert = \"tls/node.pem\"\nkey = \"tls/node.key\"\n\
             cluster_key = \"tls/cluster.key\"\n{after}"
        );
        Ok(fs::write(home.join("node.toml"), text)?)
    }

    fn write_profile(&self, addresses: &[String]) -> Result<(), Failure> {
        let profile = format!(
            "nodes = [{}]\nca = \"client/ca.pem\"\ncert = \"client/client.pem\"\n\
             key = \"client/client.key\"\n",
            addresses.join(", ")
        );
        Ok(fs::write(self.dir.join(PROFILE), profile)?)
    }

    /// Files of one more node, which joins through those that are there.
    pub(super) fn add(&self) -> Result<Seat, Failure> {
        let seats = Seat::all(&self.dir)?;
        let first = &seats[0];
        let count = u16::try_from(seats.len()).unwrap_or(u16::MAX);
        let port = |first: u16| {
            let port = first.checked_add(count);
            port.ok_or_else(|| Failure::usage("there is no port left for another node"))
        };
        let ports = (port(first.quic.port())?, port(first.http.port())?);
        let zones: BTreeSet<&String> = seats.iter().map(|seat| &seat.zone).collect();
        let zone = format!("z{}", usize::from(count) % zones.len() + 1);
        let mut addresses: Vec<String> = seats
            .iter()
            .map(|seat| format!("\"{}\"", seat.quic))
            .collect();
        let join = format!("join = [{}]\n", addresses.join(", "));
        self.furnish(count + 1, ports, &zone, (&join, ""))?;
        let seat = Seat::find(&self.dir, count + 1)?;
        addresses.push(format!("\"{}\"", seat.quic));
        self.write_profile(&addresses)?;
        Ok(seat)
    }

    /// Takes back what [`add`](Self::add) did.
    pub(super) fn take_back(&self, seat: &Seat) -> Result<(), Failure> {
        fs::remove_dir_all(seat.home())?;
        let seats = Seat::all(&self.dir)?;
        let addresses = seats.iter().map(|seat| format!("\"{}\"", seat.quic));
        self.write_profile(&addresses.collect::<Vec<_>>())
    }
}

/// Empties a directory of ours, the sign of being complete first.
fn clear(dir: &Path) -> Result<(), Failure> {
    let profile = dir.join(PROFILE);
    if profile.exists() {
        File::create(dir.join(MARKER))?;
        fs::remove_file(profile)?;
    }
    let mut marked = None;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_name() == MARKER {
            marked = Some(entry.path());
        } else if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    // Last, so that an interrupted removal is gone on with.
    marked.map_or(Ok(()), |path| Ok(fs::remove_file(path)?))
}
