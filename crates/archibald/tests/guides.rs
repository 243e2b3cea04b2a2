//! The guides in docs/guides, walked through: every command is run and must end and speak as the guide says.
//! Here those that run anywhere, and those of the lab; those that need a machine are in machine.rs.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod guide;
mod world;

use guide::Place;
use world::World;

#[test]
fn a_guide_is_commands_with_what_they_say() {
    let text = r#"# x
```console
$ echo one \
> two
one two
...
$ false
[1]
$ bash -c 'trap "echo over; exit 130" INT; echo begun; while :; do sleep 0.1; done'
begun
^C
over
```
```toml
$ no
```
```console left-out: needs a card
$ aplay
```
"#;
    let guide = guide::read("x.md".to_owned(), text);
    let told: Vec<_> = guide.steps.iter().map(|s| (s.command.as_str(), s.status)).collect();
    assert_eq!(told[..2], [("echo one \\\ntwo", 0), ("false", 1)]);
    assert_eq!(guide.steps[2].interrupted_at.as_deref(), Some("begun"));
    assert_eq!(guide.left_out, [(17, "needs a card".to_owned())]);
    guide.walk(&World::new(), Place::Anywhere, &str::to_owned);
    let wrong = guide::read("x.md".to_owned(), &text.replace("one two\n", "three\n"));
    let walk = || wrong.walk(&World::new(), Place::Anywhere, &str::to_owned);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(walk)).is_err());
}

#[test]
fn the_guides_that_were_promised_are_there_and_say_what_they_leave_out() {
    let guides = guide::all();
    for name in GUIDES {
        assert!(guides.iter().any(|guide| guide.name == name), "{name}");
    }
    for guide in &guides {
        guide.tell_left_out();
        guide.walk(&World::new(), Place::Anywhere, &str::to_owned);
    }
}

const GUIDES: [&str; 6] = [
    "constrained-machines.md",
    "first-hour.md",
    "jack-c-rust.md",
    "network-audio.md",
    "supercollider.md",
    "troubleshooting.md",
];

#[test]
#[ignore = "boots the real image in virtual time; run by ./archibald test"]
fn guides_to_the_lab() {
    for guide in guide::all() {
        guide.walk(&World::new(), Place::Lab, &str::to_owned);
    }
}
