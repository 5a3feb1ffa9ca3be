"""``plugins/README.md`` documents every hook with its exact arguments, and its code runs."""

import argparse
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from docs_pages import ROOT, blocks, text

import interpd.sdk
from interpd.cli import extensions
from interpd.plugin import discovery, hookspecs, parts
from interpd.testing.kit import conformance

PAGE = "plugins/README.md"

HOOKS = {name: value for name, value in vars(hookspecs).items() if name.startswith("interpd_")}


def test_there_are_six_hooks():
    assert len(HOOKS) == 6


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_section_with_its_exact_arguments(name):
    arguments = list(inspect.signature(HOOKS[name]).parameters)
    section = text(PAGE).partition(f"### `{name}({', '.join(arguments)})`\n")[2].partition("\n### ")[0]
    assert section, f"no section '### `{name}({', '.join(arguments)})`'"
    assert all(f"* `{argument}`:" in section for argument in arguments)
    assert f"def {name}(" in section


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_says_where_it_runs(name):
    assert "Runs in a worker" in HOOKS[name].__doc__ or "Runs in each worker" in HOOKS[name].__doc__


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_test(name):
    tests = Path(ROOT, "tests/unit/plugin").glob("test_*.py")
    assert any(f"def test_hook_{name}(" in path.read_text(encoding="utf-8") for path in tests)


@pytest.mark.parametrize("name", interpd.sdk.__all__)
def test_every_name_of_the_sdk_is_on_the_page_or_explains_itself(name):
    value = getattr(interpd.sdk, name)
    mentioned = re.search(rf"\b{name}\b", text(PAGE))
    assert mentioned or inspect.getdoc(value), name


@pytest.fixture
def sae(monkeypatch):
    """The module of the page's first block, as if it were installed."""
    module = ModuleType("interpd_sae")
    monkeypatch.setitem(sys.modules, "interpd_sae", module)
    exec(blocks(PAGE)[0].compiled(), vars(module))
    return module


def test_the_first_plugin_conforms_as_the_page_says(sae):
    checks = conformance(sae, examples={"sae.clamp": {"feature": 0}}, refuses={"sae.clamp": [{"feature": -1}]})
    for check in checks.pytestmark[0].args[1]:
        if check.id != "imports_without_effects":
            check.values[0].run()


def test_all_code_on_the_page_runs(sae, capsys):
    namespace = dict(vars(sae))
    for block in blocks(PAGE)[1:]:
        exec(block.compiled(), namespace)
    assert capsys.readouterr().out == "(1, 5, 7)\n"


OF_EVERY_PLUGIN = (discovery.GROUP, parts.CLIENT, parts.COMMANDS)
GROUPS = (*OF_EVERY_PLUGIN, parts.REPRODUCTIONS, parts.ZOO)


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_of_entry_points_is_on_the_page_and_used_by_the_example(group):
    offered = [tomllib.loads(block.code) for block in blocks(PAGE, "toml")]
    assert any(group in page.get("project", {}).get("entry-points", {}) for page in offered)
    package = "examples/interpd-tuned-lens" if group in OF_EVERY_PLUGIN else "plugins/attribution"
    example = tomllib.loads(text(f"{package}/pyproject.toml"))["project"]
    assert example["entry-points"][group]
    assert not [needed for needed in example["dependencies"] if "daemon" in needed]


def test_there_are_no_other_groups():
    sources = [path.read_text(encoding="utf-8") for path in Path(ROOT, "interpd").rglob("*.py")]
    named = {name for source in sources for name in re.findall(r'^[A-Z]+ = "(interpd\.[a-z]+)"$', source, re.MULTILINE)}
    assert named == set(GROUPS)


@pytest.fixture
def outside(sae):
    """What the page's client part and command define, and a service without a server."""
    from interpd_client.testing import FakeTransport, fake_manifest

    namespace = {}
    for block in blocks(PAGE):
        if "class SaeClient" in block.code or "def declare" in block.code:
            exec(block.compiled(), namespace)
    transport = FakeTransport(fake_manifest(ops=(sae.encode.schema,)))
    transport.put_artifact("fake", "mine", "sae", b"", None)
    return namespace, transport


