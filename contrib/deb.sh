#!/usr/bin/env bash
# Makes the Debian packages target/debian/stationcast_*.deb and target/debian/stationcast-viewer_*.deb. PROFILE=dev packs a debug
# build, for a look at the packages.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb

# The paths below and those of Cargo.toml are of this folder, wherever else the user has cargo build.
export CARGO_TARGET_DIR=$PWD/target

profile=${PROFILE:-release}
folder=$profile
[ "$profile" != dev ] || folder=debug
# The viewer is built alone: together with the broadcaster it would be linked with OpenCV.
viewer_target=$PWD/target/viewer-alone

cargo build --profile "$profile" --locked --bin broadcaster
CARGO_TARGET_DIR=$viewer_target cargo build --profile "$profile" --locked --no-default-features --features viewer,sound --bin viewer

made=target/package-files
mkdir -p "$made"
for program in target/$folder/broadcaster $viewer_target/$folder/viewer; do
    name=$(basename "$program")
    "$program" --generate man | gzip -9n >"$made/$name.1.gz"
    "$program" --generate bash >"$made/$name.bash"
    "$program" --generate zsh >"$made/_$name"
    "$program" --generate fish >"$made/$name.fish"
done
# The demo line-up, with the paths of the installed films.
sed 's|^media = "media/|media = "/usr/share/stationcast/media/|' stations.toml >"$made/stations.toml"
for package in stationcast stationcast-viewer; do
    changelog=$made/changelog-$package
    sed "s/^stationcast (/$package (/" contrib/debian/changelog >"$changelog"
done
gzip -9nc CHANGELOG.md >"$made/changelog.gz"

cargo deb --profile "$profile" --no-build --locked --strip --output target/debian/ "$@"
CARGO_TARGET_DIR=$viewer_target cargo deb --profile "$profile" --variant viewer --no-build --locked --strip --output target/debian/ "$@"
