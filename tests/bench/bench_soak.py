"""Mixed documents and questions for a long time, in bounded memory."""

import random
import threading
import time

import machine
import texts
from server import Server

NAME = "soak"
SUMMARY = "--minutes of documents and questions of every length, several scripts, hostile words"
TARGETS = "memory <= 512 MiB with full caches, growing < 1 % in 10 minutes; descriptors and threads flat; no 5xx"
# Replaced again and again, so that what is stored does not grow.
DOCUMENTS = 60
# The share of the time that is left out as warm-up.
WARM_UP = 0.4
# Two caches of 64 MiB would fill for an hour, and their filling looks like a leak. Small ones are full soon; what the
# default ones would hold besides is added to the largest value.
CACHE = 8 << 20
DEFAULT_CACHE = 64 << 20
CACHES = {"RAG_LATE_INTERACTION_CACHE_BYTES": str(CACHE), "RAG_CACHE_MAX_BYTES": str(CACHE)}


def run(context):
    """One writer and two that ask; a sample every 5 s, a line every 30 s."""
    counts = {}
    with Server(context.binary, context.models, **CACHES) as server:
        stop = threading.Event()
        workers = [threading.Thread(target=worker, args=(server.api, kind, seed, stop, counts))
                   for seed, kind in enumerate((write, ask, ask))]
        for thread in workers:
            thread.start()
        samples = watch(context, server, counts, context.minutes * 60)
        stop.set()
        for thread in workers:
            thread.join()
    judge(context, samples, counts)


def worker(api, work, seed, stop, counts):
    """Does `work` until it is stopped, and counts the answers by status."""
    dice = random.Random(seed)
    while not stop.is_set():
        try:
            name = f"{work.__name__} {work(api, dice)}"
        except Exception as error:
            name = f"{work.__name__} {type(error).__name__}"
        counts[name] = counts.get(name, 0) + 1


def write(api, dice):
    """Replaces a document; waits while ten are being worked on."""
    while len(api.ok("GET", "/v1/documents?status=processing&limit=11")["documents"]) > 10:
        time.sleep(0.1)
    body = {"text": texts.document(dice), "title": " ".join(texts.prose(dice, dice.randint(1, 80)).split())}
    return api.call("PUT", f"/v1/documents/soak-{dice.randrange(DOCUMENTS)}", body)[0]


def ask(api, dice):
    """A search or a question, with and without reranking."""
    body = {"query": texts.question(dice), "rerank": dice.random() < 0.7, "top_k": dice.choice((1, 5, 20, 50))}
    return api.call("POST", dice.choice(("/v1/search", "/v1/query")), body)[0]


def watch(context, server, counts, seconds):
    """(seconds, memory, descriptors, threads) every 5 seconds."""
    samples, started = [], time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        samples.append((now, machine.rss(server.pid), machine.descriptors(server.pid), machine.threads(server.pid)))
        if len(samples) % 6 == 1:
            _, memory, descriptors, threads = samples[-1]
            context.log(f"{now:.0f} s: {memory / 2**20:.0f} MiB, {descriptors} descriptors, {threads} threads, {counts}")
        time.sleep(5)
    return samples


def judge(context, samples, counts):
    """Largest values, and the slope of a line fitted to what came after the warm-up."""
    report = context.report
    report.note(NAME, "answers", ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    warm = samples[int(len(samples) * WARM_UP):]
    largest = max(sample[1] for sample in samples) + len(CACHES) * (DEFAULT_CACHE - CACHE)
    report.at_most(NAME, "memory, largest, with full caches", largest / 2**20, 512, " MiB")
    mean, slope = line(warm, 1)
    report.at_most(NAME, "memory: growth in 10 minutes", 100 * 600 * slope / mean, 1, " %")
    lowest, highest = (bound(sample[1] for sample in warm) / 2**20 for bound in (min, max))
    report.note(NAME, "memory after the warm-up", f"{lowest:.0f} to {highest:.0f} MiB")
    for column, name in ((2, "descriptors"), (3, "threads")):
        # Both come and go with what runs; a leak shows in the mean of the end against that of the beginning.
        quarter = max(1, len(warm) // 4)
        first, last = (sum(sample[column] for sample in part) / quarter for part in (warm[:quarter], warm[-quarter:]))
        report.at_most(NAME, f"{name}: last quarter's mean less the first's", last - first, 3)
    server_errors = sum(count for name, count in counts.items() if name.split()[-1][0] not in "234")
    report.at_most(NAME, "answers 5xx, or none", server_errors, 0)


def line(samples, column):
    """Mean and least-squares slope (per second) of a column."""
    times, values = [sample[0] for sample in samples], [sample[column] for sample in samples]
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((moment - middle) ** 2 for moment in times) or 1
    return mean, sum((moment - middle) * (value - mean) for moment, value in zip(times, values)) / spread
