#!/bin/sh
# The pictures of the window in docs/images, taken on a virtual display in a network of its own: `make images`.
# Usage: scripts/images.sh [FOLDER-OF-PROGRAMS]
set -eu
cd "$(dirname "$0")/.."
programs=${1:-target/debug}

if [ -z "${STATIONCAST_IMAGES:-}" ]; then
    exec unshare -Urnmpf --mount-proc --kill-child env STATIONCAST_IMAGES=1 "$0" "$programs"
fi

ip link set lo up
ip route add 224.0.0.0/4 dev lo
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_STATE_HOME="$work/state" XDG_CACHE_HOME="$work/cache" LANG=C.UTF-8

# Writes a line-up of $1 stations; the last of more than three has a file that is no film.
line_up() {
    printf '[directory]\nlisten = "127.0.0.1:9688"\n[defaults]\ninterface = "127.0.0.1"\nwidth = 640\nreel = true\n'
    seq 1 "$1" | while read -r n; do
        case $(((n - 1) % 12)) in
        0) name=Ocean ;; 1) name=Nature ;; 2) name=Space ;; 3) name="電影頻道" ;; 4) name="日本の映画" ;; 5) name="قناة الأفلام" ;;
        6) name="Kino für alle" ;; 7) name="Кинотеатр" ;; 8) name="🎬 Trailers" ;; 9) name="Ελληνικός κινηματογράφος" ;;
        10) name=Documentaries ;; *) name=Music ;;
        esac
        case $(((n - 1) % 3)) in 0) film=ocean ;; 1) film=nature ;; *) film=space ;; esac
        [ "$n" -gt 12 ] && name="$name $n"
        film="$PWD/media/$film.mp4"
        if [ "$n" -eq 60 ]; then
            film="$work/a film with a long name.mp4"
            echo "no film" >"$film"
        fi
        printf '[[station]]\nid = %s\nname = "%s"\nmedia = "%s"\ngroup = "239.77.0.%s:5004"\n' \
            "$n" "$name" "$film" "$n"
    done
}

# Starts the broadcaster with $1 stations and waits until its directory answers.
on_air() {
    line_up "$1" >"$work/stations.toml"
    "$programs/broadcaster" --config "$work/stations.toml" >"$work/broadcaster.log" 2>&1 &
    broadcaster=$!
    for _ in $(seq 300); do
        "$programs/viewer" --directory 127.0.0.1:9688 --list 2>/dev/null | grep -q ' Ocean$' && return
        kill -0 $broadcaster || { cat "$work/broadcaster.log" >&2; exit 1; }
        sleep 0.2
    done
    echo "no station came on air" >&2; cat "$work/broadcaster.log" >&2; exit 1
}

# Starts the viewer on station $1 in a window of $2 x $3, without a pointer over it.
watch() {
    rm -rf "$XDG_STATE_HOME"
    RUST_LOG=error "$programs/viewer" --directory 127.0.0.1:9688 --station "$1" --save-to "$work" >"$work/viewer.log" 2>&1 &
    viewer=$!
    window=$(timeout 30 xdotool search --sync --onlyvisible --class stationcast | head -1)
    [ -n "$window" ] || { echo "no window" >&2; cat "$work/viewer.log" >&2; exit 1; }
    xdotool windowsize "$window" "$2" "$3" windowfocus "$window"
    sleep 4
}

press() { xdotool key --delay 60 "$@"; sleep 2; }
picture() { import -window "$window" -strip -quality 82 "docs/images/$1"; echo "docs/images/$1"; }
close() { kill $viewer; wait $viewer 2>/dev/null || true; }

Xvfb -displayfd 3 -screen 0 1920x1200x24 -nolisten tcp -noreset 3>"$work/display" >/dev/null 2>&1 &
until [ -s "$work/display" ]; do sleep 0.1; done
DISPLAY=:$(cat "$work/display"); export DISPLAY

on_air 3
watch 1 1280 736
press 2
picture window.jpg
sleep 3
press l; picture window-list.jpg; press Escape
press question; picture window-keys.jpg; press Escape
press i; picture window-info.jpg; press Escape
kill $broadcaster; wait $broadcaster 2>/dev/null || true
sleep 4
picture window-lost.jpg
close

on_air 60
watch 4 1280 736
press 4; picture window-chinese.jpg
sleep 3
press l; picture window-60.jpg
press m u s; picture window-find.jpg; press Escape
press 6 0; sleep 5; picture window-slate.jpg
close
watch 6 640 368
press 6; picture window-small.jpg
sleep 3
press l; picture window-small-list.jpg
close
