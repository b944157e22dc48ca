"""Frames, and the memory that goes with them: what is packed comes out, and nothing else is believed."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitquote.server.errors import ProtocolError, Rejected
from bitquote.server.message import Kind, Message, Reply, Status
from bitquote.server.shm import wire
from bitquote.server.shm.memory import NO_PAIR, PAIRS, BegunPage, Slots, anonymous_file, content, file_of

wide = st.integers(0, 2**64 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(st.text(max_size=6), json_values, max_size=4)
messages = st.builds(
    Message,
    st.sampled_from(Kind),
    st.integers(-1, 2**31 - 1),
    *[wide] * 5,
    st.integers(0, 2**16 - 1),
    st.integers(0, 255),
    st.none(),
    bodies,
)
replies = st.builds(
    Reply,
    st.sampled_from(Kind),
    st.sampled_from(Status),
    st.integers(-1, 2**31 - 1),
    *[wide] * 6,
    st.integers(0, 255),
    st.none(),
    bodies,
)


@given(messages)
def test_message_comes_out_as_it_was(message: Message) -> None:
    frame = wire.pack_message(message, NO_PAIR, wire.NOWHERE)
    head = wire.unpack_message(frame[: wire.HEAD])
    assert head.where == wire.NOWHERE and head.pair == NO_PAIR and head.length == 0
    body = wire.parse_body(frame[wire.HEAD :], head.body_sum)
    assert Message(*head.fields, None, body) == message


@given(replies, st.booleans())
def test_reply_comes_out_as_it_was(reply: Reply, granted: bool) -> None:
    frame = wire.pack_reply(reply, 1, wire.NOWHERE, granted)
    head = wire.unpack_reply(frame[: wire.HEAD])
    assert head.pair == 1 and bool(head.granted) == granted
    assert Reply(*head.fields, None, wire.parse_body(frame[wire.HEAD :], head.body_sum)) == reply


@pytest.mark.parametrize(
    ("values", "code"), [(np.zeros(6, np.float32), wire.FLOATS), (np.zeros(7, np.uint8), wire.BYTES)]
)
def test_values_are_announced_with_type_and_length(values: np.ndarray, code: int) -> None:
    frame = wire.pack_message(Message(Kind.PUSH, 0, 1, 2, values=values), 0, wire.SLOT)
    head = wire.unpack_message(frame)
    assert (head.pair, head.where, head.dtype, head.length) == (0, wire.SLOT, code, values.nbytes)


@given(messages, st.integers(0, 8 * wire.HEAD - 1))
def test_every_flipped_bit_of_a_head_is_noticed(message: Message, bit: int) -> None:
    head = bytearray(wire.pack_message(message, NO_PAIR, wire.NOWHERE)[: wire.HEAD])
    head[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        wire.unpack_message(head)


@given(bodies.filter(bool), st.data())
def test_every_flipped_bit_of_a_body_is_noticed(body: dict, data: st.DataObject) -> None:
    frame = wire.pack_message(Message(Kind.COLLECT, body=body), NO_PAIR, wire.NOWHERE)
    head = wire.unpack_message(frame[: wire.HEAD])
    damaged = bytearray(frame[wire.HEAD :])
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError, match="damaged"):
        wire.parse_body(bytes(damaged), head.body_sum)


@given(st.binary(min_size=wire.HEAD, max_size=wire.HEAD))
def test_garbage_is_no_head(data: bytes) -> None:
    for unpack in (wire.unpack_message, wire.unpack_reply):
        with pytest.raises(ProtocolError):
            unpack(data)


def resealed(frame: bytes, **fields: int) -> bytes:
    """A head with some fields changed by somebody who knows how its sum is made."""
    names = "mark kind encoding flags worker pair dtype where epoch sequence version start stop length body body_sum"
    values = dict(zip(names.split(), wire._MESSAGE.unpack_from(frame), strict=True)) | fields
    packed = wire._MESSAGE.pack(*values.values())
    return packed + wire._SUM.pack(wire.zlib.crc32(packed))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": 0},
        {"kind": 99},
        {"mark": 7},
        {"where": 3},
        {"dtype": 2},
        {"body": wire.LARGEST_REQUEST + 1},
        {"pair": PAIRS},
        {"where": wire.SLOT, "pair": NO_PAIR},
        {"length": 4},
        {"kind": Kind.PULL, "where": wire.SLOT, "length": 4},
        {"where": wire.SLOT, "length": 6},
    ],
)
def test_a_head_that_promises_what_cannot_be_is_refused(fields: dict[str, int]) -> None:
    frame = wire.pack_message(Message(Kind.PUSH, 0, 1, 2), 0, wire.NOWHERE)
    wire.unpack_message(resealed(frame))
    with pytest.raises(ProtocolError):
        wire.unpack_message(resealed(frame, **fields))


@pytest.mark.parametrize("body", [b"[1]", b"nonsense", b"\xff\xfe", b"[" * 200_000, b"1" * 10_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.parse_body(body, wire.zlib.crc32(body))


@pytest.mark.parametrize(
    "message",
    [
        Message(Kind.COLLECT, body={"value": object()}),
        Message(Kind.COLLECT, body={"value": "x" * wire.LARGEST_REQUEST}),
        Message(Kind.PUSH, sequence=-1),
        Message(Kind.PUSH, sequence=2**64),
        Message(Kind.PUSH, values=np.zeros(3)),
        Message(Kind.PUSH, values=np.zeros(8, np.float32)[::2]),
    ],
)
def test_what_has_no_form_on_the_wire_is_rejected_where_it_is_made(message: Message) -> None:
    with pytest.raises(Rejected) as caught:
        wire.pack_message(message, NO_PAIR, wire.NOWHERE)
    assert "\n" not in str(caught.value)


def test_hello_tells_the_right_token_from_others() -> None:
    assert wire.verdict(wire.hello("secret"), "secret") == wire.ACCEPTED
    assert wire.verdict(wire.hello("other"), "secret") == wire.WRONG_TOKEN
    newer = wire._HELLO.pack(wire._MAGIC, wire.VERSION + 1, bytes(32))
    assert wire.verdict(newer, "secret") == wire.WRONG_VERSION
    with pytest.raises(ProtocolError):
        wire.verdict(b"GET / HTTP/1.1\r\n".ljust(wire.HELLO), "secret")
    assert b"secret" not in wire.hello("secret")


def test_welcome_says_where_one_is_or_why_not() -> None:
    assert wire.parse_welcome(wire.welcome(wire.ACCEPTED, 2, 5)) == (2, 5)
    for verdict, reason in [(wire.WRONG_TOKEN, "token"), (wire.WRONG_VERSION, "version"), (wire.FULL, "can hold")]:
        with pytest.raises(Rejected, match=reason):
            wire.parse_welcome(wire.welcome(verdict, 0, 1))
    with pytest.raises(Rejected, match="no parameter server"):
        wire.parse_welcome(b"HTTP/1.1 400 Bad Re"[: wire.WELCOME].ljust(wire.WELCOME))


# Memory.


def test_a_file_holds_what_it_was_given_and_is_not_believed_to_hold_more() -> None:
    values = np.arange(1000, dtype=np.float32)
    file = file_of(values)
    try:
        assert (content(file, values.nbytes).view(np.float32) == values).all()
        with pytest.raises(ProtocolError):
            content(file, values.nbytes + 1)
    finally:
        os.close(file)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only memfd can be sealed")
def test_nobody_can_shorten_shared_memory_under_the_others() -> None:
    file = anonymous_file(4096, fixed=True)
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(file, 0)
        with pytest.raises(PermissionError):
            os.ftruncate(file, 8192)
    finally:
        os.close(file)


def test_slots_are_shared_and_do_not_overlap() -> None:
    size = 1001
    file = anonymous_file(Slots.bytes(size), fixed=True)
    try:
        one, other = Slots(file, size), Slots(file, size)
        with pytest.raises(ProtocolError):
            Slots(file, 2 * size)
    finally:
        os.close(file)
    for number, slot in enumerate([*one.gradients, *one.pulls]):
        slot[:] = number
    for number, slot in enumerate([*other.gradients, *other.pulls]):
        assert len(slot) == size and (slot == number).all() and slot.ctypes.data % 64 == 0
    for pair in range(PAIRS):
        assert one.pair_of(one.gradients[pair]) == pair
        assert one.pair_of(one.gradients[pair][:10]) == pair
        assert one.pair_of(one.gradients[pair][1:]) == NO_PAIR
        assert one.pair_of(one.pulls[pair]) == NO_PAIR
        assert one.pair_of(other.gradients[pair]) == NO_PAIR


@pytest.fixture
def page() -> BegunPage:
    file = anonymous_file(BegunPage.SIZE, fixed=True)
    try:
        return BegunPage(file)
    finally:
        os.close(file)


def test_page_remembers_what_each_stay_has_begun(page: BegunPage) -> None:
    page.take(3, 7, 10)
    page.take(3, 8, 0)
    page.take(3, 7, 99)  # has one already
    page.counter(page.line(3, 7))[0] = 12
    assert page.begun() == {(3, 7): (10, 12), (3, 8): (0, 0)}
    assert page.count(3, 7) == 12 and page.count(4, 7) is None and page.over() == []
    page.end(3, 7)
    assert page.over() == [(3, 7)] and page.count(3, 7) == 12
    page.release(3, 7)
    assert page.begun() == {(3, 8): (0, 0)} and page.over() == []
    page.release(3, 7)


def test_page_survives_more_stays_than_it_has_lines(page: BegunPage) -> None:
    for epoch in range(1, 5000):
        page.take(0, epoch, 0)
    assert page.line(0, 1) and not page.line(0, 4999) and page.count(0, 4999) is None
    page.end(0, 4999)
    page.release(0, 1)
    page.take(0, 4999, 5)
    assert page.count(0, 4999) == 5


def test_page_carries_the_term_and_what_successors_need(page: BegunPage) -> None:
    assert (page.term, page.torch, page.saved) == (0, False, False)
    page.term, page.torch, page.saved = 3, True, True
    assert (page.term, page.torch, page.saved) == (3, True, True) and page.begun() == {}
