"""Checkpoints of the web: kept if they are whole, and not otherwise."""

import hashlib
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as catalogue

from mmclip.checkpoint import CheckpointError
from mmclip.checkpoint.files import web
from tests.conftest import largest_file


def checkpoint_bytes() -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state_dict=dict(x=torch.arange(5000.0))), buffer)
    return buffer.getvalue()


CONTENT = checkpoint_bytes()
HASH = hashlib.sha256(CONTENT).hexdigest()[:8]
PAGE = b'<!DOCTYPE html><html>Please log in.</html>'


class Server(ThreadingHTTPServer):
    """Answers all with ``answer``; ``asked`` counts how often."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.asked = 0
        self.answer = well
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}'


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        with suppress(ConnectionError):  # the reader has given up
            self.server.answer(self)

    def log_message(self, *_):
        pass

    def send(self, content, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        self.wfile.write(content)


def well(handler):
    handler.send(CONTENT, Content_Length=len(CONTENT))


HALF, LENGTH = CONTENT[: len(CONTENT) // 2], len(CONTENT)


def hang_in_the_middle(handler):
    handler.send(HALF, Content_Length=LENGTH)
    handler.server.over.wait()


def half_in_chunks(handler):
    handler.protocol_version = 'HTTP/1.1'
    handler.send(b'%x\r\n' % 99999 + CONTENT, Transfer_Encoding='chunked')


def drip(handler):
    handler.send(b'', Content_Length=LENGTH)
    for byte in CONTENT:
        if handler.server.over.wait(0.05):
            return
        handler.wfile.write(bytes([byte]))


def sends(*args, **headers):
    return lambda handler: handler.send(*args, **headers)


WRONG_ANSWERS = {
    'ended after .* bytes': sends(HALF, Content_Length=LENGTH),
    'the file is not a readable checkpoint': sends(HALF),
    'IncompleteRead': half_in_chunks,
    'the file is a web page': sends(PAGE, Content_Length=len(PAGE)),
    'the file is empty': sends(b'', Content_Length=0),
    'the server answered 404 Not Found': sends(b'no', 404),
    'the server answered 503 Service Unavailable': sends(b'', 503),
    r'nothing, for 0\.2 seconds': lambda h: h.server.over.wait(),
    'sent nothing, or almost nothing': hang_in_the_middle,
    'sent nothing, or almost': drip,
    'closed connection|reset by peer': lambda h: h.connection.close(),
    "to url 'file:///etc/hostname' is not allowed": sends(
        b'', 302, Location='file:///etc/hostname'
    ),
    'unknown url type: ftp': sends(b'', 302, Location='ftp://127.0.0.1/x'),
    'infinite loop': lambda h: h.send(b'', 302, Location=h.path),
}


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(web, 'TIMEOUT', 0.2)
    return tmp_path / 'hub' / 'checkpoints'


def kept(cache):
    return [
        path.name
        for path in cache.rglob('*')
        if path.is_file() and path.suffix != '.lock'
    ]


def load(url):
    return CheckpointLoader.load_checkpoint(url, 'cpu')['state_dict']['x']


@pytest.mark.parametrize('reason', WRONG_ANSWERS)
def test_what_fails_is_said_and_not_kept(server, cache, reason):
    server.answer = WRONG_ANSWERS[reason]
    url = f'{server.url}/x.pth'
    with pytest.raises(CheckpointError, match=f'^{url} .*{reason}'):
        load(url)
    assert kept(cache) == []
    server.answer = well
    assert torch.equal(load(url), torch.arange(5000.0))
    assert kept(cache) == ['x.pth']


def test_what_comes_after_the_length_is_not_read(server, cache):
    server.answer = sends(CONTENT + b'more', Content_Length=LENGTH)
    load(f'{server.url}/x.pth')
    (path,) = cache.rglob('x.pth')
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize('suffix', ['.pth', '.pt', '.pth.tar'])
def test_a_hash_in_the_name_is_compared(server, cache, suffix):
    reason = f'SHA-256 begins with deadbeef, but it is {HASH}'
    with pytest.raises(CheckpointError, match=reason):
        load(f'{server.url}/x-deadbeef{suffix}')
    assert kept(cache) == []
    load(f'{server.url}/x-{HASH}{suffix}')


@pytest.mark.parametrize('name', ['x-20221226.pth', 'x-b16.pth', 'x-1234.pth'])
def test_a_date_is_no_hash_and_nothing_is_asked_a_second_time(server, name):
    for _ in range(2):
        load(f'{server.url}/{name}?download=true')
    assert server.asked == 1


@pytest.mark.parametrize('damage', [CONTENT[:999], PAGE, b''])
def test_a_damaged_file_of_the_cache_is_downloaded_again(
    server, cache, damage
):
    url = f'{server.url}/x.pth'
    load(url)
    (path,) = cache.rglob('x.pth')
    path.write_bytes(damage)
    server.answer = sends(b'no', 404)
    with pytest.raises(CheckpointError, match='404'):
        load(url)
    server.answer = well
    assert len(load(url)) == 5000
    assert path.read_bytes() == CONTENT


def test_of_several_processes_one_downloads(server):
    """Threads with locks of their own, which wait for one another."""

    def slowly(handler):
        time.sleep(0.05)
        well(handler)

    server.answer = slowly
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(load, [f'{server.url}/x.pth'] * 4))) == 4
    assert server.asked == 1


def test_a_folder_that_cannot_be_written_is_named(server, cache):
    cache.parent.mkdir()
    cache.write_text('a file where the folder should be')
    with pytest.raises(CheckpointError, match='Set TORCH_HOME to a writable'):
        load(f'{server.url}/x.pth')


def test_a_disk_that_is_full_keeps_nothing(server, cache):
    wanted = pytest.raises(CheckpointError, match='File too large')
    with largest_file(1000), wanted:
        load(f'{server.url}/x.pth')
    assert kept(cache) == []


def test_the_catalogues_of_openmmlab(server, cache, monkeypatch):
    urls = dict(good=f'{server.url}/x-{HASH}.pth', none=None)
    monkeypatch.setattr(catalogue, 'get_torchvision_models', lambda: urls)
    assert len(load('torchvision://good')) == 5000
    with pytest.raises(CheckpointError, match="has no model 'none'"):
        load('torchvision://none')
