"""Named tensors through a model that Keras exported, and through graphs of a few nodes."""

import struct
from pathlib import Path

import pytest

from raymart_core.wire.embedding import Tensor
from raymart_serve.engines.onnx.predictor import OnnxPredictor
from raymart_serve.engines.protocol import EngineFailed, RequestRefused
from support.tiny_onnx import floats, model, node, port, tensor

KERAS = Path(__file__).parents[3] / "support" / "models" / "keras_export.onnx"
"""Keras 3.15.1 with torch: `Multiply()([Dense(2, "softmax")(Dense(4, "relu")(numbers)), factor])`, seed 1, by
`model.export(path, format="onnx")`; inputs numbers [batch, 3] and factor [batch, 1]."""


def numbers(found: Tensor) -> list[float]:
    return list(struct.unpack(f"<{len(found.data) // 4}f", found.data))


def keras_inputs(rows: int = 2) -> list[Tensor]:
    data = [1, 2, 3, 0.5, -1, 2][: 3 * rows]
    return [
        Tensor(name="numbers", dtype="float32", shape=(rows, 3), data=floats(data)),
        Tensor(name="factor", dtype="float32", shape=(rows, 1), data=floats([1, 10][:rows])),
    ]


class TestKerasModel:
    async def test_answers_are_those_of_keras(self, start) -> None:
        engine = await start(KERAS)
        [found] = await engine.predict(keras_inputs())
        assert (found.dtype, found.shape) == ("float32", (2, 2))
        # What `model.predict` gave in Keras.
        assert numbers(found) == pytest.approx([0.52964586, 0.47035420, 5.0, 5.0], rel=1e-5)

    async def test_any_number_of_rows_is_taken_in_any_order_of_inputs(self, start) -> None:
        engine = await start(KERAS)
        [found] = await engine.predict(list(reversed(keras_inputs(1))))
        assert numbers(found) == pytest.approx([0.52964586, 0.47035420], rel=1e-5)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda inputs: inputs[:1], "'factor' is missing"),
            (lambda inputs: [*inputs, Tensor(name="more", dtype="bool", shape=(), data=b"\0")], "no input 'more'"),
            (lambda inputs: [inputs[0], Tensor(name="factor", dtype="int32", shape=(2, 1), data=bytes(8))], "is float32, not int32"),
            (lambda inputs: [inputs[0], Tensor(name="factor", dtype="float32", shape=(2,), data=bytes(8))], r"shape \[batch, 1\], not \[2\]"),
            (lambda inputs: [inputs[0], Tensor(name="factor", dtype="float32", shape=(3, 1), data=bytes(12))], "one name is one size"),
        ],
        ids=["missing", "unknown", "dtype", "axes", "batch"],
    )  # fmt: skip
    async def test_wrong_input_is_refused_by_name(self, start, change, says) -> None:
        engine = await start(KERAS)
        with pytest.raises(RequestRefused, match=says) as caught:
            await engine.predict(change(keras_inputs()))
        assert caught.value.param == "inputs"
        assert len(await engine.predict(keras_inputs())) == 1


class TestGraphs:
    @pytest.mark.parametrize(
        ("dtype", "data"),
        [
            ("float64", struct.pack("<2d", 1.5, -2)),
            ("int32", struct.pack("<2i", 7, -7)),
            ("int64", struct.pack("<2q", 2**40, -1)),
            ("uint8", b"\x00\xff"),
            ("bool", b"\x00\x01"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_every_type_goes_in_and_comes_out(self, write, start, dtype, data) -> None:
        content = model(
            [node("Identity", ["x"], ["y"])],
            inputs=[port("x", dtype, ("n",))],
            outputs=[port("y", dtype, ("n",))],
        )
        engine = await start(write(content))
        assert type(engine) is OnnxPredictor
        given = Tensor(name="x", dtype=dtype, shape=(2,), data=data)
        [found] = await engine.predict([given])
        assert (found.name, found.dtype, found.shape, found.data) == ("y", dtype, (2,), data)

    async def test_half_precision_outputs_are_widened(self, write, start) -> None:
        content = model(
            [node("Cast", ["x"], ["y"], to=10)],
            inputs=[port("x", "float32", ("n",))],
            outputs=[port("y", "float16", ("n",))],
        )
        engine = await start(write(content))
        [found] = await engine.predict([Tensor(name="x", dtype="float32", shape=(2,), data=floats([1, 0.5]))])
        assert (found.dtype, numbers(found)) == ("float32", [1, 0.5])

    async def test_memory_that_does_not_exist_fails_the_request_and_the_engine_survives(
        self, write, start
    ) -> None:
        engine = await start(write(sized_model()))
        with pytest.raises(EngineFailed, match="out of memory"):
            await engine.predict([size(2**50)])
        [found] = await engine.predict([size(3)])
        assert found.shape == (3,)
        assert (await engine.health()).state == "ready"

    async def test_answer_over_the_limit_is_refused(self, write, start) -> None:
        engine = await start(write(sized_model()))
        with pytest.raises(RequestRefused, match="outputs have 33554436 bytes, at most 33554432"):
            await engine.predict([size(2**23 + 1)])

    async def test_number_that_the_graph_cannot_use_is_the_customers_error(self, write, start) -> None:
        content = model(
            [node("Gather", ["table", "x"], ["y"])],
            inputs=[port("x", "int64", ("n",))],
            outputs=[port("y", "float32", ("n",))],
            tensors=[tensor("table", "float32", (2,), floats([1, 2]))],
        )
        engine = await start(write(content))
        with pytest.raises(RequestRefused, match="cannot take these inputs") as caught:
            await engine.predict([Tensor(name="x", dtype="int64", shape=(1,), data=struct.pack("<q", 2))])
        assert caught.value.param == "inputs"

    async def test_input_of_a_type_that_is_not_served_fails_the_load(self, write, start) -> None:
        content = model(
            [node("Identity", ["x"], ["y"])],
            inputs=[port("x", "float16", ("n",))],
            outputs=[port("y", "float16", ("n",))],
        )
        engine = await start(write(content), load=False)
        with pytest.raises(EngineFailed, match="export it as float32"):
            await engine.load(lambda _: None)


def sized_model() -> bytes:
    """Zeros, as many as are asked for."""
    return model(
        [node("ConstantOfShape", ["size"], ["y"])],
        inputs=[port("size", "int64", (1,))],
        outputs=[port("y", "float32", ("n",))],
    )


def size(number: int) -> Tensor:
    return Tensor(name="size", dtype="int64", shape=(1,), data=struct.pack("<q", number))
