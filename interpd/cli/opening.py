"""The model that a command works on: one that a daemon has loaded, or one that this process loads."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from interpd.cli.ask import PackageMissing, checking, connect
from interpd.cli.inspect import the_model
from interpd.errors import InvalidRequest, ModelNotFound, Unavailable

if TYPE_CHECKING:
    from interpd_client import Client, Model

WAY_OUT = "-m MODEL --in-process loads one into this process instead"


def add_model(parser: argparse.ArgumentParser) -> Any:
    """Adds which model, and where it is, for ``opened``; gives the group of options."""
    group = parser.add_argument_group(
        "model", "One that the daemon has loaded (--address), or one that this process loads (--in-process)."
    )
    group.add_argument(
        *("-m", "--model"),
        metavar="MODEL",
        help="its name (default: the only one); with --in-process a folder, OWNER/NAME@COMMIT of the hub or a bundled "
        "name",
    )
    group.add_argument(
        "--in-process", action="store_true", help="without a daemon; needs pip install 'interpd[daemon]'"
    )
    group.add_argument(
        "--device", metavar="DEVICE", help="with --in-process: cpu, cuda, cuda:N (default: a GPU where there is one)"
    )
    return group


@contextmanager
def opened(
    args: argparse.Namespace, *, plugins: Sequence[str] = (), load: Callable[[], "Client"] | None = None
) -> Iterator["Model"]:
    """The model that ``args`` name, until the block ends; what still runs then is ended.

    Args:
        args: With what ``add_model`` adds, and the flags of every command.
        plugins: That a model of this process needs.
        load: Loads into this process in a way of its own.

    Raises ``WrongCommandLine`` for options that contradict one another, ``PackageMissing`` where no model can be loaded
    into this process, and what connecting or loading raises.
    """
    with checking():
        _check_place(args)
    if args.in_process:
        with load() if load is not None else _loaded(args, plugins) as client:
            yield client.model(client.models()[0].name)
        return
    with connect(args) as client:
        # what the block raises has nothing to do with finding the model
        model = _found(client, args.model)
        yield model


def _check_place(args: argparse.Namespace) -> None:
    if args.in_process and not args.model:
        raise InvalidRequest("--in-process: say which model to load, -m FOLDER (or a hub id, or a bundled name)")
    if args.device and not args.in_process:
        raise InvalidRequest("--device is for loading a model, which the daemon has done; it goes with --in-process")


def _loaded(args: argparse.Namespace, plugins: Sequence[str]) -> "Client":
    try:
        from interpd_client import local  # the client is light, what it loads here is not

        progress = False if args.json else None
        device = args.device or "auto"
        return local(args.model, device=device, plugins=plugins, timeout_s=args.timeout, progress=progress)
    except ImportError as error:
        raise PackageMissing(f"--in-process: {error}; or leave it out and ask a daemon") from error


def _found(client: "Client", name: str | None) -> "Model":
    try:
        return client.model(_resident_name(client, name))
    except ModelNotFound as error:
        raise ModelNotFound(f"{error.message}; {WAY_OUT}", **error.facts) from error
    except Unavailable as error:
        # Overloaded, Draining, ...: a daemon that answered
        if type(error) is not Unavailable:
            raise
        raise Unavailable(f"{error.message}; {WAY_OUT}", retry_after_s=error.retry_after_s, **error.facts) from error


def _resident_name(client: "Client", name: str | None) -> str:
    """What the daemon calls the model that the user calls ``name``, perhaps by its source."""
    if name is None:
        return the_model(client, None)
    known = client.models()
    sources = {status.info.source: status.name for status in known if status.info is not None}
    return name if any(status.name == name for status in known) else sources.get(name, name)
