"""From exec to /ready, on an empty folder and on one whose documents were rewritten ten times."""

import os
import signal
import time
from statistics import median

import corpus
from server import Server

NAME = "start"
SUMMARY = "exec to /ready 200, fresh and after ten rewrites of a corpus of --chunks chunks (3 minutes; 10000: 12)"
TARGETS = "<= 1 s with the models on disk"
CHUNKS_PER_DOCUMENT = 100
# Chunks of two lines, so that there are many and embedding them is quick.
SMALL_CHUNKS = {"RAG_CHUNK_TOKENS": "32", "RAG_CHUNK_OVERLAP_TOKENS": "0"}
REWRITES = 10


def run(context):
    """Five starts of each kind."""
    rerankers = {"late interaction": "late-interaction"}
    if context.reranker:
        rerankers["cross-encoder"] = f"path:{context.reranker}"
    for name, setting in rerankers.items():
        with Server(context.binary, context.models, RAG_RERANKER_MODEL=setting) as server:
            judge(context, f"empty, {name}", starts(server))
    rewritten(context)


def starts(server, times=5):
    """Seconds, and processor seconds, of each of so many starts."""
    return [(server.restart().ready_seconds, server.ready_processor) for _ in range(times)]


def judge(context, name, seconds):
    """The best start counts: what is above it is the machine's other work."""
    seconds, processor = zip(*seconds)
    text = f"{median(seconds):.2f} s, {median(processor):.2f} s of processor time"
    context.report.note(NAME, f"{name}: median of {len(seconds)}", text)
    context.report.at_most(NAME, f"{name}: best of {len(seconds)}", min(seconds), 1, " s")


def rewritten(context):
    """The same documents, replaced ten times."""
    chunks = context.chunks or 2000
    pages = corpus.documents(context.data, 2723)
    words = [word for _, text in pages for word in corpus.WORDS.findall(text)]
    with Server(context.binary, context.models, **SMALL_CHUNKS) as server:
        write(context, server, words, chunks, 0)
        judge(context, f"{stored(server)} chunks", starts(server))
        for turn in range(1, REWRITES + 1):
            write(context, server, words, chunks, turn)
        judge(context, f"{stored(server)} chunks, rewritten {REWRITES} times", starts(server))
        write(context, server, words, chunks, REWRITES + 1)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        server.start()
        context.report.note(NAME, "after a kill -9 in the next rewrite's wake", f"{server.ready_seconds:.2f} s")
        time.sleep(15)
        judge(context, "after 15 idle seconds", starts(server))
        size = sum(file.stat().st_size for file in server.folder.rglob("*") if file.is_file())
        context.report.note(NAME, "its folder", f"{size / 2**20:.0f} MiB")


def stored(server):
    """Chunks that are served."""
    listed = server.api.ok("GET", "/v1/documents?limit=100&status=indexed")["documents"]
    return sum(document["chunks"] for document in listed)


def write(context, server, words, chunks, turn):
    """Writes every document, with other words each turn."""
    size = 14 * CHUNKS_PER_DOCUMENT
    started = time.perf_counter()
    for number in range(max(1, chunks // CHUNKS_PER_DOCUMENT)):
        begin = (number * size + turn * 137) % (len(words) - size)
        lines = [" ".join(words[at : at + 14]) + "." for at in range(begin, begin + size, 14)]
        server.api.upload(f"Page {number}", "\n\n".join(lines), f"page-{number}")
    server.api.wait_indexed()
    context.log(f"write {turn}: {time.perf_counter() - started:.1f} s")
