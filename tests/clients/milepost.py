"""A client for any Milepost server, made from what its reflection service tells: no generated code."""

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
PACKAGE = "milepost.v1."


class Error(Exception):
    """An error of a call, with the details that every Milepost error has."""

    def __init__(self, code, message, details):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.reason, self.domain, self.fields = None, None, []
        for detail in details:
            name = detail.type_url.rsplit("/", 1)[-1]
            if name == "google.rpc.ErrorInfo":
                info = ERROR_INFO.FromString(detail.value)
                self.reason, self.domain = info.reason, info.domain
            elif name == "google.rpc.BadRequest":
                violations = BAD_REQUEST.FromString(detail.value).field_violations
                self.fields = [(it.field, it.description) for it in violations]


class Api:
    """One connection."""

    def __init__(self, address):
        self.address = address
        self.channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
                # Channels of one process would otherwise share a connection.
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        database = ProtoReflectionDescriptorDatabase(self.channel)
        self.services = sorted(database.get_services())
        self.pool = descriptor_pool.DescriptorPool(database)

    def close(self):
        self.channel.close()

    def message(self, name):
        """The class of a message, for example `Event`."""
        full_name = name if "." in name else PACKAGE + name
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(full_name))

    def call(self, method, request=None, timeout=120):
        """Calls `Service/Method`; gives the response, or for a stream an iterator of responses."""
        service, name = method.split("/")
        full_name = service if "." in service else PACKAGE + service
        described = self.pool.FindServiceByName(full_name).FindMethodByName(name)
        answer = message_factory.GetMessageClass(described.output_type)
        if request is None:
            request = message_factory.GetMessageClass(described.input_type)()
        kind = self.channel.unary_stream if described.server_streaming else self.channel.unary_unary
        stub = kind(
            f"/{full_name}/{name}",
            request_serializer=lambda it: it.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        if described.server_streaming:
            return Stream(stub(request, timeout=timeout))
        try:
            return stub(request, timeout=timeout)
        except grpc.RpcError as error:
            raise from_rpc(error) from None


class Stream:
    """The responses of a call that streams."""

    def __init__(self, responses):
        self.responses = responses

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self.responses)
        except grpc.RpcError as error:
            raise from_rpc(error) from None

    def cancel(self):
        self.responses.cancel()


def from_rpc(error):
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    details = STATUS.FromString(packed).details if packed else []
    return Error(error.code().name, error.details(), details)


def from_status(status):
    """The error that a `google.rpc.Status` inside a response stands for."""
    code = next(it.name for it in grpc.StatusCode if it.value[0] == status.code)
    return Error(code, status.message, status.details)


def _standard_messages():
    """Those of google.rpc that errors consist of; they belong to gRPC, not to the server."""
    file = descriptor_pb2.FileDescriptorProto(
        name="google/rpc/errors.proto",
        package="google.rpc",
        syntax="proto3",
        dependency=["google/protobuf/any.proto"],
    )
    text, number, message = 9, 5, 11

    def add(owner, name, *fields):
        described = owner.add(name=name)
        for index, (field, kind, label, type_name) in enumerate(fields, 1):
            described.field.add(
                name=field, number=index, type=kind, label=label, type_name=type_name
            )
        return described

    one, many = 1, 3
    add(
        file.message_type,
        "Status",
        ("code", number, one, None),
        ("message", text, one, None),
        ("details", message, many, ".google.protobuf.Any"),
    )
    add(file.message_type, "ErrorInfo", ("reason", text, one, None), ("domain", text, one, None))
    bad_request = add(
        file.message_type,
        "BadRequest",
        ("field_violations", message, many, ".google.rpc.BadRequest.FieldViolation"),
    )
    add(
        bad_request.nested_type,
        "FieldViolation",
        ("field", text, one, None),
        ("description", text, one, None),
    )
    pool = descriptor_pool.DescriptorPool()
    any_file = descriptor_pb2.FileDescriptorProto()
    descriptor_pool.Default().FindFileByName("google/protobuf/any.proto").CopyToProto(any_file)
    pool.Add(any_file)
    pool.Add(file)
    names = ("Status", "ErrorInfo", "BadRequest")
    found = (pool.FindMessageTypeByName("google.rpc." + name) for name in names)
    return [message_factory.GetMessageClass(it) for it in found]


from google.protobuf import any_pb2  # noqa: E402,F401  (puts `Any` into the default pool)

STATUS, ERROR_INFO, BAD_REQUEST = _standard_messages()
