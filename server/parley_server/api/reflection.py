"""gRPC reflection, v1 and v1alpha: the library serves v1alpha only, and new clients ask for v1 first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

V1 = "grpc.reflection.v1.ServerReflection"
_V1_FILE = "grpc/reflection/v1/reflection.proto"


def add(handlers: Any, services: Iterable[str]) -> None:
    """Serve reflection of `services` and of itself, under both names. `handlers`: a server, or what takes its place."""
    _describe_v1()
    servicer = reflection.aio.ReflectionServicer(service_names=[*services, reflection.SERVICE_NAME, V1])
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, handlers)
    method = grpc.stream_stream_rpc_method_handler(  # both versions have the same messages on the wire
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": method}),))


def _describe_v1() -> None:
    """Put a v1 copy of the v1alpha descriptor into the pool, so that v1 can describe itself."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_V1_FILE)
        return
    except KeyError:
        pass
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = _V1_FILE, "grpc.reflection.v1"
    file.ClearField("options")
    for message in file.message_type:
        _rename_fields(message)
    for method in (method for service in file.service for method in service.method):
        method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
        method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    pool.AddSerializedFile(file.SerializeToString())


def _rename_fields(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        if field.type_name:  # scalars have none, and must not get one
            field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for nested in message.nested_type:
        _rename_fields(nested)
