"""Configuration: one frozen tree, one reader of files and of the environment.

A key's value comes from the first source that names it: flags, environment (``INTERPD_WORKER_OP_TIMEOUT_S`` for
``worker.op_timeout_s``), file (``--config``, else ``interpd.toml`` in the working directory), default. A key that does
not exist is an error with the nearest name, whichever source it stands in.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import GenericAlias
from typing import Any, get_type_hints

from interpd.errors import InvalidRequest
from interpd.graph.schema import Limits
from interpd.specs import (
    AdapterSpec,
    DeviceMap,
    ModelSpec,
    checked_adapter,
    checked_model,
    parse_adapter,
    with_revision,
)

ENV_PREFIX = "INTERPD_"
ENV_RESERVED = ("INTERPD_CONFIG", "INTERPD_SHARED", "INTERPD_REQUIRE_SHARED", "INTERPD_SERVER")
"""Variables with our prefix that are no keys: the path of the file, and what tests and the client read."""


def key(default: Any, doc: str, *, flag: str | None = "", reason: str = "") -> Any:
    """A field of the tree with what its readers need to know.

    Args:
        default: The default; must be immutable.
        doc: What it does, with its unit.
        flag: Its flag; empty: made from the key (``--worker-op-timeout-s``); ``None``: it has none.
        reason: Why it has no flag.
    """
    return field(default=default, metadata={"doc": doc, "flag": flag, "reason": reason})


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Admission, queue and what is kept of ended runs."""

    max_queued: int = key(1000, "Runs that may wait, of all owners; more are refused as Overloaded.")
    max_queued_per_owner: int = key(200, "Runs that one owner may have waiting.")
    max_in_flight: int = key(64, "Runs that one replica may hold; the engine forms its passes from these.")
    max_keep_s: float = key(3600.0, "Bound on how long a run's events are kept after its end or a lost connection.")
    kept_bytes: int = key(1 << 30, "Bytes of results of ended runs kept for readers who come back; oldest go first.")
    held_bytes: int = key(
        8 << 30,
        "Bytes of results that accepted runs will bring or that are not read yet; large runs beyond are refused.",
    )
    owner_weights: tuple[tuple[str, float], ...] = key(
        (),
        "Shares of owners that differ from 1: a table, owner to weight.",
        flag=None,
        reason="a table; write [scheduler.owner_weights] in the file",
    )


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The processes that hold models."""

    op_timeout_s: float = key(60.0, "An operation, slice of a method or pass that takes longer ends its worker.")
    load_timeout_s: float = key(1800.0, "A model that takes longer to load has failed.")
    batch_wait_ms: float = key(2.0, "How long an idle engine waits for company when a first request arrives.")
    share_passes: bool = key(True, "Whether strangers' requests may share a forward pass.")
    max_batch_tokens: int = key(
        8192, "Positions in one shared pass, padding included; a row that prompts share counts once."
    )
    packed_bytes: int = key(
        2 << 30,
        "Bytes of a model's float32 weights on a CPU that are kept a second time, laid out for passes of several rows.",
    )
    max_restarts: int = key(5, "Restarts of a replica in a row, without a request served, after which it has failed.")
    max_resident_bytes: int = key(
        0, "Memory of a worker process beyond which it is restarted, because something leaks; 0: no bound."
    )
    restart_backoff_s: float = key(0.5, "Wait before the first restart; doubles with each in a row, up to 30 s.")
    object_store_bytes: int = key(256 << 20, "Shared memory in which Ray passes large results between processes.")
    state_dir: str = key("", "Folder for Ray's sockets and uploaded artifacts; empty: a new one under the temp folder.")


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """What models get that do not say otherwise."""

    dtype: str = key("auto", "float32, bfloat16, float16, or auto: as the checkpoint says (on a CPU float32).")
    device: str = key("auto", "cpu, cuda, or auto: cuda where the worker has one.")
    num_gpus: float = key(0.0, "GPUs of each replica, or a fraction; 0: one if device is auto and one is free.")
    num_cpus: float = key(
        0.0, "Threads of each replica's tensor library; 0: an even share of the cores, or 1 for a replica on GPUs."
    )
    replicas: int = key(1, "How many processes hold a copy.")


LIMIT_DOCS: dict[str, str] = {
    "n_nodes": "Nodes of one graph.",
    "n_prompts": "Prompts of one request.",
    "n_tokens": "Positions of all prompts of a request together, and new tokens.",
    "n_outputs": "Named outputs of one graph.",
    "inline_bytes": "Bytes of constants inside a graph; larger ones are uploaded.",
    "result_bytes": "Bytes that one run may return.",
    "live_bytes": "Estimated bytes of one run's values alive at once.",
    "run_s": "Seconds that any run may take from its acceptance on, whatever deadline it asks for.",
}
"""What each key of ``limits`` bounds; the keys themselves are those of ``graph.schema.Limits``."""


@dataclass(frozen=True, slots=True)
class Config:
    """All that can be configured."""

    host: str = key("127.0.0.1", "Address to listen on; loopback only, until there are users and TLS.", flag="--host")
    port: int = key(7700, "TCP port of the service; 0: any free one.", flag="--port")
    models: tuple[ModelSpec, ...] = key(
        (), "Models to load at start: [[models]], or SOURCE[@REVISION][=NAME].", flag="--model"
    )
    adapters: tuple[str, ...] = key(
        (), "Adapters of models to load at start: MODEL:NAME=SOURCE[@REVISION].", flag="--adapter"
    )
    plugins: tuple[str, ...] = key(
        (), "Plugins that workers load, by entry point name; others are ignored.", flag="--plugin"
    )
    drain_grace_s: float = key(
        20.0, "How long running requests may go on after SIGTERM or an unload.", flag="--drain-grace-s"
    )
    trace_hooks: bool = key(False, "Whether workers log each call of a plugin's hook.", flag="--trace-hooks")
    log_level: str = key("info", "debug, info, warning or error.", flag="--log-level")
    defaults: ModelDefaults = field(default_factory=ModelDefaults)
    limits: Limits = field(default_factory=Limits)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    worker: WorkerConfig = field(default_factory=WorkerConfig)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key as the command line and the documentation see it."""

    name: str
    """Dotted: ``worker.op_timeout_s``."""
    type: Any
    """``int``, ``float``, ``str``, ``bool``, ``tuple[str, ...]`` ..."""
    default: Any
    doc: str
    flag: str | None
    reason: str
    """Why it has no flag."""

    @property
    def env(self) -> str:
        """The environment variable that sets it."""
        return ENV_PREFIX + self.name.replace(".", "_").upper()


