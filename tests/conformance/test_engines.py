"""One suite for every engine: what the worker relies on, whatever drives the model behind it."""

import time
from collections import Counter

import numpy as np
import pytest

from interpd.errors import DataLoss, DeadlineExceeded, InvalidGraph
from interpd.graph.digest import blob_digest
from interpd.graph.ir import Generation, Graph, Node, Prompt, Ref
from interpd.graph.run import TERMINAL, Cancelled, Done, Failed, Result, RunRequest, Started, TokenGenerated
from interpd.graph.types import TensorData
from interpd.testing.fake_engine import FakeEngine


def nnsight_engine():
    from interpd.config import ModelSpec
    from interpd.engine.nnsight_engine import NnsightEngine
    from interpd.engine.resident import Loaded, make_resident
    from interpd.plugin.registry import load_registry
    from interpd.testing.tiny_models import tiny_llama

    tiny, registry = tiny_llama(), load_registry([])
    spec = ModelSpec("tiny", name="fake")
    return NnsightEngine(make_resident(Loaded(tiny.model, tiny.tokenizer, spec, "0"), registry), registry)


@pytest.fixture(scope="module", params=[FakeEngine, nnsight_engine], ids=["fake", "nnsight"])
def engine(request):
    engine = request.param()
    yield engine
    engine.close()


READ = Node("site.read", params={"site": "layers.0.resid_post"})


def request(run_id, text="The cat sat", node=READ, **fields):
    return RunRequest(run_id, "fake", (Prompt(text=text),), Graph((node,), {"h": Ref(0)}), **fields)


def drained(engine):
    events = []
    while engine.has_work:
        events += engine.step()
    return events


def results(events):
    return {event.run_id: event.tensor.to_numpy() for event in events if isinstance(event, Result)}


def test_the_manifest_names_the_model_and_types_every_site_and_operation(engine):
    manifest = engine.describe()
    assert manifest.model.name == "fake"
    assert {"site.read", "tokens.ids"} <= manifest.ops.keys()
    assert all(site.name == name and site.type.dims for name, site in manifest.sites.items())


def test_an_artifact_that_nobody_knows_may_be_dropped(engine):
    engine.drop_artifact("nobody")
    assert engine.describe().artifacts == {}


def test_tokens_cover_the_text(engine):
    (tokens,) = engine.tokenize([Prompt(text="The cat sat")])
    assert len(tokens.ids) == len(tokens.strings) == len(tokens.offsets)
    spans = [tokens.text[start:end] for start, end in tokens.offsets if end > start]
    assert "".join(spans) == "The cat sat"


def test_a_run_starts_answers_and_ends_once(engine):
    engine.submit(request("a"))
    events = drained(engine)
    assert [type(event) for event in events] == [Started, Result, Done]
    assert {event.run_id for event in events} == {"a"}
    assert not engine.has_work
    tensor = events[1].tensor
    assert tensor.shape == (1, len(events[0].tokens[0].ids), engine.describe().model.sizes["d_model"])
    assert events[2].cost.n_passes >= 1
    assert events[2].provenance.model == "fake"


def test_what_is_wrong_comes_back_as_an_event(engine):
    engine.submit(request("bad", node=Node("site.read", params={"site": "layers.99.resid_post"})))
    (event,) = drained(engine)
    assert isinstance(event, Failed)
    assert isinstance(event.error, InvalidGraph)
    assert event.error.violations[0].code == "UNKNOWN_SITE"


def test_every_run_ends_exactly_once_whatever_becomes_of_the_others(engine):
    for index in range(4):
        engine.submit(request(f"run-{index}", "The cat sat" * (index + 1)))
    engine.submit(request("bad", node=Node("site.nothing")))
    engine.cancel("run-2")
    ends = Counter((event.run_id, type(event)) for event in drained(engine) if isinstance(event, TERMINAL))
    assert ends == {
        ("run-0", Done): 1,
        ("run-1", Done): 1,
        ("run-2", Cancelled): 1,
        ("run-3", Done): 1,
        ("bad", Failed): 1,
    }


def test_company_changes_no_number(engine):
    texts = ["The cat sat", "The dog", "The cat sat on the mat", "A"]
    alone = {}
    for index, text in enumerate(texts):
        engine.submit(request(str(index), text))
        alone |= results(drained(engine))
    for index, text in enumerate(texts):
        engine.submit(request(str(index), text))
    together = results(drained(engine))
    for run_id, value in alone.items():
        assert np.allclose(together[run_id], value, rtol=1e-5, atol=1e-5)


def test_a_cancel_of_a_run_that_does_not_exist_is_ignored(engine):
    engine.cancel("never")
    assert drained(engine) == []


def test_a_deadline_that_has_passed_ends_the_run(engine):
    engine.submit(request("late", deadline_s=time.time() - 1))
    last = drained(engine)[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, DeadlineExceeded)


def test_a_generation_streams_its_tokens_and_says_how_it_ended(engine):
    generation = Generation(max_new_tokens=4, ignore_eos=True)
    engine.submit(request("g", generation=generation, stream_tokens=True, node=Node("tokens.ids")))
    events = drained(engine)
    tokens = [event for event in events if isinstance(event, TokenGenerated)]
    assert [token.step for token in tokens] == [0, 1, 2, 3]
    (generated,) = events[-1].generated
    assert generated.token_ids == tuple(token.token_id for token in tokens)
    assert generated.stop_reason == "length"


def test_a_constant_is_kept_only_under_its_own_digest(engine):
    tensor = TensorData.from_numpy(np.ones(3, dtype=np.float32))
    engine.put_blob(blob_digest(tensor), tensor)
    with pytest.raises(DataLoss):
        engine.put_blob("0" * 64, tensor)


def test_between_steps_nobody_is_busy(engine):
    engine.submit(request("b"))
    drained(engine)
    assert engine.busy_with == ((), "")
