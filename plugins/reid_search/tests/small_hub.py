"""A hub on this machine that speaks as much of the Hugging Face Hub as models need."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hub:
    """What the hub holds.

    Args:
        address: its address.
        models: files of every commit, by model and commit, the newest last.
        private: by model.
        asked: every request, as ``METHOD path``.
    """

    address: str = ""
    models: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Add files to a model as a new commit and return its name."""
        commits = self.models.setdefault(name, {})
        before = next(reversed(commits.values()), {})
        commit = hashlib.sha1(f"{name}{len(commits)}".encode()).hexdigest()
        commits[commit] = {**before, **files}
        return commit

    def find(self, name: str, revision: str) -> str | None:
        """Return the commit that a revision means."""
        commits = self.models.get(name, {})
        if revision == "main":
            return next(reversed(commits), None)
        return revision if revision in commits else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Be silent."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, code: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _model(self, name: str, revision: str) -> str | None:
        if name not in self.hub.models:
            self._send(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        commit = self.hub.find(name, revision)
        if commit is None:
            self._send(404, {"error": "Invalid rev"}, X_Error_Code="RevisionNotFound")
        return commit

    def do_GET(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path):
            name, kind, revision = match.groups()
            commit = self._model(name, revision)
            if commit is None:
                return
            files = self.hub.models[name][commit]
            if kind == "tree":
                tree = [
                    {"type": "file", "path": file, "size": len(data), "oid": _etag(data)}
                    for file, data in files.items()
                ]
                self._send(200, tree, Content_Type="application/json")
                return
            listed = [{"rfilename": file} for file in files]
            facts = {"id": name, "sha": commit, "siblings": listed, "tags": []}
            self._send(200, facts | {"private": False, "downloads": 0, "likes": 0})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            name, revision, file = match.groups()
            commit = self._model(name, revision)
            if commit is None:
                return
            data = self.hub.models[name][commit].get(file)
            if data is None:
                self._send(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
                return
            self._send(200, data, ETag=f'"{_etag(data)}"', X_Repo_Commit=commit)
        else:
            self._send(404, {"error": path})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.hub.asked.append(f"POST {self.path}")
        path, body = self.path.partition("?")[0], self._body()
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            if wanted["organization"] == "stranger":
                self._send(403, {"error": "You don't have the rights"})
                return
            self.hub.models.setdefault(name, {})
            self.hub.private[name] = "private" in (wanted.get("visibility"),) or bool(
                wanted.get("private")
            )
            self._send(200, {"url": f"{self.hub.address}/{name}", "name": name, "id": name})
        elif path == "/api/validate-yaml":
            self._send(200, {"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", path):
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self._send(200, {"files": files})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            commit = self.hub.commit(match[1], files)
            url = f"{self.hub.address}/{match[1]}/commit/{commit}"
            self._send(200, {"success": True, "commitOid": commit, "commitUrl": url})
        else:
            self._send(404, {"error": path})


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def small_hub() -> Iterator[Hub]:
    """Run a hub until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
