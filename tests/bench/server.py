"""Runs a rag-api in a folder of its own on a free loopback port."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import machine
from api import Api

KEY = "benchmark-admin-key-0123456789"
# The limits of clients are not what is measured.
UNLIMITED = {
    "RAG_RATE_LIMIT_REQUESTS": "10000000",
    "RAG_INGEST_RATE_LIMIT_REQUESTS": "10000000",
    "RAG_ADDRESS_RATE_LIMIT": "0",
}


def free_port():
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_http(url, process, timeout):
    """Seconds from now until `url` answers 200, asked every 2 milliseconds."""
    started = time.perf_counter()
    while time.perf_counter() - started < timeout:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode} before it was ready")
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return time.perf_counter() - started
        except (urllib.error.URLError, OSError):
            time.sleep(0.002)
    raise RuntimeError(f"{url} did not answer within {timeout} s")


def end(process, timeout=90):
    """Asks a process to stop, and kills it if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Server:
    """A rag-api: `with Server(binary, models, RAG_…=…) as server`. Its folder goes with it."""

    def __init__(self, binary, models, **settings):
        self.binary, self.models, self.settings = binary, models, settings
        self.folder = Path(tempfile.mkdtemp(prefix="rag-bench-"))
        self.process = None

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, **settings):
        """Starts it (again), with other settings if given; `ready_seconds` is from exec to /ready 200,
        `ready_processor` the processor seconds until then."""
        self.settings |= settings
        self.port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
        environment |= UNLIMITED | {
            "RAG_LISTEN": f"127.0.0.1:{self.port}",
            "RAG_ADMIN_API_KEY": KEY,
            "RAG_MODELS_DIR": str(self.models),
            "RAG_DRAIN_DELAY_SECONDS": "0",
        }
        environment |= self.settings
        log = open(self.folder / "server.log", "ab")
        command = [self.binary, "serve"]
        self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        log.close()
        self.api = Api(self.port, KEY)
        try:
            self.ready_seconds = wait_http(f"http://127.0.0.1:{self.port}/ready", self.process, 60)
            self.ready_processor = machine.cpu(self.process.pid)[0]
        except RuntimeError as error:
            end(self.process)
            raise RuntimeError(f"{error}\n{(self.folder / 'server.log').read_text()[-2000:]}") from None
        return self

    def stop(self):
        """Stops it; the folder stays."""
        if self.process is not None:
            end(self.process)

    def restart(self, **settings):
        """Stops and starts it on the same folder."""
        self.stop()
        return self.start(**settings)

    @property
    def pid(self):
        """Its process id."""
        return self.process.pid

    @property
    def url(self):
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def load(self, pages):
        """Uploads (title, text) pairs as plain text and waits until all are indexed; (ids, chunks, seconds)."""
        before = self.api.metrics().get("rag_ingest_chunks_total", 0)
        started = time.perf_counter()
        ids = [self.api.upload(title, text) for title, text in pages]
        self.api.wait_indexed()
        seconds = time.perf_counter() - started
        return ids, int(self.api.metrics().get("rag_ingest_chunks_total", 0) - before), seconds
