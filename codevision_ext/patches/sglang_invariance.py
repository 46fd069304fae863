"""Patch of SGLang on the CPU: makes the log-probs of a request independent of the other requests of its batch.

A matrix product of one to three rows uses other kernels than a product of more rows, and sums in another order. So rows
of zeros are added to small products. The images of a request go through the vision tower one by one. Together with the
attention of `sglang_attention`, and without SGLang's prefix cache and chunked prefill (`SETTINGS`), the log-probs of a
request depend only on its tokens, its images and the weights, to the last bit.

Drop when SGLang's deterministic mode runs on a CPU.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import torch
from sglang.srt.layers.logits_processor import LogitsProcessor
from sglang.srt.layers.quantization.unquant import UnquantizedEmbeddingMethod, UnquantizedLinearMethod
from sglang.srt.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from sglang.srt.models.qwen3_vl import Qwen3VLForConditionalGeneration

from codevision_ext.errors import EngineError
from codevision_ext.patches.guard import expect

SETTINGS: Final = {"disable_radix_cache": True, "chunked_prefill_size": -1}
"""Settings of SGLang with which a prompt is computed whole, whatever requests came before."""
LEAST_ROWS: Final = 16
"""Minimum number of rows of a matrix product."""
_ROWS_CHECKED: Final = (16, 17, 31, 64, 257, 1000)
"""Numbers of rows for which `check_product` compares products, once for each shape of weights."""
_checked: set[tuple[int, int]] = set()


def check_product(outputs: int, inputs: int) -> None:
    """Checks that the product of a row with weights of this shape doesn't depend on the other rows of the matrix.

    Raises:
        EngineError: On this machine, the product depends on the number of rows.
    """
    if (outputs, inputs) in _checked:
        return
    generator = torch.Generator().manual_seed(0)
    weights, row = torch.randn(outputs, inputs, generator=generator), torch.randn(inputs, generator=generator)
    results = []
    for rows in _ROWS_CHECKED:
        matrix = torch.randn(rows, inputs, generator=generator)
        for place in (0, rows // 2, rows - 1):
            matrix[place] = row
            results.append(torch.nn.functional.linear(matrix, weights)[place])
    if not all(torch.equal(result, results[0]) for result in results):
        raise EngineError(
            f"codevision.deterministic: on this machine a product with weights of {outputs} x {inputs} depends on the "
            "number of rows; set OMP_NUM_THREADS=1, or turn the setting off"
        )
    _checked.add((outputs, inputs))


def padded(product: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    """Returns `product(rows)`, computed with rows of zeros appended up to LEAST_ROWS."""
    flat = rows.reshape(-1, rows.shape[-1])
    if len(flat) >= LEAST_ROWS:
        return product(rows)
    result = product(torch.nn.functional.pad(flat, (0, 0, 0, LEAST_ROWS - len(flat))))
    return result[: len(flat)].reshape(*rows.shape[:-1], result.shape[-1])


def patch() -> None:
    """Pads small products, and computes images one by one.

    Raises:
        CompatError: SGLang isn't the version that the patch was written for.
    """
    written_for = "SGLang 0.5.14"
    for method in (UnquantizedLinearMethod, UnquantizedEmbeddingMethod):
        method.apply = _padded_apply(expect(method, "apply", "F.linear(x, layer.weight, bias)", of=written_for))
    stock_head = expect(LogitsProcessor, "_compute_lm_head", "lm_head.weight.T", of=written_for)

    @wraps(stock_head)
    def _compute_lm_head(self: Any, hidden_states: torch.Tensor, lm_head: Any, *rest: Any) -> torch.Tensor:
        check_product(*lm_head.weight.shape)
        return padded(lambda rows: stock_head(self, rows, lm_head, *rest), hidden_states)

    LogitsProcessor._compute_lm_head = _compute_lm_head
    for model in (Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration):
        stock = expect(model, "get_image_feature", "torch.cat([item.feature for item in items], dim=0)", of=written_for)
        model.get_image_feature = _one_by_one(stock)


def _padded_apply(stock: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @wraps(stock)
    def apply(self: Any, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        check_product(*layer.weight.shape)
        return padded(lambda rows: stock(self, layer, rows, bias), x)

    return apply


def _one_by_one(stock: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @wraps(stock)
    def get_image_feature(self: Any, items: list[Any]) -> torch.Tensor:
        return torch.cat([stock(self, [item]) for item in items])

    return get_image_feature
