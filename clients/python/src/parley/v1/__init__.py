"""Every message and enum value of `parley.v1` under one name: `from parley import v1`, then `v1.ChatRequest`.

Written by `make gen`; do not edit.
"""

from parley.v1.cache_pb2 import *
from parley.v1.chat_pb2 import *
from parley.v1.content_pb2 import *
from parley.v1.embedding_pb2 import *
from parley.v1.error_pb2 import *
from parley.v1.gateway_service_pb2 import *
from parley.v1.generation_pb2 import *
from parley.v1.model_pb2 import *
from parley.v1.routing_pb2 import *
from parley.v1.tool_pb2 import *
from parley.v1.usage_pb2 import *
