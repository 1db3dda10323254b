"""The story of one order, as a service in Python tells it: order, duplicate, replay, another
body refused.

    story.py ADDRESS PROTO_DIRECTORY STUBS_DIRECTORY

The stubs are generated from the proto into STUBS_DIRECTORY. grpcio and grpcio-tools are all
that is needed; the types of error details are written out here, as far as they are read.
"""

import hashlib
import pathlib
import sys

import grpc
import grpc_tools
from grpc_tools import protoc

DETAILS = """
syntax = "proto3";
package google.rpc;
message ErrorInfo { string reason = 1; string domain = 2; }
"""


def generate(proto: pathlib.Path, stubs: pathlib.Path) -> None:
    stubs.mkdir()
    (stubs / "details.proto").write_text(DETAILS)
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    arguments = [f"-I{proto}", f"-I{stubs}", f"-I{well_known}"]
    arguments += [f"--python_out={stubs}", f"--grpc_python_out={stubs}"]
    arguments += ["onced/v1/idempotency.proto", "google/rpc/status.proto", "details.proto"]
    if protoc.main(["protoc", *arguments]) != 0:
        sys.exit("the proto does not compile")
    sys.path.insert(0, str(stubs))


def reason_of(error: grpc.RpcError) -> tuple[str, str]:
    """The one ErrorInfo of a status: its domain and its reason."""
    import details_pb2
    from google.rpc import status_pb2

    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    infos = []
    for detail in status.details:
        info = details_pb2.ErrorInfo()
        if detail.Unpack(info):
            infos.append(info)
    assert len(infos) == 1, status
    return infos[0].domain, infos[0].reason


def tell(address: str) -> None:
    from onced.v1 import idempotency_pb2 as pb
    from onced.v1 import idempotency_pb2_grpc as rpc

    with grpc.insecure_channel(address) as channel:
        service = rpc.IdempotencyServiceStub(channel)
        order = pb.ReserveRequest(
            namespace="orders",
            key="order-1",
            fingerprint=hashlib.sha256(b"body-1").digest(),
            holder="shop-1",
        )

        granted = service.Reserve(order, timeout=20).granted
        assert granted.attempt == 1 and granted.owner_token, granted
        assert granted.fencing_token > 0, granted

        duplicate = service.Reserve(order, timeout=20)
        assert duplicate.WhichOneof("outcome") == "in_progress", duplicate
        assert duplicate.in_progress.holder == "shop-1", duplicate
        assert duplicate.in_progress.retry_delay.ToMilliseconds() > 0, duplicate

        response = pb.Response(
            payload=b'{"paid": true}\0\xff',
            content_type="application/json",
            status_code=201,
            metadata={"location": "/orders/1"},
        )
        completed = service.Complete(
            pb.CompleteRequest(
                namespace="orders",
                key="order-1",
                owner_token=granted.owner_token,
                result=pb.RESULT_SUCCEEDED,
                response=response,
            ),
            timeout=20,
        )
        assert completed.completion.response == response, completed

        replay = service.Reserve(order, timeout=20)
        assert replay.completed == completed.completion, replay
        assert replay.completed.response_digest == hashlib.sha256(response.payload).digest()

        other_body = pb.ReserveRequest(
            namespace="orders",
            key="order-1",
            fingerprint=hashlib.sha256(b"body-2").digest(),
        )
        try:
            answer = service.Reserve(other_body, timeout=20)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
            assert reason_of(error) == ("onced", "FINGERPRINT_MISMATCH"), error
        else:
            raise AssertionError(f"another body was not refused: {answer}")


if __name__ == "__main__":
    address, proto, stubs = sys.argv[1:]
    generate(pathlib.Path(proto), pathlib.Path(stubs))
    tell(address)
    print("told")
