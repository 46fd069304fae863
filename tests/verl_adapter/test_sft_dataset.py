"""The SFT dataset encodes rows as they are asked for, and keeps as many as a limit of memory allows."""

from pathlib import Path
from typing import Any

import pytest
from sets import coded, scene, write_parquet

pytestmark = pytest.mark.filterwarnings("ignore")  # verl and transformers warn at import, by the dozen
ROWS = 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rows with an image each, and the processor of a tiny model."""
    from omegaconf import OmegaConf  # noqa: PLC0415
    from verl.utils import hf_processor  # noqa: PLC0415

    from codevision_ext.models import tiny_model  # noqa: PLC0415
    from codevision_ext.verl_adapter.sft_dataset import CodeVisionSFTDataset  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("rows")
    sizes = {"hidden": 32, "layers": 1, "vision_hidden": 32, "vision_layers": 1, "vocab_size": 600}
    tiny_model.build("qwen2_5_vl", folder / "model", texts=tiny_model.tokenizer_texts(), **sizes)
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"<image>\nWord {at}?"},
                {"role": "assistant", "content": f"<think>a</think><answer>word{at}</answer>"},
            ],
            "images": [{"bytes": coded(scene(at, (56, 56)))}],
            "tools": "",
        }
        for at in range(ROWS)
    ]
    path: Path = write_parquet(folder / "sft.parquet", rows)
    processor = hf_processor(str(folder / "model"))
    return CodeVisionSFTDataset(str(path), processor.tokenizer, OmegaConf.create({"max_length": 1024}), processor)


def test_rows_beyond_the_limit_of_memory_are_encoded_anew_and_are_the_same(
    dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch  # noqa: PLC0415

    from codevision_ext.verl_adapter import sft_dataset  # noqa: PLC0415

    first = dataset[0]
    assert dataset[0] is first, "below the limit a row is kept"
    pixels = first["multi_modal_inputs"]["pixel_values"]
    assert pixels.nbytes == 56 * 56 * 24
    monkeypatch.setattr(sft_dataset, "KEPT_BYTES", int(2.5 * pixels.nbytes))
    second, third = dataset[1], dataset[2]
    assert dataset[1] is second
    again = dataset[2]
    assert again is not third
    assert torch.equal(again["input_ids"], third["input_ids"])
    assert torch.equal(again["multi_modal_inputs"]["pixel_values"], third["multi_modal_inputs"]["pixel_values"])
