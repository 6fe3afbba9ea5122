"""vLLM makes room for a run and comes back; annotators and adapters notice nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from store.rows import Invalid
from tests.vllm_stand_in import StandIn, completion, stand_in
from train.base_model import BaseModel
from train.launch import LaunchConfig
from train.policy.client import GenerationFailed, Sampling
from train.policy.server import PolicyServer, ServerDown
from train.policy.vllm import PolicyConfig, vllm_command
from train.sharing import check, gpu_memory, yielded

NAMES = ("policy-000000", "policy-000001")
SLEEP = LaunchConfig(gpu_sharing="sleep")
STOP = LaunchConfig(gpu_sharing="stop")
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def vllm() -> Iterator[StandIn]:
    with stand_in() as made:
        yield made


@pytest.fixture
def server(vllm: StandIn, tmp_path: Path) -> Iterator[PolicyServer]:
    """Up, with two adapters."""
    with serving(vllm, tmp_path) as made:
        yield made


@contextmanager
def serving(vllm: StandIn, folder: Path, can_sleep: bool = True) -> Iterator[PolicyServer]:
    base = BaseModel("base", folder, 1)
    made = PolicyServer(PolicyConfig(url=vllm.url), base, folder / "server.log", can_sleep)
    try:
        for name in NAMES:
            made.load(name, folder / name)
        made.start()
        made.wait_up(20)
        yield made
    finally:
        made.stop()


@contextmanager
def started(server: PolicyServer) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


def ask(server: PolicyServer) -> str:
    sampled = server.client.sample(NAMES[0], HELLO, n=1, seed=3, sampling=Sampling())
    return sampled.completions[0].text


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("sharing", ["share", "separate"])
def test_nothing_happens_to_a_server_that_keeps_its_memory(
    server: PolicyServer, vllm: StandIn, sharing: Any
) -> None:
    before = list(vllm.log)
    with yielded(server, LaunchConfig(gpu_sharing=sharing, device="1")):
        assert server.state == "up"
        assert ask(server)
    assert vllm.log == before


def test_vllm_sleeps_for_a_run_and_every_adapter_is_asked_afterwards(
    server: PolicyServer, vllm: StandIn
) -> None:
    del vllm.asked[:]
    full = iter([False, True])
    with yielded(server, SLEEP, stock_up=lambda seconds: next(full), left_s=lambda: 100.0):
        assert server.state == "resting" and not vllm.awake.is_set()
        assert server.back_in_s() == pytest.approx(100 + server._took_s)
        with pytest.raises(GenerationFailed, match="rests while a run trains"):
            ask(server)  # at once, not after the run
        server.load("policy-000002", Path("/p/2"))  # of the run before; it is loaded later
    assert next(full, None) is None
    wait_for(lambda: server.state == "up")
    assert server.back_in_s() is None
    assert ask(server)
    assert [body["model"] for body in vllm.asked] == [*NAMES, *NAMES, NAMES[0], NAMES[0]]
    assert vllm.log[-3:] == [("sleep", "1"), ("wake", ""), ("load", "policy-000002")]


def test_an_adapter_that_a_sleep_lost_is_read_again(server: PolicyServer, vllm: StandIn) -> None:
    def as_the_base(body: dict[str, Any]) -> Any:
        answer = completion(body)
        answer["choices"][0]["token_ids"] = [8, 9]
        return 200, answer

    vllm.on_wake = lambda: setattr(vllm, "answers", as_the_base)
    with yielded(server, SLEEP):
        pass
    wait_for(lambda: server.state == "down")
    assert "policy-000000 answers otherwise than before it slept" in server.note
    wait_for(lambda: server.state == "up")
    replayed = vllm.log[vllm.log.index(("wake", "")) :]
    assert [name for what, name in replayed if what == "load"] == [*NAMES]
    assert ask(server)


def test_answers_under_way_are_finished_before_it_sleeps(
    server: PolicyServer, vllm: StandIn
) -> None:
    writing, go_on, texts = threading.Event(), threading.Event(), []

    def slowly(body: dict[str, Any]) -> Any:
        if body["seed"] == 3:
            writing.set()
            go_on.wait(20)
        return 200, completion(body)

    vllm.answers = slowly
    annotator = threading.Thread(target=lambda: texts.append(ask(server)))
    annotator.start()
    assert writing.wait(20)
    standing = threading.Thread(target=server.stand_down, args=("sleep",))
    standing.start()
    wait_for(lambda: server.client.traffic.resting)
    assert vllm.awake.is_set() and server.state == "up"
    go_on.set()
    standing.join()
    annotator.join()
    assert not vllm.awake.is_set() and len(texts) == 1
    server.stand_up()


def test_an_external_vllm_that_cannot_sleep_makes_no_room(
    server: PolicyServer, vllm: StandIn
) -> None:
    """It is not ours to stop: the run ends with a reason, annotators go on."""
    vllm.can_sleep = False
    with pytest.raises(ServerDown, match="did not make room for the run"), yielded(server, SLEEP):
        pytest.fail("the run must not start")
    assert server.state == "up" and not server.rests
    assert ask(server)


def test_a_run_that_ends_while_the_buffer_is_filled_leaves_vllm_alone(
    server: PolicyServer, vllm: StandIn
) -> None:
    cancelled: list[bool] = []

    def fill(seconds: float) -> bool:
        cancelled.append(True)
        return False

    with yielded(server, SLEEP, stock_up=fill, give_up=lambda: bool(cancelled)):
        assert server.state == "up" and not server.rests
    assert ("sleep", "1") not in vllm.log


def test_on_a_common_card_a_run_waits_until_vllm_has_measured_it(tmp_path: Path) -> None:
    """A real server of ours that never comes up, since its model does not exist."""
    policy = PolicyConfig(device="cuda", gpu_memory=0.45, start_timeout_s=1.5)
    server = PolicyServer(policy, BaseModel("base", tmp_path, 1), tmp_path / "log")
    with started(server):
        began = time.monotonic()
        with yielded(server, LaunchConfig(gpu_sharing="share")):
            assert time.monotonic() - began >= 1.5 or server.state != "starting"
        began = time.monotonic()
        with yielded(server, LaunchConfig(gpu_sharing="share", device="cpu")):
            assert time.monotonic() - began < 1.0, "it trains elsewhere"


def test_a_round_makes_room_once_for_both_of_its_parts(server: PolicyServer, vllm: StandIn) -> None:
    left = iter([50.0, 20.0])
    with yielded(server, SLEEP, left_s=lambda: 80.0):
        for expected in (50.0, 20.0):
            with yielded(server, SLEEP, left_s=lambda: next(left)):
                assert server.back_in_s() == pytest.approx(expected + server._took_s)
            assert server.state == "resting"
    wait_for(lambda: server.state == "up")
    assert [what for what, _ in vllm.log].count("sleep") == 1


def test_one_run_right_after_another(server: PolicyServer) -> None:
    for _ in range(3):
        with yielded(server, SLEEP):
            assert server.state == "resting"
    wait_for(lambda: server.state == "up")


def test_a_run_that_fails_gives_the_device_back(server: PolicyServer) -> None:
    with pytest.raises(MemoryError), yielded(server, SLEEP):
        raise MemoryError
    wait_for(lambda: server.state == "up")


def test_a_server_that_is_down_makes_room_at_once_and_does_not_come_back_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.policy.server.HEALTH_EVERY_S", 0.1)
    with stand_in() as vllm:
        port = int(vllm.url.rsplit(":", 1)[1])
    with stand_in(port) as vllm, serving(vllm, tmp_path) as server:
        vllm.http.shutdown()
        vllm.http.server_close()
        wait_for(lambda: server.state == "down")
        with stand_in(port), yielded(server, STOP):
            assert server.state == "resting"
            time.sleep(1.0)
            assert server.state == "resting"


def test_who_waits_for_the_first_start_waits_out_a_run_that_came_before_it(tmp_path: Path) -> None:
    with stand_in() as vllm:
        port, url = int(vllm.url.rsplit(":", 1)[1]), vllm.url
    base = BaseModel("base", tmp_path, 1)
    server = PolicyServer(PolicyConfig(url=url), base, tmp_path / "server.log")
    waited: list[BaseException | None] = []

    def wait() -> None:
        try:
            server.wait_up(1.5)
            waited.append(None)
        except ServerDown as error:
            waited.append(error)

    with ExitStack() as owned:
        owned.callback(server.stop)
        server.start()
        with yielded(server, STOP):
            waiting = threading.Thread(target=wait)
            waiting.start()
            time.sleep(2.5)
            assert not waited, "the run took longer than the patience with a start"
            owned.enter_context(stand_in(port))
        waiting.join(20)
        assert waited == [None]


def test_an_app_that_ends_waits_for_no_buffer(server: PolicyServer) -> None:
    asked: list[float] = []

    def never_full(seconds: float) -> bool:
        asked.append(seconds)
        return False

    with yielded(server, SLEEP, stock_up=never_full, give_up=lambda: len(asked) > 1):
        assert len(asked) == 2 and server.state == "up"


def test_the_app_ends_while_vllm_sleeps(server: PolicyServer, vllm: StandIn) -> None:
    server.stand_down("sleep")
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 30
    assert vllm.awake.is_set(), "it is not ours, and others may ask it"


def test_an_external_vllm_that_a_killed_app_left_asleep_is_woken_up(
    vllm: StandIn, tmp_path: Path
) -> None:
    vllm.adapters = {name: str((tmp_path / name).resolve()) for name in NAMES}
    vllm.awake.clear()
    with serving(vllm, tmp_path) as server:
        assert ask(server)
    assert vllm.log[0] == ("wake", "")
    loaded = [name for what, name in vllm.log if what == "load"]
    assert loaded == [*NAMES], "the sleep may have lost them"


def test_one_that_was_left_asleep_is_woken_up_though_runs_share_the_card_now(
    vllm: StandIn, tmp_path: Path
) -> None:
    vllm.awake.clear()
    with serving(vllm, tmp_path, can_sleep=False) as server:
        assert ask(server)


def test_an_external_vllm_that_seemed_down_must_sleep_before_a_run_begins(
    server: PolicyServer, vllm: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever we thought of it, its memory is taken as long as it is awake."""
    monkeypatch.setattr("train.policy.server.HEALTH_EVERY_S", 0.1)
    vllm.healthy = False
    wait_for(lambda: server.state == "down")
    vllm.healthy = True
    with yielded(server, SLEEP):
        assert server.state == "resting" and not vllm.awake.is_set()
    wait_for(lambda: server.state == "up")
    assert ask(server)


