"""A model server inside the process: OpenAI's wire format, deterministic, offline.

The gateway reaches it through the same interface as a real provider, so dialect, framing, driver and error mapping are
really at work. `models` says what a model can be told, `script` what it then sends, `transport` plays that.
"""

from parley_server.transports.mock.capture import Captured, CaptureFile, read_captured
from parley_server.transports.mock.models import MockError, MockModel, MockReply, MockToolCall
from parley_server.transports.mock.script import MockServer
from parley_server.transports.mock.transport import MockTransport

__all__ = [
    "CaptureFile",
    "Captured",
    "MockError",
    "MockModel",
    "MockReply",
    "MockServer",
    "MockToolCall",
    "MockTransport",
    "read_captured",
]
