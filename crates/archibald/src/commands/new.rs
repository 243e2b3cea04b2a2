//! `archibald new`: a small audio project in a folder of its own. The projects are real ones, in
//! `templates/` at the root of the repository; here is only what makes another one of them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure};
use crate::terminal;

/// Make a small audio project: built and run in the machine, with a scenario for the lab.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  archibald new drone --template c-jack && cd drone && archibald run"
)]
pub(crate) struct New {
    /// The project's name, and its folder's.
    #[arg(required_unless_present = "list")]
    name: Option<String>,
    /// Which project to begin with; --list tells what there is.
    #[arg(short, long, value_enum, required_unless_present = "list")]
    template: Option<Template>,
    /// List the templates.
    #[arg(long, conflicts_with_all = ["name", "template"])]
    list: bool,
    /// The list for programs.
    #[arg(long, requires = "list")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Template {
    Sclang,
    CJack,
    RustJack,
    PipewireFilter,
    Python,
}

/// A file of a template.
struct Source {
    path: &'static str,
    text: &'static str,
    executable: bool,
}

macro_rules! sources {
    ($folder:literal: $($path:literal $($executable:ident)?),+) => {
        &[$(Source {
            path: $path,
            text: include_str!(concat!("../../../../templates/", $folder, "/", $path)),
            executable: sources!(@ $($executable)?),
        }),+]
    };
    (@ executable) => { true };
    (@) => { false };
}

impl Template {
    const ALL: [Self; 5] =
        [Self::Sclang, Self::CJack, Self::RustJack, Self::PipewireFilter, Self::Python];

    /// Its word on the command line, and its folder's name.
    fn word(self) -> &'static str {
        match self {
            Self::Sclang => "sclang",
            Self::CJack => "c-jack",
            Self::RustJack => "rust-jack",
            Self::PipewireFilter => "pipewire-filter",
            Self::Python => "python",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Sclang => "a SuperCollider patch: an instrument, a room, a pattern",
            Self::CJack => "a synth in C on JACK",
            Self::RustJack => "a synth in Rust on JACK, without dependencies",
            Self::PipewireFilter => "a filter in C on PipeWire's own API",
            Self::Python => "a synth in Python on JACK, with NumPy",
        }
    }

    /// The name that the project in `templates/` has, and every other one in its place.
    fn own_name(self) -> &'static str {
        match self {
            Self::Sclang => "my-patch",
            Self::PipewireFilter => "my-filter",
            Self::CJack | Self::RustJack | Self::Python => "my-synth",
        }
    }

    fn sources(self) -> &'static [Source] {
        match self {
            Self::Sclang => sources!("sclang":
                ".dir-locals.el", ".gitignore", ".nvim.lua", "README.md", "in-machine" executable,
                "lab.toml", "main.scd"),
            Self::CJack => sources!("c-jack":
                ".dir-locals.el", ".gitignore", ".nvim.lua", "Makefile", "README.md",
                "compile_flags.txt", "lab.toml", "main.c"),
            Self::RustJack => sources!("rust-jack":
                ".dir-locals.el", ".gitignore", ".nvim.lua", "Cargo.lock", "Cargo.toml", "README.md",
                "lab.toml", "rustfmt.toml", "src/jack.rs", "src/main.rs"),
            Self::PipewireFilter => sources!("pipewire-filter":
                ".dir-locals.el", ".gitignore", ".nvim.lua", "Makefile", "README.md",
                "compile_flags.txt", "lab.toml", "main.c", "play.sh" executable),
            Self::Python => sources!("python":
                ".dir-locals.el", ".gitignore", ".nvim.lua", "README.md", "lab.toml", "main.py"),
        }
    }
}

