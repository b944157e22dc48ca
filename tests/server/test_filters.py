"""The filters of pushes and pulls: round trips, expectations, and what hostile bytes do (nothing)."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitquote.server import filters, packing
from bitquote.server.config import ServerConfig
from bitquote.server.filters import GradientPacker, WeightPacker, refusal
from bitquote.server.packing import Encoding, KeyCache, Unpackable, pack, unpack

FLOATS = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-(2.0**60), 2.0**60, width=32))


def packer(size, seed=0, tensors=None, **settings):
    settings = {"aggregate": "sum"} | settings if "kkt_slack" in settings else settings
    return GradientPacker(ServerConfig(**settings), size, np.random.default_rng(seed), tensors)


def gradient(size, seed=0):
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


# The guard.


@given(FLOATS, st.sampled_from([1.0, 1e3, 1e15, 1e18]))
def test_guard_refuses_what_is_beyond_the_largest_and_nothing_else(values, largest):
    assert refusal(values, largest) == ("too_large" if np.abs(values).max() > largest else None)


@given(FLOATS, st.data())
def test_guard_refuses_what_is_not_finite(values, data):
    values[data.draw(st.integers(0, len(values) - 1))] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    assert refusal(values, 1e18) == "nonfinite"


def test_guard_accepts_a_legal_gradient_whose_sum_of_squares_overflows_float32():
    values = np.full(100_000, -1e18, np.float32)
    assert refusal(values, float(np.float32(1e18))) is None
    values[17] = np.nextafter(np.float32(-1e18), np.float32(-np.inf))
    assert refusal(values, float(np.float32(1e18))) == "too_large"


def test_guard_is_exact_around_its_bound():
    for largest in (1.0, 3.0, 1e15, 1e18):
        edge = np.float32(largest)
        edge = edge if float(edge) <= largest else np.nextafter(edge, np.float32(0))
        assert refusal(np.array([0, -edge], np.float32), largest) is None
        assert refusal(np.array([0, np.nextafter(edge, np.float32(np.inf))], np.float32), largest) == "too_large"


def test_guard_looks_into_views_and_takes_nothing_for_legal():
    values = np.zeros(10, np.float32)
    values[4] = np.nan
    assert refusal(values[::2], 1.0) == "nonfinite"
    assert refusal(values[1::2], 1.0) is None
    assert refusal(np.empty(0, np.float32), 1.0) is None


# Round trips.


def test_without_filters_a_gradient_goes_through_uncopied():
    plain, values = packer(5), gradient(5)
    packet = plain.pack(values)
    assert plain.plain and packet == (Encoding.PLAIN, values)
    assert packet.values is values
    assert unpack(0, values, 5).values is values


@given(st.data(), st.integers(1, 200))
def test_what_is_packed_is_unpacked(data, size):
    """Any keys, mask and active set, both codings, with and without a cache."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    keys = np.flatnonzero(rng.random(size) < data.draw(st.floats(0, 1))) if data.draw(st.booleans()) else None
    count = size if keys is None else len(keys)
    mask = rng.random(count) < data.draw(st.floats(0, 1)) if data.draw(st.booleans()) else None
    kept = count if mask is None else int(mask.sum())
    active = rng.random(size) < 0.5 if data.draw(st.booleans()) else None
    ternary = data.draw(st.booleans())
    # Values that ternary coding keeps: all of one magnitude a tensor.
    values = (rng.integers(0, 2, count) * 2 - 1).astype(np.float32) * np.float32(0.37)
    if not ternary:
        values = rng.standard_normal(count).astype(np.float32)
    first = data.draw(st.integers(0, kept))
    tensors = np.array([first, kept - first]) if ternary else None
    sender, receiver = KeyCache(), KeyCache()
    for sent in range(2):
        packet = pack(values, size, keys, mask, tensors, rng, sender, active)
        got = unpack(packet.encoding, packet.values, size, receiver)
        np.testing.assert_array_equal(got.values, values if mask is None else np.where(mask, values, np.float32(0)))
        assert got.values.dtype == np.float32
        for wanted, seen in ((keys, got.keys), (active, got.active)):
            assert (wanted is None) == (seen is None)
            np.testing.assert_array_equal(wanted, seen)
        assert (packet.encoding == Encoding.CACHED) == (keys is not None and sent == 1)
        assert len(sender) == len(receiver) == (keys is not None)


# Ternary gradients.


