#!/usr/bin/env bash
# Makes the Debian package, target/debian/stationcast_*.deb. Needs cargo-deb (cargo install --locked cargo-deb).
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked
made=target/package-files
mkdir -p "$made"
for program in broadcaster viewer; do
    target/release/$program --generate man | gzip -9n >"$made/$program.1.gz"
    target/release/$program --generate bash >"$made/$program.bash"
    target/release/$program --generate zsh >"$made/_$program"
    target/release/$program --generate fish >"$made/$program.fish"
done
# The demo line-up, with the paths of the installed films.
sed 's|^media = "media/|media = "/usr/share/stationcast/media/|' stations.toml >"$made/stations.toml"
cargo deb --no-build --locked --strip "$@"
