"""A small S3 server for tests: one process, buckets in memory, the requests that object stores agree on."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

__all__ = ["Bucket", "serve_bucket"]


class Bucket:
    """What the server holds: whole objects, and uploads in parts that nobody can see yet."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.keys_seen: set[str] = set()
        self.url = ""


@contextmanager
def serve_bucket() -> Iterator[Bucket]:
    """A bucket that listens at `bucket.url`."""
    bucket = Bucket()

    class S3(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            path, query, body = self.read()
            if "uploadId" in query:
                bucket.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = body
            elif self.headers.get("If-None-Match") == "*" and path in bucket.objects:
                return self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            else:
                bucket.objects[path] = body
            return self.answer(200, tag=body)

        def do_POST(self) -> None:
            path, query, body = self.read()
            if "delete" in query:
                keys = re.findall(r"<Key>([^<]+)</Key>", body.decode())
                for key in keys:
                    bucket.objects.pop(f"{path.rstrip('/')}/{key}", None)
                deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
                text = f"<DeleteResult>{deleted}</DeleteResult>"
            elif "uploads" in query:
                name = f"upload-{len(bucket.uploads)}"
                bucket.uploads[name] = {}
                text = f"<R><UploadId>{name}</UploadId></R>"
            else:
                parts = bucket.uploads.pop(query["uploadId"][0])
                bucket.objects[path] = b"".join(parts[number] for number in sorted(parts))
                text = '<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>'
            self.answer(200, text.encode())

        def do_DELETE(self) -> None:
            _, query, _ = self.read()
            bucket.uploads.pop(query["uploadId"][0], None)
            self.answer(204)

        def do_GET(self) -> None:
            path, _, _ = self.read()
            if path in bucket.objects:
                self.answer(200, bucket.objects[path], tag=bucket.objects[path])
            else:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

        do_HEAD = do_GET  # noqa: N815

        def read(self) -> tuple[str, dict[str, list[str]], bytes]:
            bucket.keys_seen.add(self.headers.get("Authorization", "").partition("/")[0])
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return parts.path, parse_qs(parts.query, keep_blank_values=True), body

        def answer(self, status: int, body: bytes = b"", tag: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{hashlib.md5(tag).hexdigest()}"')
            self.send_header("Last-Modified", "Fri, 20 Nov 2026 12:00:00 GMT")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), S3) as server:
        bucket.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield bucket
        server.shutdown()
        thread.join()
