"""A consumer of a queue that delivers messages at least once: it reads a log as a broker would
deliver it, redeliveries included, and handles each message once, a batch at a time.

    queue.py ADDRESS PROTO_DIRECTORY STUBS_DIRECTORY LOG

Each line of LOG is one delivery: the message's id, a tab, its body. What the consumer did is
written to stdout, one line for each message that it handled, and a summary.
"""

import hashlib
import pathlib
import sys
import uuid
from dataclasses import dataclass

import grpc

from story import generate

BATCH = 100


@dataclass(frozen=True)
class Message:
    id: str
    body: bytes


def handle(onced, pb, messages: list[Message], work) -> list[Message]:
    """Does the work of each message once, however often it is delivered. Returns those that
    somebody else is at: they are to be delivered again."""
    reserves = [
        pb.ReserveRequest(
            namespace="mail",
            key=message.id,
            owner_token=str(uuid.uuid4()),
            fingerprint=hashlib.sha256(message.body).digest(),
        )
        for message in messages
    ]
    answers = onced.BatchReserve(pb.BatchReserveRequest(items=reserves), timeout=20).items
    done, again = [], []
    for message, reserve, answer in zip(messages, reserves, answers):
        if answer.WhichOneof("result") == "status":
            raise RuntimeError(f"{message.id}: {answer.status.message}")
        outcome = answer.response.WhichOneof("outcome")
        if outcome == "granted":
            work(message)
            done.append(
                pb.CompleteRequest(
                    namespace="mail",
                    key=message.id,
                    owner_token=reserve.owner_token,
                    result=pb.RESULT_SUCCEEDED,
                )
            )
        elif outcome != "completed":  # A redelivery of what is done needs nothing.
            again.append(message)
    if done:
        answers = onced.BatchComplete(pb.BatchCompleteRequest(items=done), timeout=20).items
        for answer in answers:
            if answer.WhichOneof("result") == "status":
                print(f"not completed: {answer.status.message}", file=sys.stderr)
    return again


def consume(address: str, log: pathlib.Path) -> None:
    from onced.v1 import idempotency_pb2 as pb
    from onced.v1 import idempotency_pb2_grpc as rpc

    lines = (line.split("\t") for line in log.read_text().splitlines())
    deliveries = [Message(id, body.encode()) for id, body in lines]
    delivered, handled = len(deliveries), []

    def work(message: Message) -> None:
        handled.append(message)
        print(f"handled {message.id}")

    with grpc.insecure_channel(address) as channel:
        onced = rpc.IdempotencyServiceStub(channel)
        while deliveries:
            batch, deliveries = deliveries[:BATCH], deliveries[BATCH:]
            deliveries += handle(onced, pb, batch, work)
    print(f"{delivered} deliveries, {len(handled)} handled")


if __name__ == "__main__":
    address, proto, stubs, log = sys.argv[1:]
    generate(pathlib.Path(proto), pathlib.Path(stubs))
    consume(address, pathlib.Path(log))
