//! The command line of `cargo xtask jepsen`.

use std::path::PathBuf;

/// Which set of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// What every change has to pass, in some minutes.
    Ci,
    /// Three quarters of an hour, with seeds of its own each day.
    Nightly,
    /// The seeded bugs, each of which has to be found.
    Bugs,
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) set: Set,
    /// The braidlog binary to break instead of building one.
    pub(super) binary: Option<PathBuf>,
    /// Where runs are kept.
    pub(super) out: Option<PathBuf>,
    /// The first seed.
    pub(super) seed: Option<u64>,
    /// The bugs to hunt; all when empty.
    pub(super) bugs: Vec<String>,
}

impl Options {
    /// Reads the arguments after `jepsen`.
    pub(super) fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options {
            set: Set::Ci,
            binary: None,
            out: None,
            seed: None,
            bugs: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value
                    .cloned()
                    .ok_or_else(|| format!("{flag} needs a value"))
            };
            match flag.as_str() {
                "--nightly" | "--bugs" if options.set != Set::Ci => {
                    return Err("one of --nightly and --bugs at a time".to_owned());
                }
                "--nightly" => options.set = Set::Nightly,
                "--bugs" => options.set = Set::Bugs,
                "--bin" => options.binary = Some(value()?.into()),
                "--out" => options.out = Some(value()?.into()),
                "--seed" => {
                    let seed = value()?;
                    let seed = seed.parse().map_err(|_| format!("{seed} is no seed"))?;
                    options.seed = Some(seed);
                }
                "--only" => options.bugs.push(value()?),
                other => return Err(format!("jepsen has no option {other}")),
            }
        }
        if !options.bugs.is_empty() && options.set != Set::Bugs {
            return Err("--only names a seeded bug and goes with --bugs".to_owned());
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn without_options_it_is_the_set_of_ci() {
        let options = parse("--bin target/release/braidlog").unwrap();
        assert_eq!(options.set, Set::Ci);
        assert_eq!(options.binary, Some("target/release/braidlog".into()));
    }

    #[test]
    fn sets_exclude_each_other_and_bugs_are_named_with_theirs() {
        assert_eq!(parse("--nightly --seed 7").unwrap().seed, Some(7));
        assert_eq!(
            parse("--bugs --only vote-forgotten").unwrap().bugs,
            ["vote-forgotten"]
        );
        for wrong in [
            "--nightly --bugs",
            "--only vote-forgotten",
            "--seed x",
            "--bin",
            "--fast",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
