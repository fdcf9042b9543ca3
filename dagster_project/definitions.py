"""The code location: every study under `defs/`, on one table tree."""

from pathlib import Path

import dagster as dg

from cos_assets import ParquetIOManager


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
        # One process per run: loading torch in a process per step costs more, and heavy steps resume by themselves.
        dg.Definitions(resources={"io_manager": ParquetIOManager()}, executor=dg.in_process_executor),
    )
