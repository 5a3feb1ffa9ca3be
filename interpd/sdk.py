"""The plugin author's whole vocabulary. Importing it loads no torch.

A plugin is a module that declares functions with ``op`` and ``method`` and classes with ``artifact``, and returns
them from functions marked ``hookimpl``. ``plugins/README.md`` shows how in ten minutes; ``interpd.testing`` has the
conformance kit.
"""

from interpd.config import ModelSpec
from interpd.errors import CallerError, InvalidRequest
from interpd.graph.run import Event, Tokens
from interpd.graph.schema import ModelInfo, SiteSchema
from interpd.plugin.annotations import Recomputed
from interpd.plugin.artifact import artifact, load_artifact, save_artifact
from interpd.plugin.declaration import DeclarationError
from interpd.plugin.hookspecs import hookimpl
from interpd.plugin.method import Begin, MethodContext, Session, method
from interpd.plugin.model import LoadedModel, ModelFiles
from interpd.plugin.op import op
from interpd.plugin.site_table import SiteRow, SiteTable

__all__ = [
    "Begin",
    "CallerError",
    "DeclarationError",
    "Event",
    "InvalidRequest",
    "LoadedModel",
    "MethodContext",
    "ModelFiles",
    "ModelInfo",
    "ModelSpec",
    "Recomputed",
    "Session",
    "SiteRow",
    "SiteSchema",
    "SiteTable",
    "Tokens",
    "artifact",
    "hookimpl",
    "load_artifact",
    "method",
    "op",
    "save_artifact",
]
