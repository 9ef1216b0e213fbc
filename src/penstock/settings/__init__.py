"""One frozen `Settings`, the first thing that a command builds; `app.py` hands its sections down.

Nothing below knows files or variables.
"""

from penstock.settings.load import (
    FILE_NAME,
    PREFIX,
    Entry,
    Loaded,
    entries,
    environment_for_child,
    from_environment,
    load_settings,
    markdown_table,
    masked,
    notify_environment,
)
from penstock.settings.sections import (
    AuditSettings,
    CacheSettings,
    ConstantSettings,
    FallbackSettings,
    LimitsSettings,
    LogSettings,
    NativeSettings,
    ServerSettings,
    Settings,
    SklearnSettings,
    TelemetrySettings,
)

__all__ = [
    "FILE_NAME",
    "PREFIX",
    "AuditSettings",
    "CacheSettings",
    "ConstantSettings",
    "Entry",
    "FallbackSettings",
    "LimitsSettings",
    "Loaded",
    "LogSettings",
    "NativeSettings",
    "ServerSettings",
    "Settings",
    "SklearnSettings",
    "TelemetrySettings",
    "entries",
    "environment_for_child",
    "from_environment",
    "load_settings",
    "markdown_table",
    "masked",
    "notify_environment",
]
