//! A build in another process: this very test program, started again for one test that is no test.
//! It prints a line a stage, so that others know when to kill it.

use std::env;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use archibald_image::{Cache, Cancel, Contention, Progress, Stage, guest_tree};

use crate::workshop::{initrd, request, tools};

const CACHE: &str = "ARCHIBALD_TEST_CACHE";
const TREE: &str = "ARCHIBALD_TEST_TREE";
const INITRD: &str = "ARCHIBALD_TEST_INITRD";

struct Print;

impl Progress for Print {
    fn stage(&self, stage: Stage) {
        // libtest writes what it names a test by without ending the line.
        println!("\nstage {stage}");
    }
}

#[test]
#[ignore = "started by other tests"]
fn build_in_this_process() {
    let Some(cache) = env::var_os(CACHE) else { return };
    let mut request = request(Vec::new());
    if let Some(tree) = env::var_os(TREE) {
        request.guest = guest_tree(Path::new(&tree)).unwrap();
    }
    request.initrd = env::var_os(INITRD).map(|dir| initrd(Path::new(&dir)));
    let cache = Cache::open(Path::new(&cache), tools()).unwrap();
    match cache.build(&request, Contention::Wait, &Print, &Cancel::new()) {
        Ok(image) => println!("\nimage {}", image.id()),
        Err(error) => panic!("error {error}"),
    }
}

/// The words that make `program`, a copy of this test program, build in `cache`.
pub(crate) fn command(program: &Path, cache: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["builder::build_in_this_process", "--exact", "--ignored", "--nocapture"]);
    command.env(CACHE, cache).env("RUST_BACKTRACE", "0");
    command
}

/// A build in another process, read line by line.
pub(crate) struct Building {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Building {
    /// Builds in `cache`, with the guest files of one directory and the initrd of another.
    pub(crate) fn start(cache: &Path, tree: Option<&Path>, initrd: Option<&Path>) -> Self {
        let mut command = command(&env::current_exe().unwrap(), cache);
        command.envs(tree.map(|dir| (TREE, dir)));
        command.envs(initrd.map(|dir| (INITRD, dir)));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until a line begins with `start` for the `nth` time, counted from 1.
    pub(crate) fn wait_for(&mut self, start: &str, nth: usize) {
        let found = self.lines.by_ref().map(Result::unwrap).filter(|line| line.starts_with(start));
        assert_eq!(found.take(nth).count(), nth, "the build ended before `{start}`");
    }

    /// The stages and the image in the rest of its output; it must end well.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let lines = self.lines.by_ref().map(Result::unwrap);
        let told = |line: &String| line.starts_with("stage ") || line.starts_with("image ");
        let rest = lines.filter(told).collect();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}
