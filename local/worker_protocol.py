"""Microsoft's own worker library, driven without its host.

`azure-functions-runtime` is what the production worker calls for every request of the Functions host. It
builds its answers from a module of protobuf classes that the host hands it; this module is that module:
classes whose keyword arguments become attributes. The library's registry of functions belongs to the
process: one app a process.
"""

import sys
import uuid
from pathlib import Path
from typing import Any

import azure_functions_runtime as runtime


class Message:
    """A protobuf message without its wire format: an attribute that was not set is an AttributeError."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} has no {name}")


class TypedData(Message):
    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 (protobuf's name)
        return next(iter(self.__dict__), None)


class ParameterBinding(Message):
    def WhichOneof(self, _group: str) -> str:  # noqa: N802 (protobuf's name)
        return "data"


class BindingInfo(Message):
    undefined, string, binary, stream = range(4)
    out, inout = 1, 2


class StatusResult(Message):
    Failure, Success = 0, 1


class RpcException(Message): ...


class RpcFunctionMetadata(Message): ...


class RpcRetryOptions(Message): ...


class WorkerMetadata(Message): ...


class WorkerInitResponse(Message): ...


class FunctionMetadataResponse(Message): ...


class InvocationResponse(Message): ...


class ModelBindingData(Message): ...


class WorkerError(Exception):
    """The worker answered with an exception of the app's, while indexing it or while running a function."""

    def __init__(self, error: RpcException) -> None:
        super().__init__(error.message)
        self.stack_trace: str = error.stack_trace


class Worker:
    """The calls of the protocol that a host needs."""

    async def index(self, app: Path) -> list[RpcFunctionMetadata]:
        """Import the app and list its functions, in the worker's own words."""
        init = Message(capabilities={}, function_app_directory=str(app))
        answer = await runtime.worker_init_request(_request(worker_init_request=init))
        _raise_if_failed(answer.result)
        runtime.start_threadpool_executor()
        metadata = await runtime.functions_metadata_request(_request())
        return metadata.function_metadata_results or []

    async def invoke(
        self, function_id: str, parameter: str, value: TypedData, metadata: dict[str, TypedData]
    ) -> dict[str, TypedData]:
        """Run a function once; its outputs by name, the returned value as `$return`."""
        invocation = Message(
            invocation_id=str(uuid.uuid4()),
            function_id=function_id,
            input_data=[ParameterBinding(name=parameter, data=value)],
            trigger_metadata=metadata,
            trace_context=Message(trace_parent="", trace_state="", attributes={}),
            retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
        )
        answer = await runtime.invocation_request(_request(invocation_request=invocation))
        _raise_if_failed(answer.result)
        returned = {"$return": answer.return_value} if answer.return_value else {}
        return {output.name: output.data for output in answer.output_data} | returned


def _request(**request: Any) -> Message:
    return Message(request=Message(**request), properties={"host": "127.0.0.1", "protos": sys.modules[__name__]})


def _raise_if_failed(result: StatusResult) -> None:
    if result.status != StatusResult.Success:
        raise WorkerError(result.exception)
