"""Downloads from a local server that refuses, breaks off, stalls, or sends something else."""

from common import datasets, program
from common.program import RunError

import hashlib
import signal
import socket
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torchvision
from conftest import write_idx
from helpers import press

WHOLE = sorted(f"MNIST/raw/{name}" for name in datasets.FILES)


class Handler(BaseHTTPRequestHandler):
    """Answers GET /<fault>/<file>; the server has `files`, as a healthy mirror sends them.

    Where it stalls it does the server's `act` before.
    """

    def do_GET(self):
        fault, name = self.path.strip("/").split("/")
        self.server.asked.append(self.path)
        content = self.server.files[name]
        if fault.isdigit():
            return self.send_error(int(fault))
        if fault == "page":
            content = b"<html><body>Please log in to this network.</body></html>"
        if fault == "flipped":
            content = content[:50] + bytes([content[50] ^ 1]) + content[51:]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault in ("half", "stalls-half-way"):
            self.wfile.write(content[: len(content) // 2])
            if fault == "stalls-half-way":
                self.server.act()
                self.server.closing.wait(30)
            return self.connection.close()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """A function that makes a local server, with these faults, torchvision's mirrors of MNIST."""
    packed = write_idx(tmp_path / "origin", packed=True).values()
    files = {path.name: path.read_bytes() for path in packed}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.files, server.asked, server.closing = files, [], threading.Event()
    server.act = lambda: None
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    checksums = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", checksums)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it may know a proxy of a test before

    def choose(*faults: str):
        urls = [f"http://127.0.0.1:{server.server_port}/{fault}/" for fault in faults]
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", urls)
        return server

    yield choose
    socket.setdefaulttimeout(None)
    server.closing.set()
    server.shutdown()
    server.server_close()


def files_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("faults", [["healthy"], ["404", "healthy"]])  # then the second one serves
def test_a_data_set_is_downloaded_once(mirrors, tmp_path, monkeypatch, capsys, faults):
    """Into the project's folder data/, too, which is made for it."""
    server = mirrors(*faults)
    monkeypatch.setattr(datasets, "PROJECT", tmp_path / "origin")
    data_dir = tmp_path / "origin" / "data"
    data = datasets.load("auto", data_dir)
    assert data.name == "mnist" and len(data.train_images) == 60
    assert "warning" not in capsys.readouterr().err
    assert files_in(data_dir) == WHOLE and len(set(server.asked)) == 4 * len(faults)
    server.asked.clear()
    datasets.load("mnist", data_dir)
    assert server.asked == []


@pytest.mark.parametrize(
    "fault, said",
    [("404", ""), ("page", ""), ("half", ""), ("flipped", ""), ("stalls-half-way", "timed out")],
)
def test_a_broken_download_leaves_nothing_and_can_be_tried_again(
    mirrors, tmp_path, monkeypatch, capsys, fault, said
):
    (data_dir := tmp_path / "data").mkdir()
    mirrors(fault)
    monkeypatch.setattr(datasets, "DOWNLOAD_TIMEOUT", 1 if said else 20)
    with pytest.raises(RunError, match=f"its download failed .*{said}") as caught:
        datasets.load("mnist", data_dir)
    assert "\n" not in str(caught.value) and "--dataset digits" in str(caught.value)
    assert str(data_dir / "MNIST" / "raw") in str(caught.value)
    assert datasets.load("auto", data_dir).name == "digits"
    assert "bundled digits instead of MNIST" in capsys.readouterr().err
    assert files_in(data_dir) == []
    monkeypatch.setattr(datasets, "DOWNLOAD_TIMEOUT", 20)
    mirrors("healthy")
    assert datasets.load("mnist", data_dir).name == "mnist"


def test_ctrl_c_during_a_download_leaves_nothing(mirrors, tmp_path, capfd):
    (data_dir := tmp_path / "data").mkdir()
    mirrors("stalls-half-way").act = press
    assert program.outcome(lambda: datasets.load("mnist", data_dir)) == 128 + signal.SIGINT
    said = capfd.readouterr().err
    assert said.startswith("interrupted: ") and said.count("\n") == 1
    assert list(data_dir.iterdir()) == []


def test_two_downloads_at_once_end_with_one_good_copy(mirrors, tmp_path):
    """Beside what a killed one left."""
    mirrors("healthy")
    half = tmp_path / "download-killed" / WHOLE[0]
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    assert not datasets.on_disk("mnist", tmp_path)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(datasets.load, ["mnist"] * 2, [tmp_path] * 2))
    assert [len(data.train_images) for data in found] == [60, 60]
