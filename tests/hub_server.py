"""A stand-in for the Hub: the endpoints that huggingface_hub calls to push and to load, in memory."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

TOKEN = "hf_right"


class Hub:
    """Repositories {id: {"private", "branches": {name: {path: bytes}}}}, and what was said of each commit.

    `break_uploads` and `break_commits` hang up in the middle. Without a port it takes one that is free.
    """

    def __init__(self, port: int = 0):
        self.repos: dict[str, dict] = {}
        self.blobs: dict[str, bytes] = {}
        self.messages: list[tuple[str, str]] = []  # summary and description
        self.break_uploads = self.break_commits = False
        self.server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, name: str, folder: Path, private: bool = False) -> dict[str, bytes]:
        """A repository of the files of a folder."""
        files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        self.repos[name] = {"private": private, "branches": {"main": files}}
        return files

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def reply(self, content=None, status: int = 200, body: bytes | None = None, **headers):
        body = json.dumps(content if content is not None else {}).encode() if body is None else body
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def content(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def repo(self, name: str) -> dict | None:
        """The repository, or an answer that it is not there, which is all that a stranger hears of a private one."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo["private"] and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            self.reply({"error": "Repository not found"}, 401, X_Error_Code="RepoNotFound")
            return None
        return repo

    def do_POST(self):
        body = self.content()
        if self.path == "/api/repos/create" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            there = name in self.hub.repos
            self.hub.repos.setdefault(
                name,
                {"private": asked.get("private") or asked.get("visibility") == "private", "branches": {"main": {}}},
            )
            self.reply({"url": f"{self.hub.url}/{name}", "id": name}, 409 if there else 200)
        elif self.path == "/api/validate-yaml":
            self.reply({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/(.+?)/preupload/(.+)", self.path):
            if self.repo(match[1]):
                files = json.loads(body)["files"]
                modes = {True: "lfs", False: "regular"}
                answers = [
                    {"path": file["path"], "uploadMode": modes[file["path"].endswith("s")], "shouldIgnore": False}
                    for file in files
                ]
                self.reply({"files": answers})
        elif match := re.fullmatch(r"/(.+?)\.git/info/lfs/objects/batch", self.path):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.hub.url}/upload/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self.reply({"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/(.+?)/branch/(.+)", self.path):
            repo = self.repo(match[1])
            if repo:
                repo["branches"].setdefault(match[2], dict(repo["branches"]["main"]))
                self.reply()
        elif match := re.fullmatch(r"/api/models/(.+?)/commit/([^?]+)(.*)", self.path):
            if self.hub.break_commits:
                self.hang_up()
            elif self.repo(match[1]):
                self.commit(match[1], unquote(match[2]), body, "create_pr=1" in match[3])
        else:
            self.reply({"error": self.path}, 404)

    def commit(self, name: str, branch: str, body: bytes, create_pr: bool = False):
        branches = self.hub.repos[name]["branches"]
        proposal = f"refs/pr/{len(branches)}" if create_pr else None
        if proposal:
            branches[proposal] = dict(branches[branch])
        files = branches[proposal or branch]
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "header":
                self.hub.messages.append((entry["value"]["summary"], entry["value"]["description"]))
            elif entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                files[entry["value"]["path"]] = self.hub.blobs[entry["value"]["oid"]]
        oid = commit_of(files)
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"}
        if proposal:
            answer["pullRequestUrl"] = f"{self.hub.url}/{name}/discussions/{proposal.rpartition('/')[2]}"
        self.reply(answer)

    def hang_up(self):
        self.close_connection = True
        self.connection.close()

    def do_PUT(self):
        if self.hub.break_uploads:
            self.rfile.read(1000)
            return self.hang_up()
        self.hub.blobs[self.path.rpartition("/")[2]] = self.content()
        self.reply()

    def do_GET(self):
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/([^?]+).*", self.path):
            # no model here has folders
            if self.repo(match[1]):
                self.reply({}, 404, X_Error_Code="EntryNotFound")
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^?]+))?.*", self.path):
            if repo := self.repo(match[1]):
                files = self.files(repo, unquote(match[2] or "main"))
                if files is not None:
                    siblings = [{"rfilename": name} for name in files]
                    about = {"id": match[1], "sha": commit_of(files), "siblings": siblings, "tags": []}
                    if tag := re.search(rb"^pipeline_tag: (\S+)$", files.get("README.md", b""), re.MULTILINE):
                        about["pipeline_tag"] = tag[1].decode()
                    self.reply(about)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            if repo := self.repo(match[1]):
                files = self.files(repo, unquote(match[2]))
                if files is not None and match[3] in files:
                    body, commit = files[match[3]], commit_of(files)
                    etag = hashlib.sha256(body).hexdigest()
                    self.reply(body=body, X_Repo_Commit=commit, ETag=f'"{etag}"')
                elif files is not None:
                    self.reply({}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit_of(files))
        else:
            self.reply({"error": self.path}, 404)

    do_HEAD = do_GET  # noqa: N815

    def files(self, repo: dict, revision: str) -> dict | None:
        for name, files in repo["branches"].items():
            if revision in (name, commit_of(files)):
                return files
        self.reply({}, 404, X_Error_Code="RevisionNotFound")
        return None


def commit_of(files: dict[str, bytes]) -> str:
    digests = sorted((name, hashlib.sha1(body).hexdigest()) for name, body in files.items())
    return hashlib.sha1(json.dumps(digests).encode()).hexdigest()
