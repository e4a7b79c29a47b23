r"""A corrector, alone or fused with a policy, as one file that other programs run.

    cdsa export:  subject -> write -> read back with an independent runtime -> compare -> write what was found -> done

A file appears at its place only after it has passed; what was there before stays until then.
"""

from __future__ import annotations

from cdsa_lightning.export.files import FORMATS, Exported, export, read_metadata
from cdsa_lightning.export.subject import Subject, subject

__all__ = ["FORMATS", "Exported", "Subject", "export", "read_metadata", "subject"]
