"""The Open Inference Protocol V2 over gRPC on a real server: predictions, refusals, deadlines, health, reflection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from penstock.server.rpc.messages import SERVICE, message, pool
from rows import CHURN_ROW, IRIS_ROW
from running import Running, running

Ask = Callable[..., Any]
MATRIX = np.array([list(IRIS_ROW.values())] * 2)


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Iris, churn and the slow growth, on two ports."""
    served = [bundles["iris"], bundles["churn"], bundles["growth"]]
    with running(served, tmp_path_factory.mktemp("v2-grpc"), "--grpc-port", "0") as process:
        yield process


@pytest.fixture(scope="module")
def channel(server: Running) -> Iterator[grpc.Channel]:
    address = server.text.partition("gRPC at ")[2].split()[0]
    with grpc.insecure_channel(address) as found:
        yield found


@pytest.fixture(scope="module")
def ask(channel: grpc.Channel) -> Ask:
    """Calls a method with a request, or its bytes; gives the response."""

    def call(name: str, request: Any = b"", **options: Any) -> Any:
        body = request if isinstance(request, bytes) else request.SerializeToString()
        answer = channel.unary_unary(f"/{SERVICE}/{name}")(body, timeout=20, **options)
        return message(f"{name}Response").FromString(answer)

    return call


def request(model: str = "iris", **members: Any) -> Any:
    """A request without tensors."""
    return message("ModelInferRequest")(model_name=model, **members)


def matrix(**members: Any) -> Any:
    """Two rows of iris as one raw matrix."""
    asked = request(**members)
    asked.inputs.add(name="x", datatype="FP64", shape=MATRIX.shape)
    asked.raw_input_contents.append(MATRIX.tobytes())
    return asked


def contents(model: str, row: dict[str, Any]) -> Any:
    """One row, each field in the contents of its type."""
    asked = request(model)
    kinds = {float: ("FP64", "fp64_contents"), int: ("INT64", "int64_contents"), str: ("BYTES", "bytes_contents")}
    for name, value in row.items():
        datatype, member = kinds[type(value)]
        tensor = asked.inputs.add(name=name, datatype=datatype, shape=[1, 1])
        getattr(tensor.contents, member).append(value.encode() if isinstance(value, str) else value)
    return asked


def own(server: Running, model: str, row: dict[str, Any]) -> dict[str, Any]:
    with server.client() as http:
        answer: httpx.Response = http.post(f"/v1/models/{model}/predict", json={"instances": [row]})
    return answer.json()["predictions"][0]


def test_a_matrix(server: Running, ask: Ask) -> None:
    """A raw matrix gets the numbers of our own API, raw, with the id that was sent."""
    answer = ask("ModelInfer", matrix(id="a-17"))
    expected = own(server, "iris", IRIS_ROW)
    assert ("iris", "1", "a-17") == (answer.model_name, answer.model_version, answer.id)
    assert [("label", "INT64", [2]), ("probabilities", "FP64", [2, 3])] == [
        (output.name, output.datatype, list(output.shape)) for output in answer.outputs
    ]
    assert [expected["label"]] * 2 == np.frombuffer(answer.raw_output_contents[0], "<i8").tolist()
    assert list(expected["probabilities"].values()) * 2 == np.frombuffer(answer.raw_output_contents[1], "<f8").tolist()


def test_contents_of_each_type(server: Running, ask: Ask) -> None:
    """Values in the contents of their type mean the same as our own API's; NaN is a missing value."""
    expected = own(server, "churn", CHURN_ROW)
    answer = ask("ModelInfer", contents("churn", {**CHURN_ROW, "satisfaction": float("nan")}))
    label = expected["label"].encode()
    assert len(label).to_bytes(4, "little") + label == answer.raw_output_contents[0]
    assert list(expected["probabilities"].values()) == np.frombuffer(answer.raw_output_contents[1], "<f8").tolist()


