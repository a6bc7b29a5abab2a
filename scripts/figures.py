#!/usr/bin/env python3
"""Measures figures of docs/bench.md that need whole programs: scripts/figures.py NAME [FOLDER-OF-PROGRAMS].

Each runs in a network and process namespace of its own, ends by itself, and prints lines of what it found. As root, the broadcaster
has SCHED_FIFO. Reels are kept in $STATIONCAST_FIGURES_CACHE, or made anew.
"""
import ctypes
import datetime
import hashlib
import http.server
import json
import os
import re
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAMS = os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else os.path.join(ROOT, "target/release"))
FILMS = [os.path.join(ROOT, "media", name + ".mp4") for name in ("ocean", "nature", "space")]
OCEAN = FILMS[0]
TICK = os.sysconf("SC_CLK_TCK")
STARTED = []

if os.environ.get("STATIONCAST_FIGURES") != "1":
    os.environ["STATIONCAST_FIGURES"] = "1"
    user = [] if os.geteuid() == 0 else ["-Ur"]
    os.execvp("unshare", ["unshare", *user, "-nmpf", "--mount-proc", "--kill-child", sys.executable, *sys.argv])

WORK = tempfile.mkdtemp(prefix="figures-")
os.environ.update(
    XDG_CACHE_HOME=os.environ.get("STATIONCAST_FIGURES_CACHE", WORK + "/cache"),
    XDG_STATE_HOME=WORK + "/state",
    XDG_RUNTIME_DIR=WORK + "/run",
    LANG="C.UTF-8",
    RUST_LOG="info",
)
os.makedirs(WORK + "/run", mode=0o700)
subprocess.run("ip link set lo up && ip route add 224.0.0.0/4 dev lo", shell=True, check=True)


def say(*words):
    print(*words, flush=True)


def start(name, args, log=None, **more):
    out = open(log or os.devnull, "ab")
    path = os.path.join(PROGRAMS, name) if name in ("broadcaster", "viewer") else name
    process = subprocess.Popen([path, *args], stdout=out, stderr=out, stdin=subprocess.DEVNULL, **more)
    STARTED.append(process)
    return process


def run(name, args, **more):
    return subprocess.run([os.path.join(PROGRAMS, name), *args], capture_output=True, text=True, **more)


def cpu(pid):
    """Seconds of processor time of this process so far."""
    fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def threads_cpu(pid):
    found = {}
    for thread in os.listdir("/proc/%d/task" % pid):
        stat = open("/proc/%d/task/%s/stat" % (pid, thread)).read()
        name, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat.rsplit(")", 1)[1].split()
        found[name] = found.get(name, 0) + (int(fields[11]) + int(fields[12])) / TICK
    return found


def core_share(pid, seconds):
    before, began = cpu(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu(pid) - before) / (time.monotonic() - began)


def held(pid):
    """Threads, descriptors and resident MB."""
    status = open("/proc/%d/status" % pid).read()
    field = lambda key: int(re.search(key + r":\s+(\d+)", status)[1])
    return field("Threads"), len(os.listdir("/proc/%d/fd" % pid)), field("VmRSS") / 1000


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


HEAD = """[directory]
listen = "127.0.0.1:9688"
[http]
listen = "127.0.0.1:8088"
[rtsp]
listen = "127.0.0.1:8554"
[defaults]
interface = "127.0.0.1"
reel = true
"""