impl New {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let (Some(name), Some(template)) = (&self.name, self.template) else {
            list(self.json);
            return Ok(0);
        };
        check(name)?;
        let folder = PathBuf::from(name);
        // Also what is a link to nowhere.
        if fs::symlink_metadata(&folder).is_ok() {
            return Err(Failure::new(Exit::Use, format!("{name} is there already"))
                .with_remedy("Choose another name, or remove it first."));
        }
        // Made beside it and renamed, so that what bears the name is whole.
        let partial = PathBuf::from(format!(".{name}.partial-{}", std::process::id()));
        let made = write(&partial, template, name).and_then(|()| rename(&partial, &folder));
        if let Err(error) = made {
            let _ = fs::remove_dir_all(&partial);
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    Failure::new(Exit::Use, format!("{name} is there already"))
                }
                _ => Failure::new(Exit::Environment, format!("{name} cannot be made: {error}")),
            });
        }
        terminal::say(&format!(
            "{name}: {}\n  in it: `archibald run` plays it in the machine, `archibald lab run` tries it in \
             virtual time, README.md tells the rest",
            template.about()
        ));
        Ok(0)
    }
}

fn list(json: bool) {
    if json {
        let templates: Vec<_> = Template::ALL
            .iter()
            .map(|template| serde_json::json!({ "name": template.word(), "about": template.about() }))
            .collect();
        terminal::say_json(
            &serde_json::json!({ "schema": "archibald.templates/1", "templates": templates }),
        );
        return;
    }
    let row = |template: &Template| vec![template.word().to_owned(), template.about().to_owned()];
    let rows = Template::ALL.iter().map(row).collect();
    terminal::say(&terminal::table(&["TEMPLATE", "WHAT IT IS"], rows));
}

/// Names that cargo keeps to itself, as a package's or a program's.
const RESERVED: [&str; 8] =
    ["alloc", "build", "core", "deps", "examples", "incremental", "std", "test"];

/// A name that a folder, a program, a cargo package and a client of the graph can have.
fn check(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    let problem = if name.len() > 32 {
        "is longer than 32 letters"
    } else if !begins || !name.chars().all(plain) {
        "is not made of a-z, 0-9, - and _, beginning with a letter"
    } else if RESERVED.contains(&name) {
        "is a name that cargo keeps to itself"
    } else {
        return Ok(());
    };
    Err(Failure::new(Exit::Use, format!("\"{name}\" {problem}"))
        .with_remedy("Such a name can be a program's, a package's and a JACK client's: my-synth."))
}

fn write(folder: &Path, template: Template, name: &str) -> io::Result<()> {
    fs::create_dir(folder)?;
    for source in template.sources() {
        let path = folder.join(source.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, source.text.replace(template.own_name(), name))?;
        if source.executable {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// Renames, unless somebody else has made the folder meanwhile.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_below(folder: &Path, inside: &Path, found: &mut Vec<(String, bool)>) {
        for entry in fs::read_dir(folder.join(inside)).unwrap().flatten() {
            let (path, metadata) = (inside.join(entry.file_name()), entry.metadata().unwrap());
            if metadata.is_dir() {
                files_below(folder, &path, found);
            } else {
                let executable = metadata.permissions().mode() & 0o100 != 0;
                found.push((path.to_str().unwrap().to_owned(), executable));
            }
        }
    }

    #[test]
    fn every_file_of_the_templates_is_made_with_its_mode() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates");
        for template in Template::ALL {
            let mut there = Vec::new();
            files_below(&root.join(template.word()), Path::new(""), &mut there);
            there.sort();
            let made = template.sources().iter();
            let mut made: Vec<_> =
                made.map(|source| (source.path.to_owned(), source.executable)).collect();
            made.sort();
            assert_eq!(made, there, "{}", template.word());
        }
        assert_eq!(fs::read_dir(root).unwrap().count(), Template::ALL.len());
    }

    #[test]
    fn names_that_cargo_or_jack_would_refuse_are_told() {
        for good in ["drone", "a", "my-synth_2"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "a".repeat(33);
        for bad in ["", "2drone", "-x", ".x", "a/b", "..", "Drone", "ä", "a b", "test", &long] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
