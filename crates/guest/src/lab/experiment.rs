//! The two things that a request can ask for: a build, and a measurement.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use archibald_mailbox::{Measure, Problem, Reply, Request, Stage, Window};
use archibald_trace::capture::Role;
use rustix::time::{ClockId, clock_gettime};

use super::audio::Server;
use super::ordinary::Manners;
use super::process::{self, Process};
use super::seed::Chance;
use super::{PROGRAM, collected, usage};
use crate::Root;
use crate::graph::Session;
use crate::trace::{Options, Recorder};

/// How long a build may take, in the guest's own time.
const BUILD_LIMIT: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(100);
/// For so long a program has to fill the processor before it is taken for one that plays too much,
/// rather than for one that does not connect.
const OVERLOAD: Duration = Duration::from_secs(2);
/// The guest's time that the trace's rings have to be made in.
const PREPARATION: Duration = Duration::from_secs(1);
/// And to be started in.
const BEGINNING: Duration = Duration::from_millis(200);
/// The lab's own client of the graph.
const PROBE: &str = "archibald-probe";
/// Where the load may write: memory, so that no disk has a part in it.
const LOAD_FOLDER: &str = "/tmp/archibald-load";

/// Runs the build command and collects the folder.
pub(super) fn build(session: &Session, command: &str) -> Result<Reply, Problem> {
    let wrong = |message: String| Problem { stage: Stage::Build, message };
    let log = collected(Reply::PROGRAM_LOG);
    let words = process::as_user(session, command);
    let mut build = Process::start(&words, Path::new(PROGRAM), &log).map_err(wrong)?;
    let problem = match build.wait(BUILD_LIMIT) {
        Some(status) if status.success() => None,
        Some(status) => Some(wrong(format!("`{command}` {}", process::how(status)))),
        None => {
            build.kill();
            Some(wrong(format!("`{command}` did not end within {BUILD_LIMIT:?}")))
        }
    };
    fs::rename(PROGRAM, collected(Reply::FOLDER))
        .or_else(|_| copy_tree(Path::new(PROGRAM), &collected(Reply::FOLDER)))
        .map_err(|error| wrong(format!("the built folder: {error}")))?;
    Ok(Reply { problem, ..Reply::default() })
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if entry.file_type()?.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Server, probe, program, load, then the window.
pub(super) fn measure(
    request: &Request,
    measure: &Measure,
    session: &Session,
) -> Result<Reply, Problem> {
    let at = |stage: Stage| move |message: String| Problem { stage, message };
    let period_ns = u64::from(request.settings.quantum.0) * 1_000_000_000
        / u64::from(request.settings.rate.0.max(1));
    let mut chance = Chance::new(request.seed);
    let log = collected(Reply::SERVER_LOG);
    // Its memory is taken before the program and the load can have it. A run that is not traced waits
    // as long, so that everything after happens at the same moments in both.
    let ready = Instant::now() + PREPARATION;
    let recorder = match measure.trace {
        true => Some(prepare_recorder().map_err(at(Stage::Setup))?),
        false => None,
    };
    thread::sleep(ready.saturating_duration_since(Instant::now()));
    thread::sleep(chance.phase(period_ns));
    let mut server = Server::start(session, &request.settings, measure.realtime, &log)
        .map_err(at(Stage::Server))?;
    let mut probe = start_probe(session).map_err(at(Stage::Setup))?;

    let mut program = match &measure.program {
        Some(command) => {
            thread::sleep(chance.phase(period_ns));
            let told = told(&request.settings, command);
            Some(start_program(&told, session, &server, measure).map_err(at(Stage::Program))?)
        }
        None => None,
    };
    let mut load = match &measure.load {
        Some(command) => {
            thread::sleep(chance.phase(period_ns));
            Some(start_load(command, request.seed).map_err(at(Stage::Load))?)
        }
        None => None,
    };
    let mut groups = program.as_ref().map(|program| vec![program.group()]).unwrap_or_default();
    groups.sort_unstable();
    let manners = warm_up(Duration::from_nanos(measure.warmup_ns), &groups);
    let graph = graph_of(&server.groups(), &groups, probe.group());
    let ready = Instant::now() + BEGINNING;
    let mut recording = match recorder {
        Some(recorder) => Some(begin(recorder, &graph, manners).map_err(at(Stage::Window))?),
        None => None,
    };
    thread::sleep(ready.saturating_duration_since(Instant::now()));
    let window = watch(&server, &groups, measure.window_ns, &log, recording.as_mut(), manners)
        .map_err(at(Stage::Window))?;
    if let Some(recorder) = recording {
        // While everybody is still there: what they have mapped and open is written down too.
        let folder = collected(Reply::TRACE);
        recorder.end(&folder).map_err(|error| at(Stage::Window)(error.to_string()))?;
    }

    let ended = program.as_mut().and_then(Process::ended);
    let load_ended = load.as_mut().and_then(Process::ended);
    if let Some(load) = &mut load {
        load.kill();
    }
    // The program before the probe: one that overloads the processor would keep the probe, which is an
    // ordinary thread while it writes, from coming to its end.
    if let Some(program) = &mut program {
        program.stop(Duration::from_millis(300));
        program.kill();
    }
    let server_ended = server.ended();
    probe.interrupt(Duration::from_secs(1));
    if probe.ended().is_none() {
        // The server alone takes the whole processor. Without it the probe can write what it has seen.
        server.kill();
        probe.wait(Duration::from_secs(5));
    }
    let problem = if let Some(how) = server_ended {
        Some(at(Stage::Server)(format!("the audio server {how} while it was measured")))
    } else if let Some(status) = ended {
        Some(at(Stage::Program)(format!(
            "the program {} before the measurement was over",
            process::how(status)
        )))
    } else {
        load_ended.map(|status| at(Stage::Load)(format!("the load {}", process::how(status))))
    };
    Ok(Reply { problem, window: Some(window), ..Reply::default() })
}

fn prepare_recorder() -> Result<Recorder, String> {
    Recorder::prepare(&Root::default(), &Options::default()).map_err(|error| error.to_string())
}

/// Waits, and sees how the lab has to work meanwhile.
fn warm_up(length: Duration, program: &[u32]) -> Manners {
    let root = Root::default();
    let (begun, before) = (Instant::now(), usage::threads(&root, program));
    thread::sleep(length);
    match usage::fills(begun.elapsed(), &before, &usage::threads(&root, program)) {
        true => Manners::Insistent,
        false => Manners::Ordinary,
    }
}

fn begin(
    mut recorder: Recorder,
    graph: &[(Role, u32)],
    manners: Manners,
) -> Result<Recorder, String> {
    manners
        .work(|| recorder.begin(graph))
        .map_err(|error| format!("the lab's own priority: {error}"))?
        .map_err(|error| error.to_string())?;
    Ok(recorder)
}

/// The processes that take part in the graph: a group bears the number of its first process.
fn graph_of(server: &[u32], program: &[u32], probe: u32) -> Vec<(Role, u32)> {
    let role = |role: Role| move |pid: &u32| (role, *pid);
    let server = server.iter().map(role(Role::Server));
    let program = program.iter().map(role(Role::Program));
    server.chain(program).chain([(Role::Probe, probe)]).collect()
}

fn start_probe(session: &Session) -> Result<Process, String> {
    let words = process::as_user(session, &format!("exec {PROBE} watch --name {PROBE}"));
    let error = collected("probe.log");
    Process::start_apart(&words, Path::new("/"), &collected(Reply::PROBE), &error)
}

/// A command that finds the graph's settings in its environment. scsynth, for one, must be told the
/// period: with a longer block of its own it renders nothing.
pub(super) fn told(settings: &archibald_machine::Settings, command: &str) -> String {
    let (quantum, rate) = (settings.quantum.0, settings.rate.0);
    format!("export ARCHIBALD_QUANTUM={quantum} ARCHIBALD_RATE={rate}; {command}")
}

/// Starts the program and waits until it has ports in the graph.
fn start_program(
    command: &str,
    session: &Session,
    server: &Server,
    measure: &Measure,
) -> Result<Process, String> {
    let before = server.ports();
    let log = collected(Reply::PROGRAM_LOG);
    let words = process::as_user(session, command);
    let mut program = Process::start(&words, Path::new(PROGRAM), &log)?;
    let deadline = Instant::now() + Duration::from_nanos(measure.patience_ns);
    let look = |program: &Process| usage::threads(&Root::default(), &[program.group()]);
    let mut looked = (Instant::now(), look(&program));
    loop {
        if let Some(status) = program.ended() {
            return Err(format!("the program {} before it connected", process::how(status)));
        }
        let is_new = |port: &String| !before.contains(port) && !port.starts_with(PROBE);
        let connected = server.ports().iter().any(is_new);
        let silent = measure.ready.as_ref().filter(|ready| !has_said(&log, ready));
        if connected && silent.is_none() {
            return Ok(program);
        }
        let passed = looked.0.elapsed();
        if !connected && passed >= OVERLOAD {
            let now = look(&program);
            if usage::fills(passed, &looked.1, &now) {
                // Nobody who is not of the graph gets an answer from the server any more.
                return Ok(program);
            }
            looked = (Instant::now(), now);
        }
        if Instant::now() >= deadline {
            let patience = Duration::from_nanos(measure.patience_ns);
            return Err(match silent.filter(|_| connected) {
                Some(ready) => {
                    format!(
                        "the program has not said \"{ready}\" after {patience:?} of virtual time"
                    )
                }
                None => format!(
                    "the program has no port in the graph after {patience:?} of virtual time"
                ),
            });
        }
        thread::sleep(POLL);
    }
}

fn has_said(log: &Path, words: &str) -> bool {
    fs::read(log).is_ok_and(|text| String::from_utf8_lossy(&text).contains(words))
}

fn start_load(command: &str, seed: u64) -> Result<Process, String> {
    let told = |error: std::io::Error| format!("{LOAD_FOLDER}: {error}");
    fs::create_dir_all(LOAD_FOLDER).map_err(told)?;
    fs::set_permissions(LOAD_FOLDER, std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .map_err(told)?;
    let command = command.replace("@SEED@", &seed.to_string());
    // Nobody's programs: the rest of a system, without any of the audio user's rights.
    let words = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"];
    let words = words.into_iter().chain(["sh", "-c", &command]).map(str::to_owned);
    Process::start(&words.collect::<Vec<_>>(), Path::new(LOAD_FOLDER), &collected(Reply::LOAD_LOG))
}

/// Counts for the length of the window.
fn watch(
    server: &Server,
    program: &[u32],
    window_ns: u64,
    log: &Path,
    recorder: Option<&mut Recorder>,
    manners: Manners,
) -> Result<Window, String> {
    let root = Root::default();
    let length = || fs::metadata(log).map_or(0, |file| file.len());
    // Dozens of files are read for that.
    let (counted, threads) = manners
        .work(|| {
            let groups = [program, &server.groups()];
            (server.counters(), groups.map(|groups| usage::threads(&root, groups)))
        })
        .map_err(|error| format!("the lab's own priority: {error}"))?;
    let (begin, first) = (now(), length());
    thread::sleep(Duration::from_nanos(window_ns));
    let (end, last) = (now(), length());
    if let Some(recorder) = recorder {
        recorder.pause().map_err(|error| error.to_string())?;
    }
    let [of_program, of_server] =
        [program, &server.groups()].map(|groups| usage::threads(&root, groups));
    let counters: BTreeMap<String, u64> = server
        .counters()
        .into_iter()
        .map(|(name, count)| {
            let before = counted.get(&name).copied().unwrap_or(0);
            (name, count.saturating_sub(before))
        })
        .collect();
    Ok(Window {
        begin_ns: begin.0,
        end_ns: end.0,
        stamps: (begin.1, end.1),
        mapped: usage::mapped(&root, program, PROGRAM),
        server_log: (first, last),
        counters,
        program: usage::between(&threads[0], of_program),
        server: usage::between(&threads[1], of_server),
        ports: server.ports(),
    })
}

/// The guest's CLOCK_MONOTONIC, which the probe and the kernel's trace use too, and the processor's time
/// stamp counter at the same moment.
fn now() -> (u64, u64) {
    let now = clock_gettime(ClockId::Monotonic);
    // SAFETY: every x86-64 processor has the instruction, and nothing takes it away from programs here.
    #[allow(unsafe_code)]
    let stamp = unsafe { core::arch::x86_64::_rdtsc() };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    (seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0), stamp)
}
