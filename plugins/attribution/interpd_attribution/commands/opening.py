"""The model that a command works on: one that a daemon has loaded, or one that this process loads."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from interpd.cli import checking, connect, the_model
from interpd.errors import InvalidRequest, ModelNotFound, Unavailable

if TYPE_CHECKING:
    from interpd_client import Client, Model

WAY_OUT = "-m MODEL --in-process loads one into this process instead"


@contextmanager
def opened(args: argparse.Namespace) -> Iterator["Model"]:
    """The model that ``args`` of ``add_model`` name, until the block ends; what still runs then is ended.

    Raises ``WrongCommandLine`` for options that contradict one another, and what connecting or loading raises.
    """
    with checking():
        check_place(args)
    if args.in_process:
        with _loaded(args) as client:
            yield client.model(client.models()[0].name)
        return
    with connect(args) as client:
        # what the block raises has nothing to do with finding the model
        model = _found(client, args.model)
        yield model


def check_place(args: argparse.Namespace) -> None:
    """Raises ``InvalidRequest`` for options of one place at the other."""
    if args.in_process and not args.model:
        raise InvalidRequest("--in-process: say which model to load, -m FOLDER (or a hub id, or a bundled name)")
    of_loading = {
        "--device": args.device,
        "--model-kwargs": args.model_kwargs,
        "--tokenizer-kwargs": args.tokenizer_kwargs,
    }
    given = [name for name, value in of_loading.items() if value]
    if given and not args.in_process:
        raise InvalidRequest(f"{given[0]} is for loading a model, which the daemon has done; it goes with --in-process")


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
    """What the daemon calls the model that the user calls ``name``, perhaps by its source, as Inseq's users do."""
    if name is None:
        return the_model(client, None)
    known = client.models()
    sources = {status.info.source: status.name for status in known if status.info is not None}
    return name if any(status.name == name for status in known) else sources.get(name, name)


def _loaded(args: argparse.Namespace) -> "Client":
    from interpd_client import local  # the client is light, what it loads here is not

    settings: dict[str, Any] = {
        "plugins": ["attribution"],
        "timeout_s": args.timeout,
        "progress": False if args.json else None,
    }
    if not (args.model_kwargs or args.tokenizer_kwargs):
        return local(args.model, device=args.device or "auto", **settings)
    from interpd_attribution.commands.pretrained import pretrained  # imports torch

    given = pretrained(args.model, args.model_kwargs, args.tokenizer_kwargs, device=args.device)
    return local(given, name=_short(args.model), **settings)


def _short(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2].partition("@")[0] or "model"
