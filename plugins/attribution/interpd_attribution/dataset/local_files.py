"""Datasets in files of this machine: JSON, JSON Lines, CSV, TSV, plain text, and Parquet where pyarrow is installed."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from interpd.errors import FeatureUnsupported, InvalidRequest
from interpd_attribution.dataset.rows import Fields, Row, rows_of

Record = tuple[str, Mapping[str, Any]]
"""Where it stands, and its values by field."""

TEXT_FIELD = "text"
"""The only field of plain text."""

KINDS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".parquet": "parquet",
}
"""By the ending of the name, behind which ``.gz`` may stand."""

OPTIONS = ("encoding", "delimiter", "field")


def read_rows(
    *paths: str | Path,
    input_field: str | None = None,
    generated_field: str | None = None,
    contrast_field: str | None = None,
    kind: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Row]:
    """The rows of files, one file behind the other.

    Args:
        paths: Files, or folders, of which all files of a known kind are read.
        input_field: The field of the texts; ``None``: the only one.
        generated_field: The field of what the model is taken to have answered; ``None``: it answers itself.
        contrast_field: The field of what it might have answered instead.
        kind: ``json``, ``jsonl``, ``csv``, ``tsv``, ``text`` or ``parquet``; ``None``: as the name of each file says.
        options: ``encoding`` (UTF-8), ``delimiter`` (of CSV; a comma), ``field`` (of JSON: where the rows are).

    Raises ``InvalidRequest``: a file that cannot be read, with its line; a field that is not there.
    """
    files = [file for path in paths for file in _files(Path(path))]
    fields = Fields(input_field, generated_field, contrast_field)
    records = (record for file in files for record in read_records(file, kind, options or {}))
    return rows_of(records, fields, ", ".join(map(str, paths)))


def read_records(path: Path, kind: str | None, options: Mapping[str, Any]) -> Iterator[Record]:
    """The records of a file. Raises ``InvalidRequest``."""
    found = kind or kind_of(path)
    if unknown := [name for name in options if name not in OPTIONS]:
        raise InvalidRequest(f"files have no option {unknown[0]!r}; there are: {', '.join(OPTIONS)}")
    try:
        yield from _READERS[found](path, options)
    except FileNotFoundError:
        raise InvalidRequest(f"there is no file {str(path)!r}") from None
    except (OSError, EOFError, UnicodeError, LookupError, TypeError, csv.Error) as error:
        raise InvalidRequest(f"{path} cannot be read as {found}: {error}") from error


def kind_of(path: Path) -> str:
    """The kind of a file, by its name. Raises ``InvalidRequest``."""
    ending = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    if ending not in KINDS:
        raise InvalidRequest(f"{path}: what kind of file is that? Known are {', '.join(KINDS)}, and .gz behind them")
    return KINDS[ending]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = (one for one in sorted(path.rglob("*")) if one.is_file() and not one.name.startswith("."))
    found = [one for one in inside if (one.with_suffix("") if one.suffix == ".gz" else one).suffix.lower() in KINDS]
    if not found:
        raise InvalidRequest(f"the folder {path} holds no file of a known kind: {', '.join(KINDS)}")
    return found


def _text(path: Path, options: Mapping[str, Any]) -> str:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    # what spreadsheets write begins with a mark
    return data.decode(options.get("encoding", "utf-8-sig"))


def _json(path: Path, options: Mapping[str, Any]) -> Iterator[Record]:
    try:
        found = json.loads(_text(path, options))
    except ValueError as error:
        raise InvalidRequest(f"{path} is no JSON: {error}; files with an object on each line end in .jsonl") from None
    for part in str(options["field"]).split(".") if "field" in options else ():
        if not isinstance(found, Mapping) or part not in found:
            raise InvalidRequest(f"{path} has no field {options['field']!r}")
        found = found[part]
    if not isinstance(found, list):
        hint = f"; its fields are {', '.join(found)}: say where the rows are, field" if isinstance(found, dict) else ""
        raise InvalidRequest(f"{path} holds no list of rows{hint}")
    yield from (_record(value, f"{path}, element {number}") for number, value in enumerate(found))


def _jsonl(path: Path, options: Mapping[str, Any]) -> Iterator[Record]:
    for number, line in enumerate(io.StringIO(_text(path, options)), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            yield _record(json.loads(line), place)
        except ValueError as error:
            raise InvalidRequest(f"{place} is no JSON: {error}") from None


def _record(value: Any, place: str) -> Record:
    if isinstance(value, str):
        return place, {TEXT_FIELD: value}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{place}: {type(value).__name__}, expected an object with fields, or a text")
    return place, value


def _csv(path: Path, options: Mapping[str, Any], delimiter: str = ",") -> Iterator[Record]:
    reader = csv.DictReader(
        io.StringIO(_text(path, options), newline=""), delimiter=options.get("delimiter", delimiter), strict=True
    )
    for record in reader:
        place = f"{path}, line {reader.line_num}"
        if None in record:
            raise InvalidRequest(f"{place} has more values than the first line has names")
        yield place, record


def _tsv(path: Path, options: Mapping[str, Any]) -> Iterator[Record]:
    return _csv(path, options, "\t")


def _lines(path: Path, options: Mapping[str, Any]) -> Iterator[Record]:
    # lines end where editors end them, not at every separator of Unicode
    for number, line in enumerate(io.StringIO(_text(path, options)), 1):
        if line.strip():
            yield f"{path}, line {number}", {TEXT_FIELD: line.rstrip("\r\n")}


def _parquet(path: Path, options: Mapping[str, Any]) -> Iterator[Record]:
    try:
        from pyarrow import ArrowException, parquet  # not everybody needs it
    except ModuleNotFoundError:
        raise FeatureUnsupported(f"{path}: Parquet files need pyarrow; pip install pyarrow") from None
    try:
        rows: Sequence[Mapping[str, Any]] = parquet.read_table(path).to_pylist()
    except ArrowException as error:
        raise InvalidRequest(f"{path} is no Parquet file: {error}") from error
    for number, row in enumerate(rows):
        yield f"{path}, row {number}", row


_READERS: dict[str, Callable[[Path, Mapping[str, Any]], Iterator[Record]]] = {
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "tsv": _tsv,
    "text": _lines,
    "parquet": _parquet,
}
