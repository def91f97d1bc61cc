//! The README's `braidlog` commands, in order, as they stand there. Its session with a cluster is
//! run by the tests of clusters.

use storage::disk::Disk;

use crate::Cluster;

#[test]
fn the_commands_of_the_readme_work() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = String::from_utf8(Disk::Real.read_file(path.as_ref()).unwrap()).unwrap();
    let (readme, _) = readme.split_once("## A cluster").unwrap();
    let cluster = Cluster::start();
    let mut commands = 0;
    for line in shell_lines(readme) {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["braidlog", "start", ..] => {}
            ["braidlog", arguments @ ..] => {
                let finished = cluster.run(arguments);
                assert_eq!(finished.code, 0, "{line}: {}", finished.stderr);
                commands += 1;
            }
            _ => {}
        }
    }
    assert!(commands >= 5, "the README has {commands} commands");
}

/// Lines within fences marked `sh`.
fn shell_lines(markdown: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    markdown.lines().filter(move |line| {
        if let Some(fence) = line.strip_prefix("```") {
            inside = fence == "sh";
            return false;
        }
        inside
    })
}

/// Splits at spaces, save between double quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("there is one").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
