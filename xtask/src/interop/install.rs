//! Brings the clients onto this machine, below `target/interop`, each once.
//!
//! Debian packages are the exception: `apt-get` installs them, when we may.
//! An error is the reason why a client is not run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::driver::Program;
use super::records::{WORDS_PACKAGE, WORDS_PATH};
use crate::process::{finish, succeed};
use crate::{cargo, root};

pub(crate) const INSTALL_LIMIT: Duration = Duration::from_secs(900);
const ASK_LIMIT: Duration = Duration::from_secs(60);
/// The folder of the clients that are written in Python only.
const PYTHON: &str = "python";

/// The folder that holds everything installed and generated.
pub(crate) struct Workshop {
    folder: PathBuf,
    /// Clients are installed at the same time, but what two of them share only once.
    shared: [Mutex<()>; 2],
}

/// Held while Debian's packages are installed.
static DEBIAN: Mutex<()> = Mutex::new(());

impl Workshop {
    /// Makes the folder.
    pub(crate) fn open() -> Result<Self, String> {
        let folder = root().join("target/interop");
        make_folder(&folder.join("logs"))?;
        Ok(Self {
            folder,
            shared: Default::default(),
        })
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file for a program's error output.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// A folder of this name with nothing in it.
    pub(crate) fn empty_folder(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder.join(name);
        match fs::remove_dir_all(&folder) {
            Err(problem) if problem.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("cannot empty {}: {problem}", folder.display()));
            }
            _ => make_folder(&folder)?,
        }
        Ok(folder)
    }

    /// Does `install` in a folder of its own unless that was done before for the same sources.
    fn installed(
        &self,
        name: &str,
        sources: &[PathBuf],
        install: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<PathBuf, String> {
        let folder = self.folder.join(name);
        let mut wanted = Vec::new();
        for source in sources {
            let text = fs::read(source);
            wanted.extend(text.map_err(|e| format!("cannot read {}: {e}", source.display()))?);
        }
        let stamp = folder.join("installed-for");
        if fs::read(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(folder);
        }
        println!("installing {name}");
        let folder = self.empty_folder(name)?;
        install(&folder)?;
        fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
        Ok(folder)
    }

    /// Kits that several clients share are installed by one of them at a time.
    fn hold(&self, kit: Kit) -> MutexGuard<'_, ()> {
        lock(&self.shared[kit as usize])
    }

    fn maven_jars(&self, name: &str, folder: &Path) -> Result<(), String> {
        let pom = sources(name).join("pom.xml");
        let repository = self.folder.join("maven");
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "--file"]).arg(pom);
        maven.arg(format!("-Dmaven.repo.local={}", repository.display()));
        maven.arg("dependency:copy-dependencies");
        maven.arg(format!(
            "-DoutputDirectory={}",
            folder.join("lib").display()
        ));
        succeed(&mut maven, INSTALL_LIMIT).map(|_| ())
    }
}

/// What several clients share.
#[derive(Clone, Copy)]
enum Kit {
    /// The Go module, and the Python environment.
    Language,
    /// Maven's repository.
    Maven,
}

fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Debian's kcat.
pub(crate) fn kcat() -> Result<(), String> {
    need(&[("kcat", "kcat")])
}

/// The word list, as Debian installs it.
pub(crate) fn words() -> Result<(), String> {
    if !Path::new(WORDS_PATH).exists() {
        install_debian(WORDS_PACKAGE)?;
    }
    Ok(())
}

/// A virtual environment with the packages of PyPI that a folder of ours asks for.
fn python(workshop: &Workshop, name: &str) -> Result<String, String> {
    need(&[("python3", "python3")])?;
    let manifest = sources(name).join("requirements.txt");
    let folder = workshop.installed(name, std::slice::from_ref(&manifest), |folder| {
        let make = |folder: &Path| {
            let mut make = Command::new("python3");
            succeed(
                make.args(["-m", "venv"]).arg(folder.join("venv")),
                INSTALL_LIMIT,
            )
        };
        if make(folder).is_err() {
            // Debian parts the module from its Python.
            install_debian("python3-venv")?;
            make(folder)?;
        }
        let mut pip = Command::new(folder.join("venv/bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--cache-dir"]);
        pip.arg(workshop.folder.join("pip-cache"))
            .arg("--requirement")
            .arg(&manifest);
        succeed(&mut pip, INSTALL_LIMIT).map(|_| ())
    })?;
    Ok(text(&folder.join("venv/bin/python")))
}

