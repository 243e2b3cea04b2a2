//! `streamdb backup` and `streamdb restore`: one moment of a store in use, and back again.

#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]

mod server;

use std::sync::atomic::{AtomicBool, Ordering};

use server::{Server, bytes, expect, fresh, program, said};

/// Two values are always written in the same batch, so a backup that mixes moments shows; large
/// ones are replaced meanwhile, so one that does not hold on to their files shows too.
#[test]
fn a_backup_taken_under_load_is_one_moment_and_restores() {
    let (dir, server) = fresh();
    for n in 0..8 {
        server.put(&format!("large/{n}"), &bytes(300_000, n));
    }
    let over = AtomicBool::new(false);
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let batch = format!(
                    r#"{{"operations": [{{"op": "put", "key": "a", "text": "{n}"}},
                        {{"op": "put", "key": "b", "text": "{n}"}}]}}"#
                );
                let uri = format!("{}/v1/batch", server.url());
                assert_eq!(server::agent().post(uri).send(batch).unwrap().status(), 200);
                assert!(server.put(&format!("large/{}", n % 8), &bytes(300_000, n)).is_some());
            }
        });
        for n in 0..3 {
            let to = dir.path().join(format!("backup{n}"));
            expect(&server.run(&["backup", to.to_str().unwrap()]), 0);
            copies.push(to);
        }
        over.store(true, Ordering::Relaxed);
    });
    for (n, copy) in copies.iter().enumerate() {
        let data = dir.path().join(format!("restored{n}"));
        let mut restore = program();
        restore.arg("restore").arg(copy).arg("--data").arg(&data);
        expect(&restore.output().unwrap(), 0);
        let check = program().arg("check").arg("--data").arg(&data).output().unwrap();
        expect(&check, 0);
        let restored = Server::start(&data);
        assert_eq!(restored.get("a"), restored.get("b"));
        for n in 0..8 {
            assert_eq!(restored.get(&format!("large/{n}")).unwrap().len(), 300_000);
        }
    }
    let again = server.run(&["backup", copies[0].to_str().unwrap()]);
    expect(&again, 2);
    assert!(said(&again).contains("is not empty"), "{}", said(&again));
}

#[test]
fn a_store_that_is_not_served_is_backed_up_with_its_streams_and_damage_is_told() {
    let (dir, server) = fresh();
    let data = dir.path().join("store");
    let append = server::agent().post(format!("{}?append", server.object("live")));
    assert_eq!(append.send(&bytes(100_000, 1)[..]).unwrap().status(), 201);
    assert_eq!(server.stop(), Some(0));
    let run = |to: &str| {
        let mut backup = program();
        backup.arg("backup").arg("--data").arg(&data).arg(dir.path().join(to));
        backup.output().unwrap()
    };
    expect(&run("one"), 0);
    let copy = Server::start(&dir.path().join("one"));
    let append = server::agent().post(format!("{}?append", copy.object("live")));
    let append = append.header("streamdb-offset", "100000");
    assert_eq!(append.send("more").unwrap().status(), 200);
    let group = std::fs::read_dir(data.join("blobs")).unwrap().next().unwrap().unwrap();
    let blob = std::fs::read_dir(group.path()).unwrap().next().unwrap().unwrap().path();
    let mut content = std::fs::read(&blob).unwrap();
    content[70_000] ^= 1;
    std::fs::write(&blob, content).unwrap();
    expect(&run("two"), 1);
}
