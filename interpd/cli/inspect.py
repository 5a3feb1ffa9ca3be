"""Commands that look and manage: ``models``, ``sites``, ``ops``, ``plugins``, ``status``, ``load``, ``unload``."""

import argparse
import difflib
import fnmatch
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from interpd.cli.ask import connect
from interpd.cli.loading import progress_shown
from interpd.cli.output import EXIT_FAILED, EXIT_OK, print_json, print_table
from interpd.config import keys, parse_model
from interpd.errors import InvalidRequest
from interpd.specs import DEVICE_MAPS, parse_adapter

if TYPE_CHECKING:
    from interpd_client import Client

    from interpd.graph.schema import Manifest, OpSchema
    from interpd.scheduler.interface import ModelStatistics


HOW_TO_LOAD = "`interpd load SOURCE` loads one"


def add_parsers(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the commands of this file."""

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, parents=[common], help=text, description=text)
        parser.set_defaults(run=run)
        return parser

    add("models", models, "models that are loaded, loading or failed")
    sites_parser = add("sites", sites, "places of a model that graphs may read and write, in forward order")
    sites_parser.add_argument("model", metavar="MODEL")
    sites_parser.add_argument("--match", default="*", metavar="PATTERN", help="a pattern such as 'layers.3.*'")
    sites_parser.add_argument("--raw", action="store_true", help="raw module paths, too")
    sites_parser.add_argument("--absent", action="store_true", help="instead: sites that this model lacks, and why")
    ops_parser = add("ops", ops, "operations and methods")
    ops_parser.add_argument("--match", default="*", metavar="PATTERN", help="a pattern such as 'torch.*'")
    ops_parser.add_argument("--model", help="the model (default: the only one)")
    add("plugins", plugins, "plugins that the workers found, broken ones included")
    add("status", status, "counters of the daemon and its models")
    load_parser = add("load", load, "load a model into the running daemon")
    load_parser.add_argument("source", metavar="SOURCE[@REVISION][=NAME]")
    for info in keys():
        if info.name.startswith("defaults."):
            flag = "--" + info.name.removeprefix("defaults.").replace("_", "-")
            load_parser.add_argument(
                flag, type=info.type, default=info.default, help=f"{info.doc} (default: %(default)s)"
            )
    load_parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=SOURCE[@REVISION]",
        help="a PEFT adapter to load with it; again for each further one",
    )
    text = "how it is spread over several GPUs (default: auto where --num-gpus is above 1)"
    load_parser.add_argument("--device-map", default="", choices=DEVICE_MAPS, help=text)
    unload_parser = add("unload", unload, "take a model away from the running daemon")
    unload_parser.add_argument("model", metavar="MODEL")


def the_model(client: "Client", name: str | None) -> str:
    """The name of the model that is meant. Raises ``InvalidRequest`` when ``name`` is needed."""
    if name is not None:
        return name
    names = [known.name for known in client.models() if known.state != "failed"]
    if not names:
        raise InvalidRequest(f"the daemon serves no model: {HOW_TO_LOAD}")
    if len(names) > 1:
        raise InvalidRequest(f"say which model: --model {' or '.join(names)}")
    return names[0]


def models(args: argparse.Namespace) -> int:
    """Lists the models."""
    with connect(args) as client:
        found = client.models()
    if args.json:
        print_json([asdict(model) for model in found])
        return EXIT_OK
    rows = []
    for model in found:
        info = model.info
        facts = (
            (info.architecture, info.depth, f"{info.n_parameters:,}", info.dtype, info.device) if info else ("",) * 5
        )
        rows.append((model.name, model.state, f"{model.n_ready}/{model.n_replicas}", *facts, model.detail))
    columns = ("model", "state", "replicas", "architecture", "layers", "parameters", "dtype", "device", "detail")
    print_table("", columns, rows, "" if rows else f"no models: {HOW_TO_LOAD}")
    return EXIT_OK


def sites(args: argparse.Namespace) -> int:
    """Lists the sites of a model."""
    with connect(args) as client:
        manifest = client.model(args.model).manifest
    if args.absent:
        return _absent_sites(manifest, args)
    chosen = [
        site
        for site in sorted(manifest.sites.values(), key=lambda site: (site.order, site.name))
        if (site.canonical or args.raw) and fnmatch.fnmatchcase(site.name, args.match)
    ]
    _refuse_no_match(args.match, [site.name for site in chosen], manifest.sites)
    if args.json:
        print_json([asdict(site) for site in chosen])
        return EXIT_OK
    rows = [(site.name, site.type, "read, write" if site.writable else "read", _site_note(site)) for site in chosen]
    hidden = 0 if args.raw else sum(not site.canonical for site in manifest.sites.values())
    notes = [f"{hidden} raw module paths: --raw"] if hidden else []
    notes += [f"{len(manifest.absent_sites)} sites that this model lacks: --absent"] if manifest.absent_sites else []
    print_table("", ("site", "type", "access", "note"), rows, "; ".join(notes))
    return EXIT_OK


def _refuse_no_match(pattern: str, chosen: Collection[str], names: Collection[str]) -> None:
    """An empty table would look like a model that has nothing."""
    if not chosen and pattern != "*":
        near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.3)
        raise InvalidRequest(f"nothing matches {pattern!r}" + (f"; nearest is {near[0]!r}" if near else ""))


def _site_note(site: Any) -> str:
    notes = [site.doc] if site.doc else []
    notes += ["uses eager attention"] if site.eager_attention else []
    notes += ["in a generation at step 0 only"] if site.prefill_only else []
    notes += [] if site.shares_pass else ["runs alone"]
    return "; ".join(notes)


def _absent_sites(manifest: "Manifest", args: argparse.Namespace) -> int:
    absent = [site for site in manifest.absent_sites if fnmatch.fnmatchcase(site.name, args.match)]
    if args.json:
        print_json([asdict(site) for site in absent])
    else:
        print_table("", ("absent site", "reason"), [(site.name, site.reason) for site in absent])
    return EXIT_OK


ANEW = "~"
"""Marks a port of a method whose value is computed anew in every pass."""


def ops(args: argparse.Namespace) -> int:
    """Lists the operations and methods that a model's workers offer."""
    with connect(args) as client:
        manifest = client.model(the_model(client, args.model)).manifest
    chosen = [op for name, op in sorted(manifest.ops.items()) if fnmatch.fnmatchcase(name, args.match)]
    _refuse_no_match(args.match, chosen, manifest.ops)
    if args.json:
        print_json([asdict(op) for op in chosen])
    else:
        rows = [(signature(op), op.plugin, op.summary) for op in chosen]
        is_marked = any(port.recomputed for op in chosen for port in op.inputs)
        note = f"x{ANEW}: computed anew in every pass of the method" if is_marked else ""
        print_table("", ("operation", "plugin", "what comes back"), rows, note)
    return EXIT_OK


def signature(op: "OpSchema") -> str:
    """An operation as one would call it: ``torch.topk(input, *, k, dim=-1)``."""
    ports = [f"{'*' * port.variadic}{port.name}{ANEW * port.recomputed}" for port in op.inputs]
    params = [p.name if p.required else f"{p.name}={p.default!r}" for p in op.params]
    return f"{op.name}({', '.join([*ports, *(['*'] if params else []), *params])})"


def plugins(args: argparse.Namespace) -> int:
    """Lists the plugins of each model's workers; a broken one makes the exit code 1."""
    with connect(args) as client:
        found = client.plugins()
    if args.json:
        print_json({model: [asdict(plugin) for plugin in infos] for model, infos in found.items()})
    else:
        rows = [
            (model, p.name, p.status, f"{p.distribution} {p.version}".strip(), p.problem or _brings(p.ops))
            for model, infos in found.items()
            for p in infos
        ]
        print_table("", ("model", "plugin", "status", "distribution", "problem, or what it brings"), rows)
    broken = any(plugin.status == "broken" for infos in found.values() for plugin in infos)
    return EXIT_FAILED if broken else EXIT_OK


def _brings(ops: Collection[str]) -> str:
    few = 12
    return ", ".join(ops) if len(ops) <= few else f"{len(ops)} operations: interpd ops"


def status(args: argparse.Namespace) -> int:
    """Shows the daemon's counters."""
    with connect(args) as client:
        now = client.status()
    if args.json:
        print_json(asdict(now))
        return EXIT_OK
    state = "draining" if now.draining else "serving"
    ended = ", ".join(f"{count} {how}" for how, count in now.n_ended.items()) or "none"
    refused = ", ".join(f"{count} {why}" for why, count in now.n_refused.items()) or "none"
    note = f"{state} for {now.uptime_s:.0f} s; accepted {now.n_accepted}; ended: {ended}; refused: {refused}"
    columns = ("model", "queued", "running", "passes", "shared", "rows/pass", "tokens", "restarts", "MiB")
    print_table("", columns, [_counters(model) for model in now.models], note)
    return EXIT_OK


def _counters(m: "ModelStatistics") -> tuple[object, ...]:
    passes = (m.n_passes, m.n_shared_passes, f"{m.rows_per_pass:.1f}")
    return (m.name, m.n_queued, m.n_running, *passes, m.n_tokens, m.n_restarts, m.resident_bytes >> 20)


def load(args: argparse.Namespace) -> int:
    """Loads a model and waits until it serves."""
    spec = parse_model(args.source)
    with connect(args) as client:
        names = ("dtype", "device", "num_gpus", "num_cpus", "replicas", "device_map")
        options = {name: getattr(args, name) for name in names}
        adapters = tuple(parse_adapter(f"{spec.name}:{text}")[1] for text in args.adapter)
        with progress_shown(client):
            model = client.load(spec.source, name=spec.name, revision=spec.revision, adapters=adapters, **options)
        info = model.info
    if args.json:
        print_json(asdict(info))
    else:
        print_table("", ("model", "architecture", "revision"), [(info.name, info.architecture, info.revision)])
    return EXIT_OK


def unload(args: argparse.Namespace) -> int:
    """Takes a model away."""
    with connect(args) as client:
        client.unload(args.model)
    if args.json:
        print_json({"unloaded": args.model})
    return EXIT_OK