fn python_program(workshop: &Workshop, name: &'static str, python: String) -> Program {
    let (folder, driver) = match name {
        "confluent-kafka" => (name, "driver.py"),
        "aiokafka" => (PYTHON, "aiokafka_driver.py"),
        _ => (PYTHON, "kafka_python.py"),
    };
    Program {
        name,
        command: vec![python, text(&sources(folder).join(driver))],
        environment: vec![("PYTHONDONTWRITEBYTECODE", "1".to_owned())],
        log: workshop.log(name),
        has_requests: folder == PYTHON,
    }
}

/// confluent-kafka from PyPI.
pub(crate) fn confluent_kafka(workshop: &Workshop) -> Result<Program, String> {
    let name = "confluent-kafka";
    Ok(python_program(workshop, name, python(workshop, name)?))
}

/// kafka-python or aiokafka from PyPI, which share an environment.
pub(crate) fn pure_python(workshop: &Workshop, name: &'static str) -> Result<Program, String> {
    let _held = workshop.hold(Kit::Language);
    Ok(python_program(workshop, name, python(workshop, PYTHON)?))
}

/// PySpark from PyPI, and its Kafka connector from Maven Central as Spark's class path.
pub(crate) fn spark(workshop: &Workshop) -> Result<Program, String> {
    let name = "spark";
    need(&[
        ("java", "default-jre-headless"),
        ("mvn", "maven"),
        ("kcat", "kcat"),
    ])?;
    let python = python(workshop, name)?;
    let _held = workshop.hold(Kit::Maven);
    let jars = workshop.installed("spark-lib", &[sources(name).join("pom.xml")], |folder| {
        workshop.maven_jars(name, folder)
    })?;
    Ok(Program {
        name,
        command: vec![python, text(&sources(name).join("driver.py"))],
        environment: vec![
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ("SPARK_KAFKA_JARS", format!("{}/*", text(&jars.join("lib")))),
        ],
        log: workshop.log(name),
        has_requests: false,
    })
}

/// franz-go, sarama or kafka-go from the Go module proxy: one module with a program for each.
pub(crate) fn go(workshop: &Workshop, name: &'static str) -> Result<Program, String> {
    need(&[("go", "golang-go")])?;
    let _held = workshop.hold(Kit::Language);
    let code = sources("go");
    let files = [
        "go.mod",
        "go.sum",
        "line/line.go",
        "line/errors.go",
        "franz-go/main.go",
        "sarama/main.go",
        "kafka-go/main.go",
    ];
    let folder = workshop.installed("go", &files.map(|file| code.join(file)), |folder| {
        let mut build = Command::new("go");
        build.current_dir(&code).args(["build", "-o"]);
        build.arg(format!("{}/", folder.display())).arg("./...");
        succeed(&mut build, INSTALL_LIMIT).map(|_| ())
    })?;
    Ok(Program {
        name,
        command: vec![text(&folder.join(name))],
        environment: Vec::new(),
        log: workshop.log(name),
        has_requests: true,
    })
}

/// The Rust client from crates.io with the librdkafka that it brings, built here.
pub(crate) fn rdkafka(workshop: &Workshop) -> Result<Program, String> {
    need(&[("cc", "gcc"), ("make", "make")])?;
    let name = "rdkafka";
    let code = sources(name);
    let files = [
        "Cargo.toml",
        "Cargo.lock",
        "src/client.rs",
        "src/main.rs",
        "src/requests.rs",
    ];
    let target = workshop.folder.join("rdkafka-target");
    workshop.installed(name, &files.map(|file| code.join(file)), |_| {
        let mut build = Command::new(cargo());
        build.args(["build", "--quiet", "--locked", "--manifest-path"]);
        build.arg(code.join("Cargo.toml"));
        build.arg("--target-dir").arg(&target);
        succeed(&mut build, INSTALL_LIMIT).map(|_| ())
    })?;
    Ok(Program {
        name,
        command: vec![text(&target.join("debug/interop-rdkafka"))],
        environment: Vec::new(),
        log: workshop.log(name),
        has_requests: true,
    })
}

