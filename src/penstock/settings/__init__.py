"""One frozen `Settings`, the first thing that a command builds; `app.py` hands its sections down.

Nothing below knows files or variables.
"""

from penstock.settings.control import (
    ControlSettings,
    ModelsSettings,
    RepositorySettings,
    ShadowSettings,
    StateSettings,
    WatchSettings,
    WebhookSettings,
)
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
    "ControlSettings",
    "Entry",
    "LimitsSettings",
    "Loaded",
    "LogSettings",
    "ModelsSettings",
    "NativeSettings",
    "RepositorySettings",
    "ServerSettings",
    "Settings",
    "ShadowSettings",
    "SklearnSettings",
    "StateSettings",
    "TelemetrySettings",
    "WatchSettings",
    "WebhookSettings",
    "entries",
    "environment_for_child",
    "from_environment",
    "load_settings",
    "markdown_table",
    "masked",
    "notify_environment",
]
