"""What the machine is, and what a process takes of it. Reads /proc; times in seconds, sizes in bytes."""

import os
import platform
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def describe():
    """The machine: CPU model, cores this process may use, memory in GiB, and the load when the run began."""
    cpu = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    return {
        "cpu": cpu or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**20, 1),
        "load_1_minute": round(os.getloadavg()[0], 1),
    }


def rss(pid):
    """Resident memory of a process, bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def rss_peak(pid):
    """Most resident memory it ever had, bytes."""
    return next(int(line.split()[1]) * 1024 for line in _lines(f"/proc/{pid}/status") if line.startswith("VmHWM"))


def cpu(pid):
    """Processor time of a process (ended threads too) and of its children that have ended, seconds each."""
    user, system, child_user, child_system = map(int, _stat(f"/proc/{pid}/stat")[11:15])
    return (user + system) / TICK, (child_user + child_system) / TICK


def thread_cpu(pid, prefix):
    """Processor time of the living threads whose names begin so, seconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            if (task / "comm").read_text().startswith(prefix):
                total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            pass
    return total / 1e9


def descriptors(pid):
    """Open file descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid):
    """Living threads."""
    return len(os.listdir(f"/proc/{pid}/task"))


def _stat(path):
    # The name may hold blanks and parentheses; the fields after it do not.
    return Path(path).read_text().rsplit(")", 1)[1].split()


def _lines(path):
    return Path(path).read_text().splitlines()
