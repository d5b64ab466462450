"""Measures rag-api as a user sees it, and holds what it finds against targets."""

import argparse
import importlib
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = ("start", "memory", "denominator", "ingest_share", "cached", "loading", "overload", "reference", "soak")


@dataclass
class Context:
    """What every benchmark is given."""

    binary: str
    models: Path
    oha: str
    data: Path
    reranker: Path | None
    reference: Path | None
    documents: int | None
    chunks: int | None
    minutes: float
    seconds: float
    machine: dict
    report: object
    dice: random.Random = field(default_factory=lambda: random.Random(1))

    def log(self, text):
        """Says how it goes."""
        print(f"    {time.strftime('%H:%M:%S')} {text}", flush=True)


def module(name):
    """The module of a benchmark."""
    return importlib.import_module(f"bench_{name}")


def arguments():
    """The command line."""
    text = ["benchmarks, in this order by default (without soak):", ""]
    for name in BENCHMARKS:
        summary, targets = heading(name)
        text += [f"  {name:13} {summary}", f"  {'':13} {targets}", ""]
    text.append("Exits with 1 if a target was missed. A run beside other work is worth little: ratios are taken within one")
    text.append("run, in turns, and medians of them are shown, but a shared core is a shared core.")
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", description=__doc__, epilog="\n".join(text),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="benchmarks to run")
    add("--json", metavar="FILE", help="also write the results there")
    add("--data", type=Path, metavar="DIR", default=os.environ.get("RAG_BENCH_DATA", "../shared/data/eval"),
        help="folder with the collection aws_docs (corpus.jsonl); default $RAG_BENCH_DATA, ../shared/data/eval")
    add("--reranker", type=Path, metavar="DIR", default=os.environ.get("RAG_BENCH_RERANKER"),
        help="a cross-encoder's folder; default $RAG_BENCH_RERANKER, none: left out")
    add("--reference", type=Path, metavar="FILE", default=os.environ.get("RAG_BENCH_REFERENCE"),
        help="the reference service (see bench_reference.py); default $RAG_BENCH_REFERENCE")
    add("--documents", type=int, metavar="N", help="pages to load, instead of each benchmark's own number")
    add("--chunks", type=int, metavar="N", help="start: chunks to rewrite ten times (2000)")
    add("--minutes", type=float, default=20, metavar="N", help="soak: how long (20)")
    add("--seconds", type=float, default=60, metavar="N", help="overload: how long (60)")
    return parser.parse_args()


def heading(name):
    """SUMMARY and TARGETS of a benchmark, without importing what it needs."""
    lines = (HERE / f"bench_{name}.py").read_text().splitlines()
    found = {key: line.split(" = ", 1)[1].strip('"') for line in lines for key in ("SUMMARY", "TARGETS")
             if line.startswith(f"{key} = ")}
    return found["SUMMARY"], found["TARGETS"]


def main():
    """Runs what is named; what fails is noted, and the next one runs."""
    options = arguments()
    names = options.names or [name for name in BENCHMARKS if name != "soak"]
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"error: no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    # A signal that stops us still ends the servers and removes their folders.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    import machine
    from report import Report

    report = Report(machine.describe())
    context = Context(
        binary=os.path.abspath(os.environ["RAG_BIN"]), models=Path(os.environ["RAG_BENCH_MODELS"]),
        oha=os.environ["RAG_BENCH_OHA"], data=options.data, reranker=options.reranker, reference=options.reference,
        documents=options.documents, chunks=options.chunks, minutes=options.minutes, seconds=options.seconds,
        machine=report.machine, report=report,
    )
    failed = []
    for name in names:
        print(f"==> {name}", flush=True)
        if (load := os.getloadavg()[0]) > report.machine["cores"]:
            context.log(f"the machine is busy (load {load:.0f}): what is measured by the clock is worth little")
        try:
            module(name).run(context)
        except Exception as error:
            failed.append(name)
            print(f"  {name} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        if options.json:
            report.write(options.json)
    print(report.table())
    if failed:
        sys.exit(f"error: {', '.join(failed)} did not run to the end")
    sys.exit(1 if report.misses() else 0)


if __name__ == "__main__":
    main()
