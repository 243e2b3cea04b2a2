//! Threads of the audio graph that stand in the wrong order: who would go first is not who should.

use serde::Serialize;

use crate::threads::Scheduled;

/// Which part a thread has in the audio graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Drives the graph: of PipeWire or jackd.
    Graph,
    /// A program's callback runs on it.
    Client,
    /// The sound card's or the USB controller's interrupt thread.
    SoundInterrupt,
    /// Another device's interrupt thread.
    Interrupt,
    /// Another of the kernel's threads.
    Kernel,
    /// Anything else.
    Other,
}

/// Two threads in the wrong order, or one that is no real-time thread though it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inversion {
    /// The audio thread that suffers: its program, and its own name where that is another.
    pub thread: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// The part that a thread has. Audio threads are known by what PipeWire and JACK name them, and by the
/// real-time priority that nothing else of an ordinary user has.
#[must_use]
pub fn role(thread: &Scheduled) -> Role {
    // The handler's thread is named irq/NUMBER-DEVICE.
    let device = thread.name.strip_prefix("irq/").and_then(|name| name.split_once('-'));
    match (thread.kernel, device) {
        (true, Some((_, device)))
            if ["snd", "usb", "xhci", "ehci"].iter().any(|d| device.contains(d)) =>
        {
            Role::SoundInterrupt
        }
        (true, Some(_)) => Role::Interrupt,
        (true, None) => Role::Kernel,
        // Root's real-time threads are the system's.
        (false, _) if thread.uid == 0 => Role::Other,
        (false, _) if thread.is_real_time() || thread.name.starts_with("data-loop") => {
            match thread.program.as_str() {
                "pipewire" | "jackd" => Role::Graph,
                _ => Role::Client,
            }
        }
        (false, _) => Role::Other,
    }
}

/// Every pair in the wrong order among `threads`.
#[must_use]
pub fn inversions(threads: &[Scheduled]) -> Vec<Inversion> {
    let of = |wanted: Role| threads.iter().filter(move |thread| role(thread) == wanted);
    let mut found = Vec::new();
    for thread in of(Role::Graph).chain(of(Role::Client)) {
        if !thread.is_real_time() {
            found.push(Inversion {
                thread: named(thread),
                what: format!("runs as an ordinary thread ({}): everything with a priority goes first", thread.policy),
                remedy: "Start it as a user with a limit for real-time priority: `ulimit -r` shows it, `archibald check` says what is missing.".to_owned(),
            });
            continue;
        }
        for other in of(Role::Interrupt).filter(|other| goes_first(other, thread)) {
            found.push(Inversion {
                thread: named(thread),
                what: format!(
                    "{} {} is not above {} ({} {}) on CPU {}",
                    thread.policy, thread.priority, other.name, other.policy, other.priority, thread.cpus
                ),
                remedy: "Give the audio thread a priority above 50, where the kernel puts interrupt threads, or move that interrupt to another CPU.".to_owned(),
            });
        }
    }
    for graph in of(Role::Graph).filter(|graph| graph.is_real_time()) {
        for client in of(Role::Client).filter(|client| goes_first(client, graph)) {
            found.push(Inversion {
                thread: named(graph),
                what: format!(
                    "{} {} is not above {} ({} {}), whom it must wake",
                    graph.policy, graph.priority, named(client), client.policy, client.priority
                ),
                remedy: "Give the program a priority below the graph's: PipeWire and JACK do so by themselves.".to_owned(),
            });
        }
        for interrupt in of(Role::SoundInterrupt).filter(|other| other.priority <= graph.priority) {
            found.push(Inversion {
                thread: named(graph),
                what: format!(
                    "{} {} is not below {} ({} {}), which it waits for",
                    graph.policy, graph.priority, interrupt.name, interrupt.policy, interrupt.priority
                ),
                remedy: "`sudo systemctl restart rtirq` puts sound cards' interrupts above the graph; realtime.irq-priority in the machine file says how high.".to_owned(),
            });
        }
    }
    found
}

/// Whether `other` has the processor first where both may run.
fn goes_first(other: &Scheduled, thread: &Scheduled) -> bool {
    other.priority >= thread.priority && other.cpus.iter().any(|cpu| thread.cpus.contains(cpu))
}

fn named(thread: &Scheduled) -> String {
    match thread.program == thread.name {
        true => thread.name.clone(),
        false => format!("{}/{}", thread.program, thread.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(program: &str, name: &str, uid: u32, priority: u8, cpus: &str) -> Scheduled {
        Scheduled {
            process: 1,
            id: 2,
            program: program.to_owned(),
            name: name.to_owned(),
            uid,
            kernel: program == "kernel",
            policy: if priority > 0 { "FIFO" } else { "OTHER" },
            priority,
            cpus: cpus.parse().unwrap(),
        }
    }

    fn whats(threads: &[Scheduled]) -> Vec<String> {
        inversions(threads)
            .into_iter()
            .map(|found| format!("{}: {}", found.thread, found.what))
            .collect()
    }

    #[test]
    fn threads_in_order_are_nothing_to_say() {
        let threads = [
            thread("kernel", "irq/30-snd_hda_intel:card0", 0, 90, "0"),
            thread("pipewire", "data-loop.0", 1000, 88, "1"),
            thread("scsynth", "data-loop.0", 1000, 83, "1"),
            thread("kernel", "irq/31-virtio1-input.0", 0, 50, "0-1"),
            thread("kernel", "migration/1", 0, 99, "1"),
            thread("streamdb", "tokio-rt-worker", 998, 0, "0"),
        ];
        assert_eq!(whats(&threads), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_order_is_named_with_both() {
        let network = thread("kernel", "irq/31-virtio1-input.0", 0, 50, "0-1");
        let graph = thread("pipewire", "data-loop.0", 1000, 88, "1");
        for (threads, words) in [
            (
                [network.clone(), thread("client", "audio", 1000, 40, "1")],
                "irq/31-virtio1-input.0 (FIFO 50)",
            ),
            (
                [graph.clone(), thread("client", "audio", 1000, 95, "1")],
                "client/audio (FIFO 95), whom it must wake",
            ),
            (
                [graph.clone(), thread("kernel", "irq/30-snd_hda_intel", 0, 50, "0")],
                "not below irq/30-snd_hda_intel",
            ),
            ([graph, thread("scsynth", "data-loop.0", 1000, 0, "1")], "ordinary thread (OTHER)"),
        ] {
            let said = whats(&threads);
            assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
        }
    }

    #[test]
    fn an_interrupt_on_another_cpu_is_in_nobodys_way() {
        let threads = [
            thread("kernel", "irq/31-virtio1-input.0", 0, 50, "0"),
            thread("client", "audio", 1000, 40, "1"),
        ];
        assert_eq!(whats(&threads), Vec::<String>::new());
    }
}
