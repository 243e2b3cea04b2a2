//! `archibald completions` prints what shells read.

mod world;
use world::World;

#[test]
fn every_shell_gets_every_verb() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let said = world.run(&["completions", shell]);
        assert_eq!(said.status, 0);
        for verb in ["up", "doctor", "logs"] {
            assert!(said.out.contains(verb), "{shell} lacks {verb}");
        }
        assert!(!said.out.contains("archibald__keep"), "{shell} shows the hidden verb");
    }
}

#[test]
fn bash_takes_them() {
    let world = World::new();
    let script = world.write("completions.bash", &world.run(&["completions", "bash"]).out);
    let checked = std::process::Command::new("bash").arg("-n").arg(script).status().unwrap();
    assert!(checked.success());
}
