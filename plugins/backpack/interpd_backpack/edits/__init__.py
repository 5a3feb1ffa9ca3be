"""Edits of senses as data: what they are, their files, what of them contradicts what.

    from interpd_backpack.edits import Edit, Scale

    edit = Edit((Scale(2141, 10, 0.0),), name="nurse without 10", base=fingerprint(model.info))

``README.md`` beside this file says what each operation does and what the files hold. Nothing here needs torch.
"""

from interpd_backpack.edits.conflicts import Conflict, OrderMatters
from interpd_backpack.edits.edit import Edit
from interpd_backpack.edits.fingerprint import Fingerprint, fingerprint
from interpd_backpack.edits.operations import (
    AddDelta,
    MaskWeights,
    Operation,
    ProjectOut,
    Remove,
    ReplaceAssociation,
    Scale,
    Set,
    Topic,
    Transplant,
)
from interpd_backpack.edits.places import ALL, Token

__all__ = [
    "ALL",
    "AddDelta",
    "Conflict",
    "Edit",
    "Fingerprint",
    "MaskWeights",
    "Operation",
    "OrderMatters",
    "ProjectOut",
    "Remove",
    "ReplaceAssociation",
    "Scale",
    "Set",
    "Token",
    "Topic",
    "Transplant",
    "fingerprint",
]
