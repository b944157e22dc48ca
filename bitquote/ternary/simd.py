"""AVX2 for numba: vectors as values that LLVM keeps in registers, and the few operations that the kernels need.

Every operation is one instruction or two. `pmaddubsw`, the one that LLVM does not find by itself, multiplies 32
unsigned bytes by 32 signed ones and adds neighbouring products to 16 words. Where there is no AVX2 (`AVAILABLE` is
False) that one compiles to a trap, and callers branch around it.
"""

# pyright: reportUntypedFunctionDecorator=none

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import populate_array

AVAILABLE = "+avx2" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")
"""Whether numba compiles for AVX2 here: the processor has it, and no variable of numba's leaves it out."""

_BYTE, _WORD, _INT = ir.IntType(8), ir.IntType(16), ir.IntType(32)


class Vector(types.Type):
    """A vector of LLVM as a type of numba: so many items of this kind."""

    def __init__(self, item: ir.Type, lanes: int) -> None:
        self.llvm = ir.VectorType(item, lanes)
        super().__init__(name=f"Vector({self.llvm})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.llvm)


BYTES, WORDS, DOUBLES = Vector(_BYTE, 32), Vector(_WORD, 16), Vector(ir.DoubleType(), 16)


@intrinsic
def load(context, array, index):
    """The 32 bytes of `array`, of one-byte items, from `index` on; any alignment."""

    def generate(context, builder, signature, arguments):
        return builder.load(_address(context, builder, signature, arguments, BYTES.llvm), align=1)

    return BYTES(array, types.intp), generate


@intrinsic
def repeat_pair(context, array, index):
    """The two bytes of `array`, of one-byte items, from `index` on, sixteen times."""

    def generate(context, builder, signature, arguments):
        pair = builder.load(_address(context, builder, signature, arguments, _WORD), align=1)
        return builder.bitcast(_splat(builder, pair, WORDS.llvm), BYTES.llvm)

    return BYTES(array, types.intp), generate


@intrinsic
def repeat(context, number):
    """The low 16 bits of an integer, sixteen times."""

    def generate(context, builder, signature, arguments):
        return _splat(builder, builder.trunc(arguments[0], _WORD), WORDS.llvm)

    return WORDS(types.int64), generate


@intrinsic
def add(context, a, b):
    """Lane by lane; a word that overflows wraps around."""

    def generate(context, builder, signature, arguments):
        return builder.add(*arguments)

    return WORDS(WORDS, WORDS), generate


@intrinsic
def multiply_add(context, unsigned, signed):
    """16 words: unsigned[2i] · signed[2i] + unsigned[2i + 1] · signed[2i + 1] (`pmaddubsw`)."""

    def generate(context, builder, signature, arguments):
        if not AVAILABLE:
            return _trap(builder, WORDS.llvm)
        kind = ir.FunctionType(WORDS.llvm, [BYTES.llvm, BYTES.llvm])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.pmadd.ub.sw")
        return builder.call(call, arguments)

    return WORDS(BYTES, BYTES), generate


@intrinsic(prefer_literal=True)
def two_bits(context, vector, place):
    """Of every byte the two bits number `place` (0 to 3, a literal), as a number from 0 to 3."""
    if not isinstance(place, types.IntegerLiteral):
        return None
    shift = 2 * place.literal_value

    def generate(context, builder, signature, arguments):
        vector = builder.bitcast(arguments[0], WORDS.llvm)
        if shift:
            vector = builder.lshr(vector, ir.Constant(WORDS.llvm, [shift] * 16))
        return builder.and_(builder.bitcast(vector, BYTES.llvm), ir.Constant(BYTES.llvm, [3] * 32))

    return BYTES(BYTES, place), generate


@intrinsic
def shift(context, vector, count):
    """Every 16 bits shifted right by `count`."""

    def generate(context, builder, signature, arguments):
        words = builder.bitcast(arguments[0], WORDS.llvm)
        counts = _splat(builder, builder.trunc(arguments[1], _WORD), WORDS.llvm)
        return builder.bitcast(builder.lshr(words, counts), BYTES.llvm)

    return BYTES(BYTES, types.int64), generate


@intrinsic
def store_words(context, array, index, words):
    """Write 16 words to int32 `array` from `index` on."""

    def generate(context, builder, signature, arguments):
        wide = ir.VectorType(_INT, 16)
        place = _address(context, builder, signature, arguments, wide)
        builder.store(builder.sext(arguments[2], wide), place, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, WORDS), generate


@intrinsic
def add_words(context, array, index, words):
    """Add 16 words to those of int32 `array` from `index` on."""

    def generate(context, builder, signature, arguments):
        wide = ir.VectorType(_INT, 16)
        place = _address(context, builder, signature, arguments, wide)
        builder.store(builder.add(builder.load(place, align=4), builder.sext(arguments[2], wide)), place, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, WORDS), generate


@intrinsic
def zeros(context):
    """16 times 0.0."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(DOUBLES.llvm, [0.0] * 16)

    return DOUBLES(), generate


@intrinsic
def widen(context, array, index):
    """16 items of `array`, int8 or float32, from `index` on, as float64: exact. Any processor can."""

    def generate(context, builder, signature, arguments):
        item = context.get_data_type(array.dtype)
        kind = ir.VectorType(item, 16)
        items = builder.load(_address(context, builder, signature, arguments, kind), align=array.dtype.bitwidth // 8)
        return (builder.fpext if array.dtype == types.float32 else builder.sitofp)(items, DOUBLES.llvm)

    return DOUBLES(array, types.intp), generate


@intrinsic
def multiply_into(context, total, a, b):
    """total + a · b, lane by lane. Any processor can."""

    def generate(context, builder, signature, arguments):
        total, a, b = arguments
        return builder.fadd(total, builder.fmul(a, b))

    return DOUBLES(DOUBLES, DOUBLES, DOUBLES), generate


@intrinsic
def sum_halves(context, doubles):
    """The sum of 16 numbers: the upper half is added to the lower until one is left."""

    def generate(context, builder, signature, arguments):
        (left,), lanes = arguments, 16
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(left.type, ir.Undefined)
            half = [
                builder.shuffle_vector(left, undefined, ir.Constant(ir.VectorType(_INT, lanes), list(places)))
                for places in (range(lanes), range(lanes, 2 * lanes))
            ]
            left = builder.fadd(*half)
        return builder.extract_element(left, ir.Constant(_INT, 0))

    return types.float64(DOUBLES), generate


def _on_stack(dtype: types.Type) -> Any:
    """An intrinsic that makes an array of `dtype` on the stack of the calling function: nothing is allocated."""

    @intrinsic(prefer_literal=True)
    def make(context, size):
        """A contiguous array of `size` items (a literal), not initialised; gone when the calling function returns."""
        if not isinstance(size, types.IntegerLiteral):
            return None
        count, kind = size.literal_value, types.Array(dtype, 1, "C")

        def generate(context, builder, signature, arguments):
            item = context.get_data_type(dtype)
            with builder.goto_entry_block():  # numba's own `alloca_once` would fill it with zeros at every call
                space = builder.alloca(ir.ArrayType(item, count))
            space.align = 64
            array = context.make_array(kind)(context, builder)
            width = context.get_abi_sizeof(item)
            strides = [context.get_constant(types.intp, width)]
            populate_array(
                array,
                data=builder.bitcast(space, item.as_pointer()),
                shape=[context.get_constant(types.intp, count)],
                strides=strides,
                itemsize=context.get_constant(types.intp, width),
                meminfo=None,
            )
            return array._getvalue()

        return kind(size), generate

    return make


stack_bytes = _on_stack(types.int8)
stack_ints = _on_stack(types.int32)
stack_floats = _on_stack(types.float32)


def _address(context: Any, builder: Any, signature: Any, arguments: Any, kind: Any) -> Any:
    """Where item `arguments[1]` of the array `arguments[0]` lies, as a pointer to `kind`."""
    array = context.make_array(signature.args[0])(context, builder, value=arguments[0])
    return builder.bitcast(builder.gep(array.data, [arguments[1]]), kind.as_pointer())


def _splat(builder: Any, value: Any, kind: Any) -> Any:
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT, 0))
    zeros = ir.Constant(ir.VectorType(_INT, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def _trap(builder: Any, kind: Any) -> Any:
    builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.trap"), [])
    return ir.Constant(kind, ir.Undefined)
