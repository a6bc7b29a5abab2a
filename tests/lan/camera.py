"""A camera for the tests, by Python's http.server: motion JPEG at 25 pictures a second.

camera.py ADDRESS PORT FOLDER [OTHER]

The paths are the cameras: each sends the files of FOLDER round after round, or what its name says.
"""
import http.server
import os
import sys
import time

address, port, folders = sys.argv[1], int(sys.argv[2]), sys.argv[3:]


def files(folder):
    names = sorted(os.listdir(folder))
    return [open(os.path.join(folder, name), "rb").read() for name in names]


PICTURES = [files(folder) for folder in folders]
BOUNDARY = "--moving pictures"


class Camera(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def bodies(self, path):
        """Each picture of one camera."""
        first = PICTURES[0]
        n = 0
        while True:
            if path == "/garbage.mjpg":
                yield os.urandom(5000)
            elif path == "/half.mjpg" and n % 2:
                yield first[n % len(first)][: 1000 + n % 3000]
            elif path == "/size.mjpg" and n // 50 % 2:
                yield PICTURES[1][n % 50]
            else:
                yield first[n % len(first)]
            n += 1

    def do_GET(self):
        path = self.path
        if path == "/moved.mjpg":
            self.send_response(302)
            self.send_header("Location", "/stream.mjpg")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path == "/still.jpg":
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(PICTURES[0][0])))
            self.end_headers()
            self.wfile.write(PICTURES[0][0])
            return
        if not path.endswith(".mjpg"):
            self.send_error(404)
            return
        if path == "/silent.mjpg":
            time.sleep(3600)
        self.send_response(200)
        self.send_header("Content-Type", 'multipart/x-mixed-replace; boundary="%s"' % BOUNDARY)
        self.send_header("Connection", "close")
        self.end_headers()
        if path == "/flood.mjpg":
            while True:
                self.wfile.write(b"\xff" * 65536)
        due = time.monotonic()
        for n, body in enumerate(self.bodies(path)):
            head = b"--" + BOUNDARY.encode() + b"\r\nContent-Type: image/jpeg\r\n"
            if path != "/bare.mjpg":
                head += b"Content-Length: %d\r\n" % len(body)
            self.wfile.write(head + b"\r\n" + body + b"\r\n")
            if path == "/stops.mjpg" and n == 100:
                time.sleep(3600)
            due += 0.04
            time.sleep(max(0, due - time.monotonic()))


http.server.ThreadingHTTPServer.daemon_threads = True
server = http.server.ThreadingHTTPServer((address, port), Camera)
print("ready", flush=True)
server.serve_forever()
