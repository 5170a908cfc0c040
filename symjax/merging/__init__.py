"""Averaging two models: what it costs, whether it will fail, and how to mend the average."""

from ._adapters import Adapter as Adapter, average_adapters as average_adapters
from ._align import align_state_dicts as align_state_dicts
from ._forecast import (
    AveragingForecast as AveragingForecast,
    averaging_forecast as averaging_forecast,
)
from ._repair import repair as repair
from ._report import (
    ROUNDING as ROUNDING,
    MergingReport as MergingReport,
    MetricAudit as MetricAudit,
    merging_report as merging_report,
)
from ._statistics import reset_statistics as reset_statistics
from ._transport import transport_task_vector as transport_task_vector
