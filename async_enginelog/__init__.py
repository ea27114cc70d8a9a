"""The log that real-time, websocket-driven engines can afford."""

from .bridge import LogHandler
from .context import Bound, bind, bound
from .current import (
    log_audio_frame_metadata,
    log_function_error,
    log_function_execution,
    log_pre_split_audio_frame,
    log_process_registry,
    log_recording_config,
    log_resource_usage,
    log_row,
    log_steps,
    log_websocket_connection,
    log_websocket_message,
)
from .enginelog import EngineLog, current_log
from .errors import (
    DatabaseDamaged,
    EngineLogError,
    LogClosed,
    NotAnEngineLog,
    PathError,
    SchemaTooNew,
    StorageError,
)
from .framing import Frame, FrameCutter
from .functions import logged
from .listeners.asgi import LogMiddleware
from .listeners.processes import Heartbeat
from .listeners.recorder import Recorder
from .listeners.recording import Recording
from .listeners.websockets import server_connection
from .messages import Message, read_message
from .paths import default_path
from .retention import Keep
from .statistics import Statistics
from .values import MASKED_HEADERS, mask_headers
from .version import __version__

__all__ = [
    "MASKED_HEADERS",
    "Bound",
    "DatabaseDamaged",
    "EngineLog",
    "EngineLogError",
    "Frame",
    "FrameCutter",
    "Heartbeat",
    "Keep",
    "LogClosed",
    "LogHandler",
    "LogMiddleware",
    "Message",
    "NotAnEngineLog",
    "PathError",
    "Recorder",
    "Recording",
    "SchemaTooNew",
    "Statistics",
    "StorageError",
    "__version__",
    "bind",
    "bound",
    "current_log",
    "default_path",
    "log_audio_frame_metadata",
    "log_function_error",
    "log_function_execution",
    "log_pre_split_audio_frame",
    "log_process_registry",
    "log_recording_config",
    "log_resource_usage",
    "log_row",
    "log_steps",
    "log_websocket_connection",
    "log_websocket_message",
    "logged",
    "mask_headers",
    "read_message",
    "server_connection",
]
