//! The command line of `cargo xtask bench`.

use std::path::PathBuf;

/// Rounds when nothing is said.
const ROUNDS: usize = 5;
const ROUNDS_QUICK: usize = 2;
const ROUNDS_MAX: usize = 99;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Options {
    /// Short rounds: it shows that everything works, not how fast.
    pub(super) is_quick: bool,
    /// Only tell which rows there are.
    pub(super) is_list: bool,
    pub(super) rounds: usize,
    /// The braidlog binary to measure, and to measure with, instead of building one.
    pub(super) binary: Option<PathBuf>,
    /// The binary of the crate `benches`, instead of building it.
    pub(super) tools: Option<PathBuf>,
    /// The page whose marked section is rewritten.
    pub(super) page: Option<PathBuf>,
    only: Vec<String>,
}

impl Options {
    /// Reads the arguments after `bench`; `rows` are the names that `--only` may have.
    pub(super) fn parse(arguments: &[String], rows: &[&str]) -> Result<Options, String> {
        let mut options = Options {
            is_quick: false,
            is_list: false,
            rounds: 0,
            binary: None,
            tools: None,
            page: None,
            only: Vec::new(),
        };
        let mut rounds = None;
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            let mut value = || {
                let value = arguments.next().cloned();
                value.ok_or_else(|| format!("{flag} needs a value"))
            };
            match flag.as_str() {
                "--quick" => options.is_quick = true,
                "--list" => options.is_list = true,
                "--bin" => options.binary = Some(value()?.into()),
                "--tools" => options.tools = Some(value()?.into()),
                "--page" => options.page = Some(value()?.into()),
                "--rounds" => {
                    let count = value()?;
                    rounds = match count.parse() {
                        Ok(count @ 1..=ROUNDS_MAX) => Some(count),
                        _ => return Err(format!("1 to {ROUNDS_MAX} rounds, not {count}")),
                    };
                }
                "--only" => {
                    let name = value()?;
                    if !rows.contains(&name.as_str()) {
                        return Err(format!("there is no row {name} (one of {rows:?})"));
                    }
                    options.only.push(name);
                }
                other => return Err(format!("bench has no option {other}")),
            }
        }
        options.rounds = rounds.unwrap_or(match options.is_quick {
            true => ROUNDS_QUICK,
            false => ROUNDS,
        });
        Ok(options)
    }

    /// Whether this row is to be measured.
    pub(super) fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == row)
    }

    /// Seconds that a round measures.
    pub(super) fn measure_s(&self) -> u64 {
        if self.is_quick { 3 } else { 10 }
    }

    /// Seconds of load in each round before anything is measured.
    pub(super) fn warm_up_s(&self) -> u64 {
        if self.is_quick { 1 } else { 3 }
    }

    /// What says how much was measured, as on the command line.
    pub(super) fn shown(&self) -> String {
        let mut words = vec!["cargo xtask bench".to_owned()];
        if self.is_quick {
            words.push("--quick".to_owned());
        }
        words.push(format!("--rounds {}", self.rounds));
        words.extend(self.only.iter().map(|row| format!("--only {row}")));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words, &["start", "memory"])
    }

    #[test]
    fn five_rounds_of_every_row_are_the_default() {
        let options = parse("").unwrap();
        assert!(options.rounds == 5 && options.wants("start") && options.wants("memory"));
        assert!(!options.is_quick && !options.is_list && options.page.is_none());
    }

    #[test]
    fn quick_rounds_are_two_unless_more_are_asked_for() {
        let quick = parse("--quick").unwrap();
        assert!(quick.rounds == 2 && quick.measure_s() < parse("").unwrap().measure_s());
        assert_eq!(parse("--quick --rounds 7").unwrap().rounds, 7);
        assert_eq!(
            parse("--rounds 7 --quick --only start").unwrap().shown(),
            "cargo xtask bench --quick --rounds 7 --only start"
        );
    }

    #[test]
    fn only_names_rows_and_may_be_repeated() {
        let options = parse("--only memory").unwrap();
        assert!(options.wants("memory") && !options.wants("start"));
        assert!(parse("--only memory --only start").unwrap().wants("start"));
        assert!(parse("--only nothing").is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--rounds 0",
            "--rounds x",
            "--rounds 100",
            "--only",
            "--fast",
            "--page",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
