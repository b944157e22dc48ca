"""How numba compiles: the switches of every kernel in one place, and a cache that notices every edit.

`kernel` and `inlined` borrow the arrays of their caller and allocate none, so that numba need not count references
(`_nrt=False`): the atomic counters would cost more than an order book. `inlined` is for the hot path, where the words
that describe a tuple of arrays are worth keeping in registers, `kernel` for the rest. Both are cached on disk and
release the interpreter lock. Never fastmath: prices, cash and quantised weights are exact.
"""

from hashlib import sha256
from pathlib import Path

from numba import njit

_COMPILED = (".", "book", "flow", "market", "recorded", "ternary")  # rooms with kernels

# Every compiled function is optimised again, with all that it calls, by each that calls it: a long chain of calls costs
# minutes. `merged` is for a function with one caller, whose part it becomes before either is compiled, and for one that
# returns views of arrays, whose references are then the caller's to count or not to.
merged = njit(inline="always")
kernel = njit(cache=True, nogil=True, _nrt=False)
inlined = njit(cache=True, nogil=True, _nrt=False, forceinline=True)


def _forget_stale_kernels() -> None:
    """Delete the compiled kernels beside our sources when any of these sources has changed.

    numba looks at the file of a kernel alone, not at the files that it imports: after an edit of the flow the rollout
    would go on running the old one. Where the folder cannot be written, numba's cache is elsewhere and is left alone.
    """
    package = Path(__file__).parent
    sources = sorted(path for room in _COMPILED for path in (package / room).glob("*.py"))
    sources = [path for path in sources if not path.name.endswith("configuration.py")]  # which no kernel reads
    states = [f"{path.relative_to(package)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sources]
    stamp = sha256("\n".join(states).encode()).hexdigest()
    record = package / "__pycache__" / "kernels.stamp"
    try:
        if record.is_file() and record.read_text() == stamp:
            return
        for pattern in ("*.nbi", "*.nbc"):
            for path in package.rglob(f"__pycache__/{pattern}"):
                path.unlink(missing_ok=True)
        record.parent.mkdir(exist_ok=True)
        record.write_text(stamp)
    except OSError:
        return


_forget_stale_kernels()
