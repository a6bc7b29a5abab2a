"""PyAV as a publisher, as in people's scripts: a film, over and over, with a tone of 440 Hz.

pyav_publish.py FILM URL jpeg FOLDER    MJPEG and Opus; the coded pictures of the first round are put into FOLDER
pyav_publish.py FILM URL h264           H.264 and AAC
"""
import os
import sys
import time
from fractions import Fraction

import av
import numpy

film, url, codec = sys.argv[1:4]
folder = sys.argv[4] if codec == "jpeg" else None

out = av.open(url, "w", format="rtsp", options={"rtsp_transport": "tcp"})
if codec == "jpeg":
    # Quality 5, in the units of libavutil's lambda.
    quality = {"flags": "+qscale", "global_quality": str(5 * 118)}
    pictures = out.add_stream("mjpeg", rate=25, options={"huffman": "default", "force_duplicated_matrix": "1", **quality})
    pictures.pix_fmt = "yuvj420p"
    # Several threads code a picture in slices, with restart markers, of which FFmpeg's own RTP muxer does not tell.
    pictures.thread_count = 1
    sound = out.add_stream("libopus", rate=48000)
else:
    pictures = out.add_stream("libx264", rate=25, options={"tune": "zerolatency", "g": "25", "crf": "18"})
    pictures.pix_fmt = "yuv420p"
    sound = out.add_stream("aac", rate=48000)
sound.layout = "stereo"


def frames():
    """The pictures of the film, round after round, each with its number in its round."""
    while True:
        with av.open(film) as source:
            yield from enumerate(source.decode(video=0))


def tone(begin, count):
    """A frame of sound from sample `begin` on."""
    wave = 0.4 * numpy.sin(2 * numpy.pi * 440 * numpy.arange(begin, begin + count) / 48000)
    kind = sound.codec_context.format.name
    samples = numpy.stack([wave, wave]).astype(numpy.float32)
    if not kind.endswith("p"):
        samples = samples.T.reshape(1, -1)
    if kind.startswith("s16"):
        samples = (samples * 32767).astype(numpy.int16)
    frame = av.AudioFrame.from_ndarray(numpy.ascontiguousarray(samples), format=kind, layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, begin, Fraction(1, 48000)
    return frame


def main():
    begin, samples, first_round = time.monotonic(), 0, True
    for n, (number, frame) in enumerate(frames()):
        if n == 0:
            pictures.width, pictures.height = frame.width, frame.height
        first_round = first_round and number == n
        time.sleep(max(0, begin + n / 25 - time.monotonic()))
        if pictures.pix_fmt != frame.format.name:
            frame = frame.reformat(format=pictures.pix_fmt, dst_color_range=2 if codec == "jpeg" else 0)
        frame.pts, frame.time_base = n, Fraction(1, 25)
        frame.pict_type = 0
        for packet in pictures.encode(frame):
            if folder and first_round:
                with open(os.path.join(folder, "%04d.jpg" % number), "wb") as file:
                    file.write(bytes(packet))
            out.mux(packet)
        while samples < (n + 1) * 1920:
            count = sound.codec_context.frame_size or 960
            for packet in sound.encode(tone(samples, count)):
                out.mux(packet)
            samples += count


main()
