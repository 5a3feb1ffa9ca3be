"""What replicas get whenever they start, over hosts that are objects of the test."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from safetensors.torch import save_file
from torch import ones

from interpd.errors import AdapterNotFound, InvalidRequest, ModelNotFound, WorkerLost
from interpd.specs import AdapterSpec
from interpd.worker.adapter_files import CONFIG_FILE, WEIGHTS_FILE
from interpd.worker.adapter_shelf import AdapterShelf


class Link:
    """A host that takes adapters, unless ``error`` says otherwise."""

    name = "m/0.1"

    def __init__(self, error=None):
        self.error, self.adapters = error, {}

    async def put_adapter(self, info, folder):
        if self.error is not None:
            raise self.error
        self.adapters[info.name] = info.digest
        return replace(info, kind="LORA")

    async def drop_adapter(self, name):
        self.adapters.pop(name, None)

    @property
    def manifest(self):
        return SimpleNamespace(adapters={n: SimpleNamespace(digest=d) for n, d in self.adapters.items()})


@pytest.fixture
def spec(tmp_path):
    def make(name="a", value=1.0):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / CONFIG_FILE).write_text("{}")
        save_file({"x": ones(2) * value}, folder / WEIGHTS_FILE)
        return AdapterSpec(name, str(folder))

    return make


@pytest.fixture
def shelf(tmp_path):
    return lambda *specs: AdapterShelf("m", specs, tmp_path / "kept")


async def test_what_is_configured_is_given_to_each_process_that_starts(shelf, spec):
    full = shelf(spec("a"), spec("b"))
    for link in (Link(), Link()):
        await full.equip(link)
        assert link.adapters.keys() == {"a", "b"}
        assert full.offers(link.manifest)
    assert full.infos["a"].kind == "LORA"


async def test_one_that_cannot_be_loaded_says_why_and_the_others_serve(shelf, spec, tmp_path):
    half = shelf(AdapterSpec("gone", str(tmp_path / "nowhere")), spec("a"))
    link = Link()
    await half.equip(link)
    assert link.adapters.keys() == {"a"}
    assert "neither a folder" in half.infos["gone"].problem
    assert half.problem.startswith("adapter 'gone' was not loaded: ")
    half = shelf(spec("a"))
    await half.equip(Link(InvalidRequest("of another model")))
    assert half.infos["a"].problem == "of another model"


async def test_a_process_that_starts_again_gets_the_files_as_they_were(shelf, spec):
    known = shelf()
    first, again = Link(), Link()
    await known.load(spec("a", 1.0), [first])
    spec("a", 2.0)
    await known.equip(again)
    assert again.adapters == first.adapters


async def test_one_that_ends_its_process_again_and_again_is_left_out(shelf, spec):
    known = shelf(spec("a"))
    for _ in range(2):
        with pytest.raises(WorkerLost):
            await known.equip(Link(WorkerLost("died")))
    await known.equip(Link(WorkerLost("died")))
    assert "its worker died 2 times" in known.infos["a"].problem


async def test_a_load_that_fails_changes_nothing(shelf, spec):
    known, good = shelf(), Link()
    await known.load(spec("a", 1.0), [good])
    before = dict(good.adapters)
    with pytest.raises(InvalidRequest):
        await known.load(spec("a", 2.0), [good, Link(InvalidRequest("no"))])
    with pytest.raises(InvalidRequest):
        await known.load(spec("b"), [good, Link(InvalidRequest("no"))])
    assert good.adapters == before
    assert known.offers(good.manifest)
    with pytest.raises(ModelNotFound):
        await known.load(AdapterSpec("c", "nowhere at all"), [good])
    with pytest.raises(WorkerLost, match="no worker of model 'm' serves"):
        await known.load(spec("a"), [])


async def test_unloading_takes_it_from_everybody_and_its_copy_from_the_disk(shelf, spec, tmp_path):
    known, link = shelf(), Link()
    await known.load(spec("a"), [link])
    with pytest.raises(AdapterNotFound, match="no adapter 'x'; it has a"):
        await known.unload("x", [link])
    await known.unload("a", [link])
    assert (link.adapters, known.infos) == ({}, {})
    assert list((tmp_path / "kept").iterdir()) == []


async def test_a_process_that_started_meanwhile_is_brought_level(shelf, spec):
    known, late = shelf(), Link()
    late.adapters = {"old": "sha256:old", "a": "sha256:old"}
    await known.load(spec("a"), [Link()])
    assert not known.offers(late.manifest)
    await known.level(late, late.manifest)
    assert known.offers(late.manifest)
