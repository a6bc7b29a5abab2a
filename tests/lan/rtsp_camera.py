"""Cameras for the tests, by GStreamer's RTSP server: 25 pictures a second, and a sound of 440 Hz.

rtsp_camera.py ADDRESS PORT FILM

Each path is a camera: it sends the pictures of FILM, a MOV file of JPEG, in the codecs that its name says. At the next port,
/secret asks for the user anna and her password, by Digest.
"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

Gst.init(None)
address, port, film = sys.argv[1], int(sys.argv[2]), sys.argv[3]

FILES = 'filesrc location="%s" ! qtdemux' % film
PIXELS = FILES + " ! jpegdec ! videoconvert ! video/x-raw,format=I420"
TONE = "audiotestsrc is-live=false wave=sine freq=440 volume=0.5 samplesperbuffer=%d ! audio/x-raw,rate=%d,channels=%d"
H264 = PIXELS + " ! openh264enc gop-size=25 bitrate=6000000 complexity=low ! h264parse ! rtph264pay name=pay0 pt=96"
CAMERAS = {
    "/jpeg-l16": FILES + " ! rtpjpegpay name=pay0 pt=26 " + TONE % (441, 44100, 2) + " ! audioconvert ! rtpL16pay name=pay1 pt=97",
    "/h264-g711": H264 + " " + TONE % (160, 8000, 1) + " ! alawenc ! rtppcmapay name=pay1 pt=8",
    "/h264-aac": H264 + " " + TONE % (1024, 48000, 2) + " ! voaacenc ! aacparse ! rtpmp4gpay name=pay1 pt=97",
    "/h265-opus": PIXELS
    + " ! x265enc tune=zerolatency speed-preset=ultrafast key-int-max=25 bitrate=6000 ! h265parse ! rtph265pay name=pay0 pt=96 "
    + TONE % (960, 48000, 2)
    + " ! opusenc ! rtpopuspay name=pay1 pt=97",
}



def serve(port, cameras, auth=None):
    server = GstRtspServer.RTSPServer()
    server.set_address(address)
    server.set_service(str(port))
    for path, launch in cameras.items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch("( %s )" % launch)
        factory.set_shared(True)
        if auth:
            permissions = GstRtspServer.RTSPPermissions()
            for permission in ["access", "construct"]:
                permissions.add_permission_for_role("watcher", "media.factory." + permission, True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(path, factory)
    if auth:
        server.set_auth(auth)
    server.attach(None)
    return server


digest = GstRtspServer.RTSPAuth()
digest.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
token = GstRtspServer.RTSPToken()
token.set_string("media.factory.role", "watcher")
digest.add_digest("anna", "open sesame", token)
servers = [serve(port, CAMERAS), serve(port + 1, {"/secret": FILES + " ! rtpjpegpay name=pay0 pt=26"}, digest)]
print("ready", flush=True)
GLib.MainLoop().run()