def group(n):
    return "239.77.%d.%d" % (n // 250, n % 250 + 1)


def station(n, media=None, more=""):
    media = "" if media is None else 'media = "%s"\n' % media
    return '[[station]]\nid = %d\nname = "Station %d"\ngroup = "%s:5004"\n%s%s' % (n, n, group(n), media, more)


class Broadcaster:
    def __init__(self, lineup, name="lineup"):
        self.file, self.log = "%s/%s.toml" % (WORK, name), "%s/%s.log" % (WORK, name)
        self.write(lineup)
        self.process = start("broadcaster", ["--config", self.file], self.log)
        self.pid = self.process.pid

    def write(self, lineup):
        open(self.file, "w").write(lineup)

    def text(self):
        return open(self.log).read()

    def reload(self, lineup, told):
        """Has it read this line-up, at SIGHUP, until the log says `told`. Returns the moments of the signal and of that line."""
        self.write(lineup)
        mark, at = os.path.getsize(self.log), time.time()
        self.process.send_signal(signal.SIGHUP)
        while time.time() - at < 30:
            with open(self.log) as log:
                log.seek(mark)
                for line in log:
                    if told in line and line.endswith("\n"):
                        day = datetime.datetime.fromisoformat(line[:26] + "+00:00")
                        return at, day.timestamp()
            time.sleep(0.003)
        sys.exit("no line with %r: %s" % (told, self.text()[-2000:]))

    def stations(self):
        listed = run("viewer", ["--directory", "127.0.0.1:9688", "--list", "--json"]).stdout
        return json.loads(listed) if listed.startswith("[") else []

    def await_films(self, count, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if sum(entry["state"] == "Film" for entry in self.stations()) >= count:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.3)
        sys.exit("not on air: " + self.text()[-3000:])

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return self.text()


class Receiver(threading.Thread):
    """Receives groups, with the kernel's time stamps, and waits on no socket: it reads every 5 ms."""

    def __init__(self, numbers, port=5004, keep=False):
        super().__init__(daemon=True)
        self.sockets, self.keep, self.running = {}, keep, True
        self.seen = {n: [] for n in numbers}  # (arrival, sequence, marker, timestamp, ssrc, digest of the scan or None)
        for n in numbers:
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.setsockopt(socket.SOL_SOCKET, 33 if os.geteuid() == 0 else socket.SO_RCVBUF, 1 << 22)
            s.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
            s.setsockopt(socket.IPPROTO_IP, 49, 0)  # IP_MULTICAST_ALL
            s.bind((group(n), port))
            s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group(n)) + socket.inet_aton("127.0.0.1"))
            s.setblocking(False)
            self.sockets[n] = s

    def run(self):
        while self.running:
            for n, s in self.sockets.items():
                while True:
                    try:
                        data, control, _, _ = s.recvmsg(65536 if self.keep else 64, 64)
                    except BlockingIOError:
                        break
                    sec, nano = struct.unpack("qq", control[0][2][:16])
                    _, kind, sequence, timestamp, ssrc = struct.unpack("!BBHII", data[:12])
                    digest = hashlib.blake2b(data[12:], digest_size=8).digest() if self.keep else None
                    self.seen[n].append((sec + nano / 1e9, sequence, kind >> 7, timestamp, ssrc, digest))
            time.sleep(0.005)

    def stop(self):
        self.running = False
        self.join()
        return self

    def lost(self, n):
        missing = 0
        for (_, a, *_), (_, b, *_) in zip(self.seen[n], self.seen[n][1:]):
            missing += (b - a - 1) & 0xFFFF
        return missing

    def pacing(self, since=0, until=float("inf")):
        """Microseconds by which each picture came later than the earliest of its station, by the sender's timestamps."""
        late = []
        for n, packets in self.seen.items():
            packets = [p for p in packets if since <= p[0] < until and p[2]]
            if not packets:
                continue
            zero, first = packets[0][0], packets[0][3]
            ticks = [((p[3] - first + (1 << 31)) & 0xFFFFFFFF) - (1 << 31) for p in packets]
            off = [p[0] - zero - t / 90000 for p, t in zip(packets, ticks)]
            least = min(off)
            late += [1e6 * (o - least) for o in off]
        return late


def prepare_mjpeg(path, sound=True, seconds=24, more=()):
    audio = ["-c:a", "libopus", "-ar", "48000", "-ac", "2"] if sound else ["-an"]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-i", OCEAN, "-t", str(seconds), "-vf", "scale=640:368", "-r", "25", "-c:v", "mjpeg", "-threads", "1", "-pix_fmt",
         "yuvj420p", "-huffman", "default", "-force_duplicated_matrix", "1", "-q:v", "5", *more, *audio, path],
        check=True,
    )


def publish(path, url, log=None):
    """FFmpeg sends what is coded already, at its own pace."""
    return start(
        "ffmpeg",
        ["-v", "error", "-re", "-stream_loop", "-1", "-i", path, "-c", "copy", "-f", "rtsp", "-rtsp_transport", "tcp", url],
        log,
    )


def end_all(processes, how=signal.SIGKILL):
    for process in processes:
        if process.poll() is None:
            process.send_signal(how)
    for process in processes:
        process.wait()


# 1. Publishers whose JPEG is passed through: the broadcaster has no station besides.
def publisher():
    shares = {}
    for _ in range(2):
        for sound, count in ((False, 1), (False, 10), (False, 30), (True, 10)):
            film = WORK + "/film-%d.mkv" % sound
            if not os.path.exists(film):
                prepare_mjpeg(film, sound)
            more = 'publish = { token = "kiwi-melon-fig" }\nsound = %s\n' % str(sound).lower()
            lineup = HEAD + "".join(station(n, None, more) for n in range(1, count + 1))
            caster = Broadcaster(lineup, "publishers-%d" % len(sum(shares.values(), [])))
            time.sleep(2)
            running = [publish(film, "rtsp://a:kiwi-melon-fig@127.0.0.1:8554/publish/%d" % n, WORK + "/ffmpeg.log") for n in range(1, count + 1)]
            caster.await_films(count, 30)
            time.sleep(3)
            shares.setdefault((sound, count), []).append(core_share(caster.pid, 12) / count)
            on_air = sum(entry["state"] == "Film" for entry in caster.stations())
            end_all(running)
            passed = caster.end().count("the pictures that are published are passed on as they are")
            say("  %d publishers, sound %s: %.3f %% of a core each; on air at the end %d, passed on as they are %d" % (count, sound, shares[sound, count][-1], on_air, passed))
    for (sound, count), values in shares.items():
        say("%d publishers, %s: %s %% of a core a station" % (count, "with sound" if sound else "pictures only", "/".join("%.2f" % v for v in values)))


