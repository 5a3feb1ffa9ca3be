"""Results of rows on disk as they come, so that a run that ends early can be gone on with.

A file of JSON Lines beside the output, ``out.json.partial``: what was asked, then a line for each row.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from interpd.errors import InvalidRequest
from interpd_attribution.attribution import Attribution
from interpd_attribution.attributions import Attributions
from interpd_attribution.dataset.rows import Row
from interpd_attribution.files import PER_SEQUENCE, own
from interpd_attribution.files.text import encoded

FORMAT = "interpd-attribution-rows"
VERSION = 1

OF_ROWS = ("dataset_row", "dataset_key")
"""Keys of ``info`` that are of one row, also where there is only one."""

Settings = Mapping[str, Any]


class Partial:
    """The results of some rows, in memory and on disk.

    Args:
        output: The file that all results go to in the end.
        settings: What is asked of each row, as plain JSON; results of other settings are not mixed.
        resume: Take what an earlier run left, in the output or beside it.
        overwrite: Forget it instead.

    Raises ``InvalidRequest`` for what an earlier run left and neither is asked for, and for other settings.
    """

    def __init__(self, output: Path, settings: Settings, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = beside(output)
        self._output, self._settings = output, own.plain(settings)
        self._found: dict[int, Attribution] = {}
        if resume:
            self._take_output()
            self._take_partial()
        else:
            self.refuse_left(output, overwrite=overwrite)
        self._file: IO[bytes] = self._begun()

    @staticmethod
    def refuse_left(output: Path, *, overwrite: bool) -> None:
        """Raises ``InvalidRequest`` for what an earlier run left beside ``output``, unless it is to be forgotten."""
        if beside(output).exists() and not overwrite:
            raise InvalidRequest(
                f"{beside(output)} holds rows of a run that ended early: --resume goes on with it, --overwrite begins "
                "anew"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._found)

    def left(self, rows: Iterable[Row]) -> list[Row]:
        """The rows that have no result yet. Raises ``InvalidRequest`` when a row that has one is another now."""
        missing = []
        for row in rows:
            found = self._found.get(row.number)
            if found is None:
                missing.append(row)
            elif found.info.get("dataset_key") != row.key:
                raise InvalidRequest(f"{row} is not what it was when {self._output} was begun; begin anew: --overwrite")
        return missing

    def add(self, found: Attribution) -> None:
        """Keeps the result of a row; it is on disk when this returns."""
        self._found[_number(found)] = found
        self._write(own.to_json((found,), {}, "float32", is_compact=True))

    def save(self, info: Mapping[str, object]) -> Attributions:
        """All results, in the order of rows, written to the output; what lay beside it is taken away.

        ``info``: what holds for all, beside what all of them say.
        """
        whole = together([self._found[number] for number in sorted(self._found)], {**info, "settings": self._settings})
        # a run that is killed here leaves the old output, or the new one
        scratch = self._output.with_name(f".{self._output.name}")
        whole.save(scratch, overwrite=True, compress=self._output.suffix == ".gz")
        scratch.replace(self._output)
        self._file.close()
        self.path.unlink()
        return whole

    def _begun(self) -> IO[bytes]:
        scratch = self.path.with_name(f".{self.path.name}")
        self._file = scratch.open("wb")
        self._write({"format": FORMAT, "version": VERSION, "settings": self._settings})
        for found in self._found.values():
            self._write(own.to_json((found,), {}, "float32", is_compact=True))
        scratch.replace(self.path)
        return self._file

    def _write(self, value: object) -> None:
        self._file.write(encoded(json.dumps(value, ensure_ascii=False, allow_nan=False)) + b"\n")
        self._file.flush()

    def _take_output(self) -> None:
        if not self._output.exists():
            return
        whole = Attributions.load(self._output)
        about = whole.info.get("dataset")
        if not isinstance(about, Mapping) or any("dataset_row" not in item.info for item in whole):
            raise InvalidRequest(f"{self._output} holds no rows of a dataset, so there is nothing to go on with")
        self._refuse_others(about.get("settings"), self._output)
        # what is known of all is written anew in the end
        self._found |= {_number(item): _without(item, "dataset") for item in whole}

    def _take_partial(self) -> None:
        if not self.path.exists():
            return
        lines = self.path.read_bytes().split(b"\n")
        # behind the last line feed is what a kill left of a line
        try:
            values = [json.loads(line) for line in lines[:-1]]
        except ValueError as error:
            raise InvalidRequest(f"{self.path} is damaged: {error}; begin anew: --overwrite") from error
        if not values or values[0].get("format") != FORMAT or values[0].get("version") != VERSION:
            raise InvalidRequest(f"{self.path} is no {FORMAT} of version {VERSION}; begin anew: --overwrite")
        self._refuse_others(values[0].get("settings"), self.path)
        for value in values[1:]:
            (item,), _ = own.from_json(value, str(self.path))
            self._found[_number(item)] = item

    def _refuse_others(self, settings: object, path: Path) -> None:
        if settings == self._settings:
            return
        theirs = settings if isinstance(settings, Mapping) else {}
        names = sorted(name for name in {**theirs, **self._settings} if theirs.get(name) != self._settings.get(name))
        before = ", ".join(f"{name} was {theirs.get(name)!r}" for name in names)
        raise InvalidRequest(
            f"{path} was made with other settings ({before}); use the same, or begin anew: --overwrite"
        )


def beside(output: Path) -> Path:
    """Where the rows of ``output`` are, as long as it is not finished."""
    return output.with_name(output.name + ".partial")


def together(items: Iterable[Attribution], dataset: Mapping[str, object] | None = None) -> Attributions:
    """Results of rows as one; its ``info`` is what all of them say, and ``dataset``."""
    found = tuple(items)
    first = found[0].info if found else {}
    shared = {key: value for key, value in first.items() if all(item.info.get(key) == value for item in found)}
    for key in PER_SEQUENCE:
        if all(key in item.info for item in found):
            shared[key] = [text for item in found for text in item.info[key]]
    about = {} if dataset is None else {"dataset": own.plain(dataset)}
    return Attributions(found, {**{key: shared[key] for key in shared if key not in OF_ROWS}, **about})


def _without(found: Attribution, key: str) -> Attribution:
    return replace(found, info={name: value for name, value in found.info.items() if name != key})


def _number(found: Attribution) -> int:
    number = found.info["dataset_row"]
    assert isinstance(number, int)
    return number
