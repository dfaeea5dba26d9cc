//! `quorate tls`: the cluster's certificate authority, and the certificates of nodes and clients.
//!
//! Everything is a file that the operator can look at. Private keys and the cluster's secret are
//! readable by their owner only, and an existing file is never overwritten.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quorate_client::{
    tls::{Identity, Role},
    wire::ErrorCode,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use super::{
    input::duration,
    output::{Failure, Format, hex, line, note, rfc3339},
};
use crate::{
    message::{self, Principal},
    shell::token::{TokenKey, token_id},
};

/// Make certificates.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tls {
    /// Make a new cluster: its id, its secret and its certificate authority.
    Ca {
        /// Directory to write to.
        #[arg(long)]
        out: PathBuf,
        /// Name of the cluster, for people.
        #[arg(long, default_value = "quorate")]
        cluster_name: String,
    },
    /// Make a node's certificate.
    Node {
        /// Directory of the certificate authority.
        #[arg(long)]
        ca: PathBuf,
        /// Host name or address of the node; may be given several times.
        #[arg(long, required = true)]
        host: Vec<String>,
        /// Directory to write to.
        #[arg(long)]
        out: PathBuf,
        /// Name of the node; the last part of --out if not given.
        #[arg(long)]
        name: Option<String>,
    },
    /// Make a client's certificate.
    Client {
        /// Directory of the certificate authority.
        #[arg(long)]
        ca: PathBuf,
        /// What its holder may do.
        #[arg(long, value_parser = ["read", "write", "admin"])]
        role: String,
        /// Directory to write to.
        #[arg(long)]
        out: PathBuf,
        /// Name of the client; the role if not given.
        #[arg(long)]
        name: Option<String>,
    },
    /// Make a bearer token for HTTP. Every node of the cluster accepts it.
    Token {
        /// Directory of the certificate authority.
        #[arg(long)]
        ca: PathBuf,
        /// What its holder may do.
        #[arg(long, value_parser = ["read", "write", "admin"])]
        role: String,
        /// Name of the holder; the role if not given.
        #[arg(long)]
        name: Option<String>,
        /// How long it holds, for example 30d; for ever if not given.
        #[arg(long, value_parser = duration)]
        expires: Option<Duration>,
    },
}

impl Tls {
    pub(crate) fn run(self, format: Format) -> Result<(), Failure> {
        let (out, files) = match self {
            Self::Ca { out, cluster_name } => {
                let files = authority(&out, &cluster_name)?;
                (out, files)
            }
            Self::Node {
                ca,
                host,
                out,
                name,
            } => {
                let name = name.map_or_else(|| last_part(&out), Ok)?;
                let files = node(&ca, &host, &out, &name)?;
                (out, files)
            }
            Self::Client {
                ca,
                role,
                out,
                name,
            } => {
                let name = name.unwrap_or_else(|| role.clone());
                let files = client(&ca, &role, &out, &name)?;
                (out, files)
            }
            Self::Token {
                ca,
                role,
                name,
                expires,
            } => {
                let name = name.unwrap_or_else(|| role.clone());
                let until = expires.map(|wait| SystemTime::now() + wait);
                let until = until.map(|until| until.duration_since(UNIX_EPOCH));
                let until = until
                    .transpose()
                    .map_err(|_| Failure::usage("that is long ago"))?;
                let token = token(&ca, &role, &name, until.map(|until| until.as_secs()))?;
                return match format {
                    Format::Json => {
                        let json = json!({
                            "token": token, "id": token_id(&token), "role": role, "name": name,
                            "expires": until.map(|until| rfc3339(until.as_secs() * 1_000)),
                        });
                        line(&json.to_string())
                    }
                    Format::Table => {
                        note(&format!(
                            "id {}, for revoked_tokens in node.toml",
                            token_id(&token)
                        ));
                        line(&token)
                    }
                };
            }
        };
        match format {
            Format::Json => line(&json!({ "out": out, "files": files }).to_string()),
            Format::Table => line(&format!("wrote {} to {}", files.join(", "), out.display())),
        }
    }
}

fn last_part(out: &Path) -> Result<String, Failure> {
    let name = out.file_name().and_then(|name| name.to_str());
    let name = name.map(ToOwned::to_owned);
    name.ok_or_else(|| Failure::usage("--name is needed: --out does not end in a name"))
}

/// A directory made by `tls ca`.
struct Authority {
    cluster: u128,
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    secret: String,
}

/// Makes a new authority; returns the files.
pub(crate) fn authority(out: &Path, name: &str) -> Result<Vec<&'static str>, Failure> {
    let mut random = [0_u8; 48];
    fill(&mut random)?;
    let (id, secret) = random.split_at(16);
    let key = KeyPair::generate().map_err(internal)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Quorate cluster {name}"));
    let certificate = params.self_signed(&key).map_err(internal)?;
    fs::create_dir_all(out)?;
    let toml = format!("id = \"{}\"\nname = {:?}\n", hex(id), name);
    write(&out.join("cluster.toml"), &toml, 0o644)?;
    write(&out.join("ca.pem"), &certificate.pem(), 0o644)?;
    write(&out.join("ca.key"), &key.serialize_pem(), 0o600)?;
    write(
        &out.join("cluster.key"),
        &format!("{}\n", hex(secret)),
        0o600,
    )?;
    Ok(vec!["cluster.toml", "ca.pem", "ca.key", "cluster.key"])
}

