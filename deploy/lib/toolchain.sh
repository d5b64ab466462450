# shellcheck shell=bash
# Finds a Rust toolchain that is new enough, and puts it first. Sourced after common.sh.

# The minimum is written once, in Cargo.toml.
minimum_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$repository/Cargo.toml")

# Whether version $1 is at least $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Prints the folder of a rustc's own binaries if it is a release, new enough, and has a cargo beside it. A rustup proxy
# is asked for the toolchain behind it, and not allowed to download one.
toolchain_of() {
    local rustc=$1 version bin
    version=$(RUSTUP_AUTO_INSTALL=0 "$rustc" --version 2>/dev/null | cut -d ' ' -f 2) || return 1
    case $version in '' | *-*) return 1 ;; esac
    at_least "$version" "$minimum_rust" || return 1
    bin=$(RUSTUP_AUTO_INSTALL=0 "$rustc" --print sysroot)/bin
    [ -x "$bin/rustc" ] && [ -x "$bin/cargo" ] && printf '%s\n' "$bin"
}

# Prints the folder of the first toolchain that is new enough: PATH, rustup's, the system's.
find_toolchain() {
    local name path
    if has rustc && toolchain_of "$(command -v rustc)"; then return; fi
    if has rustup; then
        while read -r name; do
            path=$(RUSTUP_AUTO_INSTALL=0 rustup which --toolchain "$name" rustc 2>/dev/null) || continue
            if toolchain_of "$path"; then return; fi
        done < <(rustup toolchain list | cut -d ' ' -f 1)
    fi
    [ -x /usr/bin/rustc ] && toolchain_of /usr/bin/rustc
}

# Puts the toolchain first: RUSTC and RUSTDOC are set too, since an older rustup earlier on PATH must not win inside
# cargo. Sets toolchain_bin.
use_toolchain() {
    # Debian's security archive has a newer Rust under these names.
    if ! toolchain_bin=$(find_toolchain); then
        debian_install rustc-web cargo-web rustfmt-web || true
        toolchain_bin=$(find_toolchain) ||
            die "Rust $minimum_rust or newer is needed: rustup toolchain install stable, or on Debian 12, as root: apt-get install rustc-web cargo-web rustfmt-web (from bookworm-security)"
    fi
    export PATH="$toolchain_bin:$PATH" RUSTC="$toolchain_bin/rustc" RUSTDOC="$toolchain_bin/rustdoc"
    unset RUSTUP_TOOLCHAIN
    # C code of dependencies (SQLite, zstd, Oniguruma, ring) is compiled with it.
    has cc || debian_install gcc libc6-dev || die "a C compiler is needed: install gcc (on Debian: apt-get install gcc libc6-dev)"
    # Outside the clone, so that every clone shares what was built; a target folder that is set is kept.
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
}

# Builds the program $1, version $2, into the tools' folder $3, unless it is there; further arguments are cargo's. Only
# run, never linked. Without link-time optimisation, which would double the time and is worth nothing here.
build_tool() {
    local program=$1 version=$2 folder=$3
    shift 3
    if [ "$("$tools_dir/$folder/bin/$program" --version 2>/dev/null)" = "$program $version" ]; then return; fi
    use_toolchain
    say "building $program $version into $tools_dir/$folder (some minutes, once)"
    CARGO_TARGET_DIR=$CARGO_TARGET_DIR/$folder CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install --quiet --locked "$program" --version "$version" --root "$tools_dir/$folder" "$@" ||
        die "$program could not be built; check the network"
}
