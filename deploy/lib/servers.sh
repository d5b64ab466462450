# shellcheck shell=bash
# The servers that tests start themselves, each as a program of its own. Sourced after common.sh.

# What a test runs, and the Debian package that has it.
server_packages=(
    "postgres postgresql"
    "redis-server redis-server"
)

# Whether a server's program is there; Debian keeps PostgreSQL's off the path.
has_server() {
    has "$1" || { [ "$1" = postgres ] && compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; }
}

# Installs what is missing, where that can be done.
fetch_servers() {
    local program package packages=()
    while read -r program package; do
        has_server "$program" || packages+=("$package")
    done < <(printf '%s\n' "${server_packages[@]}")
    [ ${#packages[@]} = 0 ] || debian_install "${packages[@]}" ||
        die "missing for the tests: ${packages[*]} (on Debian: apt-get install ${packages[*]})"
}
