"""Export of recordings into files that other tools read."""

from __future__ import annotations

from lumatile_service.export.exported import Exported
from lumatile_service.export.job import export

__all__ = ["Exported", "export"]