def keys() -> tuple[KeyInfo, ...]:
    """Every key of the tree, in order."""
    return tuple(_walk(Config, ""))


def _walk(cls: type, prefix: str) -> list[KeyInfo]:
    found: list[KeyInfo] = []
    types = get_type_hints(cls)
    for f in fields(cls):
        name = prefix + f.name
        if is_dataclass(types[f.name]):
            found += _walk(types[f.name], name + ".")
        else:
            found.append(_key_info(f, name, types[f.name]))
    return found


def _key_info(f: Field[Any], name: str, type_: Any) -> KeyInfo:
    # Limits belongs to graph/, which knows nothing of flags
    doc = f.metadata.get("doc") or LIMIT_DOCS[f.name]
    flag = f.metadata.get("flag", "")
    default = None if f.default is MISSING else f.default
    if flag == "":
        flag = "--" + name.replace(".", "-").replace("_", "-")
    return KeyInfo(name, type_, default, doc, flag, f.metadata.get("reason", ""))


def parse_model(text: str, defaults: ModelDefaults | None = None) -> ModelSpec:
    """The spec that ``ID_OR_PATH[@REVISION][=NAME]`` means.

    An existing path is taken whole, whatever signs it holds. Raises ``InvalidRequest``.
    """
    source, name = text, ""
    if not Path(text).expanduser().exists():
        source, _, name = text.rpartition("=") if "=" in text else (text, "", "")
    source, revision = with_revision(source)
    table = {"source": source, "name": name} | ({"revision": revision} if revision is not None else {})
    return _model(table, defaults or ModelDefaults(), f"model {text!r}")


