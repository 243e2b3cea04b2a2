//! A project: a folder with a scenario of the lab, which says how it is built and run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use archibald_lab::Scenario;
use archibald_lab::scenario::Source;

use crate::failure::{Context as _, Exit, Failure};

/// The scenario's name in a folder.
const FILE: &str = "lab.toml";
/// What no change to counts: builds on the host.
const LEFT_OUT: [&str; 2] = ["target", "node_modules"];

pub(super) struct Project {
    /// Its folder on the host.
    pub(super) folder: PathBuf,
    /// The folder's name, and that of its copy in the machine.
    pub(super) name: String,
    /// The shell command that builds it.
    pub(super) build: Option<String>,
    /// The shell command that it is.
    pub(super) run: String,
}

/// The files of a folder, as far as a change shows in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct State(Vec<(PathBuf, u64, Option<SystemTime>)>);

impl Project {
    pub(super) fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::new(Exit::Use, format!("{}: {error}", path.display())).with_remedy(
                "`archibald new` makes a project, `archibald lab init` writes this file into a folder of yours.",
            )
        })?;
        let folder = fs::canonicalize(folder).context(folder.display())?;
        let scenario = Scenario::parse(&path.display().to_string(), &text, &folder)?;
        if let Source::Builtin(name) = scenario.program.source {
            let message = format!("{} runs the lab's own {name}", path.display());
            return Err(Failure::new(Exit::Use, message)
                .with_remedy("Write run = \"...\" in [program], to say how this project runs."));
        }
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.ok_or_else(|| Failure::new(Exit::Use, "/ is no project's folder"))?;
        Ok(Self { name, build: scenario.program.build, run: scenario.program.run, folder })
    }

    /// Where it is in the machine, below the user's home.
    pub(super) fn place(&self) -> String {
        format!("projects/{}", self.name)
    }

    /// As the folder stands now.
    pub(super) fn state(&self) -> State {
        let mut state = State::default();
        state.add(&self.folder);
        state.0.sort();
        state
    }
}

impl State {
    fn add(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Editors keep what is being edited in such files.
            if name.starts_with('.') || name.ends_with('~') || LEFT_OUT.contains(&&*name) {
                continue;
            }
            // Gone since it was listed: the next look finds another state.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if metadata.is_dir() {
                self.add(&entry.path());
            } else {
                self.0.push((entry.path(), metadata.len(), metadata.modified().ok()));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_and_an_editor_s_own_files_are_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("lab.toml"), "[program]\nrun = \"./x\"\n").unwrap();
        fs::write(dir.path().join("src/main.c"), "int main;").unwrap();
        let project = Project::read(dir.path()).unwrap();
        let before = project.state();
        for passing in [".main.c.swp", "src/main.c~", "src/.#main.c"] {
            fs::write(dir.path().join(passing), "").unwrap();
        }
        fs::create_dir(dir.path().join("target")).unwrap();
        fs::write(dir.path().join("target/x"), "").unwrap();
        assert_eq!(project.state(), before);
        fs::write(dir.path().join("src/main.c"), "int main, more;").unwrap();
        assert_ne!(project.state(), before);
        fs::remove_file(dir.path().join("src/main.c")).unwrap();
        assert_ne!(project.state(), before);
    }
}
