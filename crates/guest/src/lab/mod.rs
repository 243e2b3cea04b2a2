//! The guest's side of the virtual-time lab: what an experiment does, from the request in the mailbox
//! to the reply. Runs once in a machine that was booted for it; nothing here looks at the real world.
//!
//! The caller runs with a real-time priority above the audio graph's, so that an overloaded machine
//! cannot keep it from ending the experiment; what it starts has none but its own.

mod audio;
mod experiment;
mod mailbox;
mod ordinary;
mod pause;
mod process;
mod seed;
mod shell;
mod usage;

use std::fs;
use std::path::{Path, PathBuf};

use archibald_machine::Settings;
use archibald_mailbox::{Problem, Reply, Stage, Task};

use crate::commands::set_up;
use crate::graph::Session;
use crate::run::{Invocation, Programs, Run as _};
use crate::{GuestError, Root};

/// Where the initrd has put what the machine is told before the snapshot.
const SETTINGS: &str = "/usr/share/archibald/lab/settings.json";
/// What an experiment collects for its reply, by the reply's names.
const COLLECTED: &str = "/run/archibald/lab";
/// The folder in which the program runs.
const PROGRAM: &str = "/srv/program";
/// What the machine's limits and kernel settings stand in; taken away where it is not tuned.
const LIMITS: &str = "/etc/security/limits.d/99-archibald.conf";
const PACKAGED_LIMITS: [&str; 2] =
    ["/etc/security/limits.d/25-pw-rlimits.conf", "/etc/security/limits.d/audio.conf"];

/// Makes the machine ready for any experiment, pauses for the snapshot, and after that does the one
/// that the mailbox asks for. Ends with the machine paused again; it is not meant to go on.
///
/// # Errors
/// What kept it from reaching the snapshot, or from sending a reply.
pub fn run() -> Result<(), GuestError> {
    let root = Root::default();
    let text = fs::read(SETTINGS).map_err(GuestError::file("read", SETTINGS))?;
    let settings: Settings = serde_json::from_slice(&text).map_err(|error| {
        GuestError::BadSettings { path: SETTINGS.into(), reason: error.to_string() }
    })?;
    set_up(&root, &settings, &Programs)?;
    warm(&settings);
    pause::pause()?;

    fs::create_dir_all(COLLECTED).map_err(GuestError::file("make", COLLECTED))?;
    let mut reply = match mailbox::receive(Path::new(PROGRAM)) {
        Ok(request) => obey(&root, &request),
        Err(message) => Err(Problem { stage: Stage::Setup, message }),
    }
    .unwrap_or_else(|problem| Reply { problem: Some(problem), ..Reply::default() });
    let kernel = rustix::system::uname();
    reply.kernel =
        format!("{} {}", kernel.release().to_string_lossy(), kernel.version().to_string_lossy());
    let _ = fs::copy("/proc/schedstat", collected(Reply::SCHEDSTAT));
    mailbox::send(&reply, Path::new(COLLECTED))?;
    pause::pause()
}

fn collected(name: &str) -> PathBuf {
    Path::new(COLLECTED).join(name)
}

/// Has the programs of every experiment read from the disk once, so that each starts from memory.
fn warm(settings: &Settings) {
    let Some(user) = settings.users.first() else { return };
    for words in [
        &["runuser", "-u", &user.name, "--", "env", "true"][..],
        &[
            "setpriv",
            "--reuid",
            &user.name,
            "--regid",
            &user.name,
            "--init-groups",
            "sh",
            "-c",
            "true",
        ],
        &["jackd", "--version"],
        &["jack_lsp", "--version"],
        &["pipewire", "--version"],
        &["pw-top", "--version"],
        &["stress-ng", "--version"],
    ] {
        // One that is missing is told by the experiment that needs it.
        let _ = Programs.run(&Invocation::new(words));
    }
}

fn obey(root: &Root, request: &archibald_mailbox::Request) -> Result<Reply, Problem> {
    let setup = |error: String| Problem { stage: Stage::Setup, message: error };
    seed::stir(request.seed).map_err(|error| setup(format!("the seed: {error}")))?;
    set_up(root, &request.settings, &Programs).map_err(|error| setup(error.to_string()))?;
    tune(request.tuned).map_err(setup)?;
    let user = request.settings.users.first().ok_or_else(|| setup("no user".to_owned()))?;
    let session = Session::of(root, &user.name, request.settings.server)
        .ok_or_else(|| setup(format!("{} has no account", user.name)))?;
    process::own_tree(Path::new(PROGRAM), &session).map_err(|error| setup(error.to_string()))?;
    let runtime = format!("/run/user/{}", session.uid);
    fs::create_dir_all(&runtime)
        .and_then(|()| process::own_tree(Path::new(&runtime), &session))
        .map_err(|error| setup(format!("{runtime}: {error}")))?;
    match &request.task {
        Task::Build { command } => experiment::build(&session, command),
        Task::Measure(measure) => experiment::measure(request, measure, &session),
        Task::Shell(shell) => shell::serve(request, shell, &session),
    }
}

/// Puts the machine's kernel settings in force, or takes its limits away.
fn tune(tuned: bool) -> Result<(), String> {
    if tuned {
        let answer = Programs.run(&Invocation::new(&["/usr/lib/systemd/systemd-sysctl"]));
        return if answer.success { Ok(()) } else { Err(answer.last_line().to_owned()) };
    }
    for path in [LIMITS].iter().chain(&PACKAGED_LIMITS) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{path}: {error}"));
            }
            _ => {}
        }
    }
    Ok(())
}
