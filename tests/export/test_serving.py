"""`funrec serve`: the real server in a process of its own, asked, attacked and stopped."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from commands import Command
from exported import as_json, log

from funrec.experiment.run import Run
from funrec.export.batching import Batcher, Busy
from funrec.utils.errors import InputError

pytestmark = pytest.mark.slow
for package in ("fastapi", "uvicorn", "prometheus_client", "onnxruntime", "tf2onnx"):
    pytest.importorskip(package, reason='needs pip install "funrec-lab[serve,onnx]"')


class Server(NamedTuple):
    process: subprocess.Popen[str]
    port: int

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Return the status and the answer: JSON, or text."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body)
        answer = connection.getresponse()
        text = answer.read().decode()
        is_json = answer.getheader("content-type") == "application/json"
        connection.close()
        return answer.status, json.loads(text) if is_json else text

    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, float]]:
        status, answer = self.ask("POST", "/predict", json.dumps({"rows": rows}).encode())
        assert status == 200, answer
        return answer["scores"]


def start(run: Path) -> Server:
    command = [sys.executable, "-m", "funrec.cli.main", "serve", str(run), "--port", "0", "--most-rows", "100"]
    process = subprocess.Popen(
        [*command, "--most-bytes", "50000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    found = re.match(r"http://127\.0\.0\.1:(\d+) serves mmoe\+esmm \(onnx\)", line)
    assert found, line or process.stderr.read()
    return Server(process, int(found[1]))


@pytest.fixture(scope="module")
def server(exported: Run) -> Iterator[Server]:
    started = start(exported.path)
    yield started
    started.process.kill()
    started.process.wait()
    for pipe in (started.process.stdout, started.process.stderr):
        assert pipe is not None
        pipe.close()


def test_requests_that_come_together_get_the_scores_that_predict_gives(exported: Run, server: Server) -> None:
    frame = log().head(200)
    expected = exported.predict(frame)
    parts = [(start, 1 + start % 7) for start in range(0, 190, 5)]
    rows = as_json(frame.drop("click", "buy"))
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda part: server.predict(rows[part[0] : sum(part)]), parts))
    names = [name for name in expected.columns if not name.startswith("logit_")]
    assert "score" in names
    for (first, count), answer in zip(parts, answers, strict=True):
        assert len(answer) == count and set(answer[0]) == set(names)
        for name in names:
            found = [row[name] for row in answer]
            np.testing.assert_allclose(found, expected[name].to_numpy()[first : first + count], rtol=0, atol=2e-5)


def test_the_schema_has_an_example_that_is_scored(server: Server) -> None:
    status, schema = server.ask("GET", "/schema")
    assert status == 200 and schema["largest_difference"] < 1e-4
    assert set(schema["request"]["$defs"]["Row"]["properties"]) == {"user", "item", "x", "y", "tags", "read", "seen"}
    (scores,) = server.predict(schema["example"]["rows"])
    assert list(scores) == schema["outputs"]


def test_whatever_is_sent_the_answer_is_one_line_and_never_an_error_of_the_server(server: Server) -> None:
    (row,) = server.ask("GET", "/schema")[1]["example"]["rows"]
    bad: list[tuple[int, str, str, Any]] = [
        (422, "POST", "/predict", {"rows": [row | {"x": "much"}]}),
        (422, "POST", "/predict", {"rows": [row | {"x": 1e300}]}),
        (422, "POST", "/predict", {"rows": [row, {**row, "more": 1}]}),
        (422, "POST", "/predict", {"rows": [row] * 101}),
        (422, "POST", "/predict", {"row": [row]}),
        (413, "POST", "/predict", {"rows": [row | {"item": "x" * 50_000}]}),
        (404, "GET", "/../etc/passwd", None),
        (405, "GET", "/predict", None),
        (405, "POST", "/health", {}),
    ]
    for status, method, path, body in bad:
        found, answer = server.ask(method, path, None if body is None else json.dumps(body).encode())
        assert found == status and list(answer) == ["error"], answer
        assert answer["error"] and "\n" not in answer["error"] and len(answer["error"]) < 500
    unread = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    chunks = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + 4 * (
        b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    )
    for raw, answer in ((unread, b" 413 "), (chunks, b" 413 "), (b"\0\1\2 nonsense\r\n\r\n", b" 400 ")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(raw)
            assert answer in connection.recv(200)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        server.ask("GET", "/health")  # so that it has read what was sent
    assert server.ask("GET", "/health") == (200, {"status": "ok", "model": "mmoe+esmm"})
    counted = server.ask("GET", "/metrics")[1]
    assert 'funrec_requests_total{path="/predict",status="413"} 3.0' in counted
    assert 'funrec_requests_total{path="/predict",status="400"} 1.0' in counted  # cut off
    assert 'path="other",status="404"' in counted and 'status="5' not in counted
    assert re.search(r"^process_resident_memory_bytes", counted, re.MULTILINE)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_a_server_of_an_onnx_file_has_no_tensorflow(server: Server) -> None:
    loaded = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in loaded and "tensorflow" not in loaded


def test_sigterm_ends_it_after_the_requests_that_it_has(exported: Run) -> None:
    server = start(exported.path)
    (row,) = server.ask("GET", "/schema")[1]["example"]["rows"]
    body = json.dumps({"rows": [row]}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body[:-1])
        server.ask("GET", "/health")  # so that it has read what was sent
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        connection.sendall(body[-1:])
        assert connection.recv(200).startswith(b"HTTP/1.1 200")
    out, err = server.process.communicate(timeout=30)
    assert (server.process.returncode, out, err) == (0, "", "")


def test_what_cannot_be_served_is_refused_in_one_line(
    exported: Run, funrec: Command, tmp_path: Path, server: Server
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(exported.path, copy)
    fusion = json.loads((copy / "fusion.json").read_text())
    (copy / "fusion.json").write_text(json.dumps(fusion | {"formula": "p_click"}))
    for arguments, line in (
        ((str(copy), "--format", "savedmodel"), "should have an exported model. It has none: funrec export"),
        ((str(copy),), "should have the score of"),
        ((str(exported.path), "--port", str(server.port)), "should be free, or 0 for any that is"),
        ((str(exported.path), "--port", "99999"), "--port should be from 0 to 65535"),
        ((str(exported.path), "--most-rows", "0"), "--most-rows should be positive"),
        ((str(tmp_path),), "record.json"),
    ):
        done = funrec("serve", *arguments)
        assert done.code == 2 and line in done.err and done.err.count("\n") == 1, done.err


def test_a_row_that_cannot_be_read_fails_its_own_request_alone() -> None:
    batches: list[int] = []

    def score(rows: Any) -> dict[str, np.ndarray]:
        if any(row["x"] < 0 for row in rows):
            raise InputError("negative")
        return {"p": np.array([row["x"] for row in rows])}

    async def together() -> list[Any]:
        batcher = Batcher(score, most_rows=8, most_waiting=10, on_batch=batches.append)
        requests = [[{"x": 1}], [{"x": -1}], [{"x": 2}, {"x": 3}], [{"x": 4}] * 5]
        asked = [asyncio.create_task(batcher.score(rows)) for rows in requests]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await batcher.score([{"x": 5}] * 2)
        scoring = asyncio.create_task(batcher.run())
        answers = await asyncio.gather(*asked, return_exceptions=True)
        scoring.cancel()
        return answers

    first, second, third, fourth = asyncio.run(together())
    assert isinstance(second, InputError)
    assert [one["p"].tolist() for one in (first, third, fourth)] == [[1], [2, 3], [4] * 5]
    assert batches == [4, 5]