/// Apache Kafka's Java client from Maven Central, and our driver compiled against it.
pub(crate) fn java(workshop: &Workshop) -> Result<Program, String> {
    let jdk = "default-jdk-headless";
    need(&[("java", jdk), ("javac", jdk), ("mvn", "maven")])?;
    let name = "java";
    let _held = workshop.hold(Kit::Maven);
    let of = |file: &str| sources(name).join(file);
    let code = ["Driver", "Checks", "Member", "Crowd", "Watcher"];
    let code = code.map(|class| of(&format!("{class}.java")));
    let jars = workshop.installed("java-lib", &[of("pom.xml")], |folder| {
        workshop.maven_jars(name, folder)
    })?;
    let jars = format!("{}/*", text(&jars.join("lib")));
    let classes = workshop.installed(
        "java-classes",
        &[&code[..], &[of("pom.xml")]].concat(),
        |folder| {
            let mut compiler = Command::new("javac");
            compiler
                .args(["-Xlint:all", "-cp", &jars, "-d"])
                .arg(folder)
                .args(&code);
            succeed(&mut compiler, INSTALL_LIMIT).map(|_| ())
        },
    )?;
    let command = vec![
        "java".to_owned(),
        "-Xmx512m".to_owned(),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".to_owned(),
        "-cp".to_owned(),
        format!("{jars}:{}", text(&classes)),
        "Driver".to_owned(),
    ];
    Ok(Program {
        name,
        command,
        environment: Vec::new(),
        log: workshop.log(name),
        has_requests: false,
    })
}

/// kafkajs from npm, with the plug-ins for the codecs that it lacks.
pub(crate) fn kafkajs(workshop: &Workshop) -> Result<Program, String> {
    need(&[("node", "nodejs"), ("npm", "npm")])?;
    let name = "kafkajs";
    let manifest = sources(name).join("package.json");
    let folder = workshop.installed(name, std::slice::from_ref(&manifest), |folder| {
        fs::copy(&manifest, folder.join("package.json"))
            .map_err(|problem| format!("cannot copy {}: {problem}", manifest.display()))?;
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            "--cache",
        ]);
        npm.arg(workshop.folder.join("npm-cache"))
            .current_dir(folder);
        succeed(&mut npm, INSTALL_LIMIT).map(|_| ())
    })?;
    let driver = text(&sources(name).join("driver.js"));
    let command = vec!["node".to_owned(), "--no-warnings".to_owned(), driver];
    let environment = vec![("NODE_PATH", text(&folder.join("node_modules")))];
    Ok(Program {
        name,
        command,
        environment,
        log: workshop.log(name),
        has_requests: false,
    })
}

/// Apache Kafka itself, as a class path; its command-line tools are in it.
pub(crate) fn kafka_peer(workshop: &Workshop) -> Result<String, String> {
    need(&[("java", "default-jre-headless"), ("mvn", "maven")])?;
    let _held = workshop.hold(Kit::Maven);
    let name = "kafka-peer";
    let folder = workshop.installed(name, &[sources(name).join("pom.xml")], |folder| {
        workshop.maven_jars(name, folder)
    })?;
    Ok(format!("{}/*", text(&folder.join("lib"))))
}

/// Our part of a client: its driver and what it asks for.
fn sources(name: &str) -> PathBuf {
    root().join("xtask/interop").join(name)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn make_folder(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))
}

/// Installs the packages of those programs that are not on the path.
fn need(programs: &[(&str, &str)]) -> Result<(), String> {
    for (program, package) in programs {
        if !is_on_path(program) {
            install_debian(package)?;
            if !is_on_path(program) {
                return Err(format!(
                    "{program} is not there even with Debian's {package}"
                ));
            }
        }
    }
    Ok(())
}

/// Whether a program of this name can be run.
pub(crate) fn is_on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|one| one.join(program).is_file()))
}

/// Installs a package, when we may.
pub(crate) fn install_debian(package: &str) -> Result<(), String> {
    let _held = lock(&DEBIAN);
    if !is_on_path("apt-get") {
        return Err(format!(
            "{package} is not installed, and there is no apt-get to install it"
        ));
    }
    let user = succeed(Command::new("id").arg("-u"), ASK_LIMIT)?.text();
    if user.trim() != "0" {
        return Err(format!(
            "{package} is not installed: as root, apt-get install {package}"
        ));
    }
    println!("installing Debian's {package}");
    let install = || {
        let mut apt = apt(&["install", "--yes", "--no-install-recommends", package]);
        finish(&mut apt, INSTALL_LIMIT)
    };
    if install()?.is_success {
        return Ok(());
    }
    // The machine's package lists may be missing or old.
    finish(&mut apt(&["update"]), INSTALL_LIMIT)?;
    let second = install()?;
    if second.is_success {
        Ok(())
    } else {
        Err(format!(
            "apt-get install {package} failed: {}",
            second.complaint()
        ))
    }
}

fn apt(arguments: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.arg("--quiet=2")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    apt.stdin(Stdio::null());
    apt
}
