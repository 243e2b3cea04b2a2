//! An ordinary user builds the same image as root. Run by root, the test makes a user for it and
//! removes that user; run by an ordinary user, the other tests show the same.

use std::path::PathBuf;
use std::process::Command;

use archibald_image::{Cache, Cancel, Quiet};

use crate::builder::command;
use crate::workshop::{Told, Workshop, copy, disk_sum, is_root, request, tools};

struct User {
    name: String,
    home: PathBuf,
}

fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl User {
    fn create() -> Self {
        let name = format!("archi{}", std::process::id());
        let home = PathBuf::from(format!("/var/tmp/{name}"));
        let words = ["--create-home", "--home-dir", home.to_str().unwrap(), &name];
        run("useradd", &words);
        let user = Self { name, home };
        // Not every host gives new users a range; this one is far from any that it would give.
        run("usermod", &["--add-subuids", "2000000000-2000065535", &user.name]);
        run("usermod", &["--add-subgids", "2000000000-2000065535", &user.name]);
        run("chmod", &["700", user.home.to_str().unwrap()]);
        user
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = Command::new("userdel").args(["--remove", &self.name]).output();
    }
}

#[test]
fn an_ordinary_user_builds_the_same_image() {
    if !is_root() {
        eprintln!("SKIPPED: every test of this run is that of an ordinary user already");
        return;
    }
    let by_root = Workshop::with_base().build(&request(Vec::new()), &Told::default()).unwrap();
    let downloads = Workshop::with_downloads();
    let user = User::create();
    let cache = user.home.join("cache");
    copy(&downloads.path().join("debs"), &cache.join("debs"));
    let program = user.home.join("build");
    // By another process: what this one has open for writing, a child of another test keeps for a moment, and
    // then it does not run.
    let this = std::env::current_exe().unwrap();
    run("cp", &[this.to_str().unwrap(), program.to_str().unwrap()]);
    run("chown", &["-R", &format!("{0}:{0}", user.name), user.home.to_str().unwrap()]);

    let build = command(&program, &cache);
    let output = Command::new("setpriv")
        .args(["--reuid", &user.name, "--regid", &user.name, "--clear-groups", "--"])
        .arg(build.get_program())
        .args(build.get_args())
        .envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("HOME", &user.home)
        .current_dir("/")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = std::fs::read_to_string(cache.join("log/packages.log")).unwrap_or_default();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}{error}{log}");
    assert!(!cache.join("partial").exists());

    let cache = Cache::open(&cache, tools()).unwrap();
    let listed = cache.list().unwrap();
    let image = cache.inspect(listed[0].id(), &Quiet, &Cancel::new()).unwrap();
    assert_eq!(disk_sum(&image), disk_sum(&by_root));
}
