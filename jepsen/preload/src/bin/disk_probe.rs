//! Does to files what it is told on standard input, one command a line, and answers each with a line:
//! `ok …`, or `err` and the error's number. The tests of the preloaded library run it as the node.
#![expect(
    unsafe_code,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "it calls what the library replaces, and answers on standard output"
)]

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

fn main() -> io::Result<()> {
    let dir = PathBuf::from(
        std::env::args_os()
            .nth(1)
            .ok_or(io::ErrorKind::InvalidInput)?,
    );
    let mut files = HashMap::new();
    let started = Instant::now();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match run(&dir, &mut files, started, &words) {
            Ok(answer) => println!("ok {answer}"),
            Err(error) => println!("err {} {error}", error.raw_os_error().unwrap_or(0)),
        }
    }
    Ok(())
}

fn run(
    dir: &Path,
    files: &mut HashMap<String, File>,
    started: Instant,
    words: &[&str],
) -> io::Result<String> {
    let wrong = || io::Error::from(io::ErrorKind::InvalidInput);
    let text = |at: usize| words.get(at).copied().ok_or_else(wrong);
    let path = |at: usize| {
        let text = text(at)?;
        Ok::<_, io::Error>(if text == "." {
            dir.to_owned()
        } else {
            dir.join(text)
        })
    };
    let number = |at: usize| text(at)?.parse::<u64>().map_err(|_| wrong());
    let done = || Ok(String::new());
    match text(0)? {
        "open" => {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path(1)?)?;
            files.insert(text(1)?.to_owned(), file);
            done()
        }
        "close" => {
            files.remove(text(1)?);
            done()
        }
        "replace" => fs::write(path(1)?, filled(number(2)?, number(3)?)).and_then(|()| done()),
        "append" => {
            let mut file = OpenOptions::new().append(true).open(path(1)?)?;
            let count = file.write(&filled(number(2)?, number(3)?))?;
            Ok(count.to_string())
        }
        // What one call writes, and what all calls do.
        "write" => {
            let count =
                file(files, text(1)?)?.write_at(&filled(number(3)?, number(4)?), number(2)?)?;
            Ok(count.to_string())
        }
        "writeall" => file(files, text(1)?)?
            .write_all_at(&filled(number(3)?, number(4)?), number(2)?)
            .and_then(|()| done()),
        "writev" => {
            let bytes = filled(number(3)?, number(4)?);
            let (one, two) = bytes.split_at(bytes.len() / 3);
            let file = file(files, text(1)?)?;
            let position = i64::try_from(number(2)?).map_err(|_| wrong())?;
            let pieces = [IoSlice::new(one), IoSlice::new(two)];
            // SAFETY: an `IoSlice` is an `iovec`, and both live until the call returns.
            let count =
                unsafe { libc::pwritev(file.as_raw_fd(), pieces.as_ptr().cast(), 2, position) };
            checked(i32::try_from(count).map_err(|_| wrong())?)?;
            Ok(count.to_string())
        }
        "allocate" => {
            let number = |at| number(at).and_then(|n| i64::try_from(n).map_err(|_| wrong()));
            let fd = file(files, text(1)?)?.as_raw_fd();
            // SAFETY: takes numbers.
            checked(unsafe { libc::fallocate(fd, 0, number(2)?, number(3)?) })?;
            done()
        }
        "setlen" => file(files, text(1)?)?
            .set_len(number(2)?)
            .and_then(|()| done()),
        "sync" => file(files, text(1)?)?.sync_data().and_then(|()| done()),
        "syncdir" => File::open(path(1)?)?.sync_all().and_then(|()| done()),
        "syncall" => {
            let root = File::open(dir)?;
            // SAFETY: takes a number.
            checked(unsafe { libc::syncfs(root.as_raw_fd()) })?;
            done()
        }
        "mkdir" => fs::create_dir(path(1)?).and_then(|()| done()),
        "rename" => fs::rename(path(1)?, path(2)?).and_then(|()| done()),
        "remove" => fs::remove_file(path(1)?).and_then(|()| done()),
        "rmtree" => fs::remove_dir_all(path(1)?).and_then(|()| done()),
        "bootid" => Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
            .trim()
            .to_owned()),
        "clock" => {
            let wall = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_err(io::Error::other)?;
            let mut seconds: libc::time_t = 0;
            // SAFETY: the pointer is to a number that lives until the call returns.
            unsafe { libc::time(&raw mut seconds) };
            Ok(format!(
                "{} {} {}",
                wall.as_millis(),
                started.elapsed().as_millis(),
                seconds
            ))
        }
        "free" => {
            let path = std::ffi::CString::new(dir.as_os_str().as_encoded_bytes())?;
            let mut found = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
            // SAFETY: both pointers live until the call returns; zeros are a valid value.
            let found = unsafe {
                checked(libc::statvfs(path.as_ptr(), found.as_mut_ptr()))?;
                found.assume_init()
            };
            Ok(found.f_bavail.to_string())
        }
        _ => Err(wrong()),
    }
}

fn file<'a>(files: &'a HashMap<String, File>, name: &str) -> io::Result<&'a File> {
    files
        .get(name)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn checked(result: i32) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// So many bytes that follow from a number; never a whole sector of zeros.
fn filled(len: u64, seed: u64) -> Vec<u8> {
    let step = |at: u64| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at).wrapping_mul(0xbf58_476d);
    (0..len).map(|at| step(at).to_be_bytes()[2] | 1).collect()
}
