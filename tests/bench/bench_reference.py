"""Beside a reference: a FastAPI + ONNX Runtime + Qdrant service with the same routes and the same models.

The reference is one Python file, named by --reference; its module has an ASGI application `app` and reads MODEL_DIR,
RERANKER_DIR, REDIS_URL and API_KEY. It takes POST /v1/documents `{text, title}` (done when it answers), /v1/search and
/v1/query `{query, top_k, rerank}` with the header X-API-Key, and answers GET /health once it is loaded. Both run at the
same time; each figure is taken in turns, so that what else the machine does meets both.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import corpus
import load
import machine
from api import Api
from server import KEY, Server, end, free_port, wait_http

NAME = "reference"
SUMMARY = "beside a FastAPI + ONNX Runtime + Qdrant service with the same routes (5 minutes; needs --reference)"
TARGETS = "ingestion >= 1.3 x, searches >= 4 x, cached >= 10 x, cached p99 <= 0.2 x, memory <= 0.33 x"


class Reference:
    """The reference service, with a Redis of its own for its cache."""

    def __init__(self, context):
        self.context, self.processes = context, []
        self.folder = tempfile.mkdtemp(prefix="rag-bench-reference-")

    def __enter__(self):
        redis = shutil.which("redis-server")
        if redis is None:
            raise RuntimeError("redis-server is missing (on Debian: apt-get install redis-server)")
        self.redis_port = free_port()
        options = ["--bind", "127.0.0.1", "--port", str(self.redis_port), "--save", "", "--appendonly", "no"]
        self._run([redis, *options, "--dir", self.folder], {})
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            end(process, 15)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, command, environment):
        log = open(os.path.join(self.folder, "log"), "ab")
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        return process

    def start(self):
        """Starts the service (again); `ready_seconds` is from exec to /health 200."""
        if len(self.processes) > 1:
            end(self.processes.pop(), 15)
        file, self.port = self.context.reference.resolve(), free_port()
        command = [sys.executable, "-m", "uvicorn", f"{file.stem}:app", "--app-dir", str(file.parent), "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning", "--no-access-log"]
        process = self._run(command, {
            "MODEL_DIR": str(self.context.models / "all-MiniLM-L6-v2"), "API_KEY": KEY,
            "RERANKER_DIR": str(self.context.reranker or ""), "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}",
            "ORT_THREADS": str(self.context.machine["cores"]), "PYTHONDONTWRITEBYTECODE": "1",
        })
        self.pid, self.url = process.pid, f"http://127.0.0.1:{self.port}"
        self.ready_seconds = wait_http(f"{self.url}/health", process, 120)
        self.api = Api(self.port, KEY)

    def load(self, pages):
        """Uploads (title, text) pairs, two at a time; seconds until all are indexed."""
        started = time.perf_counter()
        with ThreadPoolExecutor(2) as clients:
            list(clients.map(lambda page: self.api.ok("POST", "/v1/documents", {"title": page[0], "text": page[1]}), pages))
        return time.perf_counter() - started


def run(context):
    """Everything in turns: ours, theirs."""
    if context.reference is None:
        return context.log("left out: no --reference")
    settings = {"RAG_RETRIEVAL_TOP_K": "20"}
    if context.reranker:
        settings["RAG_RERANKER_MODEL"] = f"path:{context.reranker}"
    pages = corpus.documents(context.data, context.documents or 120)
    questions = corpus.questions(pages, 8000)
    with Server(context.binary, context.models, **settings) as ours, Reference(context) as theirs:
        idle(context, ours, theirs)
        ingestion(context, ours, theirs, pages)
        searches(context, ours, theirs, questions)
        cached(context, ours, theirs, questions[:30])
        if context.reranker:
            reranked(context, ours, theirs, questions)
        ratio(context, "memory after the same work", machine.rss(ours.pid) / 2**20, machine.rss(theirs.pid) / 2**20,
              "MiB", at_most=0.33)


def ratio(context, name, our, their, unit, at_least=None, at_most=None):
    """A row with both values and one with their ratio."""
    context.report.note(NAME, name, f"{our:.4g} {unit}, reference {their:.4g} {unit}")
    if at_least is not None:
        context.report.at_least(NAME, f"{name}, of the reference's", our / their, at_least)
    elif at_most is not None:
        context.report.at_most(NAME, f"{name}, of the reference's", our / their, at_most)


def idle(context, ours, theirs):
    """Three starts each, then memory."""
    starts = []
    for _ in range(3):
        ours.restart()
        theirs.start()
        starts.append((ours.ready_seconds, theirs.ready_seconds))
    ratio(context, "exec to ready", *(median(side) for side in zip(*starts)), "s")
    time.sleep(2)
    ratio(context, "memory, idle", machine.rss(ours.pid) / 2**20, machine.rss(theirs.pid) / 2**20, "MiB")


def ingestion(context, ours, theirs, pages, rounds=4):
    """The same slices of pages here and there."""
    pairs, size = [], len(pages) // rounds
    for turn in range(rounds):
        part = pages[turn * size : (turn + 1) * size]
        pairs.append((size / ours.load(part)[2], size / theirs.load(part)))
        context.log("ingestion: {:.2f}/s, reference {:.2f}/s".format(*pairs[-1]))
    ratio(context, "documents/s", *(median(side) for side in zip(*pairs)), "/s")
    context.report.at_least(NAME, "documents/s, median of the ratios", median(a / b for a, b in pairs), 1.3)


def searches(context, ours, theirs, questions):
    """Distinct questions from eight clients, not reranked."""
    bodies = [{"query": question, "rerank": False} for question in questions]
    pairs = turns(context, ours, theirs, "/v1/search", bodies, 8)
    ratio(context, "searches/s at 8 clients", *best_rates(pairs), "/s")
    context.report.at_least(NAME, "searches/s, median of the ratios", median(a.rate() / b.rate() for a, b in pairs), 4)
    medians = [[result.percentile(0.5) for result in pair] for pair in pairs]
    ratio(context, "search p50 at 8 clients", *(median(side) for side in zip(*medians)), "ms")


def cached(context, ours, theirs, questions):
    """Thirty questions again and again from eight clients."""
    bodies = [{"query": question} for question in questions]
    for side in (ours, theirs):
        for body in bodies:
            side.api.ok("POST", "/v1/query", body)
    pairs = turns(context, ours, theirs, "/v1/query", bodies, 8)
    ratio(context, "cached answers/s at 8 clients", *best_rates(pairs), "/s")
    context.report.at_least(NAME, "cached answers/s, median of the ratios", median(a.rate() / b.rate() for a, b in pairs), 10)
    tails = [[result.percentile(0.99) for result in pair] for pair in pairs]
    ratio(context, "cached p99", *(min(side) for side in zip(*tails)), "ms", at_most=0.2)


def reranked(context, ours, theirs, questions):
    """Twenty passages by the same cross-encoder, one question at a time."""
    pairs = []
    for question in questions[-15:]:
        pair = []
        for side in (ours, theirs):
            started = time.perf_counter()
            side.api.search(question, rerank=True)
            pair.append((time.perf_counter() - started) * 1e3)
        pairs.append(pair)
    ratio(context, "reranked search, one at a time", *(median(side) for side in zip(*pairs)), "ms")
    context.report.note(NAME, "the same, median of the ratios", f"{median(a / b for a, b in pairs):.2f}")


def turns(context, ours, theirs, path, bodies, clients, rounds=3, seconds=5):
    """Results of closed loops, in pairs."""
    pairs = []
    for _ in range(rounds):
        pairs.append([load.closed_loop(context, side, path, bodies, clients, seconds) for side in (ours, theirs)])
        context.log(f"{path}: " + ", reference ".join(f"{result.rate():.1f}/s" for result in pairs[-1]))
    return pairs


def best_rates(pairs):
    """The best rate of either side."""
    return [max(result.rate() for result in side) for side in zip(*pairs)]
