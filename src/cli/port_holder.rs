//! Which process listens on a port: from `/proc` on Linux, as far as this user may look.

use std::net::SocketAddr;
use std::path::Path;

use storage::disk::Disk;

use super::processes::read_text;

/// `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// `pid 3120 (java)` for the process that listens where `address` would; `None` when it cannot be
/// told.
pub(super) fn port_holder(address: SocketAddr) -> Option<String> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| read_text(Path::new(table)))
        .flat_map(|table| listening_inodes(&table, address.port()))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let pids = Disk::Real.read_dir(Path::new("/proc")).ok()?;
    let pid = pids.iter().map(|entry| &entry.name).find(|name| {
        name.bytes().all(|byte| byte.is_ascii_digit()) && holds_one_of(name, &sockets)
    })?;
    let name = read_text(&Path::new("/proc").join(pid).join("comm"));
    Some(format!(
        "pid {pid} ({})",
        name.as_deref().unwrap_or("?").trim()
    ))
}

fn holds_one_of(pid: &str, sockets: &[String]) -> bool {
    let descriptors = Path::new("/proc").join(pid).join("fd");
    let Ok(entries) = Disk::Real.read_dir(&descriptors) else {
        return false;
    };
    entries.iter().any(|entry| {
        let target = descriptors
            .join(&entry.name)
            .read_link()
            .unwrap_or_default();
        sockets.iter().any(|socket| target == Path::new(socket))
    })
}

/// Inodes of the sockets in a `/proc/net/tcp` table that listen on `port`.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
            let listens =
                u16::from_str_radix(local_port, 16).ok()? == port && *fields.get(3)? == LISTEN;
            listens
                .then(|| fields.get(9).map(ToString::to_string))
                .flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_kernel_is_understood() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0\n\
             1: 0100007F:2384 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000 20 4 30 10 -1\n\
             2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000 100 0 0 10 0\n";
        assert_eq!(listening_inodes(table, 9092), ["4711"]);
        assert_eq!(listening_inodes(table, 1), Vec::<String>::new());
        assert_eq!(
            listening_inodes("nonsense\nmore\n", 9092),
            Vec::<String>::new()
        );
    }

    #[test]
    fn this_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = port_holder(listener.local_addr().unwrap()).unwrap();
        assert!(
            holder.starts_with(&format!("pid {} (", std::process::id())),
            "{holder}"
        );
    }
}
