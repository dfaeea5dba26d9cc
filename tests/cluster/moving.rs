//! A member that comes back at another address.

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    time::{Duration, Instant},
};

use quorate_client::Client;

use super::dev::Dev;

/// Another port in a node's file, and nothing else: neither its own list of members nor anybody
/// else's file says so.
fn change_port(dir: &str, number: u16) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("it has an address").to_string();
    let file = Path::new(dir).join(format!("node{number}/node.toml"));
    let text = fs::read_to_string(&file).expect("dev wrote it");
    let lines = text
        .lines()
        .map(|line| match line.strip_prefix("listen = ") {
            Some(_) => format!("listen = \"{address}\"\n"),
            None => format!("{line}\n"),
        });
    fs::write(file, lines.collect::<String>()).expect("it can be changed");
    address
}

async fn until_seen_at(client: &Client, name: &str, address: &str) {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let status = client.status().await.expect("it answers");
        let node = status.nodes.iter().find(|node| node.name == name);
        let (at, state) = node
            .map(|node| (&*node.address, &*node.state))
            .expect("a member");
        if (at, state) == (address, "up") {
            return;
        }
        assert!(
            Instant::now() < limit,
            "{name} is {state} at {at}, not at {address}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn write_on_all(client: &Client, what: &str) {
    let limit = Instant::now() + Duration::from_secs(30);
    for key in 0..20 {
        loop {
            let put = client.put("default", format!("{what}{key}"), what.to_owned());
            match put.w(3).send().await {
                Ok(written) => {
                    assert_eq!(written.durable_on, ["n1", "n2", "n3"]);
                    break;
                }
                Err(error) => assert!(Instant::now() < limit, "{error}"),
            }
        }
    }
}

#[test]
fn a_member_that_comes_back_at_another_port_is_found_by_nodes_and_clients() {
    let dev = Dev::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // This client learned the ring when n2 was where the ring says.
    let client = runtime.block_on(dev.client());
    runtime.block_on(write_on_all(&client, "before"));
    dev.node("stop", 2);
    let address = change_port(dev.path(), 2);
    dev.node("start", 2);
    for number in [1, 3] {
        let pinned = runtime.block_on(dev.pinned(number));
        runtime.block_on(until_seen_at(&pinned, "n2", &address));
    }
    runtime.block_on(write_on_all(&client, "after"));
    // It is remembered by those who start again, and clients go where it is: with n1 away every
    // quorum needs it.
    dev.node("stop", 3);
    dev.node("start", 3);
    let pinned = runtime.block_on(dev.pinned(3));
    runtime.block_on(until_seen_at(&pinned, "n2", &address));
    dev.node("kill", 1);
    for key in 0..20 {
        let got = runtime.block_on(client.get("default", format!("after{key}")).send());
        assert_eq!(got.expect("two of three are there").siblings.len(), 1);
    }
    let ring = runtime.block_on(client.ring()).expect("it answers").ring;
    let n2 = ring.members().iter().find(|member| member.name == "n2");
    assert_eq!(n2.expect("a member").address, address);
    dev.node("start", 1);
}
