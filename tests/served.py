"A web server on this machine that behaves as badly as it is told to."

import contextlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    "Files, and how they are served."

    files: dict = field(default_factory=dict)  # Name -> bytes
    cuts: list = field(default_factory=list)  # Bytes of an answer's body before it hangs up, one for each answer
    statuses: list = field(default_factory=list)  # Errors to answer with first
    ranges: bool = True  # Whether it knows them
    if_range: bool = True  # Whether it looks at If-Range
    etag: str | None = '"1"'
    modified: str | None = None
    length: bool = True  # Whether it says how long a file is
    kind: str = "application/octet-stream"
    encoding: str | None = None  # What it says of the content's encoding
    asked: list = field(default_factory=list)  # Headers of the requests
    address: str = ""

    def begin(self, headers: dict, n: int) -> int:
        "First byte of the answer."
        wanted = headers.get("Range")
        if not wanted or not self.ranges:
            return 0
        condition = headers.get("If-Range")
        if self.if_range and condition and condition not in (self.etag, self.modified):
            return 0
        return int(wanted.removeprefix("bytes=").rstrip("-"))


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        site, name = self.server.site, self.path[1:].partition("?")[0]
        site.asked.append(dict(self.headers))
        if site.statuses:
            self.send_error(site.statuses.pop(0))
        elif name not in site.files:
            self.send_error(404)
        else:
            self.answer(site, site.files[name])

    def answer(self, site, content):
        begin, n = site.begin(self.headers, len(content)), len(content)
        if begin >= n > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{n}")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        headers = {"ETag": site.etag, "Last-Modified": site.modified, "Content-Type": site.kind}
        headers["Content-Encoding"] = site.encoding
        headers["Content-Length"] = n - begin if site.length else None
        headers["Content-Range"] = f"bytes {begin}-{n - 1}/{n}" if begin else None
        for header, value in headers.items():
            if value is not None:
                self.send_header(header, value)
        self.end_headers()
        end = begin + site.cuts.pop(0) if site.cuts else n
        self.wfile.write(content[begin:end])

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(**files: bytes):
    "A site, while the block runs."
    server = ThreadingHTTPServer(("localhost", 0), _Handler)
    server.site = Site(files, address=f"http://localhost:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
