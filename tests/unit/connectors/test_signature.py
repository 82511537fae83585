"""A signature proves one body at one time, and leads to one yes."""

import hashlib
import hmac
import random
import threading

import pytest

from connectors.signature import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    WINDOW_S,
    BadSignature,
    NotNow,
    Replays,
    sign,
    timely,
    verified,
)

NOW = 1_773_706_801
BODY = '{"alarm_no": "积水"}'.encode()


def digest(secrets: list[str], headers: dict[str, str], body: bytes = BODY) -> bytes:
    return verified(secrets, headers[TIMESTAMP_HEADER], headers[SIGNATURE_HEADER], body)


def test_it_is_what_a_partner_computes_from_the_description() -> None:
    expected = hmac.new(b"secret", f"{NOW}.".encode() + BODY, hashlib.sha256).hexdigest()
    assert sign("secret", NOW, BODY) == {
        "X-Quanyu-Timestamp": str(NOW),
        "X-Quanyu-Signature": f"v1={expected}",
    }
    assert digest(["secret"], sign("secret", NOW, BODY)).hex() == expected


def test_each_of_a_channels_keys_is_good_and_no_other() -> None:
    for secret in ("old", "new"):
        assert digest(["new", "old"], sign(secret, NOW, BODY))
    for known in ([], ["new"], ["old "]):
        with pytest.raises(BadSignature) as error:
            digest(known, sign("old", NOW, BODY))
        assert error.value.reason == "signature"


def test_one_bit_of_the_body_or_another_time_breaks_it() -> None:
    headers, chance = sign("secret", NOW, BODY), random.Random(1)
    for _ in range(50):
        changed = bytearray(BODY)
        changed[chance.randrange(len(BODY))] ^= 1 << chance.randrange(8)
        with pytest.raises(BadSignature):
            digest(["secret"], headers, bytes(changed))
    with pytest.raises(BadSignature):
        digest(["secret"], {**headers, TIMESTAMP_HEADER: str(NOW + 1)})


@pytest.mark.parametrize("off", [-WINDOW_S, 0, WINDOW_S])
def test_within_the_window_it_is_timely(off: int) -> None:
    timely(str(NOW + off), "v1=" + "a" * 64, NOW)


@pytest.mark.parametrize(
    ("timestamp", "signature", "reason"),
    [
        (str(NOW - WINDOW_S - 1), "v1=" + "a" * 64, "timestamp"),
        (str(NOW + WINDOW_S + 1), "v1=" + "a" * 64, "timestamp"),
        *((t, "v1=" + "a" * 64, "timestamp") for t in (None, "", "x", f" {NOW}", f"0{NOW}",
          f"{NOW}.0", f"-{NOW}", f"+{NOW}", f"{NOW}\n", "١٧٧٣٧٠٦٨٠١", "9" * 5000)),
        *((str(NOW), s, "signature") for s in (None, "", "v1=", "a" * 64, "v2=" + "a" * 64,
          "v1=" + "a" * 63, "v1=" + "a" * 65, "v1=" + "g" * 64, "v1=" + "ａ" * 64)),
    ],
)  # fmt: skip
def test_what_no_body_can_heal_is_refused_before_one_is_read(
    timestamp: str | None, signature: str | None, reason: str
) -> None:
    with pytest.raises(BadSignature) as error:
        timely(timestamp, signature, NOW)
    assert error.value.reason == reason


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_request_is_taken_once_and_again_only_when_it_was_not() -> None:
    replays = Replays(clock=Clock())
    with pytest.raises(OSError, match="broker"), replays.once(b"a", 10):
        raise OSError("broker")
    with replays.once(b"a", 10):
        pass
    with pytest.raises(BadSignature) as error, replays.once(b"a", 10):
        pass
    assert error.value.reason == "replayed"


def test_in_another_spelling_it_is_the_same() -> None:
    headers, replays = sign("secret", NOW, BODY), Replays()
    upper = {**headers, SIGNATURE_HEADER: "v1=" + headers[SIGNATURE_HEADER][3:].upper()}
    with replays.once(digest(["secret"], headers), 10):
        pass
    with pytest.raises(BadSignature), replays.once(digest(["secret"], upper), 10):
        pass


def test_at_the_same_moment_one_is_taken_and_the_others_come_again() -> None:
    replays, taken, later = Replays(), [], []
    start, told = threading.Barrier(8), threading.Semaphore(0)

    def send() -> None:
        start.wait(10)
        try:
            with replays.once(b"a", 10):
                for _ in range(7):  # it is under way until each other one was told so
                    assert told.acquire(timeout=10)
                taken.append(1)
        except NotNow:
            later.append(1)
            told.release()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(taken), len(later)) == (1, 7)


def test_memory_is_bounded_and_given_back_with_time() -> None:
    clock = Clock()
    replays = Replays(limit=100, clock=clock)
    for number in range(100):
        with replays.once(number.to_bytes(32), 10.0 + number):
            pass
    # None is forgotten early to make room: forgotten is good again.
    with pytest.raises(NotNow), replays.once(b"new", 10):
        pass
    clock.now += 59.5
    with replays.once(b"new", 10):
        pass
    assert len(replays) == 51
    clock.now += 1000
    with replays.once(b"newer", 10):
        pass
    assert len(replays) == 1
