"""Load by oha: closed loops, and constant rates whose latency counts from when a request was due."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from server import KEY


@dataclass
class Answered:
    """One answered request, in seconds: when it was sent, until its first byte, and until its end. At a constant rate
    the last counts from when the request was due, not from when a connection was free to send it."""

    start: float
    first_byte: float
    seconds: float
    status: int


class Result:
    """The answers of one run of `seconds`; requests cut off by its end are not in it."""

    def __init__(self, answers, seconds):
        self.answers, self.seconds = answers, seconds

    def count(self, status):
        """Answers with this status."""
        return sum(answer.status == status for answer in self.answers)

    def rate(self, status=200):
        """Answers with this status per second."""
        return self.count(status) / self.seconds

    def percentile(self, share, status=200, first_byte=False):
        """The time, in milliseconds, that `share` of the answers with this status took at most."""
        answers = (answer for answer in self.answers if answer.status == status)
        times = sorted(answer.first_byte if first_byte else answer.seconds for answer in answers)
        return times[min(int(share * len(times)), len(times) - 1)] * 1e3 if times else float("nan")


def closed_loop(context, server, path, bodies, clients, seconds):
    """Each of `clients` connections sends the next request once it has the answer. Without bodies: GET."""
    return _oha(context, server, path, bodies, ["-c", str(clients)], seconds)


def constant_rate(context, server, path, bodies, rate, seconds, connections=64):
    """`rate` requests a second, whatever becomes of them, while one of `connections` is free."""
    options = ["-c", str(connections), "-q", f"{rate:.2f}", "--latency-correction"]
    return _oha(context, server, path, bodies, options, seconds)


def _oha(context, server, path, bodies, options, seconds):
    with tempfile.TemporaryDirectory(prefix="rag-bench-load-") as folder:
        answers = Path(folder) / "answers.csv"
        command = [context.oha, "--no-tui", "--output-format", "csv", "--output", str(answers)]
        command += ["-z", f"{seconds}s", "-t", "60s", "-H", f"x-api-key: {KEY}", *options]
        if bodies:
            lines = Path(folder) / "bodies.jsonl"
            lines.write_text("".join(json.dumps(body) + "\n" for body in bodies))
            command += ["-m", "POST", "-T", "application/json", "-Z", str(lines)]
        subprocess.run([*command, server.url + path], check=True, stdout=subprocess.DEVNULL)
        rows = [line.split(",") for line in answers.read_text().splitlines()[1:]]
    parsed = [Answered(float(row[0]), float(row[3]), float(row[4]), int(row[6])) for row in rows]
    return Result(parsed, seconds)
