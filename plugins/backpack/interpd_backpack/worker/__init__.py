"""The workers' part: Backpacks as models of a daemon, their sites, operations, methods and kinds of artifacts."""

from collections.abc import Callable, Sequence
from typing import Any

from interpd.sdk import LoadedModel, ModelFiles, ModelSpec, SiteTable, hookimpl
from interpd_backpack.worker.edits.applying import edit, fade, mask_weights, reweight
from interpd_backpack.worker.edits.artifacts import SenseEdit, SenseOverrides
from interpd_backpack.worker.edits.compiling import compile_edit
from interpd_backpack.worker.edits.trying import dry_run
from interpd_backpack.worker.effects.method import effects, logit_effects
from interpd_backpack.worker.evaluation.surprisal import surprisals
from interpd_backpack.worker.evaluation.vocabulary import unknown_token
from interpd_backpack.worker.explaining.contributions import contributions
from interpd_backpack.worker.explaining.over_texts import contributions_over
from interpd_backpack.worker.finding.checkpoint import Checkpoint
from interpd_backpack.worker.finding.finetune import finetune
from interpd_backpack.worker.finding.slopes import slopes
from interpd_backpack.worker.loading import loaded
from interpd_backpack.worker.reading.scan import nearest, reverse
from interpd_backpack.worker.reading.senses import senses
from interpd_backpack.worker.reading.similarity import similarity
from interpd_backpack.worker.reading.specialisation import specialisation
from interpd_backpack.worker.sites import sites_of
from interpd_backpack.worker.topics.annealing import anneal
from interpd_backpack.worker.topics.scoring import SensePeaks, peaks, topic

EDITING = (edit, mask_weights, fade, reweight)
EDITS = (compile_edit, dry_run)
OPS: tuple[Callable[..., Any], ...] = (*EDITING, anneal)
READING = (senses, reverse, nearest, similarity, specialisation)
EXPLAINING = (contributions, contributions_over)
EVALUATION = (surprisals, unknown_token)
TOPICS = (peaks, topic)
EFFECTS = (effects, logit_effects)
FINDING = (slopes, finetune)
METHODS: tuple[Callable[..., Any], ...] = (*EDITS, *READING, *EXPLAINING, *EVALUATION, *FINDING, *TOPICS, *EFFECTS)
ARTIFACTS: tuple[type, ...] = (
    Checkpoint,
    SenseEdit,
    SenseOverrides,
    SensePeaks,
)


@hookimpl
def interpd_register_ops() -> Sequence[Callable[..., Any]]:
    """Operations on senses and sense weights."""
    return OPS


@hookimpl
def interpd_register_methods() -> Sequence[Callable[..., Any]]:
    """What reads, explains, finds and evaluates."""
    return METHODS


@hookimpl
def interpd_register_artifacts() -> Sequence[type]:
    """Edits, as they are written and as they are applied."""
    return ARTIFACTS


@hookimpl
def interpd_sites_for_model(model_config: Any) -> SiteTable | None:
    """The sites of Backpacks."""
    return sites_of(model_config)


@hookimpl
def interpd_model_for_spec(spec: ModelSpec, files: ModelFiles) -> LoadedModel | None:
    """A Backpack, or senses beside another language model, where the source holds one."""
    return loaded(spec, files)
