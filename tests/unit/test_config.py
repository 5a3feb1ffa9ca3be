from dataclasses import FrozenInstanceError, fields

import pytest

from interpd.config import LIMIT_DOCS, Config, ModelDefaults, ModelSpec, keys, load_config, parse_model
from interpd.errors import InvalidRequest
from interpd.graph.schema import Limits
from interpd.specs import AdapterSpec


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_without_sources_the_defaults_hold():
    assert load_config(environ={}) == Config()


def test_the_tree_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Config().port = 1


def test_flags_win_over_environment_over_file_over_defaults(tmp_path):
    (tmp_path / "interpd.toml").write_text("port = 1\n[worker]\nop_timeout_s = 1\nbatch_wait_ms = 7\n")
    environ = {"INTERPD_PORT": "2", "INTERPD_WORKER_OP_TIMEOUT_S": "2.5"}
    config = load_config({"port": 3}, environ=environ)
    assert (config.port, config.worker.op_timeout_s, config.worker.batch_wait_ms) == (3, 2.5, 7.0)
    assert config.worker.load_timeout_s == Config().worker.load_timeout_s


def test_the_file_may_be_named_by_flag_or_by_environment(tmp_path):
    (tmp_path / "a.toml").write_text("port = 11")
    (tmp_path / "b.toml").write_text("port = 22")
    assert load_config(path=tmp_path / "a.toml", environ={"INTERPD_CONFIG": "b.toml"}).port == 11
    assert load_config(environ={"INTERPD_CONFIG": "b.toml"}).port == 22


def test_a_named_file_must_exist():
    with pytest.raises(InvalidRequest, match=r"no configuration file 'no\.toml'"):
        load_config(path="no.toml", environ={})


def test_models_come_as_tables_with_the_defaults_filled_in(tmp_path):
    (tmp_path / "interpd.toml").write_text(
        '[defaults]\ndtype = "bfloat16"\n[[models]]\nsource = "org/gpt"\nrevision = "abc"\n'
        '[[models]]\nsource = "org/llama"\nname = "big"\nnum_gpus = 2\ndtype = "float32"\n'
    )
    assert load_config(environ={}).models == (
        ModelSpec("org/gpt", name="gpt", revision="abc", dtype="bfloat16"),
        ModelSpec("org/llama", name="big", num_gpus=2.0, dtype="float32", device_map="auto"),
    )


def test_models_of_flags_replace_those_of_the_file(tmp_path):
    (tmp_path / "interpd.toml").write_text('[[models]]\nsource = "a"\n')
    config = load_config({"models": ["b=c"], "defaults.num_gpus": 1}, environ={})
    assert config.models == (ModelSpec("b", name="c", num_gpus=1.0),)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("gpt2", ModelSpec("gpt2", name="gpt2")),
        ("org/gpt2@main", ModelSpec("org/gpt2", name="gpt2", revision="main")),
        ("org/gpt2@main=small", ModelSpec("org/gpt2", name="small", revision="main")),
        ("./models/x=y", ModelSpec("./models/x", name="y")),
    ],
)
def test_a_model_is_source_revision_name(text, spec):
    assert parse_model(text) == spec


