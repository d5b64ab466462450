# shellcheck shell=bash
# What the scripts share. Sourced, from bash with `set -euo pipefail`. Not every script uses all of it.
# shellcheck disable=SC2034

# The repository, wherever the script was called from.
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Models and tools are kept here, outside the repository, so that every clone shares them.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rag-api
models_dir=${RAG_MODELS_DIR:-$cache}
tools_dir=$cache/tools

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# 32 random bytes in hexadecimal, which URLs and configuration files take as they are.
random() { od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'; }

has() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages, where this is Debian (or a child of it) and we are root; else fails.
debian_install() {
    has apt-get && [ "$(id -u)" = 0 ] || return 1
    say "installing from Debian: $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Needs a program; installs its Debian package if that can be done.
need() {
    local program=$1 package=$2
    has "$program" || debian_install "$package" || die "$program is missing: install it (on Debian: apt-get install $package)"
}