def test_the_client_part_and_the_command_of_the_page_work_together(outside, monkeypatch, capsys):
    import interpd_client

    namespace, transport = outside
    monkeypatch.setattr(interpd_client, "connect", lambda address, **options: interpd_client.Client(transport))
    monkeypatch.setattr(interpd_client.Model, "sae", property(namespace["SaeClient"]), raising=False)
    monkeypatch.setattr(parts, "part", lambda group, name: discovery.candidate_of(sys, name))
    monkeypatch.setattr(parts, "loaded", lambda one: namespace["declare"])
    common = argparse.ArgumentParser(add_help=False)
    common.set_defaults(address="", timeout=None, json=True)
    args = extensions.parser_of("sae-top", common).parse_args(["two words", "--sae", "mine"])
    assert args.run(args) == 0
    assert capsys.readouterr().out.split() == ["[", "0,", "0", "]"]


def test_the_reproduction_of_the_page_runs(outside, monkeypatch, tmp_path, capsys):
    import interpd_client

    from interpd.cli import Reproduction

    namespace, transport = outside
    exec(next(block for block in blocks(PAGE) if "Reproduction" in block.code).compiled(), namespace)
    client = interpd_client.Client(transport)
    monkeypatch.setattr(client, "model", lambda name: interpd_client.Client.model(client, "fake"))
    monkeypatch.setattr(interpd_client, "local", lambda *models, plugins: client)
    monkeypatch.setattr(interpd_client.Model, "sae", property(namespace["SaeClient"]), raising=False)
    namespace["strongest_features"](Reproduction(tmp_path, is_quick=True))
    assert "Elena Marsh was born in" in capsys.readouterr().out
    assert (tmp_path / "report.md").read_text()


def test_its_pyproject_makes_an_installable_plugin(tmp_path):
    (whole,) = [block.code for block in blocks(PAGE, "toml") if "[build-system]" in block.code]
    (tmp_path / "pyproject.toml").write_text(whole)
    (tmp_path / "interpd_sae").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "interpd_sae/__init__.py").write_text(blocks(PAGE)[0].code)
    build = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('out')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (entry_points,) = tmp_path.glob("out/*.dist-info/entry_points.txt")
    assert entry_points.read_text() == "[interpd.plugins]\nsae = interpd_sae\n"
    assert "interpd_sae" in next(tmp_path.glob("out/*.dist-info/top_level.txt")).read_text()


@pytest.fixture
def page(sae):
    """What all blocks of the page define."""
    namespace = dict(vars(sae))
    for block in blocks(PAGE)[1:]:
        if "interpd_client.local(" not in block.code:
            exec(block.compiled(), namespace)
    return namespace


def test_the_operations_and_methods_of_the_page_conform(page):
    module = ModuleType("interpd_page")
    module.interpd_register_ops = hookspecs.hookimpl(lambda: [page["top"]], specname="interpd_register_ops")
    methods = [page["mean"], page["saliency"]]
    module.interpd_register_methods = hookspecs.hookimpl(lambda: methods, specname="interpd_register_methods")
    examples = {"sae.top": {"k": 2}, "probe.mean": {"texts": ("The cat sat", "on the mat")}}
    for check in conformance(module, examples=examples).pytestmark[0].args[1]:
        if check.id != "imports_without_effects":
            check.values[0].run()


def test_the_clients_of_the_page_ask_for_what_the_plugins_offer(page, capsys):
    from interpd_client import Client
    from interpd_client.testing import FakeTransport, fake_manifest

    ops = tuple(page[name].schema for name in ("encode", "top", "mean"))
    transport = FakeTransport(fake_manifest("gpt2", n_layers=8, ops=ops))
    transport.put_artifact("gpt2", "mine", "sae", b"", None)
    with Client(transport) as client:
        client.upload_artifact = lambda path, name, kind, *, model: None
        assert page["features"](client, "two words").ndim == 3
        last = page["watched"](client.model("gpt2"), "two words", ("one", "two"))
        assert type(last).__name__ == "Done"
        with client.model("gpt2").trace("two words") as t:
            acts = t.ops.sae.encode(t.layers[6].resid_post, sae="mine")
            t.save(top=t.ops.sae.top(acts, k=3))
        assert t.result["top"].indices.shape[-1] == 3
    assert "Done" in capsys.readouterr().out


def test_the_sizes_of_the_tiny_model_are_those_of_the_page(tiny_model):
    config = tiny_model.model.config
    heads = f"{config.n_head} heads of {config.n_embd // config.n_head}"
    said = f"{config.n_layer} layers, d_model {config.n_embd}, {heads}, d_mlp {config.n_inner}"
    assert said in " ".join(text(PAGE).split())
