"""Downloads from a local server that breaks off, stalls, refuses or answers with a page, and from a healthy mirror."""

import gzip
import hashlib
import json
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import PROJECT, write_idx
from torchvision import datasets

from common import digits
from common.program import RunError


class Handler(BaseHTTPRequestHandler):
    """GET /<fault>/<file>; the server has `files`, the answers of a healthy mirror."""

    def do_GET(self):
        fault, name = self.path.strip("/").split("/")
        self.server.asked.append(self.path)
        content = self.server.files[name]
        if fault.isdigit():
            return self.send_error(int(fault))
        if fault == "stalls":
            return self.server.closing.wait(30)
        if fault == "page":
            content = b"<html><body>Please log in to this network.</body></html>"
        if fault == "flipped":
            content = content[:50] + bytes([content[50] ^ 1]) + content[51:]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "half":
            self.wfile.write(content[: len(content) // 2])
            return self.connection.close()
        if fault == "stalls-half-way":
            self.wfile.write(content[: len(content) // 2])
            return self.server.closing.wait(30)
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """A function that sets torchvision's mirrors of MNIST to a local server's, by their faults; returns the server."""
    files = {}
    for path in write_idx(tmp_path / "origin").values():
        files[f"{path.name}.gz"] = gzip.compress(path.read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.files, server.asked, server.closing = files, [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(digits, "DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr(
        datasets.MNIST,
        "resources",
        [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()],
    )
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        urllib.request, "_opener", None
    )  # else it goes by the proxies of a test before

    def choose(*faults: str):
        monkeypatch.setattr(
            datasets.MNIST,
            "mirrors",
            [f"http://127.0.0.1:{server.server_port}/{fault}/" for fault in faults],
        )
        return server

    yield choose
    server.closing.set()
    server.shutdown()
    server.server_close()


def files_in(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


WHOLE = sorted(f"MNIST/raw/{name}" for name in digits.FILES)
FAULTS = ("403", "404", "503", "page", "half", "flipped", "stalls", "stalls-half-way")


def test_a_healthy_mirror_is_downloaded_once(mirrors, tmp_path, capsys):
    server = mirrors("healthy")
    data = digits.load("auto", tmp_path / "data")  # named, not there: made, which is said
    assert data.name == "mnist" and len(data.x_train) == 60
    assert (
        f"{tmp_path / 'data'} is no folder; MNIST is to be downloaded into it"
        in capsys.readouterr().err
    )
    assert files_in(tmp_path / "data") == WHOLE and len(set(server.asked)) == 4
    server.asked.clear()
    digits.load("mnist", tmp_path / "data")
    assert server.asked == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_download_leaves_nothing_and_the_second_mirror_is_asked(
    mirrors, tmp_path, capsys, fault
):
    mirrors(fault, fault)
    (tmp_path / "data").mkdir()
    begin = time.monotonic()
    with pytest.raises(RunError, match="its download failed") as caught:
        digits.load("mnist", tmp_path / "data")
    assert time.monotonic() - begin < 25  # the server stalls for 30 s
    assert "\n" not in str(caught.value) and "--dataset digits" in str(caught.value)
    assert files_in(tmp_path / "data") == []

    assert digits.load("auto", tmp_path / "new" / "data").name == "digits"
    said = capsys.readouterr().err
    assert (
        "bundled digits instead of MNIST" in said
        and f"{tmp_path / 'new' / 'data'} is no folder" in said
    )
    assert not (tmp_path / "new").exists()

    server = mirrors(fault, "healthy")
    assert digits.load("mnist", tmp_path / "data").name == "mnist"
    assert files_in(tmp_path / "data") == WHOLE
    assert any(path.startswith("/healthy/") for path in server.asked)


DOWNLOAD = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from torchvision import datasets
from common import digits
datasets.MNIST.mirrors, datasets.MNIST.resources = json.loads(sys.argv[3])
print(len(digits.load("mnist", Path(sys.argv[2])).x_train))
"""


def test_two_downloads_at_once_end_with_one_good_copy(mirrors, tmp_path):
    mirrors("healthy")
    (tmp_path / "data").mkdir()
    where = json.dumps([datasets.MNIST.mirrors, datasets.MNIST.resources])
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", DOWNLOAD, PROJECT, tmp_path / "data", where],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [run.communicate(timeout=60)[0] for run in runs] == ["60\n", "60\n"]
    assert files_in(tmp_path / "data") == WHOLE
