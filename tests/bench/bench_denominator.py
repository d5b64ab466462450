"""What rag-api adds to the forward passes of its models: ingestion, a question's embedding, reranking."""

import time
from statistics import median

import corpus
import load
import machine
from api import total
from onnx import Model
from server import Server

NAME = "denominator"
SUMMARY = "the server against ONNX Runtime itself on the same model and texts (6 minutes)"
TARGETS = "ingestion >= 0.90 of its chunks/s; a question <= 1.15 x, 20 passages reranked <= 1.15 x its time; 16 at once >= 0.95"
PASSAGES = 20


def run(context):
    """Ingestion, questions and late interaction on one server, then a cross-encoder on the same folder."""
    pages = corpus.documents(context.data, context.documents or 300)
    questions = iter(corpus.questions(pages, 4000))
    model = Model(context.models / "all-MiniLM-L6-v2", context.machine["cores"])
    # Without a cache no passage was seen before.
    uncached = {"RAG_LATE_INTERACTION_CACHE_BYTES": "0", "RAG_RETRIEVAL_TOP_K": str(PASSAGES)}
    with Server(context.binary, context.models, **uncached) as server:
        ingestion(context, server, model, pages)
        embedding(context, server, model, questions)
        rerank(context, server, model, questions, "late interaction", pair=False)
        at_once(context, server, questions, "late interaction")
        server.restart(RAG_LATE_INTERACTION_CACHE_BYTES="67108864")
        seen_before(context, server, questions)
        if context.reranker:
            server.restart(RAG_RERANKER_MODEL=f"path:{context.reranker}")
            encoder = Model(context.reranker, context.machine["cores"])
            rerank(context, server, encoder, questions, "cross-encoder", pair=True)
            at_once(context, server, questions, "cross-encoder")


def ingestion(context, server, model, pages, rounds=6):
    """Slices of documents in turns with forward passes over their very chunks."""
    walls, processors = [], []
    size = len(pages) // rounds
    for turn in range(rounds):
        part = pages[turn * size : (turn + 1) * size]
        before = sum(machine.cpu(server.pid))
        ids, chunks, seconds = server.load(part)
        processor = sum(machine.cpu(server.pid)) - before
        texts = [f"{title}\n{text}" for id_, (title, _) in zip(ids, part) for text in server.api.chunks(id_)]
        encoded = model.encode(texts)
        if turn == 0:
            for name, taken in model.choose_batch(encoded[:100]).items():
                context.report.note(NAME, f"ONNX Runtime, {name}", f"{len(encoded[:100]) / taken:.1f} chunks/s")
        bare, bare_processor = model.best_seconds(encoded)
        walls.append((chunks / seconds) / (len(encoded) / bare))
        processors.append((bare_processor / len(encoded)) / (processor / chunks))
        context.log(f"ingestion {chunks / seconds:.1f}/s, ONNX Runtime {len(encoded) / bare:.1f}/s, ratio {walls[-1]:.3f}")
    context.report.at_least(NAME, "ingestion, of ONNX Runtime's chunks/s", median(walls), 0.90)
    context.report.note(NAME, "the same by processor time", f"{median(processors):.3f}")


def embedding(context, server, model, questions, count=100):
    """One question here, the same one there."""
    ours, one, all_, bare = [], [], [], 0
    before = machine.thread_cpu(server.pid, "embedding")
    for _ in range(count):
        question = next(questions)
        ours.append(server.api.search(question, rerank=False)["timings_ms"]["embedding"])
        single, wide, processor = model.question_seconds(question)
        bare += processor
        one.append(single * 1e3)
        all_.append(wide * 1e3)
    best = min(median(one), median(all_))
    context.report.note(NAME, "a question's embedding", f"{median(ours):.1f} ms; ONNX Runtime {best:.2f} ms")
    context.report.at_most(NAME, "a question's embedding, of ONNX Runtime's time", median(ours) / best, 1.15)
    processor = machine.thread_cpu(server.pid, "embedding") - before
    context.report.note(NAME, "the same by processor time of the model's threads", f"{processor / bare:.2f}")


def rerank(context, server, model, questions, name, pair, count=15):
    """Twenty passages here, the forward passes of the same twenty there."""
    ratios, ours = [], []
    for turn in range(count):
        question = next(questions)
        answer = server.api.search(question, top_k=PASSAGES)
        if answer["degraded"] or len(answer["sources"]) < PASSAGES:
            context.log(f"left out: {answer['degraded']}, {len(answer['sources'])} passages")
            continue
        texts = [f"{source['title']}\n{source['text']}" for source in answer["sources"]]
        encoded = model.encode([(question, text) for text in texts] if pair else texts)
        if turn == 0:
            model.choose_batch(encoded)
        ours.append(answer["timings_ms"]["rerank"])
        ratios.append(ours[-1] / (model.best_seconds(encoded)[0] * 1e3))
    if not ratios:
        return context.report.note(NAME, f"{name}: 20 new passages", "every one was degraded")
    context.report.note(NAME, f"{name}: 20 new passages", f"{median(ours):.0f} ms")
    context.report.at_most(NAME, f"{name}: 20 new passages, of ONNX Runtime's time", median(ratios), 1.15)


def at_once(context, server, questions, name, rounds=3, seconds=6):
    """Reranked searches per second at one client and at sixteen; one whose reranking was left out does not count."""
    rates, left_out = {1: [], 16: []}, 0
    for _ in range(rounds):
        for clients in rates:
            bodies = [{"query": next(questions), "top_k": PASSAGES} for _ in range(100)]
            before, started = degraded(server), time.perf_counter()
            result = load.closed_loop(context, server, "/v1/search", bodies, clients, seconds)
            taken, without = time.perf_counter() - started, degraded(server) - before
            left_out += without if clients == 16 else 0
            rates[clients].append((result.count(200) - without) / taken)
    one, many = sum(rates[1]) / rounds, sum(rates[16]) / rounds
    context.report.note(NAME, f"{name}: reranked searches/s at 1, at 16", f"{one:.2f}, {many:.2f}")
    context.report.at_least(NAME, f"{name}: reranked searches/s at 16, of those at 1", many / one if one else 0, 0.95)
    context.report.note(NAME, f"{name}: answers without reranking at 16", f"{left_out:.0f} in {rounds * seconds} s")


def seen_before(context, server, questions):
    """The same passages again: nothing is computed but the question."""
    again = []
    for _ in range(15):
        question = next(questions)
        server.api.search(question, top_k=PASSAGES)
        again.append(server.api.search(question, top_k=PASSAGES)["timings_ms"]["rerank"])
    context.report.at_most(NAME, "late interaction: 20 passages seen before", median(again), 10, " ms")


def degraded(server):
    """Answers so far whose reranking was left out."""
    return total(server.api.metrics(), "rag_degraded_total", 'what="rerank"')
