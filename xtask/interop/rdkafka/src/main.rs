//! rdkafka, the Rust client, behind the line protocol of `../README.md`.

mod client;
mod requests;

use std::io::{BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::Client;

/// Why a request was not done.
pub enum Trouble {
    /// The client has no such feature.
    Unable(String),
    /// It went wrong; the number is Kafka's.
    Error(Option<i32>, String),
}

impl<E: std::error::Error> From<E> for Trouble {
    fn from(problem: E) -> Self {
        Trouble::Error(None, problem.to_string())
    }
}

fn answer(words: &[String]) {
    let words: Vec<String> = words
        .iter()
        .map(|word| word.replace(['\n', '\t'], " "))
        .collect();
    let mut output = std::io::stdout().lock();
    // Whoever started this is gone when it cannot be written: then there is nobody to tell.
    let _ = writeln!(output, "{}", words.join("\t")).and_then(|()| output.flush());
}

fn tell(trouble: Trouble) {
    match trouble {
        Trouble::Unable(why) => answer(&["unable".to_owned(), why]),
        Trouble::Error(number, why) => {
            let name = number.and_then(client::name_of).unwrap_or("error");
            answer(&["error".to_owned(), format!("{name}: {why}")]);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let client = Client::new(&arguments[0]);
    if let [_, member, group, topic, protocol] = arguments.as_slice()
        && member == "member"
    {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stopping.store(true, Ordering::Relaxed);
        });
        let shown = client.member(group, topic, protocol, &stop, |partition, offset, value| {
            let value = String::from_utf8_lossy(value).into_owned();
            answer(&[
                "record".to_owned(),
                partition.to_string(),
                offset.to_string(),
                value,
            ]);
        });
        match shown {
            Ok(()) => answer(&["left".to_owned()]),
            Err(trouble) => {
                tell(trouble);
                std::process::exit(1);
            }
        }
        return;
    }
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split('\t').collect();
        match requests::respond(&client, words[0], &words[1..]) {
            Ok(found) => answer(&[vec!["ok".to_owned()], found].concat()),
            Err(trouble) => tell(trouble),
        }
    }
}