def test_ternary_takes_two_bits_a_key():
    packet = packer(1_000_000, ternary_gradients=True).pack(gradient(1_000_000))
    assert packet.encoding == Encoding.TERNARY
    assert 4 * 1_000_000 / len(packet.values) == pytest.approx(16.0, rel=1e-3)


@given(FLOATS, st.integers(0, 2**32), st.data())
def test_ternary_values_are_zero_or_the_scale_of_their_tensor(values, seed, data):
    cut = data.draw(st.integers(0, len(values)))
    packet = packer(len(values), seed, np.array([cut]), ternary_gradients=True).pack(values)
    got = unpack(packet.encoding, packet.values, len(values)).values
    for part, original in ((got[:cut], values[:cut]), (got[cut:], values[cut:])):
        scale = np.abs(original).max(initial=0)
        assert np.all((part == 0) | (part == scale * np.sign(original)))
        if scale > 2.0**-100:  # (below about 2^-126 draws are coarser)
            assert np.all(part[np.abs(original) == scale] != 0)


def test_ternary_gradients_of_zeros_are_zeros():
    packet = packer(9, ternary_gradients=True).pack(np.zeros(9, np.float32))
    np.testing.assert_array_equal(unpack(packet.encoding, packet.values, 9).values, np.zeros(9, np.float32))


