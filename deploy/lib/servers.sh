# shellcheck shell=bash
# The servers that tests start themselves, each as a program of its own. Sourced after common.sh and toolchain.sh.

# What a test runs, and the Debian package that has it.
server_packages=(
    "haproxy haproxy"
    "postgres postgresql"
    "redis-server redis-server"
)

# A server that speaks S3 and checks signatures, over a folder. Only run, never linked.
s3s_version=0.17.0
s3s=$tools_dir/s3s

# Whether a server's program is there; Debian keeps PostgreSQL's off the path.
has_server() {
    has "$1" || [ -x "/usr/sbin/$1" ] || { [ "$1" = postgres ] && compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; }
}

# Installs what is missing, where that can be done.
fetch_servers() {
    local program package packages=()
    while read -r program package; do
        has_server "$program" || packages+=("$package")
    done < <(printf '%s\n' "${server_packages[@]}")
    [ ${#packages[@]} = 0 ] || debian_install "${packages[@]}" ||
        die "missing for the tests: ${packages[*]} (on Debian: apt-get install ${packages[*]})"
    make_s3s
}

make_s3s() {
    # Under sudo it would be root's; deploy/test builds it for whoever runs the tests.
    if [ -n "${SUDO_USER:-}" ]; then return; fi
    if [ "$("$s3s/bin/s3s-fs" --version 2>/dev/null)" = "s3s-fs $s3s_version" ]; then return; fi
    use_toolchain
    say "building s3s-fs $s3s_version into $s3s (some minutes, once)"
    # Optimised a little and linked without more: its checksums would take long, and nothing else here does.
    CARGO_TARGET_DIR=$CARGO_TARGET_DIR/s3s CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install --quiet --locked s3s-fs --version "$s3s_version" --features binary --root "$s3s" ||
        die "s3s-fs could not be built; check the network"
}
