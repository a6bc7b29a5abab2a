#!/bin/sh
# Puts the demo line-up on air on this machine and watches station 2, in a window if there is a display.
# Ctrl-C, or closing the window, ends both.
set -eu

# The viewer is told the directory, so that it does not search the network while the broadcaster starts.
directory=127.0.0.1:9688

target/release/broadcaster --config stations.toml &
broadcaster=$!
trap 'kill -TERM $broadcaster 2>/dev/null || true; wait $broadcaster 2>/dev/null || true' EXIT
trap 'exit 0' INT TERM

# Wait until the directory answers. If the broadcaster ends first, it has printed the reason.
tries=0
until target/release/viewer --directory $directory --list >/dev/null 2>&1; do
    kill -0 $broadcaster 2>/dev/null || exit 1
    tries=$((tries + 1))
    [ $tries -lt 50 ] || { echo "the directory does not answer" >&2; exit 1; }
    sleep 0.1
done

if [ -n "${DISPLAY:-}" ]; then
    target/release/viewer --directory $directory --station 2
else
    echo "No display: receiving station 2 without a window. Ctrl-C ends."
    target/release/viewer --directory $directory --station 2 --headless
fi
