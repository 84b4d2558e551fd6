"""Ingestion of datasets: a reader lists the values of a dataset, and an engine logs those that are not stored yet."""

from __future__ import annotations

from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.run import Summary, ingest
from lumatile_service.batch.source_files import SourceFiles

__all__ = ["LogCall", "SourceFiles", "Summary", "ingest"]