def test_an_existing_path_is_taken_whole(tmp_path):
    (tmp_path / "odd@x=y").mkdir()
    with pytest.raises(InvalidRequest, match="append =NAME"):
        parse_model("odd@x=y")
    assert parse_model("odd@x=y=z") == ModelSpec("odd@x=y", name="z")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("prot = 1", "unknown key 'prot'; nearest is 'port'"),
        ("[worker]\nop_timeout = 1", "unknown key 'worker.op_timeout'; nearest is 'worker.op_timeout_s'"),
        ("[wroker]\nop_timeout_s = 1", "unknown key 'wroker'; nearest is 'worker'"),
        ('port = "x"', "port: expected int, got 'x'"),
        ("port = true", "port: expected int, got True"),
        ("port = -1", "port: must not be negative, got -1"),
        ("plugins = 3", "plugins: expected a list of str, got 3"),
        ('[[models]]\nsource="a"\ndtpye="x"', r"models\[0\]: unknown key 'dtpye'; nearest is 'dtype'"),
        ('[[models]]\nname="a"', r"models\[0\]: no source; give a hub id or a local folder"),
        ('models = ["a", "b=a"]', r"models\[1\]: name 'a' is taken; append =NAME"),
        ('models = ["a"]\n[defaults]\nreplicas=0', "replicas must be 1 to 64, got 0"),
        ('[scheduler.owner_weights]\nann = "x"', "owner_weights.ann: expected float, got 'x'"),
        ('log_level = "loud"', "log_level: expected debug, info, warning or error, got 'loud'"),
        ("port = ", "not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(tmp_path, toml, message):
    (tmp_path / "interpd.toml").write_text(toml)
    with pytest.raises(InvalidRequest, match=message):
        load_config(environ={})


def test_unknown_variables_and_flags_are_errors_with_the_nearest_name():
    with pytest.raises(InvalidRequest, match="unknown variable 'INTERPD_PROT'; nearest is 'INTERPD_PORT'"):
        load_config(environ={"INTERPD_PROT": "1"})
    with pytest.raises(InvalidRequest, match="unknown key 'prot'; nearest is 'port'"):
        load_config({"prot": 1}, environ={})
    assert load_config(environ={"INTERPD_SHARED": "x", "OTHER": "y"}) == Config()


def test_the_environment_speaks_every_type():
    environ = {"INTERPD_PLUGINS": "sae, lrc", "INTERPD_WORKER_SHARE_PASSES": "no", "INTERPD_LIMITS_RUN_S": "5"}
    config = load_config(environ=environ)
    assert (config.plugins, config.worker.share_passes, config.limits.run_s) == (("sae", "lrc"), False, 5.0)
    with pytest.raises(InvalidRequest, match="INTERPD_PORT: expected int, got 'x'"):
        load_config(environ={"INTERPD_PORT": "x"})


def test_owner_weights_are_a_table(tmp_path):
    (tmp_path / "interpd.toml").write_text("[scheduler.owner_weights]\nann = 2\n")
    assert load_config(environ={}).scheduler.owner_weights == (("ann", 2.0),)


def test_every_key_is_documented_and_has_a_flag_or_a_reason():
    for info in keys():
        assert info.doc.endswith("."), info.name
        assert info.flag or info.reason, info.name
    flags = [info.flag for info in keys() if info.flag]
    assert len(flags) == len(set(flags))


def test_limits_and_model_defaults_follow_the_classes_that_they_configure():
    assert set(LIMIT_DOCS) == {f.name for f in fields(Limits)}
    assert {f.name for f in fields(ModelDefaults)} < {f.name for f in fields(ModelSpec)}


def test_adapters_come_with_their_model_or_as_flags(tmp_path):
    (tmp_path / "interpd.toml").write_text(
        '[[models]]\nsource = "a"\nname = "base"\n[models.adapters]\nx = "/x"\ny = "o/y@abc"\n'
    )
    config = load_config({"adapters": ["base:z=/z"]}, environ={})
    assert config.models[0].adapters == (
        AdapterSpec("x", "/x"),
        AdapterSpec("y", "o/y", "abc"),
        AdapterSpec("z", "/z"),
    )
    environ = {"INTERPD_MODELS": "a=base", "INTERPD_ADAPTERS": "base:x=/x,base:y=/y"}
    (tmp_path / "interpd.toml").unlink()
    assert [adapter.name for adapter in load_config(environ=environ).models[0].adapters] == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=/x", r"expected MODEL:NAME=SOURCE\[@REVISION\]"),
        ("base:x", r"expected MODEL:NAME=SOURCE\[@REVISION\]"),
        ("bass:x=/x", "no model 'bass' is configured; nearest is 'base'"),
        ("base:a/b=/x", "name 'a/b' may hold"),
        ("base:taken=/x", "adapter 'taken' is there twice"),
    ],
)
def test_adapters_that_cannot_be_meant_are_refused(tmp_path, text, message):
    (tmp_path / "interpd.toml").write_text('[[models]]\nsource = "base"\nadapters = {taken = "/t"}\n')
    with pytest.raises(InvalidRequest, match=message):
        load_config({"adapters": [text]}, environ={})
