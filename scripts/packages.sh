#!/bin/sh
# Installs the Debian packages that are missing, and prints their names. On another system it prints the names and stops.
# Usage: scripts/packages.sh build|test|page|matrix
set -eu

# The headers of OpenCV and of FFmpeg, and the compiler that reads them; the tools that build libjpeg-turbo.
build="build-essential pkg-config clang libclang-dev cmake nasm libopencv-dev libavfilter-dev libavformat-dev libasound2-dev"
# The libraries that the window loads at run time.
window="libx11-6 libxcursor1 libxkbcommon0"
# Test networks, real clients (GStreamer's sdpdemux is in plugins-bad, its windows in x), a display without a screen, and fonts of many scripts.
test="iproute2 util-linux procps nftables ffmpeg gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
gstreamer1.0-plugins-bad gstreamer1.0-x gstreamer1.0-rtsp gir1.2-gst-rtsp-server-1.0 python3-gi python3-pylibsrtp tshark xvfb xdotool imagemagick pulseaudio libasound2-plugins fonts-noto-cjk fonts-noto-color-emoji fonts-dejavu-core"
# For the web page's tests, and a parser of metrics. Node.js need not be Debian's.
page="chromium python3-prometheus-client"
command -v node >/dev/null && command -v npm >/dev/null || page="$page nodejs npm"
# More players.
matrix="mpv python3-venv"

case "${1:-}" in
build) wanted="$build $window" ;;
test) wanted="$build $window $test $page" ;;
page) wanted="$build $page" ;;
matrix) wanted="$build $window $test $matrix" ;;
*) echo "usage: $0 build|test|page|matrix" >&2; exit 2 ;;
esac

if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install it from https://rustup.rs and run this again." >&2
    exit 1
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    # Not Debian: no package is checked, and the build reports what is missing.
    if [ -e target/packages-are-here ]; then exit 0; fi
    echo "This system is not Debian. Install what corresponds to these Debian packages:" >&2
    echo "  $wanted" >&2
    echo "then: mkdir -p target && touch target/packages-are-here, and run this again." >&2
    exit 1
fi

missing=
for package in $wanted; do
    state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "Installing:$missing"
sudo=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "This needs root: apt-get install$missing" >&2
        exit 1
    fi
    sudo=sudo
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086  # a list of packages
{
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
} >"$log" 2>&1 || {
    cat "$log" >&2
    echo "The packages could not be installed." >&2
    exit 1
}
