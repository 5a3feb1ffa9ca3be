"""Edits as artifacts: as they are written, and as they are applied."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from interpd.sdk import CallerError, artifact
from interpd_backpack.edits import Edit


@artifact("sense_edit")
@dataclass(frozen=True)
class SenseEdit:
    """An edit as ``Edit.to_artifact`` writes it; ``edits/README.md`` has the format."""

    spec: str
    """The content of ``edit.json``."""
    vectors: Float64[Tensor, "vector d_model"] | None = None
    """The rows that it counts."""

    def edit(self) -> Edit:
        """The edit. Raises ``CallerError`` for one that is damaged, or was changed after it was made."""
        try:
            content = json.loads(self.spec)
        except json.JSONDecodeError as error:
            raise CallerError(f"the artifact holds no edit: {error}") from error
        vectors = np.zeros((0, 0)) if self.vectors is None else self.vectors.cpu().numpy()
        return Edit.from_json(content, vectors, where="the artifact")


@artifact("sense_overrides")
@dataclass(frozen=True)
class SenseOverrides:
    """An edit carried out on one model: senses of the tokens that it names, and what is done to others."""

    token_ids: Int64[Tensor, " token"] | None = None
    """The tokens that it names, sorted."""
    rows: Float[Tensor, "token sense d_model"] | None = None
    """Their senses under the edit."""
    factors: Float64[Tensor, "table d_vocab sense"] | None = None
    """Of topics: what every sense of every token is multiplied by."""
    directions: Float64[Tensor, "direction d_model"] | None = None
    """Of projections of all tokens, at length 1."""
    spoken_against: Int64[Tensor, "masked sense word"] | None = None
    """Of ``negative_only``: the words that each sense of each masked token speaks most against."""
    changes: Float64[Tensor, "masked sense word"] | None = None
    """What is added to their logits, for each unit of weight."""
    masked_ids: Int64[Tensor, " masked"] | None = None
    """The masked tokens."""
    plan: str = "{}"
    """What is done to tokens without a row, in order, and to weights, as JSON. See ``Plan``."""
    digest: str = ""
    """Of the edit."""

    @cached_property
    def steps(self) -> tuple[dict[str, Any], ...]:
        """What is done to the senses of tokens without a row, in order.

        ``{"scale": [factor of each sense]}``, ``{"table": number}`` of ``factors``, or ``{"project": number, "shares":
        [of each sense]}`` of ``directions``.
        """
        return tuple(self._planned.get("steps", ()))

    @cached_property
    def positions(self) -> tuple[dict[str, Any], ...]:
        """What is done to the weights given to positions: ``{"positions": [...], "factors": [of each sense]}``."""
        return tuple(self._planned.get("positions", ()))

    @cached_property
    def fading(self) -> tuple[dict[str, Any], ...]:
        """Topics that fade: ``{"table": number (of ``factors``), "strongest": factor, "formula": "code"}``."""
        return tuple(self._planned.get("fading", ()))

    @cached_property
    def _planned(self) -> dict[str, Any]:
        return json.loads(self.plan)
