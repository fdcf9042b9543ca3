"""Imports from Dagster's private modules, each with its reason. They are why Dagster is pinned below 1.14.

* `BaseAssetGraph`: the type of the asset graph; no public module names it.
* `CachingStaleStatusResolver`, `StaleCause`, `StaleStatus`, `extract_data_version_from_entry`: stale status and its
  causes by Dagster's own rules. The public API offers them in GraphQL only.
* `LoadingContext`, `LoadingContextForTest`, `AssetRecord`, `PartitionKeyFilter`, `AssetCheckExecutionRecordStatus`: one
  query for many assets, or for all partitions of a check, instead of one for each.
* `AutomationContext`, `AssetGraphView`, `EntitySubset`, `AssetGraphSubset`, `AssetKeyPartitionKey`,
  `SensorExecutionData`: automation conditions on single partitions.
* `DagsterRun`, `StepEventStatus`, `MAX_RETRIES_TAG`, `SENSOR_NAME_TAG`, `WILL_RETRY_TAG`: which steps a failed run
  started, and whether Dagster's daemon is going to retry it.
* `copy`, `get_current_datetime`, `is_valid_cron_schedule`: a copy of an immutable record, the clock that tests set,
  the cron parser of schedules.
* `CheckRunHealthResult`, `LaunchRunContext`, `WorkerStatus`: the types with which a run launcher reports on workers.
* `RunLauncher`, `ConfigurableClass`, `ConfigurableClassData`, `ExecuteRunArgs`: the base of a run launcher with
  settings, and the command that executes a run.
"""

from __future__ import annotations

from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
from dagster._core.asset_graph_view.entity_subset import EntitySubset
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import (
    CachingStaleStatusResolver,
    StaleCause,
    StaleStatus,
    extract_data_version_from_entry,
)
from dagster._core.definitions.declarative_automation.automation_context import AutomationContext
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.execution.stats import StepEventStatus
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.loader import LoadingContext, LoadingContextForTest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.event_log.base import AssetRecord
from dagster._core.storage.tags import MAX_RETRIES_TAG, SENSOR_NAME_TAG, WILL_RETRY_TAG
from dagster._grpc.types import ExecuteRunArgs
from dagster._record import copy
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster._time import get_current_datetime
from dagster._utils.schedules import is_valid_cron_schedule

__all__ = [
    "MAX_RETRIES_TAG",
    "SENSOR_NAME_TAG",
    "WILL_RETRY_TAG",
    "AssetCheckExecutionRecordStatus",
    "AssetGraphSubset",
    "AssetGraphView",
    "AssetKeyPartitionKey",
    "AssetRecord",
    "AutomationContext",
    "BaseAssetGraph",
    "CachingStaleStatusResolver",
    "CheckRunHealthResult",
    "ConfigurableClass",
    "ConfigurableClassData",
    "DagsterRun",
    "EntitySubset",
    "ExecuteRunArgs",
    "LaunchRunContext",
    "LoadingContext",
    "LoadingContextForTest",
    "PartitionKeyFilter",
    "RunLauncher",
    "SensorExecutionData",
    "StaleCause",
    "StaleStatus",
    "StepEventStatus",
    "WorkerStatus",
    "copy",
    "extract_data_version_from_entry",
    "get_current_datetime",
    "is_valid_cron_schedule",
]
