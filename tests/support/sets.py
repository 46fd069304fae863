"""Writes small files in each published schema, and runs the data command in this process."""

import base64
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from typer.testing import CliRunner

from data_prep.cli.app import app


def data_prep(*words: object) -> dict[str, Any]:
    """Returns the summary of a command; raises what the command raises."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 1), done.stderr
    summary: dict[str, Any] = json.loads(done.stdout) | {"exit_code": done.exit_code, "stderr": done.stderr}
    return summary


def scene(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Returns an image that every turn and every mirror changes."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def coded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Returns an image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rl_row(index: int = 0, transform: Any = ("rotate_90",), **changes: Any) -> dict[str, Any]:
    """Returns a row of CodeVision-RL; `changes` replace fields of the row, else of its extra_info."""
    question = f"What is word {index}?"
    row: dict[str, Any] = {
        "data_source": "hiertext",
        "prompt": [{"role": "user", "content": f"<image>\n{question}"}],
        "images": [{"bytes": coded(scene(index), "JPEG"), "path": None}],
        "reward_model": {"style": "rule", "ground_truth": f"word{index}"},
        "extra_info": {
            "answer": f"word{index}",
            "bbox": [10, 4, 20, 40],
            "dataset_name": "hiertext",
            "index": index,
            "question": question,
            "split": "train",
            "transform": list(transform) if isinstance(transform, tuple) else transform,
        },
    }
    for name, value in changes.items():
        (row if name in row else row["extra_info"])[name] = value
    return row


def sharegpt_item(folder: Path, number: int = 0) -> dict[str, Any]:
    """Returns an item of CodeVision-SFT, with its images under FOLDER/images."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = [f"images/{number}_{step}.jpg" for step in range(2)]
    for step, name in enumerate(names):
        (folder / name).write_bytes(coded(scene(10 * number + step), "JPEG"))
    arguments = {"code": "image = image.rotate(90, expand=True)", "description": "turn", "image_index": 0}
    call = json.dumps({"name": "code_image_tool", "arguments": arguments})
    schema = json.dumps({"type": "function", "function": {"name": "code_image_tool", "parameters": {}}})
    return {
        "conversations": [
            {"from": "human", "value": f"<image>\nWhat is written at {number}?"},
            {"from": "gpt", "value": f"<think>It lies on its side.</think><tool_call>\n{call}\n</tool_call>"},
            {"from": "tool", "value": "Image 1.\n<image>"},
            {"from": "gpt", "value": f"<think>Upright.</think><answer>word {number}</answer>"},
        ],
        "images": names,
        "metadata": json.dumps({"source": "hiertext", "answer": f"word {number}"}),
        "system": "You are a helpful assistant.\n\n# Tools\n\nYou may call one or more functions.\n"
        f"<tools>\n{schema}\n</tools>\n\nFor each function call, return a json object.",
    }


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows) if path.suffix == ".json" else "".join(json.dumps(row) + "\n" for row in rows))
    return path


def wait_for(done: Callable[[], object], seconds: float = 60) -> None:
    """Returns once `done` is true; fails if that takes longer."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def image_file(path: Path, seed: int = 0) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(coded(scene(seed), "PNG"))
    return path.name


def folder_of_images(folder: Path) -> Path:
    """Returns the folder, with three images in it."""
    for number, name in enumerate(("a.png", "b.png", "sub dir/x y.png")):
        image_file(folder / name, number)
    return folder


def convert_records(
    folder: Path, content: Any, *words: object, name: str = "in.jsonl", to: str = "rl"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the summary and the rows of a file with these records, or this content."""
    source, out = folder / name, folder / "out.parquet"
    if isinstance(content, pa.Table):
        pq.write_table(content, source)
    else:
        lines = "".join(json.dumps(record) + "\n" for record in content) if isinstance(content, list) else content
        source.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    options = ("--workers", 1, "--max-rejected", "100%", "--force")
    summary = data_prep("convert", source, "--to", to, "--out", out, *options, *words)
    return summary, pq.read_table(out).to_pylist()


