//! tshark as a witness of what passes an interface.

use super::lan::Host;
use super::process::Process;

/// Starts tshark on a host's interface. It prints these fields of every packet that `filter`, a capture filter, lets through.
pub(crate) fn listen(host: Host, interface: &str, filter: &str, fields: &[&str]) -> Process {
    let mut args = vec!["-l", "-n", "-i", interface, "-f", filter, "-d", "udp.port==5004,rtp"];
    args.extend(["-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|"]);
    args.extend(fields.iter().flat_map(|field| ["-e", field]));
    let mut tshark = host.run("tshark", &args);
    tshark.await_log("Capture started", 1);
    tshark
}

/// The packets so far, each with the values of its fields; `|` separates several values of one field.
pub(crate) fn rows(tshark: &Process) -> Vec<Vec<String>> {
    let said = tshark.stdout();
    // The last line may be incomplete.
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}
