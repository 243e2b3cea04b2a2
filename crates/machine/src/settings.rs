//! What a machine is told at launch: the one credential, `archibald.settings`, that turns the generic
//! image into this machine. Written by the launcher, read by archibald-guest.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::units::{CpuSet, Endpoint, Forward, Frames, Hertz, Network4, RtPriority, Share};
use crate::{AudioServer, Machine};

/// Everything that a booting machine must know about itself, as JSON in the credential
/// [`Settings::CREDENTIAL`].
///
/// A password never crosses in the clear, only its hash; keys of services do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Version of this schema; a guest refuses one that it does not know.
    pub schema: u32,
    /// Host name.
    pub name: String,
    /// Who may log in; the first one runs the audio session.
    pub users: Vec<SettingsUser>,
    /// Who owns the audio graph.
    pub server: AudioServer,
    /// Sample rate.
    pub rate: Hertz,
    /// Frames in one period.
    pub quantum: Frames,
    /// Guest CPUs kept for audio.
    pub isolated: CpuSet,
    /// The other guest CPUs.
    pub housekeeping: CpuSet,
    /// SCHED_FIFO priority of the audio graph's threads.
    pub audio_priority: RtPriority,
    /// SCHED_FIFO priority of the sound card's interrupt threads.
    pub irq_priority: RtPriority,
    /// The machine's own address.
    pub address: Network4,
    /// Default route.
    pub gateway: Ipv4Addr,
    /// Name server.
    pub dns: Ipv4Addr,
    /// Where the published password may log in from: the network that only the host can reach.
    pub password_from: Vec<Network4>,
    /// Ports that the host forwards, so that a check can tell whether somebody listens.
    pub forward: Vec<Forward>,
    /// TCP port of the store; absent: the service does not run.
    pub streamdb_port: Option<u16>,
    /// The SSH server's Ed25519 private key, made with the instance so that the host knows whom it
    /// talks to from the first connection on.
    pub host_key: String,
    /// Who may use the store; absent: whoever comes from `password-from`, without a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_door: Option<StoreDoor>,
    /// Where the host's folders go: of each the tag that it is offered under, the place, and whether it is
    /// for reading alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<(String, String, bool)>,
    /// The cluster that the machine is a node of; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<SettingsCluster>,
    /// Whether the guest's clock and latency mean anything: false under emulation.
    pub judged: bool,
}

/// Who may use the store of a machine that others than its host can reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreDoor {
    /// What everybody must show, in the clear: the store compares it. Absent: the machine file says
    /// that it is open.
    pub token: Option<String>,
    /// Whether it is open to every network, and not to the machine's own alone.
    pub anywhere: bool,
}

/// How a machine is a node of a Slurm cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SettingsCluster {
    /// Where slurmctld listens.
    pub controller: Endpoint,
    /// The munge key, which says who belongs to the cluster.
    pub munge_key: Vec<u8>,
}

/// One user of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SettingsUser {
    /// Login name.
    pub name: String,
    /// crypt(5) hash; absent: login by key only.
    pub password_hash: Option<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// Public keys, one line each.
    pub authorized_keys: Vec<String>,
}

impl Settings {
    /// Name of the credential.
    pub const CREDENTIAL: &str = "archibald.settings";
    /// Version of the schema that this program writes and reads.
    pub const SCHEMA: u32 = 1;

    /// What `machine` is told. `users` carries the hashed passwords and all keys, `host_key` is the
    /// SSH server's private key; `judged` says whether latency figures of this launch count.
    #[must_use]
    pub fn new(
        machine: &Machine,
        users: Vec<SettingsUser>,
        host_key: String,
        judged: bool,
    ) -> Self {
        let share = |(tag, share): (String, &Share)| (tag, share.guest.clone(), share.read_only);
        let (address, gateway) = machine.network.guest_address();
        // QEMU's user-mode network answers names on .3; on a bridge the host does, unless the launcher
        // knows of a better one.
        let dns = match machine.network.mode {
            crate::NetworkMode::User => Ipv4Addr::new(10, 0, 2, 3),
            crate::NetworkMode::Bridge { .. } => gateway,
        };
        Self {
            schema: Self::SCHEMA,
            name: machine.name.clone(),
            users,
            server: machine.audio.server,
            rate: machine.audio.rate,
            quantum: machine.audio.quantum,
            isolated: machine.realtime.isolated.clone(),
            housekeeping: machine.housekeeping(),
            audio_priority: machine.realtime.audio_priority,
            irq_priority: machine.realtime.irq_priority,
            address,
            gateway,
            dns,
            password_from: vec![address],
            forward: machine.network.forward.clone(),
            streamdb_port: machine.streamdb.enable.then_some(machine.streamdb.port),
            host_key,
            store_door: None,
            shares: machine.devices.shares_by_tag().map(share).collect(),
            cluster: None,
            judged,
        }
    }
}
