"""A checkpoint with a limit sees images of at most that size everywhere, and is the same otherwise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.errors import InputError
from codevision_ext.models.max_pixels import limit_images

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn at import, by the dozen


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    use_cpu_if_no_cuda()
    from codevision_ext.models.tiny_model import build, tokenizer_texts  # noqa: PLC0415  after the device is settled

    folder = tmp_path_factory.mktemp(request.param) / "model"
    build(request.param, folder, texts=tokenizer_texts(), hidden=32, layers=1, vision_hidden=32, vision_layers=1)
    return folder


def older(checkpoint: Path, folder: Path) -> Path:
    """Returns the checkpoint with the processor config with which Qwen2.5-VL was published."""
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "processor_config.json").unlink()
    image = json.loads((checkpoint / "processor_config.json").read_text())["image_processor"]
    size = image.pop("size")
    image |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    (folder / "preprocessor_config.json").write_text(json.dumps(image))
    return folder


@pytest.mark.parametrize("way", ["as saved today", "as published"])
def test_the_renderer_of_a_bounded_checkpoint_shrinks_to_the_bound_and_has_the_same_tokens(
    checkpoint: Path, tmp_path: Path, way: str
) -> None:
    from codevision_ext.models.checkpoint import check_alike, renderer_of  # noqa: PLC0415

    source = checkpoint if way == "as saved today" else older(checkpoint, tmp_path / "older")
    large = Image.new("RGB", (600, 300))
    for pixels in (128 * 128, 256 * 256):
        limit_images(source, tmp_path / "bounded", pixels)
        resized = renderer_of(tmp_path / "bounded").resize(large)
        assert pixels / 2 < resized.width * resized.height <= pixels
        check_alike(source, tmp_path / "bounded")
    assert renderer_of(source).resize(large).width == renderer_of(checkpoint).resize(large).width, (
        "the checkpoint itself is as it was"
    )


@pytest.mark.parametrize(
    ("files", "pixels", "message"),
    [
        ({}, 9999, "no image processor in processor_config.json or preprocessor_config.json"),
        ({"processor_config.json": "{"}, 9999, r"processor_config.json: isn't JSON"),
        ({"processor_config.json": "[]"}, 9999, r"processor_config.json: isn't a JSON object"),
        ({"processor_config.json": '{"processor_class": "x"}'}, 9999, "no image processor"),
        (
            {"preprocessor_config.json": '{"min_pixels": 3136}'},
            3135,
            "3135 pixels are fewer than the 3136 of its smallest image",
        ),
    ],
)
def test_what_is_no_checkpoint_or_too_small_a_bound_is_refused_and_nothing_is_written(
    tmp_path: Path, files: dict[str, str], pixels: int, message: str
) -> None:
    (tmp_path / "model").mkdir()
    for name, text in files.items():
        (tmp_path / "model" / name).write_text(text)
    with pytest.raises(InputError, match=message):
        limit_images(tmp_path / "model", tmp_path / "out", pixels)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_never_replaced_by_links_to_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the checkpoint itself"):
        limit_images(tmp_path, tmp_path / "." / "", 9999)


def test_the_command_is_one_sentence_and_exit_code_2() -> None:
    for words in (["/none", "/out", "many"], ["/none", "/tmp/never", "9999"]):
        call = [sys.executable, "-m", "codevision_ext.models.max_pixels", *words]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("codevision: ")
        assert len(done.stderr.splitlines()) == 1
