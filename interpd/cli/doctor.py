"""``interpd doctor``: what a machine needs in order to serve, looked at one by one, with what to do."""

import argparse
import importlib.metadata
import platform
import re
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from interpd.cli import extensions
from interpd.cli.ask import BadAddress, PackageMissing, connect
from interpd.cli.output import EXIT_FAILED, EXIT_OK, print_json, print_table
from interpd.config import load_config
from interpd.errors import InterpdError

OK, WARN, BAD = "ok", "warning", "bad"
FREE_BYTES_WANTED = 2 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found."""

    what: str
    state: str
    """``ok``, ``warning`` (the daemon starts, something will hurt) or ``bad`` (it will not work)."""
    detail: str


def add_parsers(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command of this file."""
    text = "look at this machine and at the daemon, and say what is wrong"
    parser = commands.add_parser("doctor", parents=[common], help=text, description=text)
    parser.add_argument("--config", metavar="FILE", help="configuration file to look at, too")
    parser.set_defaults(run=run, taken=commands.choices)


def run(args: argparse.Namespace) -> int:
    """Looks at everything; the exit code is 1 when something is bad."""
    looks: tuple[Callable[[argparse.Namespace], list[Finding]], ...] = (
        _python,
        _packages,
        _devices,
        _space,
        _configuration,
        _bundled_model,
        _configured_plugins,
        _plugins,
        _daemon,
    )
    findings = [finding for look in looks for finding in look(args)]
    if args.json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table("", ("what", "state", "detail"), [(f.what, f.state, f.detail) for f in findings])
    return EXIT_FAILED if any(finding.state == BAD for finding in findings) else EXIT_OK


def _python(_: argparse.Namespace) -> list[Finding]:
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    detail = f"{platform.python_version()} at {sys.executable}"
    return [Finding("python", OK if good else BAD, detail if good else f"{detail}; interpd needs 3.11 to 3.13")]


def _packages(_: argparse.Namespace) -> list[Finding]:
    """Every requirement of the daemon's extra, and the version that is here."""
    from packaging.requirements import Requirement

    findings = []
    for text in importlib.metadata.requires("interpd") or []:
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": "daemon"}):
            continue
        try:
            version = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(needed.name, BAD, "not installed; pip install 'interpd[daemon]'"))
            continue
        # a local version such as 2.13.0+cpu is the same release
        good = needed.specifier.contains(re.sub(r"\+.*", "", version), prereleases=True)
        detail = version if good else f"{version}, but interpd needs {needed.specifier}"
        findings.append(Finding(needed.name, OK if good else BAD, detail))
    return findings


def _devices(_: argparse.Namespace) -> list[Finding]:
    try:
        import torch
    except ModuleNotFoundError:
        return []
    if not torch.cuda.is_available():
        return [
            Finding("gpu", WARN, f"none that torch sees; models run on the CPU ({torch.get_num_threads()} threads)")
        ]
    findings = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        detail = f"{torch.cuda.get_device_name(index)}, {free >> 30} of {total >> 30} GiB free"
        findings.append(Finding(f"gpu {index}", OK, detail))
    return findings


def _space(_: argparse.Namespace) -> list[Finding]:
    findings = []
    for what, path, needed in (("shared memory", "/dev/shm", 256 << 20), ("disk", "/tmp", FREE_BYTES_WANTED)):
        try:
            free = shutil.disk_usage(path).free
        except OSError:
            findings.append(Finding(what, WARN, f"{path} does not exist; Ray falls back to files, which is slower"))
            continue
        detail = f"{free >> 20} MiB free in {path}"
        good = free >= needed
        findings.append(Finding(what, OK if good else WARN, detail if good else f"{detail}, {needed >> 20} wanted"))
    return findings


def _configuration(args: argparse.Namespace) -> list[Finding]:
    try:
        config = load_config(path=args.config)
    except InterpdError as error:
        return [Finding("configuration", BAD, error.message)]
    models = ", ".join(model.name for model in config.models) or "no models"
    findings = [Finding("configuration", OK, f"{models}; plugins: {', '.join(config.plugins) or 'none'}")]
    with socket.socket() as probe:
        free = probe.connect_ex((config.host, config.port)) != 0
    detail = f"{config.host}:{config.port}"
    return [*findings, Finding("port", OK if free else WARN, detail if free else f"{detail} is in use (by a daemon?)")]


def _bundled_model(_: argparse.Namespace) -> list[Finding]:
    """Loads the bundled model without Ray: probe and self-test included."""
    from interpd import zoo

    try:
        from interpd.config import ModelSpec
        from interpd.engine.resident import make_resident
        from interpd.worker.loading import load_model
    except ModuleNotFoundError:
        return []
    try:
        resident = make_resident(load_model(ModelSpec(str(zoo.path("facts")), "facts")))
    except InterpdError as error:
        return [Finding("bundled model", BAD, error.message)]
    n_sites = sum(site.canonical for site in resident.sites.values())
    return [Finding("bundled model", OK, f"loads; {n_sites} canonical sites passed the self-test")]


def _configured_plugins(args: argparse.Namespace) -> list[Finding]:
    """Imports the plugins that the configuration names, as a worker would."""
    from interpd.plugin.discovery import discover
    from interpd.plugin.registry import load_registry

    try:
        wanted = load_config(path=args.config).plugins
    except InterpdError:
        return []
    _, *candidates = discover()
    infos = [info for info in load_registry(wanted, candidates=candidates).plugins if info.name in wanted]
    if not infos:
        return [Finding("plugins", OK, "none configured")]
    good = ", ".join(f"{info.name} {info.version}" for info in infos if info.status == "loaded")
    broken = [Finding("plugins", BAD, info.problem) for info in infos if info.status != "loaded"]
    return ([Finding("plugins", OK, f"can be loaded: {good}")] if good else []) + broken


def _plugins(args: argparse.Namespace) -> list[Finding]:
    """What plugins bring to this machine's command line and client; `interpd plugins` asks the workers for theirs."""
    looks = extensions.looked_at(args.taken)
    return [Finding(what, WARN if problem else OK, problem or "can be used") for what, problem in looks]


def _daemon(args: argparse.Namespace) -> list[Finding]:
    try:
        with connect(args) as client:
            models = client.models()
    except PackageMissing as error:
        return [Finding("daemon", WARN, str(error))]
    except BadAddress as error:
        return [Finding("daemon", BAD, str(error))]
    except InterpdError as error:
        return [Finding("daemon", WARN, f"none answers at {args.address}: {error.message}")]
    bad = [model for model in models if model.state == "failed"]
    detail = ", ".join(f"{model.name} {model.state}" for model in models) or "no models"
    detail += "".join(f"; {model.name}: {model.detail}" for model in bad)
    return [Finding("daemon", WARN if bad else OK, f"{args.address}: {detail}")]