def test_a_vllm_that_sleeps_already_makes_room_as_it_is(vllm: StandIn, tmp_path: Path) -> None:
    """After a wake that failed, say, when the next run is there at once."""
    base = BaseModel("base", tmp_path, 1)
    server = PolicyServer(PolicyConfig(url=vllm.url), base, tmp_path / "log", can_sleep=True)
    vllm.awake.clear()
    with started(server), yielded(server, SLEEP):
        assert server.state == "resting" and ("wake", "") not in vllm.log


def test_after_a_refused_rest_annotators_are_answered(
    server: PolicyServer, vllm: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.policy.server.UNDER_WAY_S", 0.5)
    monkeypatch.setattr("train.policy.server.HEALTH_EVERY_S", 0.1)
    vllm.healthy = False
    wait_for(lambda: server.state == "down")
    vllm.healthy, vllm.hang_up_on_load = True, 1000
    vllm.adapters.clear()
    with pytest.raises(ServerDown, match="did not make room"), yielded(server, SLEEP):
        pytest.fail("the run must not start")
    vllm.hang_up_on_load = 0
    wait_for(lambda: server.state == "up")
    assert ask(server)


def test_an_external_vllm_that_did_not_wake_up_is_asked_again(
    server: PolicyServer, vllm: StandIn
) -> None:
    vllm.hang_up_on_wake = 1
    with yielded(server, SLEEP):
        pass
    wait_for(lambda: server.state == "down")
    assert "did not wake up" in server.note
    wait_for(lambda: server.state == "up")
    assert ask(server)


def test_a_server_that_nobody_started_is_left_alone(tmp_path: Path) -> None:
    server = PolicyServer(PolicyConfig(), BaseModel("base", tmp_path, 1), tmp_path / "log")
    with yielded(server, STOP):
        assert server.state == "starting"
    server.stop()


def test_a_server_that_never_rests_ends_the_run(
    server: PolicyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.policy.server.UNDER_WAY_S", 0.0)
    with pytest.raises(ServerDown, match="did not make room"), yielded(server, STOP):
        raise AssertionError("the run must not start")
    assert not server.rests


# --- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("launch", "policy", "sentence"),
    [
        (SLEEP, PolicyConfig(device="cpu"), "on a CPU vLLM only pauses and frees no memory"),
        (STOP, PolicyConfig(url="http://other"), "is not ours to stop"),
        (LaunchConfig(), PolicyConfig(device="cuda", gpu_memory=0.9), "leaves no room to train"),
    ],
)
def test_what_vllm_cannot_do_is_refused_at_the_start(
    launch: LaunchConfig, policy: PolicyConfig, sentence: str
) -> None:
    with pytest.raises(Invalid, match=sentence):
        check(launch, policy)


@pytest.mark.parametrize(
    ("launch", "policy"),
    [
        (SLEEP, PolicyConfig(device="cuda", gpu_memory=0.9)),
        (SLEEP, PolicyConfig(url="http://other", device="cpu")),
        (STOP, PolicyConfig(device="cpu")),
        (LaunchConfig(), PolicyConfig(device="cpu", gpu_memory=1.0)),
        (LaunchConfig(device="cpu"), PolicyConfig(device="cuda", gpu_memory=0.9)),
    ],
)
def test_what_vllm_can_do_is_accepted(launch: LaunchConfig, policy: PolicyConfig) -> None:
    check(launch, policy)


def test_training_leaves_vllm_its_share_of_a_common_card() -> None:
    on_card = PolicyConfig(device="cuda", gpu_memory=0.4)
    assert gpu_memory(LaunchConfig(), on_card) == 0.4
    assert gpu_memory(SLEEP, on_card) is None
    assert gpu_memory(LaunchConfig(device="cpu"), on_card) is None
    assert gpu_memory(LaunchConfig(), PolicyConfig(device="cpu")) is None


def test_only_a_vllm_on_a_gpu_is_started_so_that_it_can_sleep(tmp_path: Path) -> None:
    base = BaseModel("base", tmp_path, 1)
    for device, sleeps, expected in (("cuda", True, True), ("cuda", False, False)):
        config = PolicyConfig(device=device)  # type: ignore[arg-type]
        command, env = vllm_command(config, base, tmp_path / "s", sleeps)
        assert ("--enable-sleep-mode" in command) is expected
        assert ("VLLM_SERVER_DEV_MODE" in env) is expected
        assert env["VLLM_USE_FLASHINFER_SAMPLER"] == "0"  # it would ask for nvcc at the start


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("listed", "expected"), [("mine", "mine,bitsandbytes,prefloop"), ("", ",bitsandbytes,prefloop")]
)
def test_a_list_of_plugins_keeps_the_one_that_serves_four_bits(
    device: Any, listed: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", listed)
    base = BaseModel("base", tmp_path, 1)
    _, env = vllm_command(PolicyConfig(device=device), base, tmp_path / "s")
    assert env["VLLM_PLUGINS"] == expected