def truths(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Returns the right answers of RL rows."""
    return [row["reward_model"]["ground_truth"] for row in rows]


def _rl(folder: Path) -> Path:
    return write_parquet(folder / "train_group_1.parquet", [rl_row(0), rl_row(1)])


def _sft(folder: Path) -> Path:
    return write_json(folder / "codevision_sft.json", [sharegpt_item(folder, number) for number in range(2)])


def _v_interaction(folder: Path) -> Path:
    rows = [
        {
            "id": f"v{number}",
            "question": f"<image>\nHow long is side {number}?",
            "image": image_file(folder / f"v{number}.png", number),
            "original_img_code": "plt.plot()",
            "edited_image": image_file(folder / f"v{number}_edited.png", 9 + number),
            "tool_code": "draw.line((0, 0, 9, 9))",
            "CoT_with_code": "<think>Draw the side.\n```python\ndraw.line((0, 0, 9, 9))\n```\nIt is 5.</think>",
            "answer": str(5 + number),
        }
        for number in range(2)
    ]
    return write_json(folder / "v_interaction.jsonl", rows)


def _v_perception(folder: Path) -> Path:
    image = {"bytes": coded(scene()), "path": "a.png"}
    row = {
        "question": "Where is A?",
        "answer": "(3, 4)",
        "python_code": "",
        "element_arrtibute": ["A"],
        "image": image,
    }
    return write_parquet(folder / "perception.parquet", [row | {"id": "0"}, row | {"id": "1", "question": "And B?"}])


def _vtbench(folder: Path) -> Path:
    row = {
        "id": "1", "image": {"bytes": coded(scene()), "path": None},
        "annotation_instruction": "", "annotation_perception": "",
        "question_reasoning": "Which is longer?", "question_perception": "Mark A.", "question_instruction": "Draw AB.",
        "answer_reasoning": "AB", "answer_instruction": "", "domain": "geometry",
    }  # fmt: skip
    return write_parquet(
        folder / "vtbench.parquet", [row, row | {"id": "2", "question_reasoning": "Which is shorter?"}]
    )


def _chartqapro(folder: Path) -> Path:
    rows = [
        {"Question": ["What rose?", "By how much?"], "Answer": ["Sales", "3%"], "image": coded(scene()),
         "Question Type": "Conversational", "Year": ["NO", "NO"], "Paragraph": ""},
        {"Question": ["What fell?"], "Answer": ["Costs"], "image": coded(scene(1)), "Question Type": "Factoid",
         "Year": ["NO"], "Paragraph": "On costs."},
    ]  # fmt: skip
    return write_parquet(folder / "chartqapro.parquet", rows)


def _hrbench(folder: Path) -> Path:
    lines = ["index\tquestion\tanswer\tcategory\tA\tB\tC\tD\timage"]
    for number in range(2):
        image = base64.b64encode(coded(scene(number))).decode()
        lines.append(f"{number}\tWhat colour is {number}?\tB\tsingle\tred\tblue\tgreen\tgrey\t{image}")
    (folder / "hr_bench_4k.tsv").write_text("\n".join(lines) + "\n")
    return folder / "hr_bench_4k.tsv"


def _vstar(folder: Path) -> Path:
    rows = [
        {"image": image_file(folder / f"{number}.png", number), "text": f"What is it? {number}\n(A) a cup\n(B) a hat",
         "category": "direct_attributes", "label": "A", "question_id": str(number)}
        for number in range(2)
    ]  # fmt: skip
    return write_json(folder / "test_questions.jsonl", rows)


def _ocrbench(folder: Path) -> Path:
    rows = [
        {"dataset": "IIIT5K", "question": f"What is written? {number}", "question_type": "Regular Text Recognition",
         "answer": ["CENTRE", "centre"], "image": {"bytes": coded(scene(number)), "path": None}}
        for number in range(2)
    ]  # fmt: skip
    return write_parquet(folder / "ocrbench.parquet", rows)


def _docvqa(folder: Path) -> Path:
    rows = [
        {"questionId": str(338 + number), "question": "Who?", "question_types": ["form"], "docId": 1,
         "image": {"bytes": coded(scene(number)), "path": None}, "answers": ["Ann", "ann"]}
        for number in range(2)
    ]  # fmt: skip
    return write_parquet(folder / "docvqa.parquet", rows)


def _textvqa(folder: Path) -> Path:
    rows = [
        {"image_id": f"a{number}", "image_classes": ["Phone"], "question_id": number, "question": "which brand?",
         "answers": ["nokia"] * 9 + ["toshiba"], "image": {"bytes": coded(scene(number), "JPEG"), "path": None}}
        for number in range(2)
    ]  # fmt: skip
    return write_parquet(folder / "textvqa.parquet", rows)


def _folder(folder: Path) -> Path:
    lines = ["file_name,question,answer"]
    for number in range(2):
        image_file(folder / "pictures" / f"{number}.png", number)
        lines.append(f"{number}.png,What is {number}?,a thing")
    (folder / "pictures" / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder / "pictures"


SETS: dict[str, Callable[[Path], Path]] = {
    "CodeVision-RL": _rl,
    "CodeVision-SFT": _sft,
    "V-Interaction-400K": _v_interaction,
    "V-Perception-40K": _v_perception,
    "VTBench": _vtbench,
    "ChartQAPro": _chartqapro,
    "HRBench": _hrbench,
    "V*": _vstar,
    "OCRBench": _ocrbench,
    "DocVQA": _docvqa,
    "TextVQA": _textvqa,
    "a folder of images": _folder,
}
"""Function, by published data set, that writes two good items into a folder and returns the path."""
