"""A table of methods and metrics, with the numbers of each input behind its cells."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from interpd.errors import CallerError
from interpd_attribution.evaluation import drawing
from interpd_attribution.evaluation.metrics import METRICS

FORMAT = "interpd-attribution-evaluation"
VERSION = 1
WITHIN = 1.96
"""Standard errors on either side of a mean that make an interval of 95 %, by the normal approximation."""


@dataclass(frozen=True, repr=False)
class Figure:
    """The mean of a metric over inputs, and how sure it is."""

    mean: float
    standard_error: float
    """NaN for fewer than two inputs."""
    n: int
    """Inputs of which the metric is defined."""

    @property
    def interval(self) -> tuple[float, float]:
        """An interval of 95 %, by the normal approximation."""
        return self.mean - WITHIN * self.standard_error, self.mean + WITHIN * self.standard_error

    def __str__(self) -> str:
        error = "" if math.isnan(self.standard_error) else f" ± {self.standard_error:.3g}"
        return f"{self.mean:.9g}{error}, {self.n} input{'s' * (self.n != 1)}"

    def __repr__(self) -> str:
        return f"<figure: {self}>"


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How methods do on inputs, metric by metric."""

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    values: np.ndarray
    """``[method metric input]``: of each input the mean over its columns; NaN where a metric is not defined."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """How it came about."""

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        expected = (len(self.methods), len(self.metrics))
        if values.ndim != 3 or values.shape[:2] != expected:
            raise CallerError(f"values are {list(values.shape)}, expected {[*expected, 'inputs']}")
        if len(set(self.methods)) < len(self.methods):
            raise CallerError(f"two methods have one name: {', '.join(self.methods)}")
        values.setflags(write=False)
        object.__setattr__(self, "methods", tuple(self.methods))
        object.__setattr__(self, "metrics", tuple(self.metrics))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "info", dict(self.info))

    def __getitem__(self, cell: tuple[str, str]) -> Figure:
        """The figure of a method and a metric. Raises ``CallerError`` for a name that is not in the table."""
        method, metric = cell
        return figure(self._of(method, metric))

    def difference(self, one: str, other: str, metric: str) -> Figure:
        """The mean difference between two methods, input by input."""
        return figure(self._of(one, metric) - self._of(other, metric))

    def best(self, metric: str) -> str:
        """The method with the best mean. Raises ``CallerError`` for a metric that does not judge."""
        better = METRICS[metric].better if metric in METRICS else ""
        if not better:
            raise CallerError(f"metric {metric!r} has no better and worse")
        means = {method: self[method, metric].mean for method in self.methods}
        known = {method: mean for method, mean in means.items() if not math.isnan(mean)}
        if not known:
            raise CallerError(f"metric {metric!r} is not defined for any of the methods")
        return (max if better == "high" else min)(known, key=lambda method: known[method])

    def rows(self) -> list[dict[str, Any]]:
        """A row for each cell, for ``pandas.DataFrame``."""
        cells = [(method, metric, self[method, metric]) for method in self.methods for metric in self.metrics]
        return [
            {
                **{"method": method, "metric": metric, "mean": found.mean, "standard_error": found.standard_error},
                **{"low": found.interval[0], "high": found.interval[1], "n": found.n},
                "better": METRICS[metric].better if metric in METRICS else "",
            }
            for method, metric, found in cells
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; ``from_dict`` reads it."""
        values = np.where(np.isnan(self.values), None, self.values.astype(object)).tolist()
        content = {"methods": list(self.methods), "metrics": list(self.metrics), "values": values}
        return {"format": FORMAT, "version": VERSION, **content, "info": dict(self.info)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """What ``to_dict`` gave. Raises ``CallerError`` for anything else."""
        if not isinstance(content, Mapping) or content.get("format") != FORMAT or content.get("version") != VERSION:
            raise CallerError(f"this is no {FORMAT} of version {VERSION}")
        try:
            values = np.array(content["values"], dtype=np.float64)
            return cls(tuple(content["methods"]), tuple(content["metrics"]), values, content["info"])
        except (KeyError, TypeError, ValueError) as error:
            raise CallerError(f"this {FORMAT} is damaged: {type(error).__name__}: {error}") from error

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes a JSON file. Raises ``CallerError`` where there is one, unless ``overwrite``."""
        path = Path(path)
        if path.exists() and not overwrite:
            raise CallerError(f"{path} is there already; overwrite=True replaces it")
        path.write_text(json.dumps(self.to_dict(), allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """What ``save`` wrote."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise CallerError(f"{path} is no JSON: {error}") from error

    def show(self) -> None:
        """Shows the table: in a notebook as HTML, otherwise in the terminal."""
        drawing.display(self)

    def html(self, *, page: bool = False) -> str:
        """The table as HTML: a fragment, or with ``page`` a document of its own."""
        return drawing.html(self, is_page=page)

    def _repr_html_(self) -> str:
        return self.html()

    def __repr__(self) -> str:
        n_inputs = self.values.shape[2]
        return f"<evaluation: {', '.join(self.methods)}; {', '.join(self.metrics)}; {n_inputs} inputs>"

    def _of(self, method: str, metric: str) -> np.ndarray:
        for name, known in ((method, self.methods), (metric, self.metrics)):
            if name not in known:
                raise CallerError(f"there is no {name!r} in this table; there are {', '.join(known)}")
        return self.values[self.methods.index(method), self.metrics.index(metric)]


def figure(values: np.ndarray) -> Figure:
    """The figure of one number for each input; NaN are left out."""
    known = values[~np.isnan(values)]
    n = len(known)
    error = float(known.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return Figure(float(known.mean()) if n else math.nan, error, n)
