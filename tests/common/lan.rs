//! A network of its own for each test: hosts on one switch, in namespaces that need no root and that no packet leaves.
//!
//! ```text
//!   host h: 10.77.0.n/24, fd77::n/64 on eth0 -- veth -- port of br0 (no IGMP snooping)
//! ```
//!
//! A keeper process holds the namespaces. It is process 1 of a process namespace and ends when its standard input is closed.
//! So however the test ends, the kernel then kills every process in the network.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::harness::{path, scratch, text, this_program};
use super::process::{Files, Process};
use super::until;

/// How many lines of each program's log are printed when a test fails.
const LINES: usize = 40;

/// A network. When it is dropped, it vanishes with every process in it; if its test has failed, the logs of all its programs
/// are printed first.
pub(crate) struct Lan {
    keeper: Child,
    /// The keeper's process number outside the namespaces.
    pid: String,
    hosts: Vec<&'static str>,
    folder: TempDir,
    programs: RefCell<Vec<(String, Files)>>,
}

/// Folders that a network must not share with another. `/run` holds the names of its hosts. In `/tmp/.X11-unix` lie the sockets of
/// displays, each of which is the first of its network, `:0`: a program that does not look for the abstract socket first would
/// open its window on one display and draw on another's.
const OWN_FOLDERS: &str = "set -e; mkdir -p -m 1777 /tmp/.X11-unix
    for folder in /run /tmp/.X11-unix; do mount -t tmpfs -o mode=1777 tmpfs $folder; done\n";

impl Lan {
    /// A switch with these hosts, MTU 1500. Segmented sends (UDP GSO) are cut into packets before a link, as a real card does:
    /// otherwise captures and filters would see several packets as one.
    pub(crate) fn new(hosts: &[&'static str]) -> Lan {
        let mut script = String::from(OWN_FOLDERS);
        script += "ip link set lo up; ip link add br0 type bridge mcast_snooping 0; ip link set br0 up\n";
        for (n, host) in hosts.iter().enumerate() {
            let n = n + 1;
            write!(
                script,
                "ip netns add {host}\n\
                 ip link add port-{host} type veth peer name eth0 netns {host}\n\
                 ip link set port-{host} master br0 up\n\
                 ip -n {host} link set lo up\n\
                 ip -n {host} addr add 10.77.0.{n}/24 dev eth0\n\
                 ip -n {host} addr add fd77::{n}/64 dev eth0 nodad\n\
                 ip -n {host} link set eth0 gso_max_segs 1 up\n\
                 ip -n {host} route add 224.0.0.0/4 dev eth0\n"
            )
            .unwrap();
        }
        Lan::with(script, hosts.to_vec())
    }

    /// One machine without a network: loopback alone.
    pub(crate) fn alone() -> Lan {
        let script = "ip netns add alone\n\
                      ip -n alone link set lo up\n\
                      ip -n alone route add 224.0.0.0/4 dev lo\n";
        Lan::with(OWN_FOLDERS.to_owned() + script, vec!["alone"])
    }

    fn with(mut script: String, hosts: Vec<&'static str>) -> Lan {
        // Print the shell's process number outside, which this /proc still tells. Then wait for the end of standard input.
        script.push_str("read pid rest </proc/self/stat; echo $pid; exec cat\n");
        let mut keeper = Command::new("unshare")
            .args(["-Urnmpf", "--kill-child", "sh", "-c", &script])
            .env("PATH", path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let pid = pid.trim().to_owned();
        assert!(!pid.is_empty(), "the network could not be set up");
        let folder = TempDir::new_in(scratch()).unwrap();
        Lan { keeper, pid, hosts, folder, programs: RefCell::default() }
    }

    /// A folder for this test's files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn host(&self, name: &str) -> Host<'_> {
        let n = self.hosts.iter().position(|host| *host == name).expect("a host of this network");
        Host { lan: self, name: self.hosts[n], number: n + 1 }
    }

    /// The one machine of [`alone`](Self::alone).
    pub(crate) fn machine(&self) -> Host<'_> {
        self.host("alone")
    }

    /// Pulls a host's cable: its interface stays up, without a carrier.
    pub(crate) fn link_down(&self, host: &str) {
        self.switch(&["link", "set", &format!("port-{host}"), "down"]);
    }

    /// Puts the cable back.
    pub(crate) fn link_up(&self, host: &str) {
        self.switch(&["link", "set", &format!("port-{host}"), "up"]);
    }

    /// Mounts a file system in memory of this size on a folder, seen by programs that are started afterwards. The second time,
    /// it is resized.
    pub(crate) fn mount(&self, folder: &Path, size: &str) {
        let options = if fs::read_dir(folder).is_err() {
            fs::create_dir(folder).unwrap();
            format!("size={size}")
        } else {
            format!("remount,size={size}")
        };
        let args = ["-t", "tmpfs", "-o", &options, "tmpfs", text(folder)];
        assert!(self.enter().arg("mount").args(args).status().unwrap().success(), "mount {args:?}");
    }

    fn switch(&self, args: &[&str]) {
        let status = self.enter().arg("ip").args(args).status().unwrap();
        assert!(status.success(), "ip {args:?}");
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.pid, "-U", "--preserve-credentials", "-m", "-n", "-p", "--"])
            .env("PATH", path())
            // Each test has reels and a control socket of its own, and remembers nothing of the user's.
            .env("XDG_CACHE_HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.folder.path())
            .env("XDG_RUNTIME_DIR", self.folder.path().join("run"));
        command
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (label, files) in self.programs.borrow().iter() {
                for (kind, file) in [("stdout", &files.out), ("stderr", &files.err)] {
                    let said = fs::read(file).unwrap_or_default();
                    let said = String::from_utf8_lossy(&said);
                    let lines: Vec<&str> = said.lines().collect();
                    if !lines.is_empty() {
                        let last = &lines[lines.len().saturating_sub(LINES)..];
                        eprintln!("--- {label}, {kind}:\n{}", last.join("\n"));
                    }
                }
            }
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// One machine of a network.
#[derive(Clone, Copy)]
pub(crate) struct Host<'a> {
    lan: &'a Lan,
    name: &'static str,
    number: usize,
}

