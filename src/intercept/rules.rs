//! The redirect as messages to nf_tables: what `nft` would send for
//!
//! ```text
//! table inet parhelion {
//!   chain prerouting { type nat hook prerouting priority dstnat; iif != lo tcp dport FROM redirect to :TO }
//!   chain output { type nat hook output priority -100; oif lo meta skuid != UID tcp dport FROM redirect to :TO }
//! }
//! ```
//!
//! Numbers are those of the kernel's `linux/netfilter/nf_tables.h`. Pure.

use super::netlink::{Attributes, Message};

/// What goes where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Redirect {
    pub(super) from: u16,
    pub(super) to: u16,
    /// Whose own connections go through.
    pub(super) uid: u32,
}

const NEW_TABLE: u8 = 0;
const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
const NEW_RULE: u8 = 6;

/// Before routing decisions of destination translation.
const PRIORITY: i32 = -100;
const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const LOOPBACK: u32 = 1;
const TCP: u8 = 6;
const REGISTER: u32 = 1;
const EQUAL: u32 = 0;
const OTHER: u32 = 1;

/// Keys of `meta`.
const INPUT_INTERFACE: u32 = 4;
const OUTPUT_INTERFACE: u32 = 5;
const SOCKET_USER: u32 = 10;
const PROTOCOL: u32 = 16;

/// The table as it shall be; in one batch with the removal of an older one, so there is no moment without.
pub(super) fn table(name: &str, redirect: Redirect) -> Vec<Message> {
    let mut messages = removal(name);
    messages.push(new_table(name));
    let outside = [meta(INPUT_INTERFACE), compare(OTHER, &LOOPBACK.to_ne_bytes())];
    let others = [
        meta(OUTPUT_INTERFACE),
        compare(EQUAL, &LOOPBACK.to_ne_bytes()),
        meta(SOCKET_USER),
        compare(OTHER, &redirect.uid.to_ne_bytes()),
    ];
    for (chain, hook, which) in [("prerouting", PREROUTING, &outside[..]), ("output", OUTPUT, &others[..])] {
        messages.push(new_chain(name, chain, hook));
        messages.push(new_rule(name, chain, &[which, &redirected(redirect)].concat()));
    }
    messages
}

/// The table gone; that there is one is seen to first.
pub(super) fn removal(name: &str) -> Vec<Message> {
    vec![new_table(name), Message { kind: DELETE_TABLE, body: Attributes::default().text(1, name) }]
}

fn new_table(name: &str) -> Message {
    Message { kind: NEW_TABLE, body: Attributes::default().text(1, name).number(2, 0) }
}

fn new_chain(table: &str, name: &str, hook: u32) -> Message {
    let at = Attributes::default().number(1, hook).number(2, PRIORITY.cast_unsigned());
    Message {
        kind: NEW_CHAIN,
        body: Attributes::default().text(1, table).text(3, name).nested(4, &at).text(7, "nat"),
    }
}

fn new_rule(table: &str, chain: &str, expressions: &[Attributes]) -> Message {
    let list = expressions.iter().fold(Attributes::default(), |list, one| list.nested(1, one));
    Message { kind: NEW_RULE, body: Attributes::default().text(1, table).text(2, chain).nested(4, &list) }
}

/// TCP for the one port goes to the other.
fn redirected(redirect: Redirect) -> Vec<Attributes> {
    let destination_port = Attributes::default().number(1, REGISTER).number(2, 2).number(3, 2).number(4, 2);
    let to = Attributes::default().bytes(1, &redirect.to.to_be_bytes());
    let flags = 2;
    vec![
        meta(PROTOCOL),
        compare(EQUAL, &[TCP]),
        expression("payload", &destination_port),
        compare(EQUAL, &redirect.from.to_be_bytes()),
        expression("immediate", &Attributes::default().number(1, REGISTER).nested(2, &to)),
        expression("redir", &Attributes::default().number(1, REGISTER).number(2, REGISTER).number(3, flags)),
    ]
}

/// Loads a key of the packet.
fn meta(key: u32) -> Attributes {
    expression("meta", &Attributes::default().number(1, REGISTER).number(2, key))
}

/// Goes on only if what was loaded compares so.
fn compare(how: u32, with: &[u8]) -> Attributes {
    let value = Attributes::default().bytes(1, with);
    expression("cmp", &Attributes::default().number(1, REGISTER).number(2, how).nested(3, &value))
}

fn expression(name: &str, data: &Attributes) -> Attributes {
    Attributes::default().text(1, name).nested(2, data)
}
