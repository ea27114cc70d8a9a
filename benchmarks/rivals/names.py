"""What the rivals are called, and the module of each."""

from __future__ import annotations

__all__ = [
    "AIOLOGGING",
    "EACH",
    "LIMIT",
    "LOGURU",
    "MANY",
    "MODULES",
    "NOTHING",
    "OLD",
    "OURS",
    "PICOLOGGING",
    "QUEUE_HANDLER",
    "SQLALCHEMY",
    "STRUCTLOG",
    "STRUCTLOG_ASYNC",
    "TELEMETRY",
]

OURS = "async_enginelog"
# What no log can beat.
NOTHING = "await and list.append"
LIMIT = "sqlite3 alone"

PICOLOGGING = "picologging QueueHandler"
QUEUE_HANDLER = "logging QueueHandler"
AIOLOGGING = "aiologging"
STRUCTLOG = "structlog"
STRUCTLOG_ASYNC = "structlog async"
LOGURU = "loguru"
TELEMETRY = "OpenTelemetry batch"
SQLALCHEMY = "SQLAlchemy insert many"
MANY = "aiosqlite executemany"
EACH = "aiosqlite execute+commit"
OLD = "the old engine's way"

# In the order of the tables. Each module is only imported where its rival is measured: what others
# leave in memory is none of its business.
MODULES = {
    OURS: "ours",
    NOTHING: "limits",
    PICOLOGGING: "picologging_",
    QUEUE_HANDLER: "standard",
    AIOLOGGING: "aiologging_",
    STRUCTLOG: "structlog_",
    STRUCTLOG_ASYNC: "structlog_",
    LOGURU: "loguru_",
    TELEMETRY: "telemetry",
    SQLALCHEMY: "sqlalchemy_",
    MANY: "sqlite",
    EACH: "sqlite",
    OLD: "sqlite",
}
