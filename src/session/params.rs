//! Transfer parameters: TYPE, REST, OPTS MLST, and where data connections come from and go to.

use super::{Session, answer};
use crate::config::plain;
use crate::data::port::DataPort;
use crate::limits::ACTIVE_PORT_MIN;
use crate::proto::hostport::{EpsvArgument, canonical_socket, extended_passive_text, passive_text};
use crate::proto::listing::Facts;
use crate::proto::params::{RepresentationType, RestartMarker};
use crate::proto::reply::Reply;
use crate::session::Seat;
use if_addrs::IfAddr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

impl<S: Seat> Session<'_, S> {
    pub(super) fn set_type(&mut self, representation: RepresentationType) -> Reply {
        self.representation = representation;
        match representation {
            RepresentationType::Ascii => Reply::new(200, "Type is ASCII."),
            RepresentationType::Image => Reply::new(200, "Type is image."),
        }
    }

    pub(super) fn restart_at(&mut self, marker: RestartMarker) -> Reply {
        self.restart = Some(marker);
        Reply::with(350, format!("Restarting at {}: send the transfer command.", marker.offset()))
    }

    pub(super) fn select_facts(&mut self, argument: &[u8]) -> Reply {
        self.facts = Facts::parse(argument);
        let mut text = b"MLST OPTS ".to_vec();
        self.facts.write_selected(&mut text);
        Reply::with(200, text)
    }

    /// PORT and EPRT. Only the client's own address, and no port of a service (RFC 2577 §3).
    pub(super) fn active(&mut self, remote: SocketAddr) -> Reply {
        self.port = DataPort::None;
        if self.extended_only {
            return after_epsv_all();
        }
        if !self.context.config.active() {
            return Reply::new(502, "Active mode is not offered here: use PASV or EPSV.");
        }
        let (peer, mut remote) = (self.peer(), canonical_socket(remote));
        // lftp writes «::» for its own address.
        if remote.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && peer.is_ipv6() {
            remote.set_ip(peer);
        }
        if remote.ip() != peer || remote.port() < ACTIVE_PORT_MIN {
            return Reply::new(504, "Data connections go to the client's own address only, from port 1024 on.");
        }
        let Some(local) = self.local() else { return no_address() };
        if let (SocketAddr::V6(remote), SocketAddr::V6(from)) = (&mut remote, self.ends.peer) {
            remote.set_scope_id(from.scope_id());
        }
        self.port = DataPort::Active { remote, local };
        Reply::new(200, "Data port noted: send the transfer command.")
    }

    pub(super) fn passive(&mut self) -> Reply {
        self.port = DataPort::None;
        if self.extended_only {
            return after_epsv_all();
        }
        let Some(local) = self.local() else { return no_address() };
        let IpAddr::V4(own) = local.ip() else {
            return Reply::new(425, "PASV is for IPv4: use EPSV.");
        };
        match self.listen(local) {
            Ok(port) => Reply::with(227, passive_text(SocketAddrV4::new(self.told_address(own), port))),
            Err(reply) => reply,
        }
    }

    pub(super) fn extended_passive(&mut self, argument: EpsvArgument) -> Reply {
        if argument == EpsvArgument::All {
            self.extended_only = true;
            return Reply::new(200, "EPSV ALL ok.");
        }
        self.port = DataPort::None;
        let Some(local) = self.local() else { return no_address() };
        match (argument, local.is_ipv4()) {
            (EpsvArgument::V6, true) | (EpsvArgument::V4, false) => return answer::wrong_family(local.is_ipv4()),
            _ => {}
        }
        match self.listen(local) {
            Ok(port) => Reply::with(229, extended_passive_text(port)),
            Err(reply) => reply,
        }
    }

    pub(super) fn abort(&mut self) -> Reply {
        self.port = DataPort::None;
        self.restart = None;
        Reply::new(225, "Nothing to abort: no transfer is in progress.")
    }

    fn listen(&mut self, address: SocketAddr) -> Result<u16, Reply> {
        match self.context.ports.listen(address, self.receives()) {
            Ok(listener) => {
                let port = listener.port();
                self.port = DataPort::Passive(listener);
                Ok(port)
            }
            Err(error) => {
                log::debug!("{}: no passive port at {}: {}", self.ends.peer, address.ip(), plain(&error));
                Err(Reply::new(425, "Can't open a passive port now; try again later."))
            }
        }
    }

    /// The address to tell a client that wants to connect: the one flag `--passive-address` gives,
    /// unless the client is on the near side of the NAT too.
    fn told_address(&self, own: Ipv4Addr) -> Ipv4Addr {
        match self.context.config.passive_address() {
            Some(public) if !is_near(self.peer(), &self.context.networks) => public,
            _ => own,
        }
    }
}

/// Whether the peer is on this host or in one of its networks.
fn is_near(peer: IpAddr, networks: &[IfAddr]) -> bool {
    let IpAddr::V4(peer) = peer else { return true };
    peer.is_loopback()
        || networks.iter().any(|network| match network {
            IfAddr::V4(v4) => {
                let mask = u32::from(v4.netmask);
                mask != 0 && u32::from(v4.ip) & mask == u32::from(peer) & mask
            }
            IfAddr::V6(_) => false,
        })
}

fn after_epsv_all() -> Reply {
    Reply::new(501, "Only EPSV is used after EPSV ALL.")
}

fn no_address() -> Reply {
    Reply::new(425, "Can't open a data port.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use if_addrs::Ifv4Addr;

    #[test]
    fn those_in_a_network_of_the_host_are_near() {
        let network = IfAddr::V4(Ifv4Addr {
            ip: Ipv4Addr::new(192, 168, 1, 9),
            netmask: Ipv4Addr::new(255, 255, 255, 0),
            prefixlen: 24,
            broadcast: None,
        });
        let near = |text: &str| is_near(text.parse().unwrap(), std::slice::from_ref(&network));
        assert!(near("127.0.0.1") && near("192.168.1.200") && near("::1"));
        assert!(!near("192.168.2.1") && !near("203.0.113.5"));
    }
}
