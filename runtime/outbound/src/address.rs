//! Which addresses a connection may go to.
//!
//! A name may stand for public addresses only. An origin that is an address itself has named it, and `localhost` has named
//! the loopback; with `private = true` a grant lets its name stand for loopback and private networks too. Link-local
//! addresses (where clouds keep their credentials) and reserved ones are never what a name may stand for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use topology::{Host, HttpGrant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Public,
    Loopback,
    Private,
    LinkLocal,
    Reserved,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::Private => "an address of a private network",
            Self::LinkLocal => "a link-local address",
            Self::Reserved => "a reserved address",
        }
    }
}

/// Why a grant does not allow this address; `None`: it does.
pub(crate) fn refusal(grant: &HttpGrant, address: IpAddr) -> Option<String> {
    let kind = kind(address);
    let name = match &grant.origin.host {
        // Nothing was resolved: what is dialled is what the grant says.
        Host::Address(_) => return None,
        Host::Name(name) => name,
    };
    let allowed = match kind {
        Kind::Public => true,
        Kind::Loopback => grant.private || name == "localhost",
        Kind::Private => grant.private,
        Kind::LinkLocal | Kind::Reserved => false,
    };
    if allowed {
        return None;
    }
    let hint = match kind {
        Kind::Loopback | Kind::Private => "hint: where that is meant, say `private = true` in the grant",
        _ => "hint: where that is meant, grant the address itself",
    };
    Some(format!("`{name}` resolves to {address}, {}\n{hint}", kind.words()))
}

pub(crate) fn kind(address: IpAddr) -> Kind {
    match address.to_canonical() {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

/// IANA's registry of special-purpose addresses; what is not globally reachable is not public.
fn kind_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        [127, ..] => Kind::Loopback,
        _ if address.is_private() => Kind::Private,
        // Shared between a provider and its customers.
        [100, second, ..] if second & 0xc0 == 64 => Kind::Private,
        [169, 254, ..] => Kind::LinkLocal,
        [0, ..] | [192, 0, 0, _] | [240..=255, ..] => Kind::Reserved,
        // Benchmarks.
        [198, 18 | 19, ..] => Kind::Reserved,
        _ if address.is_documentation() || address.is_multicast() => Kind::Reserved,
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    let embedded = |high: u16, low: u16| kind_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        // Translated to IPv4 by a gateway (NAT64, 6to4): where that leads counts.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0xfe80..=0xfebf, ..] => Kind::LinkLocal,
        // Unique local, and the site-local ones before them.
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Kind::Private,
        [0x2001, 0xdb8, ..] | [0x2001, 0..=0x1ff, ..] | [0x3fff, 0..=0xfff, ..] => Kind::Reserved,
        // Global unicast is 2000::/3; nothing else is handed out.
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Reserved,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use topology::Origin;

    fn grant(origin: &str, private: bool) -> HttpGrant {
        HttpGrant {
            private,
            ..HttpGrant::new(Origin::parse(origin).unwrap())
        }
    }

    #[test]
    fn every_range_has_its_kind() {
        let cases = [
            ("8.8.8.8", Kind::Public),
            ("127.0.0.1", Kind::Loopback),
            ("127.255.0.9", Kind::Loopback),
            ("10.0.0.1", Kind::Private),
            ("172.16.0.1", Kind::Private),
            ("172.32.0.1", Kind::Public),
            ("192.168.1.1", Kind::Private),
            ("100.64.0.1", Kind::Private),
            ("100.128.0.1", Kind::Public),
            ("169.254.169.254", Kind::LinkLocal),
            ("0.0.0.0", Kind::Reserved),
            ("0.1.2.3", Kind::Reserved),
            ("198.18.0.1", Kind::Reserved),
            ("203.0.113.1", Kind::Reserved),
            ("224.0.0.1", Kind::Reserved),
            ("255.255.255.255", Kind::Reserved),
            ("2606:4700::1", Kind::Public),
            ("::1", Kind::Loopback),
            ("::", Kind::Reserved),
            ("::ffff:127.0.0.1", Kind::Loopback),
            ("::ffff:169.254.169.254", Kind::LinkLocal),
            ("::127.0.0.1", Kind::Reserved),
            ("64:ff9b::a9fe:a9fe", Kind::LinkLocal),
            ("64:ff9b::808:808", Kind::Public),
            ("2002:7f00:1::", Kind::Loopback),
            ("fe80::1", Kind::LinkLocal),
            ("fd00::1", Kind::Private),
            ("2001:db8::1", Kind::Reserved),
            ("ff02::1", Kind::Reserved),
        ];
        for (address, expected) in cases {
            assert_eq!(kind(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_name_stands_for_public_addresses_only() {
        let allows =
            |origin: &str, private, address: &str| refusal(&grant(origin, private), address.parse().unwrap()).is_none();
        assert!(allows("https://api.example", false, "8.8.8.8"));
        for address in ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "0.0.0.0"] {
            assert!(!allows("https://api.example", false, address), "{address}");
        }
        assert!(allows("https://api.example", true, "10.1.2.3"));
        assert!(allows("https://api.example", true, "127.0.0.1"));
        assert!(!allows("https://api.example", true, "169.254.169.254"));
        assert!(allows("http://localhost:9009", false, "127.0.0.1"));
        assert!(!allows("http://localhost:9009", false, "10.1.2.3"));
        assert!(allows("http://10.1.2.3:9009", false, "10.1.2.3"));
    }
}
