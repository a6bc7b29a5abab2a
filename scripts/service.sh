#!/bin/bash
# Runs contrib/systemd/stationcast.service under a systemd of its own, on a copy of this system that is thrown away: start, reload,
# a line-up that is wrong, a process that is killed, one that hangs, the journal, the end. Needs root, and a kernel with overlayfs.
# Usage: scripts/service.sh target/debug/broadcaster
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != --inside ]; then
    [ "$(id -u)" = 0 ] || { echo "this has to be run as root" >&2; exit 1; }
    broadcaster=$(realpath "${1:?usage: scripts/service.sh BROADCASTER}")
    # A group of its own in systemd's hierarchy, which is named in version 1 and the only one in version 2.
    hierarchies=()
    for hierarchy in /sys/fs/cgroup/{systemd,unified} /sys/fs/cgroup; do
        [ ! -e "$hierarchy/cgroup.procs" ] || hierarchies+=("$hierarchy")
    done
    groups=("${hierarchies[@]/%//stationcast-service}")
    mkdir -p "${groups[@]}"
    result=$(mktemp)
    (
        for group in "${groups[@]}"; do echo $BASHPID >"$group/cgroup.procs"; done
        exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child \
            "$0" --inside "$broadcaster" "${hierarchies[@]}" 9>"$result"
    ) || true # systemd ends by a signal
    find "${groups[@]}" -depth -type d -exec rmdir {} +
    grep -q ended "$result"
    exit
fi

broadcaster=$2
shift 2
work=$(mktemp -d)
mount -t tmpfs -o size=1g tmpfs "$work"
mkdir "$work"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
root=$work/root
cp "$broadcaster" "$root/usr/bin/broadcaster"
mkdir -p "$root/etc/stationcast" "$root/etc/systemd/system/stationcast.service.d"
cp -r stations.toml media "$root/etc/stationcast"
chmod -R a+rX "$root/etc/stationcast"
cp contrib/systemd/stationcast.service "$root/etc/systemd/system"
# Nobody wants to wait for 30 s.
printf '[Service]\nWatchdogSec=3\n' >"$root/etc/systemd/system/stationcast.service.d/watchdog.conf"
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >"$root/etc/systemd/system/try.target"
: >"$root/etc/fstab"
# They belong to the machine.
for unit in systemd-{udevd,udev-trigger,timesyncd,networkd,resolved,sysctl,modules-load,binfmt,remount-fs}.service \
    systemd-udevd-{control,kernel}.socket dev-{hugepages,mqueue}.mount sys-kernel-{debug,tracing,config}.mount \
    proc-sys-fs-binfmt_misc.automount {apt-daily,apt-daily-upgrade,e2scrub_all,fstrim,dpkg-db-backup}.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
for hierarchy in "$@"; do
    case $hierarchy in
    */systemd) mkdir -p "$root$hierarchy" && mount -t cgroup -o none,name=systemd systemd "$root$hierarchy" ;;
    *) mkdir -p "$root$hierarchy" && mount -t cgroup2 cgroup2 "$root$hierarchy" ;;
    esac
done
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
ip link set lo up multicast on
ip route add 224.0.0.0/4 dev lo

# Its first process becomes systemd; this script goes on beside it.
mkdir "$root/oldroot"
cd "$root"
pivot_root . oldroot
cd /
umount -l /oldroot

try() {
    trap 'kill -s RTMIN+14 1 || kill -9 1' EXIT # systemd's order to power off
    say() { printf '%-72s %s\n' "$1" "$2"; }
    fail() { say "$1" "FAILED"; journalctl --no-pager -n 30; exit 1; }
    wait_for() { # seconds, what, command...
        local until=$((SECONDS + $1)) what=$2
        shift 2
        until "$@" >/dev/null 2>&1; do
            [ $SECONDS -lt "$until" ] || fail "$what"
            sleep 0.1
        done
        say "$what" ok
    }
    pid() { systemctl show -p MainPID --value stationcast; }
    is_other() { [ "$(pid)" != "$1" ] && systemctl is-active stationcast; }
    lineup=/etc/stationcast/stations.toml
    wait_for 20 "systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p') runs" systemctl is-active basic.target
    systemctl start stationcast || fail "it starts"
    say "it is active: $(systemctl show -p StatusText --value stationcast)" ok
    first=$(pid)
    sed -i 's/name = "Nature"/name = "Forest"/' "$lineup"
    systemctl reload stationcast || fail "it reloads"
    broadcaster control --config "$lineup" 2 hold "back soon" | grep -q Forest || fail "root may control it"
    say "it reloads, and root may control it" ok
    sed -i 's/name = "Forest"/nmae = "Forest"/' "$lineup"
    systemctl reload stationcast 2>/dev/null && fail "a line-up that is wrong fails to reload"
    [ "$(pid)" = "$first" ] || fail "a line-up that is wrong changes nothing"
    say "a line-up that is wrong fails to reload, and changes nothing" ok
    warnings=$(journalctl -u stationcast -p warning --no-pager)
    [[ $warnings = *nmae* && $warnings != *"directory on"* ]] || fail "the journal has priorities"
    say "the journal has priorities" ok
    sed -i 's/nmae = "Forest"/name = "Forest"/' "$lineup"
    kill -KILL "$first"
    wait_for 20 "a process that was killed is started again" is_other "$first"
    second=$(pid)
    kill -STOP "$second"
    wait_for 30 "a process that hangs is started again" is_other "$second"
    systemctl stop stationcast || fail "it ends"
    [ "$(systemctl show -p Result --value stationcast)" = success ] || fail "it ends well"
    say "it ends well" ok
    echo ended >&9
}

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
(try) &
exec env -i container=other PATH="$PATH" /lib/systemd/systemd --system --unit=try.target --log-target=journal --show-status=false
