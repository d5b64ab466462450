"""Questions while documents load."""

import threading
from statistics import median

import corpus
import load
from server import Server

NAME = "loading"
SUMMARY = "tail latency of questions while documents load at full speed (6 minutes)"
TARGETS = "p99 <= 2 x that of the idle server, without and with reranking"
# Questions per second: few enough to keep one of two cores free, were there no documents.
RATES = {False: 10, True: 1.5}


def run(context):
    """Constant rates of distinct questions, in turns: idle, loading, idle, loading."""
    pages = corpus.documents(context.data, context.documents or 400)
    questions = iter(corpus.questions(pages, 12000))
    with Server(context.binary, context.models) as server:
        server.load(pages[:40])
        supply = Supply(server, pages[40:])
        for rerank, rate in RATES.items():
            pairs = []
            for _ in range(3):
                seconds = 20
                bodies = [{"query": next(questions), "rerank": rerank} for _ in range(1000)]
                idle = load.constant_rate(context, server, "/v1/search", bodies, rate, seconds)
                with supply:
                    busy = load.constant_rate(context, server, "/v1/search", bodies[::-1], rate, seconds)
                server.api.wait_indexed()
                pairs.append((idle, busy))
                context.log(f"rerank {rerank}: " + ", ".join(
                    f"{what} p50 {result.percentile(0.5):.1f} p99 {result.percentile(0.99):.1f} ms"
                    for what, result in zip(("idle", "loading"), pairs[-1])))
            name = "reranked search" if rerank else "search"
            for share, judge in ((0.5, None), (0.99, 2)):
                ratio = median(busy.percentile(share) / idle.percentile(share) for idle, busy in pairs)
                what = f"{name}: p{share * 100:.0f} while loading, of idle"
                if judge:
                    context.report.at_most(NAME, what, ratio, judge)
                else:
                    context.report.note(NAME, what, f"{ratio:.2f}")


class Supply:
    """Keeps documents coming while it is entered: as soon as few are left to do, more are uploaded."""

    def __init__(self, server, pages):
        self.server, self.pages, self.stop = server, pages, threading.Event()

    def __enter__(self):
        self.stop.clear()
        self.thread = threading.Thread(target=self._supply)
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def _supply(self):
        api, number = self.server.api, 0
        while not self.stop.is_set():
            for title, text in self.pages[number : number + 6]:
                api.upload(title, text)
            number = (number + 6) % len(self.pages)
            while not self.stop.wait(0.05) and len(api.ok("GET", "/v1/documents?status=processing&limit=4")["documents"]) > 3:
                pass
