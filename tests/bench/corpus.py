"""What is loaded and asked: pages of the collection `aws_docs`, and questions made from their sentences."""

import json
import random
import re

WORDS = re.compile(r"[A-Za-z][A-Za-z'-]+")


def documents(folder, count, seed=7):
    """`count` pages of the collection in `folder`, the same ones for the same seed, as (title, Markdown)."""
    with open(folder / "aws_docs" / "corpus.jsonl", encoding="utf-8") as lines:
        pages = [json.loads(line) for line in lines]
    chosen = random.Random(seed).sample(pages, min(count, len(pages)))
    return [(page["title"][:500], page["text"]) for page in chosen]


def questions(pages, count, seed=11):
    """`count` distinct questions of 8 to 18 words, made of the pages' own words."""
    dice, seen = random.Random(seed), set()
    words = [WORDS.findall(text) for _, text in pages]
    words = [page for page in words if len(page) > 40]
    while len(seen) < count:
        page = dice.choice(words)
        length = dice.randint(6, 16)
        start = dice.randrange(len(page) - length)
        seen.add(f"What about {' '.join(page[start:start + length])}?")
    chosen = sorted(seen)
    dice.shuffle(chosen)
    return chosen
