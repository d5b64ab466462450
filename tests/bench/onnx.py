"""The denominator: ONNX Runtime itself on a model's file, with nothing round it."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import onnxruntime
from tokenizers import Tokenizer

MAX_TOKENS = 256
# Batches of the session with two threads.
BATCHES = (1, 8, 16, 32)


class Model:
    """A model's folder, with sessions of one thread each, and one session of as many threads as there are cores."""

    def __init__(self, folder, cores):
        self.path, self.cores = str(folder / "model.onnx"), cores
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.no_padding()
        self.singles = [self._session(1) for _ in range(cores)]
        self.wide = self._session(cores)
        self.pool = ThreadPoolExecutor(cores)
        self.batch = 1

    def _session(self, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin while they wait would take the other side's cores in a comparison.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])

    def encode(self, texts):
        """Token ids and type ids of texts, or of (question, passage) pairs, cut at 256 tokens."""
        return [(encoding.ids, encoding.type_ids) for encoding in self.tokenizer.encode_batch(texts)]

    def run(self, session, batch):
        """One forward pass over a batch, padded to its longest."""
        longest = max(len(ids) for ids, _ in batch)
        ids, mask, kinds = (numpy.zeros((len(batch), longest), dtype=numpy.int64) for _ in range(3))
        for row, (tokens, types) in enumerate(batch):
            ids[row, : len(tokens)], mask[row, : len(tokens)], kinds[row, : len(tokens)] = tokens, 1, types
        return session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds})[0]

    def seconds_apart(self, encoded):
        """Seconds for all texts, one by one on one single-thread session per core."""
        todo = iter(encoded)

        def work(session):
            # (Taking from an iterator is atomic under the interpreter's lock.)
            for text in todo:
                self.run(session, [text])

        started = time.perf_counter()
        list(self.pool.map(work, self.singles))
        return time.perf_counter() - started

    def seconds_together(self, encoded, batch):
        """Seconds for all texts on the one session of all cores, in batches of like lengths."""
        ordered = sorted(encoded, key=lambda text: len(text[0]))
        started = time.perf_counter()
        for start in range(0, len(ordered), batch):
            self.run(self.wide, ordered[start : start + batch])
        return time.perf_counter() - started

    def choose_batch(self, encoded):
        """Finds the best batch of the wide session on these texts; seconds of every arrangement."""
        seconds = {size: min(self.seconds_together(encoded, size) for _ in range(2)) for size in BATCHES}
        self.batch = min(seconds, key=seconds.get)
        apart = min(self.seconds_apart(encoded) for _ in range(2))
        return {f"{self.cores} sessions": apart} | {f"1 session, batch {size}": s for size, s in seconds.items()}

    def best_seconds(self, encoded):
        """Seconds for all texts in the better arrangement, and the processor seconds it took."""
        results = []
        for work in (lambda: self.seconds_apart(encoded), lambda: self.seconds_together(encoded, self.batch)):
            cpu = time.process_time()
            results.append((work(), time.process_time() - cpu))
        return min(results)

    def question_seconds(self, text):
        """Seconds for one text, on one thread and on all, and the processor seconds of the first."""
        encoded = self.encode([text])
        cpu = time.thread_time()
        self.run(self.singles[0], encoded)
        cpu = time.thread_time() - cpu
        seconds = []
        for session in (self.singles[0], self.wide):
            started = time.perf_counter()
            self.run(session, encoded)
            seconds.append(time.perf_counter() - started)
        return *seconds, cpu