def _model(table: Mapping[str, Any], defaults: ModelDefaults, where: str) -> ModelSpec:
    known = {f.name: f for f in fields(ModelSpec)}
    types = get_type_hints(ModelSpec)
    for name in table:
        if name not in known:
            raise InvalidRequest(f"{where}: unknown key {name!r}{_nearest(name, known)}")
    values = {f.name: getattr(defaults, f.name) for f in fields(ModelDefaults)}
    values |= {name: _typed(value, types[name], f"{where}: {name}") for name, value in table.items()}
    if not values.get("source"):
        raise InvalidRequest(f"{where}: no source; give a hub id or a local folder")
    return checked_model(ModelSpec(**values), where)


def load_config(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    path: str | Path | None = None,
) -> Config:
    """The configuration of this process. Raises ``InvalidRequest`` for anything it does not understand.

    Args:
        flags: Values by dotted key, as the command line found them; ``models`` as strings, see ``parse_model``.
        environ: Instead of the process's environment.
        path: The file of ``--config``; it must exist. Otherwise ``INTERPD_CONFIG``, otherwise ``interpd.toml`` here.
    """
    environ = os.environ if environ is None else environ
    infos = {info.name: info for info in keys()}
    values = _from_file(path or environ.get("INTERPD_CONFIG"), infos)
    values |= _from_environ(environ, infos)
    for name, value in (flags or {}).items():
        if name not in infos:
            raise InvalidRequest(f"flags: unknown key {name!r}{_nearest(name, infos)}")
        values[name] = _typed(value, infos[name].type, f"flag {infos[name].flag}")
    return _build(values)


def _from_file(path: str | Path | None, infos: Mapping[str, KeyInfo]) -> dict[str, Any]:
    file = Path(path or "interpd.toml")
    if not file.exists():
        if path is None:
            return {}
        raise InvalidRequest(f"no configuration file {str(file)!r}")
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file}: not TOML: {error}") from None
    return dict(_flatten(tree, "", infos, str(file)))


def _flatten(tree: Mapping[str, Any], prefix: str, infos: Mapping[str, KeyInfo], file: str) -> list[tuple[str, Any]]:
    sections = {name.rpartition(".")[0] for name in infos}
    found: list[tuple[str, Any]] = []
    for part, value in tree.items():
        name = prefix + part
        if name in infos:
            found.append((name, _typed(value, infos[name].type, f"{file}: {name}")))
        elif name in sections and isinstance(value, dict):
            found += _flatten(value, name + ".", infos, file)
        else:
            raise InvalidRequest(f"{file}: unknown key {name!r}{_nearest(name, [*infos, *sections])}")
    return found


def _from_environ(environ: Mapping[str, str], infos: Mapping[str, KeyInfo]) -> dict[str, Any]:
    by_env = {info.env: info for info in infos.values()}
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(ENV_PREFIX) or variable in ENV_RESERVED:
            continue
        if variable not in by_env:
            raise InvalidRequest(f"environment: unknown variable {variable!r}{_nearest(variable, by_env)}")
        info = by_env[variable]
        found[info.name] = _typed(_from_text(text, info.type), info.type, f"environment: {variable}")
    return found


def _from_text(text: str, type_: Any) -> Any:
    """What a string stands for where the environment can say only strings; unreadable text stays text."""
    if isinstance(type_, GenericAlias):
        return [part for part in (p.strip() for p in text.split(",")) if part]
    if type_ is bool:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(text.lower(), text)
    try:
        return type_(text) if type_ in (int, float) else text
    except ValueError:
        return text


