//! Messages to the kernel's netfilter, by the netlink protocol: headers and attributes, one batch that is taken as a
//! whole or not at all, and what the kernel says of it.

use std::io;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send as send_to, socket_with,
};

/// Of netfilter, the part that is nf_tables.
const NF_TABLES: u8 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// For IPv4 and IPv6 alike.
const INET: u8 = 1;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
/// The kernel's answer, zero where all is well.
const ERROR: u16 = 2;
const HEADER: usize = 16;
/// The kernel answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Attributes, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn nested(self, kind: u16, inner: &Attributes) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// One message to nf_tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Which of its messages.
    pub(super) kind: u8,
    pub(super) body: Attributes,
}

/// Sends `messages` as one batch, and waits until the kernel has taken it.
pub(super) fn send(messages: &[Message]) -> io::Result<()> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let batch = batch(messages);
    send_to(&socket, &batch, SendFlags::empty())?;
    let mut answers = 0;
    let mut buffer = vec![0; 64 * 1024];
    while answers < messages.len() {
        let (length, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        for error in errors(&buffer[..length]) {
            if error != 0 {
                return Err(io::Error::from_raw_os_error(-error));
            }
            answers += 1;
        }
    }
    Ok(())
}

/// Whether the kernel does not know what was asked of it.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let unknown = [Errno::PROTONOSUPPORT, Errno::OPNOTSUPP, Errno::AFNOSUPPORT, Errno::NOENT, Errno::INVAL];
    unknown.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn batch(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let resource = u16::from(NF_TABLES);
    push(&mut bytes, BATCH_BEGIN, REQUEST, 0, (0, resource), &[]);
    for (index, message) in messages.iter().enumerate() {
        let kind = u16::from(NF_TABLES) << 8 | u16::from(message.kind);
        let sequence = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let flags = REQUEST | ACKNOWLEDGE | CREATE | APPEND;
        push(&mut bytes, kind, flags, sequence, (INET, 0), &message.body.0);
    }
    push(&mut bytes, BATCH_END, REQUEST, 0, (0, resource), &[]);
    bytes
}

fn push(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, resource): (u8, u16),
    body: &[u8],
) {
    let length = u32::try_from(HEADER + 4 + body.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(body);
}

/// What the messages in `bytes` say of those that were sent; zero is well.
fn errors(mut bytes: &[u8]) -> Vec<i32> {
    let mut errors = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let [a, b, c, d, e, f, ..] = *header;
        let (length, kind) = (u32::from_ne_bytes([a, b, c, d]) as usize, u16::from_ne_bytes([e, f]));
        if let (ERROR, Some(error)) = (kind, rest.first_chunk::<4>()) {
            errors.push(i32::from_ne_bytes(*error));
        }
        bytes = bytes.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
    }
    errors
}
