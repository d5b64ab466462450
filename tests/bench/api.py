"""A small client of rag-api's HTTP interface, on the standard library, with one kept-alive connection per thread."""

import http.client
import json
import threading
import time
import uuid


class Api:
    """Calls the server on 127.0.0.1:`port` with a key."""

    def __init__(self, port, key):
        self.port, self.key = port, key
        self.local = threading.local()

    def call(self, method, path, body=None, kind="application/json", timeout=120):
        """Status and parsed body of a request (`None` where the body is not JSON)."""
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        headers = {"x-api-key": self.key} | ({"content-type": kind} if data is not None else {})
        for attempt in (1, 2):
            connection = getattr(self.local, "connection", None)
            if connection is None:
                connection = self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
            try:
                connection.request(method, path, data, headers)
                answer = connection.getresponse()
                content = answer.read()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # The server closed an idle connection; a second time it is down.
                self.local.connection = None
                if attempt == 2:
                    raise
        return answer.status, json.loads(content) if content[:1] in (b"{", b"[") else content

    def ok(self, method, path, body=None, kind="application/json"):
        """The body of a request that must succeed."""
        status, answer = self.call(method, path, body, kind)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def upload(self, title, text, document_id=None):
        """Uploads plain text; its id."""
        method, path = ("PUT", f"/v1/documents/{document_id}") if document_id else ("POST", "/v1/documents")
        return self.ok(method, path, {"text": text, "title": title})["document_id"]

    def upload_file(self, title, name, content):
        """Uploads a file (bytes); its id."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\ncontent-disposition: form-data; name="title"\r\n\r\n{title}\r\n--{boundary}\r\n'
        head += f'content-disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        return self.ok("POST", "/v1/documents", body, f"multipart/form-data; boundary={boundary}")["document_id"]

    def wait_indexed(self, timeout=3600):
        """Waits until no document is processing, at most `timeout` seconds."""
        end = time.monotonic() + timeout
        while self.ok("GET", "/v1/documents?status=processing&limit=1")["documents"]:
            if time.monotonic() > end:
                raise RuntimeError(f"documents are still processing after {timeout} s")
            time.sleep(0.1)

    def chunks(self, document_id):
        """Texts of a document's chunks, in order."""
        texts, cursor = [], ""
        while cursor is not None:
            page = self.ok("GET", f"/v1/documents/{document_id}/chunks?limit=100{cursor}")
            texts += [chunk["text"] for chunk in page["chunks"]]
            cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
        return texts

    def search(self, question, **fields):
        """The response of /v1/search."""
        return self.ok("POST", "/v1/search", {"query": question, **fields})

    def metrics(self):
        """Every sample of /metrics: {name with labels: value}."""
        lines = self.ok("GET", "/metrics").decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def total(metrics, name, *labels):
    """Sum of the samples of a metric that carry all of the `labels` (such as 'stage="embed"')."""
    fits = lambda sample: sample.split("{")[0] == name and all(label in sample for label in labels)
    return sum(value for sample, value in metrics.items() if fits(sample))
