"""Mixed documents and questions for a long time, in bounded memory."""

import random
import threading
import time

import machine
import texts
from server import Server

NAME = "soak"
SUMMARY = "--minutes of documents and questions of every length, several scripts, hostile words"
TARGETS = "memory <= 512 MiB, growing < 1 % in 10 minutes; descriptors and threads flat; no 5xx"
# Replaced again and again, so that what is stored does not grow.
DOCUMENTS = 60
# Shares of the time that are left out as warm-up.
WARM_UP = 0.4


def run(context):
    """One writer and two that ask; a sample every 5 s, a line every 30 s."""
    counts = {}
    with Server(context.binary, context.models) as server:
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
    body = {"text": texts.document(dice), "title": texts.prose(dice, dice.randint(1, 80)).strip() or "t"}
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
    report.at_most(NAME, "memory, largest", max(sample[1] for sample in samples) / 2**20, 512, " MiB")
    for column, name, target in ((1, "memory", 1), (2, "descriptors", 5), (3, "threads", 5)):
        mean, slope = line(warm, column)
        report.at_most(NAME, f"{name}: growth in 10 minutes", 100 * 600 * slope / mean, target, " %")
        report.note(NAME, f"{name}: range after the warm-up", "{:.6g} to {:.6g}".format(*(
            bound(sample[column] for sample in warm) / (2**20 if column == 1 else 1) for bound in (min, max))))
    server_errors = sum(count for name, count in counts.items() if name.split()[-1][0] not in "234")
    report.at_most(NAME, "answers 5xx, or none", server_errors, 0)


def line(samples, column):
    """Mean and least-squares slope (per second) of a column."""
    times, values = [sample[0] for sample in samples], [sample[column] for sample in samples]
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((moment - middle) ** 2 for moment in times) or 1
    return mean, sum((moment - middle) * (value - mean) for moment, value in zip(times, values)) / spread
