"""Results of the Backpack papers, computed again: ``interpd reproduce backpack``."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interpd.cli import Reproduction


def backpack(asked: "Reproduction", *, model: str = "", data: Path | None = None) -> None:
    """the Backpack papers: senses, topics, bias, knowledge and canonical examples, beside a transformer

    On the bundled models ``backpack`` and ``backpack_twin``, which ``--address`` takes from a daemon. With ``--model``
    the paper's protocol on that model (``stanfordnlp/backpack-gpt2``, converted), with the data of ``--data``. Writes
    ``report.md``, its figures and ``numbers.json``.
    """
    from interpd.cli import Report
    from interpd.errors import CallerError
    from interpd_backpack.reproduce.bundled import reproduce_bundled
    from interpd_backpack.reproduce.protocol import reproduce_published

    if model:
        report = Report(f"Backpacks: the papers' protocol on {model}")
        reproduce_published(asked, report, model, data)
    elif data is not None:
        raise CallerError("--data is for a model that is not bundled: name one with --model")
    else:
        report = Report("Backpacks: results of the papers on a model whose world is known")
        reproduce_bundled(asked, report)
    report.save(asked.out)
    report.text(f"written to {asked.out}")
