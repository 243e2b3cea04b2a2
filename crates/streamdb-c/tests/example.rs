//! The libraries as they are installed, and the C example compiled against each and run: as a C
//! programmer would, by pkg-config.
#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]
#![allow(clippy::print_stdout, reason = "what was skipped is told")]

use std::path::Path;
use std::process::{Command, Output};

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

fn words(output: Output) -> Vec<String> {
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_example_compiles_and_runs_with_either_library() {
    for program in ["cc", "pkg-config", "readelf", "nm"] {
        if Command::new(program).arg("--version").output().is_err() {
            println!(
                "SKIPPED: {program} is not installed (apt-get install gcc binutils pkg-config)"
            );
            return;
        }
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let prefix = tempfile::tempdir().unwrap();
    let prefix = prefix.path();
    run(Command::new(here.join("install")).arg(prefix).env("CARGO", env!("CARGO")));
    let library = prefix.join("lib/libstreamdb.so");

    // It asks to be found by its interface's name, and gives out nothing but what the header tells.
    let told = run(Command::new("readelf").arg("-d").arg(&library));
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("soname: [libstreamdb.so.0]"), "{told}");
    let symbols = words(run(Command::new("nm")
        .args(["-D", "--defined-only", "--format=just-symbols"])
        .arg(&library)));
    let header = std::fs::read_to_string(here.join("include/streamdb.h")).unwrap();
    assert!(symbols.len() > 10);
    for symbol in symbols {
        assert!(header.contains(&format!("{symbol}(")), "{symbol} is not in the header");
    }

    for (kind, options, asked) in [
        ("shared", &[][..], &["--cflags", "--libs"][..]),
        ("static", &["-static"], &["--static", "--cflags", "--libs"]),
    ] {
        let flags = words(run(Command::new("pkg-config")
            .args(asked)
            .arg("streamdb")
            .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))));
        let example = prefix.join(kind);
        run(Command::new("cc")
            .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"])
            .args(options)
            .arg("-o")
            .arg(&example)
            .arg(here.join("examples/hello.c"))
            .args(&flags));
        let needs = words(run(Command::new("readelf").arg("-d").arg(&example)));
        assert_eq!(needs.iter().any(|word| word == "[libstreamdb.so.0]"), kind == "shared");
        let hello = |store: &Path| {
            let mut command = Command::new(&example);
            command.arg(store).env("LD_LIBRARY_PATH", prefix.join("lib"));
            command
        };
        let said = run(&mut hello(&prefix.join(format!("store of {kind}"))));
        let version = env!("CARGO_PKG_VERSION");
        let wanted = format!(
            "takes/one.wav: RIFF\nfound takes/one.wav\n1 keys, 4 bytes, version {version}\n"
        );
        assert_eq!(String::from_utf8(said.stdout).unwrap(), wanted);
        let wrong = hello(Path::new("/dev/null/none")).output().unwrap();
        assert_eq!(wrong.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("status -1"));
    }
}