def refused(ask: Ask, asked: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        ask("ModelInfer", asked, **options)
    return caught.value.code(), caught.value.details()


def _both() -> Any:
    asked = matrix()
    asked.inputs[0].contents.fp64_contents.extend(MATRIX.ravel())
    return asked


def _wrong_member() -> Any:
    asked = request()
    tensor = asked.inputs.add(name="x", datatype="FP64", shape=[1, 4])
    tensor.contents.fp32_contents.extend([1.0] * 4)
    return asked


def _too_large() -> Any:
    asked = request()
    tensor = asked.inputs.add(name="x", datatype="INT8", shape=[1, 4])
    tensor.contents.int_contents.extend([1, 2, 3, 300])
    return asked


@pytest.mark.parametrize(
    ("asked", "code", "begins"),
    [
        (b"\xff", "INVALID_ARGUMENT", "the bytes are not a ModelInferRequest"),
        (matrix(model="nope"), "NOT_FOUND", "no model 'nope'"),
        (matrix(model=""), "NOT_FOUND", "Expected the name of a model"),
        (matrix(model_version="x"), "NOT_FOUND", "Expected a version number"),
        (matrix(model_version="7"), "NOT_FOUND", ""),
        (_both(), "INVALID_ARGUMENT", "Expected raw_input_contents for each"),
        (_wrong_member(), "INVALID_ARGUMENT", "Expected the values of FP64 in fp64_contents"),
        (_too_large(), "INVALID_ARGUMENT", "Expected values of INT8"),
        (contents("churn", {"age": -1}), "INVALID_ARGUMENT", "Expected"),
        (matrix(outputs=[{"name": "logits"}]), "INVALID_ARGUMENT", "Expected outputs out of label"),
    ],
)
def test_refusals(ask: Ask, asked: Any, code: str, begins: str) -> None:
    """What cannot be answered has the status of its kind, and says why."""
    status, details = refused(ask, asked)
    assert (code, True) == (status.name, details.startswith(begins))


def test_the_record(server: Running, ask: Ask, channel: grpc.Channel) -> None:
    """A call is recorded under the protocol's name; its request id comes with the trailing metadata."""
    method = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    metadata = (("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"), ("x-request-id", "mine"))
    _, call = method.with_call(matrix().SerializeToString(), timeout=20, metadata=metadata)
    [request_id] = [value for name, value in call.trailing_metadata() if name == "x-penstock-request-id"]
    record = server.record(request_id)
    mine = server.pseudonyms.of_client_id("mine")
    assert ("v2-grpc", mine, "ab" * 16, 2) == (record.protocol, record.client_id, record.trace_id, record.rows)


def test_a_deadline(server: Running, channel: grpc.Channel) -> None:
    """A caller whose deadline passes hears so, and its call is recorded as one without an answer."""
    before = len(server.records())
    asked = contents("growth", {"x": 1.0}).SerializeToString()
    method = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    codes = set()
    for _ in range(20):
        try:
            method(asked, timeout=0.0005)
        except grpc.RpcError as error:
            codes.add(error.code().name)
    assert {"DEADLINE_EXCEEDED"} == codes
    until_s = time.monotonic() + 20
    asked_again = method.future(asked, timeout=20)
    assert asked_again.result()
    while time.monotonic() < until_s and len(server.records()) == before:
        pass
    assert {"ok", "caller_gone", "deadline_exceeded"} >= {record.code for record in server.records()[before:]}


def test_around_predictions(ask: Ask) -> None:
    """The server tells what it is and what it serves; an unknown model is not ready."""
    assert ask("ServerLive").live and ask("ServerReady").ready
    ready = message("ModelReadyRequest")
    assert [True, False] == [ask("ModelReady", ready(name=name)).ready for name in ("iris", "nope")]
    assert "penstock" == ask("ServerMetadata").name
    told = ask("ModelMetadata", message("ModelMetadataRequest")(name="iris", version="1"))
    assert [("sepal_length", "FP64", [-1])] == [(i.name, i.datatype, list(i.shape)) for i in told.inputs[:1]]
    assert ["churn", "growth", "iris"] == sorted(model.name for model in ask("RepositoryIndex").models)


def test_health(channel: grpc.Channel) -> None:
    """The health service says that the whole server and the protocol's service answer."""
    stub = health_pb2_grpc.HealthStub(channel)
    states = [stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status for name in ("", SERVICE)]
    assert [health_pb2.HealthCheckResponse.SERVING] * 2 == states


def test_reflection(channel: grpc.Channel) -> None:
    """The reflection service lists the services and gives the protocol's descriptors."""
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    listed, file = list(stub.ServerReflectionInfo(iter(asked), timeout=20))
    assert {SERVICE, "grpc.health.v1.Health"} <= {service.name for service in listed.list_services_response.service}
    own_file = pool().FindFileContainingSymbol(SERVICE).serialized_pb
    assert own_file in list(file.file_descriptor_response.file_descriptor_proto)


def test_messages_above_the_limit(ask: Ask) -> None:
    """A message of more than 16 MB is refused before it is read."""
    asked = matrix()
    asked.raw_input_contents[0] = bytes(16 * 1024 * 1024)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == refused(ask, asked)[0]


def test_the_compiled_descriptors(tmp_path: Path) -> None:
    """`oip.binpb` is what `make proto` makes of `oip.proto`."""
    from grpc_tools import protoc

    import penstock.server.rpc

    [home] = penstock.server.rpc.__path__
    made = tmp_path / "oip.binpb"
    assert 0 == protoc.main(["protoc", f"-I{home}", f"--descriptor_set_out={made}", "oip.proto"])
    assert made.read_bytes() == (Path(home) / "oip.binpb").read_bytes()


def test_a_port_that_is_taken(server: Running, channel: grpc.Channel, bundles: dict[str, Path], tmp_path: Path) -> None:
    """A second server is refused the port, which SO_REUSEPORT would have let it share."""
    port = server.text.partition("gRPC at ")[2].split()[0].rpartition(":")[2]
    with (
        pytest.raises(AssertionError, match="for gRPC: Address already in use"),
        running([bundles["iris"]], tmp_path, "--grpc-port", port),
    ):
        pass


def test_several_workers_share_the_port(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Two workers answer on one port, and both stop when they are told to."""
    with running([bundles["iris"]], tmp_path, "--grpc-port", "0", "--workers", "2") as process:
        address = process.text.partition("gRPC at ")[2].split()[0]
        for _ in range(16):
            with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                body = channel.unary_unary(f"/{SERVICE}/ModelInfer")(matrix().SerializeToString(), timeout=20)
                assert "iris" == message("ModelInferResponse").FromString(body).model_name
        assert 0 == process.stop()
    assert ["v2-grpc"] * 16 == [record.protocol for record in process.records()]
