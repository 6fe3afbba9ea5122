"""One device for vLLM and for training: what vLLM does while a run trains (train.gpu_sharing).

separate  nothing: training has devices of its own (train.device).
share     nothing: vLLM keeps its share of the card (policy.gpu_memory), and training the rest.
sleep     vLLM moves its weights to the memory of the host, and wakes up afterwards.
stop      vLLM is stopped, and started again afterwards.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from store.rows import Invalid
from train.launch import LaunchConfig
from train.policy.server import PolicyServer
from train.policy.vllm import PolicyConfig, on_cuda

log = logging.getLogger(__name__)
STOCK_UP_S = 60.0  # at most, to fill the annotators' buffer before vLLM is away
LOOK_S = 0.2
SLICE_S = 2.0  # after which somebody may have ended the app
MOST_SHARED = 0.85  # of the card for vLLM; a run needs some of it too


def check(config: LaunchConfig, policy: PolicyConfig) -> None:
    """Raises Invalid when vLLM cannot do what is asked for."""
    if config.gpu_sharing == "sleep" and not policy.url and not on_cuda(policy):
        raise Invalid(
            "train.gpu_sharing is sleep, but on a CPU vLLM only pauses and frees no memory. "
            "Set it to share, or to stop when memory is short."
        )
    if config.gpu_sharing == "stop" and policy.url:
        raise Invalid(
            "train.gpu_sharing is stop, but the server at policy.url is not ours to stop. "
            "Set it to separate, share or sleep."
        )
    shares = config.gpu_sharing == "share" and config.device != "cpu"
    if shares and not policy.url and on_cuda(policy) and policy.gpu_memory > MOST_SHARED:
        raise Invalid(
            f"train.gpu_sharing is share and policy.gpu_memory is {policy.gpu_memory}, which "
            f"leaves no room to train. Set policy.gpu_memory to at most {MOST_SHARED}, or "
            "train.gpu_sharing to sleep or stop."
        )


def gpu_memory(config: LaunchConfig, policy: PolicyConfig) -> float | None:
    """vLLM's share of the card that training is on too; for launch.environment."""
    ours = not policy.url and on_cuda(policy) and config.device != "cpu"
    return policy.gpu_memory if ours and config.gpu_sharing == "share" else None


@contextmanager
def yielded(
    server: PolicyServer,
    config: LaunchConfig,
    *,
    stock_up: Callable[[float], bool] = lambda seconds: True,
    left_s: Callable[[], float | None] = lambda: None,
    give_up: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Around the training processes of one run: the device is theirs.

    `stock_up` fills the buffer of annotators within so many seconds and tells whether it is full.
    `left_s` tells how long the run still takes, `give_up` whether it is to end. Within another
    `yielded` it only tells the new `left_s`, so that a round frees the device once for both of its
    parts. Raises ServerDown.
    """
    how = config.gpu_sharing
    if how in ("separate", "share") or not server.started:
        if gpu_memory(config, server.config):
            _await_start(server, give_up)
        yield
        return
    if server.rests:
        server.expect(left_s)
        yield
        return
    deadline = time.monotonic() + STOCK_UP_S
    while not give_up() and server.state != "down" and time.monotonic() < deadline:
        if stock_up(SLICE_S):
            break
    if give_up():  # before any harm: whoever runs within ends at once
        yield
        return
    server.stand_down("sleep" if how == "sleep" else "stop", left_s)
    log.info("the policy server makes room for a run (%s)", how)
    try:
        yield
    finally:
        server.stand_up()


def _await_start(server: PolicyServer, give_up: Callable[[], bool]) -> None:
    """While vLLM starts it measures what is free on the card, and takes what somebody else loads
    meanwhile for its own: it would come up with too little room for answers, or not at all."""
    deadline = time.monotonic() + server.config.start_timeout_s
    while server.state == "starting" and not give_up() and time.monotonic() < deadline:
        time.sleep(LOOK_S)
