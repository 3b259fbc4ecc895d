"""What the contract is that this server was built from."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

from parley.v1 import gateway_service_pb2


@functools.cache
def schema_digest() -> str:
    """SHA-256 over the descriptors of `parley.v1`, in the order of their names."""
    files: dict[str, bytes] = {}

    def visit(file: FileDescriptor) -> None:
        if file.name not in files and file.package == "parley.v1":
            copy = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(copy)
            files[file.name] = copy.SerializeToString(deterministic=True)
            for dependency in file.dependencies:
                visit(dependency)

    visit(gateway_service_pb2.DESCRIPTOR)
    return hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()


def features() -> Mapping[str, str]:
    """What GetServerInfo.features lists, with a sentence each."""
    return {
        "chat": "Chat",
        "stream-chat": "StreamChat",
        "embed": "Embed",
        "rerank": "Rerank",
        "list-models": "ListModels and GetModel",
        "fallbacks": "routing.fallbacks",
        "routes": "names of routes as models, Model.targets",
        "strategies": "routing.strategy, routing.fallbacks.weight",
        "regions": "routing.regions, route.region",
        "max-cost": "routing.max_cost_nano_usd",
        "mid-stream-fallback": "routing.mid_stream_fallback and routing.continuation",
        "response-cache": "response_cache, and metadata x-parley-cache",
        "idempotency-keys": "idempotency_key of requests, and metadata idempotency-key",
        "usage-updates": "options.usage_updates",
        "coalesce": "options.coalesce_interval",
        "resume": "options.resumable, ResumeFrom, GetChat and CancelChat",
    }
