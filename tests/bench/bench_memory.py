"""Memory and processor time of a server that nobody asks anything."""

import time

import corpus
import machine
from server import Server

NAME = "memory"
SUMMARY = "memory and processor time of an idle server (2 minutes)"
TARGETS = "<= 300 MiB with the embedding model and a reranker; <= 1 % of a core"


def run(context):
    """Right after the start, and after some documents and questions, with each reranker."""
    rerankers = {"late interaction": "late-interaction"}
    if context.reranker:
        rerankers["cross-encoder"] = f"path:{context.reranker}"
    pages = corpus.documents(context.data, context.documents or 20)
    questions = corpus.questions(pages, 40)
    for name, setting in rerankers.items():
        with Server(context.binary, context.models, RAG_RERANKER_MODEL=setting) as server:
            idle(context, server, f"{name}: started")
            server.load(pages)
            for question in questions:
                server.api.search(question)
                server.api.ok("POST", "/v1/query", {"query": question})
            time.sleep(5)
            idle(context, server, f"{name}: after {len(pages)} documents, {2 * len(questions)} questions")
            context.report.note(NAME, f"{name}: peak", f"{machine.rss_peak(server.pid) / 2**20:.0f} MiB")


def idle(context, server, name, seconds=10):
    """Holds an idle stretch against the targets."""
    before = sum(machine.cpu(server.pid))
    time.sleep(seconds)
    busy = 100 * (sum(machine.cpu(server.pid)) - before) / seconds
    context.report.at_most(NAME, f"{name}: memory", machine.rss(server.pid) / 2**20, 300, " MiB")
    context.report.at_most(NAME, f"{name}: processor", busy, 1, " %")
