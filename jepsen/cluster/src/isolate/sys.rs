//! The two system calls that have no safe wrapper: a network namespace of one's own for a thread,
//! and a TUN device. The only unsafe code of this crate.

#![expect(unsafe_code, reason = "unshare and TUNSETIFF have no safe wrapper")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::ioctl::{self, Opcode, Setter};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// `_IOW('T', 202, int)`
const TUNSETIFF: Opcode = 0x4004_54ca;
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
/// The length of an interface's name, with its end.
const NAME_BYTES: usize = 16;

/// `struct ifreq`, of which TUNSETIFF reads name and flags.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    flags: u16,
    unused: [u8; 22],
}

/// Moves the calling thread into a new, empty network namespace.
pub(super) fn unshare_network() -> io::Result<()> {
    // SAFETY: of all flags only FILES can take descriptors from other threads, and it is not given.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Makes a TUN device in the calling thread's network namespace. It carries IP packets without any
/// header before them, does not block, and is gone when the file is closed.
pub(super) fn open_tun(name: &str) -> io::Result<File> {
    if name.len() >= NAME_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(flags);
    let tun = options.open("/dev/net/tun")?;
    let mut request = InterfaceRequest {
        name: [0; NAME_BYTES],
        flags: IFF_TUN | IFF_NO_PI,
        unused: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF takes a pointer to a `struct ifreq` of 40 bytes, which `InterfaceRequest` is.
    let set = unsafe { Setter::<TUNSETIFF, InterfaceRequest>::new(request) };
    // SAFETY: the file is /dev/net/tun, and the request was made for it.
    unsafe { ioctl::ioctl(&tun, set) }?;
    Ok(tun)
}