def deviations(settings, draws, size=64):
    """How many standard errors the mean of `draws` packings is off, per entry; and its largest standard error."""
    values = gradient(size, 3)
    sender = packer(size, 5, np.array([size // 3]), **settings)
    samples = np.empty((draws, size))
    for sample in samples:
        packet = sender.pack(values)
        sample[:] = unpack(packet.encoding, packet.values, size).values
    errors = samples.std(0) / draws**0.5
    off = np.abs(samples.mean(0) - values)
    exact = errors == 0  # a tensor's largest entry is always kept
    assert np.all(off[exact] == 0)
    return off[~exact] / errors[~exact]


@pytest.mark.parametrize(
    "settings",
    [
        {"ternary_gradients": True},
        {"random_skip": 0.3},
        {"ternary_gradients": True, "random_skip": 0.5},
    ],
)
def test_packed_gradients_are_right_on_average(settings):
    """Within 4.5 standard errors in each of 64 entries: 0.04 % to fail by chance, and the seeds are fixed. The mean
    square is near 1, so the standard errors themselves are not too large."""
    off = deviations(settings, 4000)
    assert off.max() < 4.5
    assert 0.5 < np.mean(off**2) < 1.7


def test_the_same_seed_gives_the_same_packets():
    settings = {"ternary_gradients": True, "random_skip": 0.5}
    one, two, other = packer(50, 1, **settings), packer(50, 1, **settings), packer(50, 2, **settings)
    packets = [[p.pack(gradient(50, i)).values.tobytes() for i in range(5)] for p in (one, two, other)]
    assert packets[0] == packets[1] != packets[2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("settings", [{"ternary_gradients": True}, {"random_skip": 0.9}])
def test_a_gradient_that_is_not_finite_is_refused_however_it_is_packed(bad, settings):
    values = gradient(200)
    values[:] = bad
    packet = packer(200, **settings).pack(values)
    try:
        reason = refusal(unpack(packet.encoding, packet.values, 200).values, 1e15)
    except Unpackable as error:
        reason = error.reason
    assert reason == "nonfinite"


def test_random_skip_saves_about_what_it_leaves_out():
    packet = packer(100_000, random_skip=0.25).pack(gradient(100_000))
    assert packet.encoding == Encoding.SPARSE
    assert len(packet.values) / (4 * 100_000) == pytest.approx(0.25 + 1 / 32, abs=0.01)


def test_a_part_of_the_keys_has_the_scales_of_its_tensors():
    values = np.repeat(np.float32([1, 2, 3]), 4)
    sender = packer(12, 0, np.array([4, 8]), ternary_gradients=True)
    for start, stop in ((0, 12), (2, 6), (4, 8), (5, 12), (11, 12)):
        packet = sender.pack(values[start:stop], start)
        np.testing.assert_array_equal(unpack(packet.encoding, packet.values, stop - start).values, values[start:stop])


# Key lists.


def test_a_key_list_travels_once_and_a_miss_asks_for_it():
    sender, receiver, keys = KeyCache(), KeyCache(), np.arange(0, 9000, 3)
    values = gradient(len(keys))
    first = pack(values, 9000, keys, cache=sender)
    again = pack(values, 9000, keys, cache=sender)
    assert (first.encoding, again.encoding) == (Encoding.SPARSE, Encoding.CACHED)
    assert len(again.values) == len(first.values) - 1128  # 9000 bits, padded
    with pytest.raises(Unpackable, match="send the list") as miss:
        unpack(again.encoding, again.values, 9000, receiver)
    assert miss.value.reason == "keys"
    sender.clear()
    for packet in (pack(values, 9000, keys, cache=sender), pack(values, 9000, keys, cache=sender)):
        np.testing.assert_array_equal(unpack(packet.encoding, packet.values, 9000, receiver).keys, keys)
    with pytest.raises(Unpackable):  # for a range of another size it is no list
        unpack(again.encoding, again.values, 8998, receiver)


def test_a_receiver_without_a_cache_misses():
    sender = KeyCache()
    packets = [pack(np.ones(1, np.float32), 8, np.array([3]), cache=sender) for _ in range(2)]
    with pytest.raises(Unpackable) as miss:
        unpack(packets[1].encoding, packets[1].values, 8)
    assert miss.value.reason == "keys"


@given(st.lists(st.integers(0, 7), max_size=60))
def test_both_caches_are_bounded_and_forget_alike(order):
    sender, receiver = KeyCache(), KeyCache()
    for number in order:
        keys = np.arange(number + 1)
        packet = pack(np.ones(number + 1, np.float32), 10, keys, cache=sender)
        np.testing.assert_array_equal(unpack(packet.encoding, packet.values, 10, receiver).keys, keys)
        assert len(sender) == len(receiver) <= packing.LISTS_KEPT


# The KKT filter.


def test_active_keys_are_those_that_can_move():
    weights = np.float32([0, 0, 0, 1, -1, 0])
    slope = np.float32([0.5, -0.9, 0.8, 0, 0, np.nan])
    np.testing.assert_array_equal(
        filters.active_keys(weights, slope, l1=1.0, slack=0.2), [False, True, False, True, True, True]
    )
    assert filters.active_keys(weights, slope, l1=1.0, slack=2.0).all()


def test_kkt_sends_active_keys_and_everything_at_every_tenth_push():
    sender, receiver = packer(1000, kkt_slack=0.0), KeyCache()
    active = np.arange(1000) % 7 == 0
    for push in range(25):
        values = gradient(1000, push)
        packet = sender.pack(values)
        got = unpack(packet.encoding, packet.values, 1000, receiver)
        if push % 10 == 0:
            assert packet.encoding == Encoding.PLAIN
            np.testing.assert_array_equal(got.values, values)
        else:
            assert packet.encoding == (Encoding.SPARSE if push == 1 else Encoding.CACHED)
            np.testing.assert_array_equal(got.keys, np.flatnonzero(active))
            np.testing.assert_array_equal(got.values, values[active])
        sender.active = active


def test_kkt_of_a_part_of_the_keys():
    sender = packer(10, kkt_slack=0.0)
    sender.pack(gradient(10))
    sender.active = np.arange(10) >= 5
    packet = sender.pack(gradient(4), start=3)
    got = unpack(packet.encoding, packet.values, 4)
    np.testing.assert_array_equal(got.keys, [2, 3])
    np.testing.assert_array_equal(got.values, gradient(4)[2:])
    sender.active = None
    assert sender.pack(gradient(4), start=3).encoding == Encoding.PLAIN


def test_kkt_with_random_skip_and_ternary_tells_absent_keys_from_zeros():
    sender = packer(400, kkt_slack=0.0, random_skip=0.5, ternary_gradients=True, tensors=np.array([100, 300]))
    sender.pack(gradient(400))
    sender.active = np.arange(400) % 2 == 0
    got = unpack(*sender.pack(gradient(400)), 400)
    np.testing.assert_array_equal(got.keys, np.arange(0, 400, 2))
    assert 0.5 < np.mean(got.values == 0) < 1.0
    for first, last in ((0, 100), (100, 300), (300, 400)):
        some = np.abs(got.values[first // 2 : last // 2])
        assert len(np.unique(some)) == 2


def test_an_active_set_of_no_keys_is_a_push_of_nothing():
    for ternary in (False, True):
        sender = packer(8, kkt_slack=0.0, ternary_gradients=ternary)
        sender.pack(gradient(8))
        sender.active = np.zeros(8, bool)
        got = unpack(*sender.pack(gradient(8)), 8)
        assert len(got.values) == len(got.keys) == 0


# Significantly modified.


@given(st.integers(0, 2**32), st.floats(0.01, 2.0), st.booleans())
def test_pulls_are_never_further_off_than_the_threshold(seed, significance, kkt):
    rng = np.random.default_rng(seed)
    size = 300
    settings = {"aggregate": "sum", "kkt_slack": 0.1} if kkt else {}
    sender = WeightPacker(ServerConfig(significance=significance, **settings), size)
    weights = rng.standard_normal(size).astype(np.float32)
    held = np.full(size, np.nan, np.float32)
    for pull in range(1, 8):
        start, stop = sorted(rng.choice(size + 1, 2, replace=False)) if pull % 3 == 0 else (0, size)
        active = rng.random(size) < 0.5
        packet = sender.pack(weights, start, stop, active)
        got = unpack(packet.encoding, packet.values, stop - start)
        part = held[start:stop]
        before = part.copy()
        part[slice(None) if got.keys is None else got.keys] = got.values
        threshold = significance / pull**0.5
        assert np.all(np.abs(part - weights[start:stop]) <= threshold)
        if got.keys is not None:
            # What was sent had moved, and what had not moved was not sent.
            np.testing.assert_array_equal(
                got.keys, np.flatnonzero(~(np.abs(weights[start:stop] - before) <= threshold))
            )
        assert (got.active is not None) == (kkt and stop - start == size)
        if got.active is not None:
            np.testing.assert_array_equal(got.active, active)
        # From few weights to nearly all: these come as plain values, though some had not moved enough.
        weights += (rng.standard_normal(size) * (rng.random(size) < rng.random())).astype(np.float32)
        np.testing.assert_array_equal(held, sender.state()["synced"])
        if pull == 1:
            assert got.keys is None
    sender.reset()
    packet = sender.pack(weights, 0, size)
    np.testing.assert_array_equal(unpack(packet.encoding, packet.values, size).values, weights)


def test_unmoved_weights_cost_nothing_to_pull():
    sender = WeightPacker(ServerConfig(significance=0.1), 10_000)
    weights = gradient(10_000)
    assert sender.pack(weights, 0, 10_000).encoding == Encoding.PLAIN
    packet = sender.pack(weights, 0, 10_000)
    assert len(packet.values) < 50


def test_without_filters_a_pull_is_a_view():
    sender, weights = WeightPacker(ServerConfig(), 10), gradient(10)
    assert sender.plain and sender.pack(weights, 2, 5).values.base is weights
    assert sender.state() == {}


def test_a_weight_packer_goes_on_from_its_state():
    config, weights = ServerConfig(significance=0.5), gradient(100)
    one, two = WeightPacker(config, 100), WeightPacker(config, 100)
    one.pack(weights, 0, 100)
    weights[:7] += 1.0
    two.load(one.state())
    assert one.pack(weights, 0, 100).values.tobytes() == two.pack(weights, 0, 100).values.tobytes()
    three = WeightPacker(config, 99)
    three.load(one.state())  # of another size: it starts anew, with everything
    assert three.pack(weights[:99], 0, 99).encoding == Encoding.PLAIN


# Hostile bytes.


def some_packets():
    rng, cache, keys = np.random.default_rng(0), KeyCache(), np.arange(0, 100, 3)
    lengths, mask = np.array([10, len(keys) - 10]), rng.random(len(keys)) < 0.5
    values = gradient(len(keys))
    packets = [
        pack(gradient(100), 100, tensors=np.array([60, 40]), rng=rng),
        pack(values, 100, keys, cache=cache),
        pack(values, 100, keys, cache=cache),
        pack(values[:2], 100, keys[:2], tensors=np.array([2]), rng=rng),
        pack(values, 100, keys, mask, np.array([mask.sum()]), rng, active=np.ones(100, bool)),
        pack(values, 100, keys, tensors=lengths, rng=rng),
    ]
    receiver = KeyCache()
    unpack(packets[1].encoding, packets[1].values, 100, receiver)
    return packets, receiver


@given(st.data())
def test_changed_packets_are_refused_or_harmless(data):
    """Flipped bits, cuts and additions: an Unpackable with a known reason, or an array of the right size."""
    packets, receiver = some_packets()
    packet = data.draw(st.sampled_from(packets))
    raw = bytearray(packet.values.tobytes())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, max(min(len(raw) - 1, 60), 0)) | st.integers(0, max(len(raw) - 1, 0)))
        if raw:
            raw[at] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.just(len(raw)) | st.integers(0, len(raw)))] + data.draw(
        st.just(b"") | st.binary(max_size=9)
    )
    encoding = data.draw(st.just(packet.encoding) | st.integers(-1, 5))
    check_unpacked(encoding, np.frombuffer(bytes(raw), np.uint8), 100, receiver)


@given(st.binary(max_size=200), st.integers(-5, 300), st.integers(0, 64))
def test_garbage_is_refused_or_harmless(raw, encoding, size):
    check_unpacked(encoding, np.frombuffer(raw, np.uint8), size, KeyCache())


def check_unpacked(encoding, values, size, cache):
    try:
        got = unpack(encoding, values, size, cache)
    except Unpackable as error:
        assert error.reason in ("shape", "keys", "nonfinite")
        assert "\n" not in str(error)
        return
    assert got.values.dtype == np.float32
    if got.keys is None:
        assert got.values.shape == (size,)
    else:
        assert got.values.shape == got.keys.shape
        assert np.all(np.diff(got.keys) > 0)
        assert len(got.keys) == 0 or 0 <= got.keys[0] <= got.keys[-1] < size
    assert got.active is None or got.active.shape == (size,)
    assert len(cache) <= packing.LISTS_KEPT


@pytest.mark.parametrize(
    ("encoding", "values"),
    [
        (0, None),
        (0, np.zeros(7, np.float32)),
        (0, np.zeros((8, 1), np.float32)),
        (0, np.zeros(8, np.float64)),
        (0, np.zeros(32, np.uint8)),
        (0, [0.0] * 8),
        (1, np.zeros(8, np.float32)),
        (1, np.zeros((4, 8), np.uint8)),
        (1, np.zeros(23, np.uint8)),
        (4, np.zeros(64, np.uint8)),
        (-1, np.zeros(64, np.uint8)),
        (255, np.zeros(8, np.float32)),
    ],
)
def test_what_has_not_the_shape_is_refused_as_such(encoding, values):
    with pytest.raises(Unpackable) as refused:
        unpack(encoding, values, 8)
    assert refused.value.reason == "shape"


def sparse(keys, size=100, count=None):
    """A packet with any key list, even a wrong one."""
    listed = np.asarray(keys, "<u4").tobytes()
    count = len(keys) if count is None else count
    header = struct.pack("<BBBBIII8s", 0, 1, 0, 0, size, count, count, bytes(8))
    return np.frombuffer(header + listed + bytes(4 * count), np.uint8)


@pytest.mark.parametrize("keys", [[100], [3, 3], [5, 4], [1, 2**32 - 1], [0, 99, 50]])
def test_key_lists_that_are_none_are_refused(keys):
    assert unpack(2, sparse([0, 50, 99]), 100).keys.tolist() == [0, 50, 99]
    with pytest.raises(Unpackable) as refused:
        unpack(2, sparse(keys), 100, KeyCache())
    assert refused.value.reason == "keys"


@pytest.mark.parametrize(("scale", "reason"), [(np.nan, "nonfinite"), (np.inf, "nonfinite"), (-1.0, "shape")])
def test_a_scale_that_is_none_is_refused(scale, reason):
    raw = bytearray(pack(gradient(8), 8, tensors=np.array([8]), rng=np.random.default_rng(0)).values.tobytes())
    raw[32:36] = np.float32(scale).tobytes()  # after the header, the number of tensors and one length
    with pytest.raises(Unpackable) as refused:
        unpack(1, np.frombuffer(bytes(raw), np.uint8), 8)
    assert refused.value.reason == reason


def test_a_fourth_sign_is_refused():
    raw = bytearray(pack(gradient(8), 8, tensors=np.array([8]), rng=np.random.default_rng(0)).values.tobytes())
    raw[-1] = 0b11000000
    with pytest.raises(Unpackable, match="sign"):
        unpack(1, np.frombuffer(bytes(raw), np.uint8), 8)


def test_a_scale_beyond_the_largest_gradient_is_refused_by_the_guard():
    packet = packer(8, ternary_gradients=True).pack(np.full(8, 1e16, np.float32))
    assert refusal(unpack(packet.encoding, packet.values, 8).values, 1e15) == "too_large"