def _typed(value: Any, type_: Any, where: str) -> Any:
    """``value`` as the key's type, or an error that says both."""
    if type_ == tuple[ModelSpec, ...]:
        return _items(value, (str, dict), where)
    if type_ == tuple[str, ...]:
        return _items(value, (str,), where)
    if type_ == DeviceMap:
        return value if isinstance(value, str) else _device_table(value, where)
    if type_ == tuple[AdapterSpec, ...]:
        return tuple(_adapter(name, text, where) for name, text in _table(value, where).items())
    if isinstance(type_, GenericAlias):
        return tuple((name, _positive(weight, f"{where}.{name}")) for name, weight in _table(value, where).items())
    if type_ is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    expected = str if type_ == str | None else type_
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise InvalidRequest(f"{where}: expected {expected.__name__}, got {value!r}")
    return value


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where}: expected a table, got {value!r}")
    return value


def _device_table(value: Any, where: str) -> tuple[tuple[str, int], ...]:
    return tuple((path, _typed(number, int, f"{where}.{path}")) for path, number in _table(value, where).items())


def _adapter(name: str, source: Any, where: str) -> AdapterSpec:
    place = f"{where}.{name}"
    return checked_adapter(AdapterSpec(name, *with_revision(_typed(source, str, place))), place)


def _items(value: Any, kinds: tuple[type, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, kinds) for item in value):
        raise InvalidRequest(f"{where}: expected a list of {' or '.join(k.__name__ for k in kinds)}, got {value!r}")
    return tuple(value)


def _positive(value: Any, where: str) -> float:
    number = _typed(value, float, where)
    if number <= 0:
        raise InvalidRequest(f"{where}: expected a positive number, got {number}")
    return number


def _build(values: dict[str, Any]) -> Config:
    types = get_type_hints(Config)
    top: dict[str, Any] = {}
    for f in fields(Config):
        if is_dataclass(types[f.name]):
            mine = {k.removeprefix(f.name + "."): v for k, v in values.items() if k.startswith(f.name + ".")}
            top[f.name] = types[f.name](**mine)
        elif f.name in values:
            top[f.name] = values[f.name]
    _check_numbers(values)
    top["models"] = _with_adapters(_models(top.get("models", ()), top["defaults"]), top.get("adapters", ()))
    if top.get("port", 0) > 65535:
        raise InvalidRequest(f"port: expected 0 to 65535, got {top['port']}")
    if top.get("log_level", "info") not in ("debug", "info", "warning", "error"):
        raise InvalidRequest(f"log_level: expected debug, info, warning or error, got {top['log_level']!r}")
    return Config(**top)


def _check_numbers(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, int | float) and value < 0:
            raise InvalidRequest(f"{name}: must not be negative, got {value}")


def _models(items: tuple[Any, ...], defaults: ModelDefaults) -> tuple[ModelSpec, ...]:
    specs: list[ModelSpec] = []
    for index, item in enumerate(items):
        spec = parse_model(item, defaults) if isinstance(item, str) else _model(item, defaults, f"models[{index}]")
        if spec.name in {other.name for other in specs}:
            raise InvalidRequest(f"models[{index}]: name {spec.name!r} is taken; append =NAME")
        specs.append(spec)
    return tuple(specs)


def _with_adapters(models: tuple[ModelSpec, ...], texts: tuple[str, ...]) -> tuple[ModelSpec, ...]:
    by_name = {spec.name: spec for spec in models}
    for text in texts:
        model, adapter = parse_adapter(text)
        if model not in by_name:
            raise InvalidRequest(f"adapter {text!r}: no model {model!r} is configured{_nearest(model, by_name)}")
        spec = by_name[model]
        by_name[model] = checked_model(replace(spec, adapters=(*spec.adapters, adapter)), f"adapter {text!r}")
    return tuple(by_name.values())


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; nearest is {near[0]!r}" if near else ""