class Proxy(threading.Thread):
    """Between a publisher and the broadcaster, for the time of the first packet of pictures."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", port))
        self.first = None

    def run(self):
        while True:
            client, _ = self.server.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        server = socket.create_connection(("127.0.0.1", 8554))
        pair = {client: server, server: client}
        told = b""
        while True:
            for s in select.select(list(pair), [], [])[0]:
                try:
                    data = s.recv(1 << 18)
                    if s is client and self.first is None:
                        told = (told + data)[-70000:]
                        if re.search(rb"\$\x00..\x80[\x1a\x9a]", told, re.S):
                            self.first = time.time()
                    if data:
                        pair[s].sendall(data)
                except OSError:
                    data = b""
                if not data:
                    for other in pair:
                        other.close()
                    return


# 2. A publisher is killed, or stops without a word, and comes back.
def comeback():
    film = WORK + "/film.mkv"
    prepare_mjpeg(film, False, seconds=6)
    caster = Broadcaster(HEAD + station(1, None, 'publish = { token = "kiwi-melon-fig" }\nsound = false\n'))
    proxy = Proxy(8555)
    proxy.start()
    time.sleep(2)
    url = "rtsp://a:kiwi-melon-fig@127.0.0.1:8555/publish/1"
    sender = publish(film, url)
    caster.await_films(1)
    receiver = Receiver([1], keep=True)
    receiver.start()
    viewer = subprocess.Popen(
        [PROGRAMS + "/viewer", "--directory", "127.0.0.1:9688", "--station", "1", "--headless", "--seconds", "95", "--json"],
        stdout=subprocess.PIPE, text=True,
    )
    time.sleep(8)
    seen = receiver.seen[1]
    body = {p[5] for p in seen}
    gone, back = {"killed": [], "stopped": []}, {"killed": [], "stopped": []}
    for how in ("killed", "stopped") * 4:
        mark = len(seen)
        sender.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        at = time.time()
        time.sleep(6.5)
        slate = next(p[0] for p in list(seen[mark:]) if p[5] not in body)
        gone[how].append(slate - at)
        sender.kill()
        sender.wait()
        slates = {p[5] for p in seen[mark:] if p[5] not in body}
        mark, proxy.first = len(seen), None
        sender = publish(film, url)
        time.sleep(3)
        live = next(p[0] for p in list(seen[mark:]) if p[0] > (proxy.first or 0) and p[5] in body)
        back[how].append(live - proxy.first)
    receiver.stop()
    for how in gone:
        say("publisher %s: slate after" % how, *("%.2f" % s for s in gone[how]), "s; live after the first packet", *("%.2f" % s for s in back[how]), "s")
    say("SSRCs:", len({p[4] for p in seen}), "packets:", len(seen), "lost:", receiver.lost(1))
    told = json.loads(viewer.communicate()[0])
    log = caster.end()
    say("viewer:", {k: told[k] for k in ("frames", "frames_lost", "packets_lost", "silent_s", "other_senders", "seconds", "slate_s")})


# 3. Sources that accept and say nothing.
def black_hole():
    count = 20
    opened = []
    server = socket.create_server(("127.0.0.1", 7070), backlog=200)

    def accept():
        while True:
            opened.append(server.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    lineup = HEAD + "".join(station(n, "http://127.0.0.1:7070/%d.mjpg" % n) for n in range(1, count + 1))
    caster = Broadcaster(lineup)
    began = time.monotonic()
    time.sleep(12)
    states = [entry["state"] for entry in caster.stations()]
    say("after 12 s: slates %d of %d;" % (sum("Slate" in s for s in states if isinstance(s, dict)), count))
    while time.monotonic() - began < 150 and len(opened) < 8 * count:
        say("  at %3.0f s: %3d sources black-holed; threads %d, descriptors %d, %.1f MB" % (time.monotonic() - began, len(opened), *held(caster.pid)))
        time.sleep(12)
    say("  at %3.0f s: %3d sources black-holed; threads %d, descriptors %d, %.1f MB" % (time.monotonic() - began, len(opened), *held(caster.pid)))
    caster.end()


def display(size="1920x1200"):
    read, write = os.pipe()
    start("Xvfb", ["-displayfd", str(write), "-screen", "0", size + "x24", "-nolisten", "tcp", "-noreset"], pass_fds=[write])
    number = os.read(read, 20).decode().strip()
    os.environ["DISPLAY"] = ":" + number


class XImage(ctypes.Structure):
    _fields_ = [("width", ctypes.c_int), ("height", ctypes.c_int), ("xoffset", ctypes.c_int), ("format", ctypes.c_int),
                ("data", ctypes.c_void_p), ("order", ctypes.c_int), ("unit", ctypes.c_int), ("bit_order", ctypes.c_int),
                ("pad", ctypes.c_int), ("depth", ctypes.c_int), ("bytes_per_line", ctypes.c_int)]


class Screen:
    """Reads rows of the virtual display."""

    def __init__(self):
        x = ctypes.CDLL("libX11.so.6")
        x.XOpenDisplay.restype = ctypes.c_void_p
        x.XDefaultRootWindow.argtypes = [ctypes.c_void_p]
        x.XDefaultRootWindow.restype = ctypes.c_ulong
        x.XGetImage.restype = ctypes.POINTER(XImage)
        x.XGetImage.argtypes = [ctypes.c_void_p, ctypes.c_ulong, ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_ulong, ctypes.c_int]
        x.XFree.argtypes = [ctypes.c_void_p]
        self.x, self.display = x, x.XOpenDisplay(None)
        self.root = x.XDefaultRootWindow(self.display)

    def row(self, left, top, width):
        image = self.x.XGetImage(self.display, self.root, left, top, width, 1, 0xFFFFFFFF, 2)
        data = ctypes.string_at(image.contents.data, 4 * width)
        self.x.XFree(image.contents.data)
        self.x.XFree(image)
        return data


def window(width=None, height=None):
    """Place and size of the viewer's window, resized at wish."""
    found = subprocess.run(["timeout", "20", "xdotool", "search", "--sync", "--onlyvisible", "--class", "stationcast"], capture_output=True, text=True).stdout.split()[0]
    if width:
        subprocess.run(["xdotool", "windowsize", "--sync", found, str(width), str(height)])
    subprocess.run(["xdotool", "windowmove", found, "0", "0"])
    time.sleep(1)
    told = subprocess.run(["xdotool", "getwindowgeometry", "--shell", found], capture_output=True, text=True).stdout
    return [int(re.search(key + r"=(-?\d+)", told)[1]) for key in ("X", "Y", "WIDTH", "HEIGHT")]


