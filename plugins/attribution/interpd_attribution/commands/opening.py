"""The model that a command works on: one that a daemon has loaded, or one that this process loads."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from interpd import cli
from interpd.errors import InvalidRequest

if TYPE_CHECKING:
    from interpd_client import Client, Model


@contextmanager
def opened(args: argparse.Namespace) -> Iterator["Model"]:
    """The model that ``args`` of ``add_model`` name, until the block ends; what still runs then is ended.

    Raises ``WrongCommandLine`` for options that contradict one another, and what connecting or loading raises.
    """
    with cli.checking():
        check_place(args)
    load = partial(_loaded, args) if args.model_kwargs or args.tokenizer_kwargs else None
    with cli.opened(args, plugins=["attribution"], load=load) as model:
        yield model


def check_place(args: argparse.Namespace) -> None:
    """Raises ``InvalidRequest`` for options of one place at the other."""
    of_loading = {"--model-kwargs": args.model_kwargs, "--tokenizer-kwargs": args.tokenizer_kwargs}
    given = [name for name, value in of_loading.items() if value]
    if given and not args.in_process:
        raise InvalidRequest(f"{given[0]} is for loading a model, which the daemon has done; it goes with --in-process")
    if given and not args.model:
        raise InvalidRequest("--in-process: say which model to load, -m FOLDER (or a hub id, or a bundled name)")


def _loaded(args: argparse.Namespace) -> "Client":
    from interpd_attribution.commands.pretrained import pretrained  # imports torch
    from interpd_client import local  # the client is light, what it loads here is not

    given = pretrained(args.model, args.model_kwargs, args.tokenizer_kwargs, device=args.device)
    settings: dict[str, Any] = {"timeout_s": args.timeout, "progress": False if args.json else None}
    return local(given, name=_short(args.model), plugins=["attribution"], **settings)


def _short(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2].partition("@")[0] or "model"
