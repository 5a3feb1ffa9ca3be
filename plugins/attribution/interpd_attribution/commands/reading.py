"""The dataset that a command line names: files of this machine, or one of the hub."""

import argparse
from pathlib import Path

from interpd.errors import InvalidRequest
from interpd_attribution.commands.values import json_object, option
from interpd_attribution.dataset.hub import hub_records
from interpd_attribution.dataset.local_files import KINDS, read_rows
from interpd_attribution.dataset.rows import Fields, Row
from interpd_attribution.dataset.rows import rows_of as rows_of_records

HUB_SPLIT = "train"

KIND_NAMES = frozenset(KINDS.values())


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Adds which dataset, and which of its fields."""
    group = parser.add_argument_group("dataset")
    option(
        group,
        *("-d", "--dataset", "--dataset-name"),
        dest="dataset",
        metavar="NAME",
        help="a file or folder, a dataset of the hub, or with --files their kind: json, jsonl, csv, tsv, text, parquet",
    )
    option(
        group,
        *("-in", "--input", "--input-text-field"),
        dest="input_field",
        metavar="FIELD",
        help="the field of the texts (default: the only one); in JSON also chat messages or token ids",
    )
    option(
        group,
        *("-gen", "--generated", "--generated-text-field"),
        dest="generated_field",
        metavar="FIELD",
        help="the field of what the model is taken to have answered (default: it answers first)",
    )
    option(group, "--contrast-field", metavar="FIELD", help="the field of what it might have answered instead")
    option(
        group, *("--files", "--dataset-files"), dest="files", nargs="+", metavar="FILE", help="files of this machine"
    )
    option(group, *("--dir", "--dataset-dir"), dest="folder", metavar="FOLDER", help="a folder of files")
    option(
        group,
        *("--config", "--dataset-config"),
        dest="config",
        metavar="NAME",
        help="of a dataset of the hub: its configuration",
    )
    option(
        group,
        *("--split", "--dataset-split"),
        dest="split",
        metavar="NAME",
        help="of a dataset of the hub: which part (default: train)",
    )
    option(group, *("--revision", "--dataset-revision"), dest="revision", metavar="NAME", help="of the hub: its commit")
    option(group, *("--auth", "--dataset-auth-token"), dest="auth", metavar="TOKEN", help="of the hub: who you are")
    option(
        group,
        "--dataset-kwargs",
        type=json_object,
        default={},
        metavar="JSON",
        help="of files: encoding, delimiter (of CSV), field (of JSON: where the rows are); of the hub: arguments of "
        "datasets.load_dataset",
    )


def rows_of(args: argparse.Namespace) -> list[Row]:
    """The rows that ``args`` name. Raises ``InvalidRequest`` for what is no dataset."""
    files, kind = _files(args)
    if not files:
        given = {
            "name": args.config,
            "data_dir": args.folder,
            "split": args.split or HUB_SPLIT,
            "revision": args.revision,
            "token": args.auth,
        }
        known = {name: value for name, value in given.items() if value is not None}
        fields = Fields(args.input_field, args.generated_field, args.contrast_field)
        return rows_of_records(hub_records(args.dataset, {**known, **args.dataset_kwargs}), fields, args.dataset)
    return read_rows(
        *files,
        input_field=args.input_field,
        generated_field=args.generated_field,
        contrast_field=args.contrast_field,
        kind=kind,
        options=args.dataset_kwargs,
    )


def check(args: argparse.Namespace) -> None:
    """Raises ``InvalidRequest`` for options that say no dataset, or more than one."""
    files, _ = _files(args)
    of_hub = {"--config": args.config, "--split": args.split, "--revision": args.revision, "--auth": args.auth}
    if files and (unused := [name for name, value in of_hub.items() if value is not None]):
        raise InvalidRequest(f"{unused[0]} is for datasets of the hub, and these are files: {', '.join(files)}")


def name_of(args: argparse.Namespace) -> str:
    """What the dataset is called in results."""
    files, _ = _files(args)
    return ", ".join(files) or args.dataset


def _files(args: argparse.Namespace) -> tuple[list[str], str | None]:
    """Files and folders that are meant, and their kind; none: a dataset of the hub is."""
    is_kind = args.dataset in KIND_NAMES and not Path(args.dataset).exists()
    named = [*(args.files or ()), *([args.folder] if args.folder else ())]
    if args.dataset is None or is_kind:
        if not named:
            raise InvalidRequest("say which dataset: -d FILE, -d OWNER/NAME of the hub, or --files FILE ...")
        return named, args.dataset
    if Path(args.dataset).exists() or _looks_like_file(args.dataset):
        if named:
            raise InvalidRequest(f"-d {args.dataset!r} is a file or folder; give --files and --dir without it")
        return [args.dataset], None
    if args.files:
        raise InvalidRequest(
            f"--files are read with -d {' or '.join(sorted(KIND_NAMES))}, or without it; {args.dataset!r} is neither"
        )
    return [], None


def _looks_like_file(name: str) -> bool:
    """A file that is not there should be told of as such, and not looked for on the hub."""
    path = Path(name)
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower() in KINDS