impl Host<'_> {
    /// Its IPv4 address.
    pub(crate) fn address(&self) -> String {
        format!("10.77.0.{}", self.number)
    }

    /// Starts a program here.
    pub(crate) fn run(&self, program: impl AsRef<Path>, args: &[&str]) -> Process {
        let program = text(program.as_ref());
        let mut programs = self.lan.programs.borrow_mut();
        let name = Path::new(program).file_name().unwrap().to_string_lossy();
        let label = format!("{} {} on {}", name, args.join(" "), self.name);
        let file = |ending: &str| self.lan.folder().join(format!("{}-{name}.{ending}", programs.len()));
        let files = Files { out: file("out"), err: file("err"), pid: file("pid") };
        programs.push((label.clone(), files.clone()));
        drop(programs);

        // `ip netns exec` also mounts the host's own /sys, from which the MTU is read.
        let mut command = self.lan.enter();
        command
            .args(["ip", "netns", "exec", self.name, "sh", "-c"])
            .arg("read pid rest </proc/self/stat; echo $pid >\"$0\"; exec \"$@\"")
            .arg(&files.pid)
            .arg(program)
            .args(args);
        Process::start(label, command, files)
    }

    /// Runs a tool to its end. It must exit with 0. Returns its standard output.
    pub(crate) fn tool(&self, program: &str, args: &[&str]) -> String {
        self.run(program, args).succeed().stdout
    }

    /// Starts this test program's helper `name`.
    pub(crate) fn helper(&self, name: &str, args: &[&str]) -> Process {
        self.run(this_program(), &[&[super::helper::FLAG, name], args].concat())
    }

    /// Starts a broadcaster with this line-up.
    pub(crate) fn broadcaster(&self, lineup: &str) -> Process {
        self.run(env!("CARGO_BIN_EXE_broadcaster"), &["--config", text(&self.lineup(lineup))])
    }

    /// Starts a broadcaster and waits until every station of its line-up has a film on air.
    pub(crate) fn on_air(&self, lineup: &str) -> Process {
        let mut broadcaster = self.broadcaster(lineup);
        broadcaster.await_log(" on air: ", lineup.matches("[[station]]").count());
        broadcaster
    }

    /// Writes a line-up.
    pub(crate) fn lineup(&self, lineup: &str) -> PathBuf {
        let n = self.lan.programs.borrow().len();
        let file = self.lan.folder().join(format!("stations-{n}.toml"));
        fs::write(&file, lineup).unwrap();
        file
    }

    /// Starts a viewer.
    pub(crate) fn viewer(&self, args: &[&str]) -> Process {
        self.run(env!("CARGO_BIN_EXE_viewer"), args)
    }

    /// A directory's list of stations, by `viewer --list --json` on this host.
    pub(crate) fn list(&self, directory: &str) -> Vec<Value> {
        let list = self.viewer(&["--directory", directory, "--list", "--json"]).json();
        list.as_array().expect("a list").clone()
    }

    /// Waits until a directory's entry of station `id` is `what`, as `is` judges. Returns the entry.
    pub(crate) fn await_station(
        &self,
        directory: &str,
        id: u16,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> Value {
        until(&format!("station {id} to be {what}"), || {
            let list = self.list(directory);
            let entry = list.into_iter().find(|entry| entry["id"] == id).expect("the station");
            is(&entry).then_some(entry)
        })
    }

    /// A counter of this host's IP layer, such as `FragCreates` (RFC 4293).
    pub(crate) fn ip_counter(&self, name: &str) -> u64 {
        let table = self.tool("cat", &["/proc/net/snmp"]);
        let mut rows = table.lines().filter(|line| line.starts_with("Ip: ")).map(|line| line.split(' '));
        let (mut names, mut values) = (rows.next().expect("names"), rows.next().expect("values"));
        let value = names.position(|known| known == name).and_then(|n| values.nth(n));
        value.unwrap_or_else(|| panic!("no counter {name}")).parse().unwrap()
    }

    /// Sets the MTU of its network interface, and of the switch's port. Of the two, the port never has the smaller one, so that
    /// nothing is dropped meanwhile.
    pub(crate) fn set_mtu(&self, mtu: u32) {
        let port = format!("port-{}", self.name);
        let grows = self.tool("cat", &["/sys/class/net/eth0/mtu"]).trim().parse::<u32>().unwrap() < mtu;
        let mtu = mtu.to_string();
        let set_port = || self.lan.switch(&["link", "set", &port, "mtu", &mtu]);
        if grows {
            set_port();
        }
        self.tool("ip", &["link", "set", "eth0", "mtu", &mtu]);
        if !grows {
            set_port();
        }
    }
}

/// A line-up's head: where the directory listens, and the interface of all stations.
pub(crate) fn head(listen: &str, interface: &str) -> String {
    format!("[directory]\nlisten = \"{listen}\"\n[defaults]\ninterface = \"{interface}\"\n")
}

/// A station of a line-up; `more` are further keys, one a line.
pub(crate) fn station(id: u16, media: &[&Path], group: &str, more: &str) -> String {
    let media: Vec<&str> = media.iter().map(|path| text(path)).collect();
    format!(
        "[[station]]\nid = {id}\nname = \"Station {id}\"\nmedia = {media:?}\ngroup = \"{group}\"\n{more}\n"
    )
}
