"""Settings: sections, `Config`, and the files that hold them."""

from nst_tf.config.files import load_config
from nst_tf.config.schema import (
    Config,
    InitialSettings,
    InputSettings,
    LossSettings,
    MultiscaleSettings,
    NetworkSettings,
    OptimizerSettings,
    OutputSettings,
    ReportingSettings,
    RuntimeSettings,
)

__all__ = [
    "Config",
    "InitialSettings",
    "InputSettings",
    "LossSettings",
    "MultiscaleSettings",
    "NetworkSettings",
    "OptimizerSettings",
    "OutputSettings",
    "ReportingSettings",
    "RuntimeSettings",
    "load_config",
]