impl Authority {
    fn load(dir: &Path) -> Result<Self, Failure> {
        let read = |name: &str| {
            let path = dir.join(name);
            let text = fs::read_to_string(&path);
            text.map_err(|error| {
                let path = path.display();
                Failure::usage(format!(
                    "{path}: {error}; `quorate tls ca` makes an authority"
                ))
            })
        };
        let bad = |what: &str| Failure::usage(format!("{}: {what}", dir.display()));
        let about: toml::Table =
            toml::from_str(&read("cluster.toml")?).map_err(|error| bad(&error.to_string()))?;
        let id = about.get("id").and_then(toml::Value::as_str);
        let cluster = id.and_then(|id| u128::from_str_radix(id, 16).ok());
        let cluster = cluster.ok_or_else(|| bad("cluster.toml has no cluster id"))?;
        let key = KeyPair::from_pem(&read("ca.key")?).map_err(|error| bad(&error.to_string()))?;
        let certificate = read("ca.pem")?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key);
        Ok(Self {
            cluster,
            issuer: issuer.map_err(|error| bad(&error.to_string()))?,
            certificate,
            secret: read("cluster.key")?,
        })
    }

    fn issue(&self, identity: &Identity, hosts: &[String]) -> Result<(String, String), Failure> {
        let key = KeyPair::generate().map_err(internal)?;
        let mut params = CertificateParams::new(hosts.to_vec()).map_err(usage)?;
        let uri = identity.to_uri().try_into().map_err(usage)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params
            .distinguished_name
            .push(DnType::CommonName, identity.name.clone());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if identity.role == Role::Node {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(internal)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// Makes a node's certificate; returns the files.
pub(crate) fn node(
    ca: &Path,
    hosts: &[String],
    out: &Path,
    name: &str,
) -> Result<Vec<&'static str>, Failure> {
    let authority = Authority::load(ca)?;
    let identity = identity(authority.cluster, Role::Node, name)?;
    let (certificate, key) = authority.issue(&identity, hosts)?;
    fs::create_dir_all(out)?;
    write(&out.join("ca.pem"), &authority.certificate, 0o644)?;
    write(&out.join("node.pem"), &certificate, 0o644)?;
    write(&out.join("node.key"), &key, 0o600)?;
    write(&out.join("cluster.key"), &authority.secret, 0o600)?;
    Ok(vec!["ca.pem", "node.pem", "node.key", "cluster.key"])
}

/// Makes a client's certificate; returns the files.
pub(crate) fn client(
    ca: &Path,
    role: &str,
    out: &Path,
    name: &str,
) -> Result<Vec<&'static str>, Failure> {
    let authority = Authority::load(ca)?;
    let role = match role {
        "read" => Role::Read,
        "write" => Role::Write,
        "admin" => Role::Admin,
        other => return Err(no_role(other)),
    };
    let identity = identity(authority.cluster, role, name)?;
    let (certificate, key) = authority.issue(&identity, &[])?;
    fs::create_dir_all(out)?;
    write(&out.join("ca.pem"), &authority.certificate, 0o644)?;
    write(&out.join("client.pem"), &certificate, 0o644)?;
    write(&out.join("client.key"), &key, 0o600)?;
    Ok(vec!["ca.pem", "client.pem", "client.key"])
}

fn no_role(word: &str) -> Failure {
    Failure::usage(format!("a role is read, write or admin, not {word:?}"))
}

/// Makes a bearer token, which ends at `expires` (Unix seconds) if it ends.
pub(crate) fn token(
    ca: &Path,
    role: &str,
    name: &str,
    expires: Option<u64>,
) -> Result<String, Failure> {
    check_name(name)?;
    let role = match role {
        "read" => message::Role::Read,
        "write" => message::Role::Write,
        "admin" => message::Role::Admin,
        other => return Err(no_role(other)),
    };
    let key = TokenKey::load(&ca.join("cluster.key"));
    let key = key.map_err(|error| Failure::usage(error.to_string()))?;
    let name = name.to_owned();
    Ok(key.seal(&Principal { name, role }, expires))
}

fn identity(cluster: u128, role: Role, name: &str) -> Result<Identity, Failure> {
    check_name(name)?;
    Ok(Identity {
        cluster,
        role,
        name: name.to_owned(),
    })
}

fn check_name(name: &str) -> Result<(), Failure> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || quorate_ring::NAME_BYTES_MAX < name.len() || !name.bytes().all(good) {
        return Err(Failure::usage(format!(
            "a name is 1 to {} letters, digits, '.', '_' or '-', not {name:?}",
            quorate_ring::NAME_BYTES_MAX
        )));
    }
    Ok(())
}

/// Writes a file that must not be there yet.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(file.write_all(text.as_bytes())?)
}

fn fill(bytes: &mut [u8]) -> Result<(), Failure> {
    use std::io::Read as _;
    Ok(fs::File::open("/dev/urandom")?.read_exact(bytes)?)
}

fn internal(error: rcgen::Error) -> Failure {
    Failure::new(ErrorCode::Internal, error.to_string())
}

fn usage(error: rcgen::Error) -> Failure {
    Failure::usage(error.to_string())
}
