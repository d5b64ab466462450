# shellcheck shell=bash
# The servers that tests start themselves, each as a program of its own. Sourced after common.sh and toolchain.sh.

# What a test runs, and the Debian package that has it.
server_packages=(
    "haproxy haproxy"
    "postgres postgresql"
    "redis-server redis-server"
)

# A server that speaks S3 and checks signatures, over a folder.
s3s_version=0.17.0

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
    # Under sudo it would be root's; deploy/test builds it for whoever runs the tests. Optimised a little: its checksums
    # would take long, and nothing else does.
    if [ -z "${SUDO_USER:-}" ]; then
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 build_tool s3s-fs "$s3s_version" s3s --features binary
    fi
}
