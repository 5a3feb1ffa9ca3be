"""The files: per model an index that people can read, and the numbers that it points into."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import numpy as np

DATA = Path(__file__).resolve().parents[1] / "data"
PACKAGES = ("inseq", "captum", "torch", "transformers", "tokenizers", "numpy", "scikit-learn", "joblib", "safetensors")

CLOSE = 1e-7
"""How far the numbers of another run may be from the committed ones."""


@dataclass
class Records:
    """What was asked of one model and what came back; ``write`` makes two files of it."""

    name: str
    about: dict[str, object] = field(default_factory=dict)
    cases: list[dict[str, object]] = field(default_factory=list)
    _values: list[np.ndarray] = field(default_factory=list)
    _places: dict[tuple[object, ...], list[object]] = field(default_factory=dict)
    _size: int = 0

    def add(self, case: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> None:
        """One more case; its id must be new."""
        case = {**case, "arrays": {name: self._placed(array) for name, array in arrays.items()}}
        assert case["id"] not in {known["id"] for known in self.cases}, case["id"]
        self.cases.append(case)

    def add_refusal(self, case: Mapping[str, object], error: Exception) -> None:
        """A case that the oracle could not answer, with the first line of what it said."""
        said = (str(error).splitlines() or [""])[0][:64]
        self.cases.append({**case, "raises": f"{type(error).__name__}: {said}"})

    def write(self) -> None:
        """Writes ``<name>.json`` and ``<name>.npz``."""
        DATA.mkdir(exist_ok=True)
        self._json().write_text(self._index(), encoding="utf-8")
        np.savez_compressed(self._numbers(), values=self.values)

    def differences(self) -> list[str]:
        """What is not as committed: cases that are new, gone or asked otherwise, and numbers that are further off."""
        committed = json.loads(self._json().read_text(encoding="utf-8"))
        ours = json.loads(self._index())
        known = {case["id"]: case for case in committed["cases"]}
        found = [f"{self.name}: {key} differs" for key in ("made_with", "about") if committed[key] != ours[key]]
        found += [f"{self.name}: {case['id']}" for case in ours["cases"] if known.get(case["id"]) != case]
        if len(known) != len(ours["cases"]):
            found.append(f"{self.name}: {len(known)} cases committed, {len(ours['cases'])} made")
        if found:
            return found
        values = np.load(self._numbers())["values"]
        off = ~np.isclose(values, self.values, rtol=0.0, atol=CLOSE, equal_nan=True)
        bits = int((values.view(np.int32) != self.values.view(np.int32)).sum())
        print(f"{self.name}: {values.size} numbers, {bits} not the same bits, {int(off.sum())} further than {CLOSE}")
        return [f"{self.name}: {int(off.sum())} numbers differ"] if off.any() else []

    @property
    def values(self) -> np.ndarray:
        """All the numbers, one after the other, float32."""
        return np.concatenate(self._values) if self._values else np.zeros(0, np.float32)

    def _placed(self, array: np.ndarray) -> list[object]:
        flat = np.ascontiguousarray(array, dtype=np.float32)
        # many targets have the same scores: written once
        key = (flat.shape, flat.tobytes())
        if key not in self._places:
            self._places[key] = [self._size, list(flat.shape)]
            self._values.append(flat.reshape(-1))
            self._size += flat.size
        return self._places[key]

    def _index(self) -> str:
        lines = [json.dumps(case, ensure_ascii=False) for case in self.cases]
        about = ",\n".join(f'  "{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in self._told())
        head = f'{{\n"made_with": {json.dumps(_made_with())},\n"about": {{\n{about}\n}},\n'
        return f'{head}"cases": [\n' + ",\n".join(lines) + "\n]\n}\n"

    def _told(self) -> list[tuple[str, object]]:
        """What is said of the model, sequences last and one per line."""
        told = {key: value for key, value in self.about.items() if key != "sequences"}
        return [*told.items(), *((f"sequence {key}", value) for key, value in self.about.get("sequences", {}).items())]

    def _json(self) -> Path:
        return DATA / f"{self.name}.json"

    def _numbers(self) -> Path:
        return DATA / f"{self.name}.npz"


@dataclass
class Document:
    """Answers that are made of words more than of numbers: one JSON file."""

    name: str
    cases: list[dict[str, object]] = field(default_factory=list)

    def write(self) -> None:
        """Writes ``<name>.json``."""
        DATA.mkdir(exist_ok=True)
        self._file().write_text(self._text(), encoding="utf-8")

    def differences(self) -> list[str]:
        """What is not as committed; numbers may be a little off."""
        committed, ours = json.loads(self._file().read_text(encoding="utf-8")), json.loads(self._text())
        same = close(committed, ours)
        print(f"{self.name}: {len(ours['cases'])} documents, {'as' if same else 'NOT as'} committed")
        return [] if same else [f"{self.name} differs"]

    def _text(self) -> str:
        lines = [json.dumps(case, ensure_ascii=False, allow_nan=True) for case in self.cases]
        return f'{{\n"made_with": {json.dumps(_made_with())},\n"cases": [\n' + ",\n".join(lines) + "\n]\n}\n"

    def _file(self) -> Path:
        return DATA / f"{self.name}.json"


def _made_with() -> dict[str, str]:
    return {"python": python_version(), **{name: version(name) for name in PACKAGES}}


def close(first: object, second: object) -> bool:
    """Whether two documents say the same, numbers within ``CLOSE``."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(close(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(close, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return bool(np.isclose(first, second, rtol=0.0, atol=CLOSE, equal_nan=True))
    return first == second
