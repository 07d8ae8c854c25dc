"""Every setting of a run, typed and checked: defaults, then `--config FILE`, then `--set a.b=c`,
then command-line options.
"""

from lookaround.settings.read import read_settings
from lookaround.settings.sections import (
    CompareSettings,
    DataSettings,
    EvaluateSettings,
    ForecastSettings,
    GenerationConfig,
    ModelSettings,
    PretrainSettings,
    Settings,
    SpeculateSettings,
    SyntheticSettings,
    TrainSettings,
    field_of,
    result,
    sections,
)

__all__ = [
    "CompareSettings",
    "DataSettings",
    "EvaluateSettings",
    "ForecastSettings",
    "GenerationConfig",
    "ModelSettings",
    "PretrainSettings",
    "Settings",
    "SpeculateSettings",
    "SyntheticSettings",
    "TrainSettings",
    "field_of",
    "read_settings",
    "result",
    "sections",
]
