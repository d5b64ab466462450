"""Three times more questions than can be answered."""

import time
from statistics import median

import corpus
import load
import machine
from server import Server

NAME = "overload"
SUMMARY = "a constant rate of three times the capacity for --seconds (2 minutes)"
TARGETS = "goodput >= 0.9 x the peak; rejects p99 < 20 ms; memory bounded; as fast as before within 5 s"
CONNECTIONS = 256


def run(context):
    """Finds the capacity by a closed loop, then sends three times as much."""
    pages = corpus.documents(context.data, context.documents or 60)
    questions = corpus.questions(pages, 20000)
    bodies = [{"query": question, "rerank": False} for question in questions]
    probes = iter(bodies)
    with Server(context.binary, context.models) as server:
        server.load(pages)
        idle = median(probe(server, next(probes)) for _ in range(40))
        peak = max(load.closed_loop(context, server, "/v1/search", bodies, clients, 8).rate() for clients in (4, 16, 32))
        context.report.note(NAME, "capacity of /v1/search (closed loop)", f"{peak:.0f}/s; idle {idle * 1e3:.1f} ms")
        before = machine.rss(server.pid)
        result = load.constant_rate(
            context, server, "/v1/search", bodies, 3 * peak, context.seconds, connections=CONNECTIONS
        )
        ended = time.perf_counter()
        recovered = recovery(server, probes, idle, ended)
        grown = (machine.rss_peak(server.pid) - before) / 2**20
        # The peak once more: what the machine gives changes from minute to minute.
        again = load.closed_loop(context, server, "/v1/search", bodies, 16, 8).rate()
        answered, refused = result.count(200), result.count(503)
        sent = len(result.answers)
        context.report.note(NAME, "sent", f"{sent / context.seconds:.0f}/s: {answered} answered, {refused} refused, "
                                          f"{sent - answered - refused} other")
        context.report.at_least(NAME, "goodput, of the capacity", result.rate() / ((peak + again) / 2), 0.9)
        context.report.note(NAME, "answered, p50 / p99", f"{result.percentile(0.5):.0f} / {result.percentile(0.99):.0f} ms")
        late = result.percentile(0.99, 503, first_byte=True)
        context.report.at_most(NAME, "refusals, p99 from sending", late, 20, " ms")
        context.report.note(NAME, "refusals, p50 / p90 from sending", " / ".join(
            f"{result.percentile(share, 503, first_byte=True):.1f} ms" for share in (0.5, 0.9)))
        context.report.at_most(NAME, "memory that it grew by", grown, 200, " MiB")
        context.report.at_most(NAME, "recovered after", recovered, 5, " s")


def probe(server, body):
    """Seconds that one request takes; an endless time if it is refused."""
    started = time.perf_counter()
    status, _ = server.api.call("POST", "/v1/search", body)
    return time.perf_counter() - started if status == 200 else float("inf")


def recovery(server, probes, idle, ended):
    """Seconds until five probes in a row have a median of at most twice the idle latency; asked for 30 s."""
    while time.perf_counter() - ended < 30:
        if median(probe(server, next(probes)) for _ in range(5)) <= 2 * idle:
            break
    return time.perf_counter() - ended
