//! How many connections there may be, in total and from one address.

use std::collections::HashMap;
use std::net::IpAddr;

/// Counts open connections. An address is forgotten when its last connection goes.
#[derive(Debug)]
pub(crate) struct Limits {
    total_max: usize,
    per_address_max: usize,
    total: usize,
    by_address: HashMap<IpAddr, usize>, // sums up to `total`, no zeros
}

/// Which limit refused a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many connections as there may be in total.
    Total,
    /// As many as there may be from this address.
    Address,
}

impl Limits {
    pub(crate) fn new(total_max: usize, per_address_max: usize) -> Limits {
        Limits {
            total_max,
            per_address_max,
            total: 0,
            by_address: HashMap::new(),
        }
    }

    /// Counts one more connection from `address`, unless a limit is reached. An IPv4 address
    /// counts as the same one when it comes mapped into IPv6.
    pub(crate) fn admit(&mut self, address: IpAddr) -> Result<(), Refused> {
        if self.total >= self.total_max {
            return Err(Refused::Total);
        }
        let address = address.to_canonical();
        let count = self.by_address.get(&address).copied().unwrap_or(0);
        if count >= self.per_address_max {
            return Err(Refused::Address);
        }
        self.by_address.insert(address, count + 1);
        self.total += 1;
        Ok(())
    }

    /// Forgets one connection that was admitted.
    pub(crate) fn release(&mut self, address: IpAddr) {
        let address = address.to_canonical();
        let count = self.by_address.get_mut(&address).expect("it was admitted");
        *count -= 1;
        if *count == 0 {
            self.by_address.remove(&address);
        }
        self.total -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    #[test]
    fn an_address_is_limited_before_the_total() {
        let mut limits = Limits::new(3, 2);
        assert_eq!(limits.admit(A), Ok(()));
        assert_eq!(limits.admit(A), Ok(()));
        assert_eq!(limits.admit(A), Err(Refused::Address));
        assert_eq!(limits.admit(B), Ok(()));
        assert_eq!(limits.admit(B), Err(Refused::Total));
        limits.release(A);
        assert_eq!(limits.admit(B), Ok(()));
    }

    #[test]
    fn a_mapped_address_counts_as_the_address() {
        let mut limits = Limits::new(10, 1);
        assert_eq!(limits.admit(A), Ok(()));
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        assert_eq!(limits.admit(mapped), Err(Refused::Address));
        assert_eq!(limits.admit(IpAddr::V6(Ipv6Addr::LOCALHOST)), Ok(()));
    }

    #[test]
    fn nothing_is_remembered_of_closed_connections() {
        let mut limits = Limits::new(10, 10);
        for address in [A, B, A] {
            assert_eq!(limits.admit(address), Ok(()));
        }
        for address in [A, A, B] {
            limits.release(address);
        }
        assert!(limits.by_address.is_empty());
        assert_eq!(limits.total, 0);
    }
}