def snmp(key):
    lines = [line.split() for line in open("/proc/net/snmp") if line.startswith("Udp:")]
    return int(lines[1][lines[0].index(key)])


# 4. All stations in one window.
def mosaic():
    display()
    screen = Screen()
    for count in (16, 49):
        columns = {16: 4, 49: 7}[count]
        lineup = HEAD.replace("reel = true", "reel = true\nsound = false") + "".join(station(n, OCEAN) for n in range(1, count + 1))
        caster = Broadcaster(lineup, "mosaic-%d" % count)
        caster.await_films(count)
        viewer = start("viewer", ["--directory", "127.0.0.1:9688", "--mosaic"], WORK + "/mosaic.log")
        for size in ((1280, 736), (1920, 1104)):
            left, top, width, height = window(*size)
            time.sleep(3)
            errors = snmp("RcvbufErrors")
            shares = [core_share(viewer.pid, 8) for _ in range(2)]
            share = min(shares)
            before, t0 = threads_cpu(viewer.pid), time.monotonic()
            # How often each tile changes: one row of pixels through each row of tiles, read 60 times a second.
            changes, last = [0] * count, [None] * count
            began = time.monotonic()
            end, due = began + 8, began
            while time.monotonic() < end:
                for line in range(columns):
                    row = screen.row(left, top + height * line // columns + height // (3 * columns), width)
                    for column in range(columns):
                        part = row[4 * (width * column // columns) + 80 : 4 * (width * (column + 1) // columns) - 80]
                        n = line * columns + column
                        changes[n] += last[n] is not None and part != last[n]
                        last[n] = part
                due += 1 / 60
                time.sleep(max(0, due - time.monotonic()))
            rates = [c / (time.monotonic() - began) for c in changes]
            after = threads_cpu(viewer.pid)
            say("mosaic of %d in %dx%d: %s %% of a core; changes a second of a tile: least %.1f, median %.1f; datagrams dropped: %d"
                % (count, width, height, "/".join("%.1f" % s for s in shares), min(rates), statistics.median(rates), snmp("RcvbufErrors") - errors))
            say("  threads:", {k: round(100 * (v - before.get(k, 0)) / (time.monotonic() - t0), 1) for k, v in after.items() if v > before.get(k, 0)})
        if os.environ.get("FIGURES_SHOT"):
            subprocess.run(["import", "-window", "root", "%s/mosaic-%d.png" % (os.environ["FIGURES_SHOT"], count)])
        end_all([viewer], signal.SIGTERM)
        caster.end()


def lateness_in_turns(caster, films, others, begin, finish, rounds=5, seconds=8):
    """p99 of the film stations, without and with a load, in turns."""
    without, beside = [], []
    whole = {n: 0 for n in others}
    for _ in range(rounds):
        for rows, load in ((without, False), (beside, True)):
            if load:
                begin()
            receiver = Receiver(films)
            receiver.start()
            time.sleep(seconds)
            receiver.stop()
            if load:
                finish()
            late = receiver.pacing()
            rows.append((quantile(late, 0.5), quantile(late, 0.99), max(late), len(late), sum(receiver.lost(n) for n in films)))
            time.sleep(0.5)
    for name, rows in (("without", without), ("beside it", beside)):
        say("  film stations %s: p50 %.0f us, p99 %s us: median %.0f; max %.0f; %d pictures, lost %d" % (
            name, statistics.median(r[0] for r in rows), "/".join("%.0f" % r[1] for r in rows), statistics.median(r[1] for r in rows),
            max(r[2] for r in rows), sum(r[3] for r in rows), sum(r[4] for r in rows)))
    ratios = [b[1] / a[1] for a, b in zip(without, beside)]
    say("  p99, median of the ratios of turns: %.2f" % statistics.median(ratios))


# 5. Thirty publishers beside ten film stations.
def thirty():
    film = WORK + "/film.mkv"
    prepare_mjpeg(film, False)
    films, live = list(range(1, 11)), list(range(101, 131))
    more = 'publish = { token = "kiwi-melon-fig" }\nsound = false\n'
    lineup = HEAD + "".join(station(n, FILMS[n % 3]) for n in films) + "".join(station(n, None, more) for n in live)
    caster = Broadcaster(lineup)
    caster.await_films(10)
    running = []
    lost, packets, on_air = [], [], []

    def begin():
        for n in live:
            running.append(publish(film, "rtsp://a:kiwi-melon-fig@127.0.0.1:8554/publish/%d" % n, WORK + "/ffmpeg.log"))
        caster.await_films(40, 40)
        on_air.append(sum(e["state"] == "Film" for e in caster.stations()) - 10)
        receiver = Receiver(live)
        receiver.start()
        time.sleep(5)
        receiver.stop()
        lost.append(sum(receiver.lost(n) for n in live))
        packets.append(sum(len(s) for s in receiver.seen.values()))

    def finish():
        end_all(running)
        running.clear()
        time.sleep(6)

    lateness_in_turns(caster, films, live, begin, finish, rounds=4)
    say("30 publishers: on air", on_air, "; packets of theirs, 5 s each:", packets, "lost:", lost)
    log = caster.end()


# 6. From the camera's instant to the viewer's screen.
def glass():
    count = 250
    raw = subprocess.run(["ffmpeg", "-v", "error", "-i", OCEAN, "-frames:v", str(count), "-vf", "scale=640:368", "-pix_fmt", "yuv420p", "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    size = 640 * 368 * 3 // 2
    frames = bytearray(raw)
    for n in range(count):
        row = b"".join((b"\xeb" if n >> bit & 1 else b"\x10") * 64 for bit in range(10))
        for line in range(16, 64):
            at = n * size + 640 * line
            frames[at : at + 640] = row
        for plane in (640 * 368, 640 * 368 * 5 // 4):
            for line in range(8, 32):
                at = n * size + plane + 320 * line
                frames[at : at + 320] = b"\x80" * 320
    os.makedirs(WORK + "/jpegs")
    subprocess.run(["ffmpeg", "-v", "error", "-f", "rawvideo", "-s", "640x368", "-pix_fmt", "yuv420p", "-r", "25", "-i", "-", "-c:v", "mjpeg", "-threads", "1", "-pix_fmt", "yuvj420p",
                    "-huffman", "default", "-force_duplicated_matrix", "1", "-q:v", "5", WORK + "/jpegs/%04d.jpg"], input=bytes(frames), check=True)
    jpegs = [open("%s/jpegs/%04d.jpg" % (WORK, n + 1), "rb").read() for n in range(count)]
    taken = {}  # picture -> the camera's instant, the newest

    class Camera(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
            self.end_headers()
            due, n = time.time(), 0
            while True:
                body = jpegs[n % count]
                now = time.time()
                taken[n % count] = now
                stamp = "X-Timestamp: %.6f\r\n" % now if self.path == "/stamped.mjpg" else ""
                head = b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n%s\r\n" % (len(body), stamp.encode())
                try:
                    self.wfile.write(head + body + b"\r\n")
                except OSError:
                    return
                n, due = n + 1, due + 0.04
                time.sleep(max(0, due - time.time()))

    http.server.ThreadingHTTPServer.daemon_threads = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 7080), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    display()
    screen = Screen()
    for path in ("stamped", "plain"):
        caster = Broadcaster(HEAD + station(1, "http://127.0.0.1:7080/%s.mjpg" % path), "glass-" + path)
        caster.await_films(1)
        viewer = start("viewer", ["--directory", "127.0.0.1:9688", "--station", "1"], WORK + "/glass.log")
        left, top, width, height = window(640, 368)
        time.sleep(3)
        receiver = Receiver([1])
        receiver.start()
        delays, last, missing, polls = [], None, 0, 0
        began = time.time()
        pictures = 0
        while time.time() - began < 40:
            row = screen.row(left, top + height * 40 // 368, width)
            now = time.time()
            n = sum((row[4 * (width * (2 * bit + 1) // 20)] > 128) << bit for bit in range(10))
            polls += 1
            if n != last and n in taken:
                if last is not None:
                    delays.append(1000 * (now - taken[n]))
                    missing += (n - last - 1) % count
                last = n
            time.sleep(0.0007)
        receiver.stop()
        say("glass to glass, %s: p50 %.1f ms, p90 %.1f, p99 %.1f, max %.1f; %d pictures, not seen %d; the screen was read each %.1f ms; window %dx%d; sequence lost %d" % (
            path, quantile(delays, 0.5), quantile(delays, 0.9), quantile(delays, 0.99), max(delays), len(delays), missing, 40000 / polls, width, height, receiver.lost(1)))
        end_all([viewer], signal.SIGTERM)
        caster.end()


# 7. Reloads.
def reload():
    def lineup(count, changed=None, added=False):
        text = HEAD.replace("reel = true", "reel = true\nsound = false")
        for n in range(1, count + 1):
            text += station(n, FILMS[n % 3])
        if added:
            text += station(990, OCEAN)
        return text

    caster = Broadcaster(lineup(50))
    caster.await_films(50)
    time.sleep(2)
    # One new station with a reel: from the signal to its first packet on the group; and by the command, whose program has to load.
    receiver = Receiver([990])
    receiver.start()
    air, done = [], []
    for k in range(36):
        mark = len(receiver.seen[990])
        if k < 31:
            at, _ = caster.reload(lineup(50, added=True), "station 990 is on air")
        else:
            caster.write(lineup(50, added=True))
            at = time.time()
            run("broadcaster", ["reload", "--config", caster.file])
            done.append(1000 * (time.time() - at))
        while len(receiver.seen[990]) == mark:
            time.sleep(0.005)
        air.append(1000 * (receiver.seen[990][mark][0] - at))
        caster.reload(lineup(50), "is removed")
        time.sleep(0.2)
    receiver.stop()
    say("signal to on air beside 50 stations, ms: the first %.1f; then p50 %.1f, max %.1f of 30; by the command %s, which itself takes %s, and without a reload" % (
        air[0], quantile(air[1:31], 0.5), max(air[1:31]), "/".join("%.0f" % v for v in air[31:]), "/".join("%.0f" % v for v in done)), version_ms(), "ms to load")

    changes = [
        lambda k: (lineup(50, added=True), "station 990 is on air"),
        lambda k: (lineup(50, added=True).replace('"Station 990"', '"Renamed %d"' % k), "is renamed"),
        lambda k: (lineup(50, added=True) + "width = 320\n", "station 990 is on air"),
        lambda k: (lineup(50) + "witdh = 1\n", "witdh"),
        lambda k: (lineup(50), "is removed"),
    ]
    ratios = []
    lost = packets = 0
    late = {False: [], True: []}
    for rounds in range(5):
        for busy in (False, True):
            receiver = Receiver(list(range(1, 51)))
            receiver.start()
            if busy:
                for k in range(20):
                    caster.reload(*changes[k % 5](k))
                    time.sleep(0.2)
            else:
                time.sleep(5)
            receiver.stop()
            late[busy].append(quantile(receiver.pacing(), 0.99))
            lost += sum(receiver.lost(n) for n in range(1, 51))
            packets += sum(map(len, receiver.seen.values()))
    say("100 reloads beside 50 stations: lost %d of %d packets; p99 without %s us, beside reloads %s us, ratio of the medians %.2f" % (
        lost, packets, "/".join("%.0f" % v for v in late[False]), "/".join("%.0f" % v for v in late[True]), statistics.median(late[True]) / statistics.median(late[False])))
    for k in range(1001):
        if k % 200 == 0:
            say("  after %d reloads: threads %d, descriptors %d, %.1f MB" % (k, *held(caster.pid)))
        caster.reload(*changes[k % 5](k))
    caster.end()


def version_ms():
    at = time.time()
    run("broadcaster", ["--version"])
    return round(1000 * (time.time() - at))


def reload_999():
    def lineup(name):
        text = HEAD.replace("reel = true", "reel = true\nsound = false")
        for n in range(1, 1000):
            text += station(n, FILMS[n % 3])
        return text.replace('"Station 500"', '"%s"' % name)

    caster = Broadcaster(lineup("Station 500"))
    caster.await_films(999)
    time.sleep(2)
    times = {"renamed": [], "of another width": []}
    for k in range(10):
        named = lineup("Name %d" % k)
        at, told = caster.reload(named, "is renamed")
        times["renamed"].append(1000 * (told - at))
        changed = named.replace("id = 500\n", "id = 500\nwidth = 320\n")
        at, told = caster.reload(changed, "station 500 is on air")
        times["of another width"].append(1000 * (told - at))
        caster.reload(named, "station 500 is on air")
    for what, values in times.items():
        say("999 stations, one %s, from the signal to done, ms:" % what, *("%.0f" % v for v in values), "p50 %.0f, max %.0f" % (quantile(values, 0.5), max(values)))
    say("999 stations: threads %d, descriptors %d, %.1f MB" % held(caster.pid))
    caster.end()


# 8. Wrong tokens.
def tokens():
    films = list(range(1, 11))
    head = HEAD + '[access]\nfile = "access.toml"\n'
    lineup = head + "".join(station(n, FILMS[n % 3]) for n in films) + station(20, OCEAN, 'access = ["staff"]\n')
    open(WORK + "/lineup.toml", "w").write(lineup)
    made = run("broadcaster", ["token", "add", "staff", "--config", WORK + "/lineup.toml"], cwd=WORK)
    say("token:", made.returncode, made.stderr.strip()[:200])
    subprocess.run([PROGRAMS + "/broadcaster", "token", "add", "staff", "--password", "--config", WORK + "/lineup.toml"], input="a long password\n", text=True, capture_output=True)
    caster = Broadcaster(lineup)
    caster.await_films(10)
    answers = {}
    stop = threading.Event()
    tried = [0]
    before = held(caster.pid)
    client = os.path.join(WORK, "guess.py")
    open(client, "w").write(GUESS)
    running, outputs = [], []

    def begin():
        running.append(subprocess.Popen([sys.executable, client, str(len(outputs))], stdout=subprocess.PIPE, text=True))
        time.sleep(0.3)

    def finish():
        process = running.pop()
        outputs.append(process.communicate()[0].strip())

    lateness_in_turns(caster, films, [], begin, finish, rounds=5, seconds=6)
    for line in outputs:
        say("  answers:", line)
    say("10,000 wrong tokens: threads %d, descriptors %d, %.1f MB before;" % before, "threads %d, descriptors %d, %.1f MB after" % held(caster.pid))
    right = re.search(r"[A-Za-z0-9_-]{40,}", made.stdout)
    if right:
        told = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Authorization: Bearer " + right[0], "http://127.0.0.1:8088/api/stations/20"], capture_output=True, text=True).stdout
        say("  the right token, from an address that did not guess: HTTP", told)
    caster.end()


GUESS = r'''
# 2,000 wrong secrets in 6 s from 1,000 addresses of loopback: tokens by HTTP, tokens and passwords by RTSP.
import base64, collections, os, socket, sys, time
turn, answers, due = int(sys.argv[1]), collections.Counter(), time.monotonic()
for k in range(2000):
    n = (turn * 2000 + k) % 1000
    source = "127.%d.%d.%d" % (1 + turn, n // 250, n % 250 + 1)
    s = socket.socket(); s.bind((source, 0)); s.settimeout(5)
    wrong = "sct_" + os.urandom(32).hex()
    try:
        if k % 3 == 0:
            s.connect(("127.0.0.1", 8088))
            s.sendall(("GET /api/stations/20 HTTP/1.1\r\nHost: 127.0.0.1:8088\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n" % wrong).encode())
        else:
            secret = wrong if k % 3 == 1 else "a wrong password %d" % k
            s.connect(("127.0.0.1", 8554))
            s.sendall(("DESCRIBE rtsp://127.0.0.1:8554/20 RTSP/1.0\r\nCSeq: 1\r\nAuthorization: Basic %s\r\n\r\n" % base64.b64encode(b"staff:" + secret.encode()).decode()).encode())
        answers[("HTTP", "RTSP token", "RTSP password")[k % 3] + " " + s.recv(65536).split(b"\r\n")[0].decode()] += 1
    except OSError as error:
        answers[str(error)] += 1
    s.close()
    due += 0.003
    time.sleep(max(0, due - time.monotonic()))
print(dict(answers), "in %.1f s" % (time.monotonic() - due + 6))
'''


# What encrypting and signing cost, and how long a change of station takes then.
def protection():
    kinds = {"plain": "", "encrypt": "encrypt = true", "compat": 'encrypt = "compat"', "sign": "sign = true",
             "encrypt and sign": "encrypt = true\nsign = true"}
    shares, zaps = {}, {}
    for turn in range(3):
        for kind, keys in kinds.items():
            head = HEAD + "sound = false\ndatagram = 1472\n" + keys + "\n"
            caster = Broadcaster(head + "".join(station(n, OCEAN) for n in range(1, 101)), "%s-%d" % (kind.replace(" ", "-"), turn))
            caster.await_films(100)
            # Until all of them air from one reel.
            time.sleep(30 if turn == 0 and kind == "plain" else 3)
            shares.setdefault(kind, []).append(core_share(caster.pid, 15))
            if turn == 0 and "sign" not in kind:
                told = json.loads(run("viewer", ["--directory", "127.0.0.1:9688", "--headless", "--zap", "200", "--json"]).stdout)
                zaps[kind] = told["zap_ms"]
            caster.end()
    plain = statistics.median(shares["plain"])
    for kind, found in shares.items():
        median = statistics.median(found)
        say("100 stations, %s: %s %% of a core, %.2f times plain" % (kind, "/".join("%.1f" % share for share in found), median / plain))
    for kind, found in zaps.items():
        say("change of station, %s: p50 %.2f, p99 %.2f, max %.2f ms" % (kind, found["p50"], found["p99"], found["max"]))


# 9. The viewer with sound.
def sound():
    home = WORK + "/home"
    os.makedirs(home)
    open(home + "/.asoundrc", "w").write("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    server = WORK + "/pulse.sock"
    os.environ.update(HOME=home, PULSE_SERVER="unix:" + server)
    start("pulseaudio", ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "-L", "module-null-sink sink_name=null rate=48000",
                         "-L", "module-native-protocol-unix auth-anonymous=1 socket=" + server], WORK + "/pulse.log")
    display()
    caster = Broadcaster(HEAD + "".join(station(n, FILMS[n % 3]) for n in range(1, 4)))
    caster.await_films(3)
    time.sleep(2)
    shares = {}
    for _ in range(2):
        for mute in (False, True):
            environment = dict(os.environ, PULSE_SERVER="unix:/nonexistent") if mute else dict(os.environ)
            viewer = start("viewer", ["--directory", "127.0.0.1:9688", "--station", "3"], WORK + "/sound-%d.log" % mute, env=environment)
            left, top, width, height = window(640, 368)
            time.sleep(3)
            before = threads_cpu(viewer.pid)
            share = core_share(viewer.pid, 15)
            after = threads_cpu(viewer.pid)
            shares.setdefault(mute, []).append(share)
            say("  %s, %dx%d:" % ("no device" if mute else "sound", width, height), "%.2f %%" % share, {k: round(100 / 15 * (v - before.get(k, 0)), 2) for k, v in after.items() if v > before.get(k, 0)})
            if not mute:
                say("  inputs of the sink:", subprocess.run("pactl list short sink-inputs | wc -l", shell=True, capture_output=True, text=True).stdout.strip())
            end_all([viewer], signal.SIGTERM)
    say("viewer with sound: %s %% of a core; without a device %s" % ("/".join("%.2f" % s for s in shares[False]), "/".join("%.2f" % s for s in shares[True])))
    told = run("viewer", ["--directory", "127.0.0.1:9688", "--headless", "--zap", "200", "--json"])
    say("zap:", told.stdout.strip(), told.stderr.strip()[-300:])
    caster.end()


ALL = dict(publisher=publisher, comeback=comeback, black_hole=black_hole, mosaic=mosaic, thirty=thirty, glass=glass, reload=reload, reload_999=reload_999, tokens=tokens, protection=protection, sound=sound)

try:
    ALL[sys.argv[1]]()
finally:
    for process in STARTED:
        if process.poll() is None:
            process.kill()
    if not os.environ.get("FIGURES_KEEP"):
        shutil.rmtree(WORK, ignore_errors=True)
