//! What is measured, behind one trait, so that the same generator measures all of it.
//!
//! A driver for another store implements [`Driver`]: a read that returns all values of a key with
//! whatever the store wants back with the next write, and a write that takes it. It decides how to
//! talk to the store and how many connections that takes; it does not retry, unless the store's
//! usual client does, and it does not measure. Then [`Target`] gets a name for it, and
//! `load::run` a line.

#[cfg(feature = "etcd")]
pub(crate) mod etcd;
pub(crate) mod quorate;
#[cfg(feature = "redis")]
pub(crate) mod redis;

use std::{fmt::Debug, future::Future, str::FromStr};

use bytes::Bytes;
use quorate_client::wire::ErrorBody;

/// A store under load. Calls come from as many tasks at once as there are clients.
pub(crate) trait Driver: Debug + Send + Sync + 'static {
    /// What a write must bring from the last answer about its key, such as a causal context; `()`
    /// where there is no such thing.
    type Context: Clone + Debug + Send + Sync;

    /// All values of a key, none if it is absent. Fails if it cannot tell.
    fn read(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Seen<Self::Context>, ErrorBody>> + Send;

    /// Writes a value, and returns once it is as durable as the store promises. An error leaves
    /// open whether the value was written.
    fn write(
        &self,
        key: &str,
        value: Bytes,
        context: Option<&Self::Context>,
    ) -> impl Future<Output = Result<Option<Self::Context>, ErrorBody>> + Send;

    /// Says good-bye.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// What a read shows.
#[derive(Debug)]
pub(crate) struct Seen<C> {
    /// More than one where a store keeps concurrent writes side by side.
    pub(crate) values: Vec<Bytes>,
    pub(crate) context: Option<C>,
}

/// A store by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The cluster of the profile, each request sent to a replica of its key.
    Quorate,
    /// The same, each request sent to any node, as behind a load balancer.
    Random,
    /// One Redis server.
    Redis(Place),
    /// The members of one etcd cluster.
    Etcd(Place),
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Each as `HOST:PORT`.
    pub(crate) addresses: Vec<String>,
    /// Its processes, if they are on this machine.
    pub(crate) pids: Vec<u32>,
}

impl Target {
    /// As reports name it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Quorate => "quorate",
            Self::Random => "quorate-random",
            Self::Redis(_) => "redis",
            Self::Etcd(_) => "etcd",
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        for target in [Self::Quorate, Self::Random] {
            if text == target.name() {
                return Ok(target);
            }
        }
        let wrong = || {
            format!(
                "{text:?} is none of quorate, quorate-random, redis://HOST:PORT and \
                 etcd://HOST:PORT,HOST:PORT"
            )
        };
        let (kind, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (addresses, pids) = rest.split_once("?pid=").unwrap_or((rest, ""));
        let pids = pids.split(',').filter(|pid| !pid.is_empty());
        let place = Place {
            addresses: addresses.split(',').map(str::to_owned).collect(),
            pids: pids
                .map(|pid| pid.parse().map_err(|_| format!("{pid:?} is no process id")))
                .collect::<Result<_, _>>()?,
        };
        if place.addresses.iter().any(|address| !address.contains(':')) {
            return Err(wrong());
        }
        match kind {
            "redis" if place.addresses.len() == 1 => Ok(Self::Redis(place)),
            "etcd" => Ok(Self::Etcd(place)),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_addresses_and_processes() {
        assert_eq!("quorate".parse(), Ok(Target::Quorate));
        assert_eq!("quorate-random".parse(), Ok(Target::Random));
        let etcd: Target = "etcd://a:1,b:2?pid=7,8".parse().unwrap();
        assert_eq!(
            etcd,
            Target::Etcd(Place {
                addresses: vec!["a:1".to_owned(), "b:2".to_owned()],
                pids: vec![7, 8],
            })
        );
        for wrong in [
            "redis",
            "redis://a:1,b:2",
            "redis://a",
            "x://a:1",
            "etcd://a:1?pid=x",
        ] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
