"""What ingestion spends on anything but the model: reading, cutting, storing."""

import time

import corpus
import machine
from api import total
from server import Server

NAME = "ingest_share"
SUMMARY = "ingestion's time outside of the embedding model, on Markdown files (3 minutes)"
TARGETS = "<= 15 % of its processor time"


def run(context):
    """By processor time: of the embedding threads, of the other threads, of the reading children."""
    pages = corpus.documents(context.data, context.documents or 400)
    with Server(context.binary, context.models) as server:
        api = server.api
        model, (own, children) = machine.thread_cpu(server.pid, "embedding"), machine.cpu(server.pid)
        started = time.perf_counter()
        for number, (title, text) in enumerate(pages):
            api.upload_file(title, f"page-{number}.md", text.encode())
        api.wait_indexed()
        seconds = time.perf_counter() - started
        model = machine.thread_cpu(server.pid, "embedding") - model
        own, children = (after - before for after, before in zip(machine.cpu(server.pid), (own, children)))
        metrics = api.metrics()
        chunks = metrics["rag_ingest_chunks_total"]
        note = context.report.note
        note(NAME, "ingested", f"{len(pages)} documents, {chunks:.0f} chunks, {chunks / seconds:.1f} chunks/s")
        share = 100 * (own - model + children) / (own + children)
        context.report.at_most(NAME, "outside of the model, by processor time", share, 15, " %")
        note(NAME, "of which reading (child processes)", f"{100 * children / (own + children):.1f} %")
        note(NAME, "of which in the server", f"{100 * (own - model) / (own + children):.1f} %")
        note(NAME, "reading, per document", f"{1e3 * children / len(pages):.1f} ms")
        # By the clock, of both workers; each waits for the other's processor time too.
        stages = {stage: total(metrics, "rag_ingest_stage_seconds_sum", f'stage="{stage}"')
                  for stage in ("extract", "chunk", "embed", "publish")}
        clock = ", ".join(f"{stage} {100 * took / sum(stages.values()):.1f} %" for stage, took in stages.items())
        note(NAME, "stages by the clock", clock)
        failed = api.ok("GET", "/v1/documents?status=failed&limit=1")["documents"]
        if failed:
            raise RuntimeError(f"a document failed: {failed[0]['error']}")
