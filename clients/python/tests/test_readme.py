"""Every block of the README runs, in order, against the real service and the bundled model."""

import re
from pathlib import Path

import pytest

import interpd_client as interpd
from interpd_client import aio
from interpd_client.aio.grpc_transport import GrpcTransport as AsyncGrpcTransport
from interpd_client.grpc_transport import GrpcTransport

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.fixture(scope="module")
def address(loopback, tmp_path_factory):
    pytest.importorskip("torch", reason="the bundled model runs in this process")
    from interpd import zoo
    from interpd.config import ModelSpec, SchedulerConfig
    from interpd.engine.nnsight_engine import NnsightEngine
    from interpd.engine.resident import make_resident
    from interpd.plugin.registry import load_registry
    from interpd.scheduler.scheduler import Scheduler
    from interpd.testing.fake_workers import FakeLink, FakeWorkers
    from interpd.testing.tiny_models import save_tiny
    from interpd.worker.loading import load_model

    registry = load_registry([])
    sources = {"facts": zoo.path("facts"), "translator": save_tiny(tmp_path_factory.mktemp("tiny"), "bart")}
    loaded = {name: load_model(ModelSpec(str(source), name=name)) for name, source in sources.items()}
    residents = {name: make_resident(one, registry) for name, one in loaded.items()}

    class RealEngines(FakeWorkers):
        def _start(self, model, n_replicas):
            engine = NnsightEngine(residents[model], registry)
            self._links[model] = [FakeLink(model, model, engine, self._wake)]
            self._manifests[model] = engine.describe()

    with loopback(lambda: Scheduler(RealEngines(list(sources), runs_itself=True), SchedulerConfig())) as server:
        yield server.address


def test_the_readme_runs(address, monkeypatch, capsys):
    opened = []

    def connect(there):
        assert there == "localhost:7700"
        opened.append(interpd.Client(GrpcTransport(address), progress=False, timeout_s=60.0))
        return opened[-1]

    def connect_awaiting(there):
        assert there == "localhost:7700"
        return aio.Client(AsyncGrpcTransport(address), progress=False, timeout_s=60.0)

    monkeypatch.setattr(interpd, "connect", connect)
    monkeypatch.setattr(aio, "connect", connect_awaiting)
    text = README.read_text(encoding="utf-8")
    names = {}
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        first_line = text[: block.start(1)].count("\n")
        exec(compile("\n" * first_line + block.group(1), str(README), "exec"), names)
    printed = capsys.readouterr().out
    print(printed)
    for client in opened:
        client.close()
    assert printed.startswith("topk(values=array([[")
    assert "tensor.setitem" in printed
    assert "README.md:" in printed
