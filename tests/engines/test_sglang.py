"""The log-probs of the evaluation's engine equal transformers' own, and its weights are those loaded last."""

import asyncio
import gc
import math
import os
import shutil
import struct
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engines import (
    IMAGES,
    TOLERANCE,
    TURN,
    Played,
    cut_at_and_before_the_end,
    largest_difference,
    make_eager,
    teacher_forced,
    two_turns,
)
from rows import reading_rows

from codevision_ext.config import Settings
from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.errors import EngineError, InputError
from codevision_ext.evaluate.metrics import COLUMNS
from codevision_ext.evaluate.options import read_suites
from codevision_ext.evaluate.run import evaluate
from codevision_ext.io.records import RecordWriter, read_records
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.rollout.token_buffer import RolloutLimits
from codevision_ext.sandbox import Sandbox
from data_prep import eval_items
from data_prep.formats.schema import RL_SCHEMA, rl_record

pytestmark = pytest.mark.filterwarnings("ignore")  # SGLang and transformers warn at import, by the dozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """An engine of one family and three checkpoints for it; `eager` would say image marks above all."""

    engine: Any
    first: Path
    second: Path
    eager: Path
    renderer_of: Callable[[Path], Any]


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_cpu_if_no_cuda()
        from codevision_ext.engines.sglang import engine  # noqa: PLC0415  after the device is settled
        from codevision_ext.models import checkpoint, tiny_model  # noqa: PLC0415  after the device is settled
    folder = tmp_path_factory.mktemp(request.param)
    sizes = {"hidden": 64, "layers": 2, "vision_hidden": 64, "vision_layers": 2, "vocab_size": 640}
    paths = {name: folder / name for name in ("first", "second", "eager")}
    for seed, path in enumerate(paths.values()):
        tiny_model.build(request.param, path, texts=tiny_model.tokenizer_texts(), seed=seed, **sizes)
    make_eager(paths["eager"], checkpoint.renderer_of(paths["eager"]).banned_ids)
    os.environ["OMP_NUM_THREADS"] = "1"
    with engine.SGLangEngine(paths["first"], context=1024) as started:
        children = [child.pid for child in started._children]
        yield Bench(engine=started, renderer_of=checkpoint.renderer_of, **paths)
    assert len(children) >= 2
    assert not any(psutil.pid_exists(pid) for pid in children)


def rename(checkpoint: Path, out: Path) -> Path:
    """The same weights under the names that verl sends, which transformers gives them in memory; the tied one twice."""
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    from codevision_ext.models.weight_names import engine_name  # noqa: PLC0415

    shutil.copytree(checkpoint, out)
    weights = {}
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        part, _, rest = engine_name(name).partition(".")
        weights[{"visual": "model.visual.", "model": "model.language_model."}[part] + rest] = tensor
    weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"].clone()
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    return out


async def play_some(engine: Any, count: int = 4) -> list[Played]:
    return await asyncio.gather(*[two_turns(engine.policy(seed), engine.renderer, IMAGES) for seed in range(count)])


def worst(bench: Bench, checkpoint: Path, rollouts: Sequence[Played]) -> float:
    return largest_difference(bench.engine.renderer, checkpoint, rollouts)


def test_log_probs_of_two_turns_with_two_images_are_those_of_transformers(bench: Bench) -> None:
    asyncio.run(bench.engine.load(bench.first))
    rollouts = asyncio.run(play_some(bench.engine))
    assert all(len(played.sampled) > TURN for played in rollouts)
    assert worst(bench, bench.first, rollouts) < TOLERANCE
    assert worst(bench, bench.second, rollouts[:1]) > 100 * TOLERANCE


def test_after_new_weights_they_still_are_with_images_seen_before(bench: Bench) -> None:
    asyncio.run(bench.engine.load(bench.first))
    asyncio.run(play_some(bench.engine))
    for checkpoint in (bench.second, bench.first):
        asyncio.run(bench.engine.load(checkpoint))
        assert worst(bench, checkpoint, asyncio.run(play_some(bench.engine, count=2))) < TOLERANCE


def test_weights_under_the_names_that_verl_sends_are_taken_too(bench: Bench, tmp_path: Path) -> None:
    asyncio.run(bench.engine.load(bench.first))
    asyncio.run(bench.engine.load(rename(bench.second, tmp_path / "renamed")))
    assert worst(bench, bench.second, asyncio.run(play_some(bench.engine, count=2))) < TOLERANCE


def test_image_marks_are_never_sampled_by_a_model_that_wants_nothing_else(bench: Bench) -> None:
    asyncio.run(bench.engine.load(bench.eager))
    rollouts = asyncio.run(play_some(bench.engine))
    truths = [
        truth for played in rollouts for truth in teacher_forced(bench.engine.renderer, bench.eager, played).values()
    ]
    assert sum(truth["banned"] for truth in truths) > 10, "without the ban several would have been sampled"
    sampled = {played.ids[place] for played in rollouts for place in played.sampled}
    assert not sampled & set(bench.engine.renderer.banned_ids)
    assert worst(bench, bench.eager, rollouts) < TOLERANCE


def test_a_seed_decides_what_is_sampled_whatever_is_sampled_beside_it(bench: Bench) -> None:
    asyncio.run(bench.engine.load(bench.first))
    alone = asyncio.run(two_turns(bench.engine.policy(3), bench.engine.renderer, IMAGES))
    among = asyncio.run(play_some(bench.engine, count=12))
    assert among[3].ids == alone.ids
    assert among[3].sampled == alone.sampled, "log-probs to the last bit"
    assert len({tuple(played.ids) for played in among}) == 12


def test_a_turn_whose_end_token_is_the_last_one_allowed_is_finished(bench: Bench) -> None:
    asyncio.run(bench.engine.load(bench.first))
    at, before = asyncio.run(cut_at_and_before_the_end(bench.engine.policy, bench.engine.renderer))
    assert (at.finished, before.finished) == (True, False)
    assert at.ids[:-1] == before.ids


def test_a_running_engine_has_no_file_in_shared_memory_that_it_could_leave(bench: Bench) -> None:
    reader = bench.engine._engine.tokenizer_manager.load_snapshot_reader
    assert not Path(reader.path).exists()
    asyncio.run(bench.engine.load(bench.first))
    before = reader.read_all()[0].timestamp
    asyncio.run(two_turns(bench.engine.policy(0), bench.engine.renderer, IMAGES))
    assert reader.read_all()[0].timestamp > before


def test_with_several_ranks_the_file_in_shared_memory_stays_until_all_have_opened_it(tmp_path: Path) -> None:
    from sglang.srt.managers.load_snapshot import ShmLoadSnapshotReader, ShmLoadSnapshotWriter  # noqa: PLC0415

    from codevision_ext.engines.sglang.request import release_loads  # noqa: PLC0415

    path = tmp_path / "loads.shm"
    writer = ShmLoadSnapshotWriter(str(path), 2, 0)
    release_loads(ShmLoadSnapshotReader(str(path), 2))
    assert path.exists()
    writer.close()


def test_what_is_sampled_follows_the_model_s_own_probabilities(bench: Bench) -> None:
    asyncio.run(bench.engine.load(bench.first))
    renderer = bench.engine.renderer
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is written?"}]}]
    ids = renderer.prompt(messages, (), ())

    async def first_tokens(count: int) -> list[tuple[int, float]]:
        samples = await asyncio.gather(*[bench.engine.policy(seed)(ids, (), 1) for seed in range(count)])
        return [(sample.ids[0], sample.log_probs[0]) for sample in samples]

    drawn = asyncio.run(first_tokens(600))
    surprise = -sum(log_prob for _, log_prob in drawn) / len(drawn)
    counts = {token: sum(other == token for other, _ in drawn) for token, _ in drawn}
    likely = {token: math.exp(log_prob) for token, log_prob in drawn if math.exp(log_prob) > 0.01}
    assert surprise > 1
    for token, share in likely.items():
        assert abs(counts[token] / 600 - share) < 5 * math.sqrt(share * (1 - share) / 600)


def test_an_evaluation_writes_a_record_for_each_row_the_same_ones_again(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist([rl_record(row) for row in reading_rows()], schema=RL_SCHEMA), path)
    [suite] = read_suites([f"transformed={path}"], eval_items)
    asyncio.run(bench.engine.load(bench.first))
    written = {}
    with Sandbox() as sandbox:
        for name, concurrency in (("base_tool_on", 128), ("again", 2)):
            out = RecordWriter(tmp_path / "eval", name)
            records = asyncio.run(
                evaluate(
                    suite.items,
                    policy=bench.engine.policy,
                    renderer=bench.engine.renderer,
                    tool=CodeTool(sandbox),
                    limits=RolloutLimits(response_tokens=64, assistant_turns=3, turn_tokens=24),
                    settings=Settings(),
                    out=out,
                    concurrency=concurrency,
                )
            )
            assert list(read_records(out.path)) == records
            assert {record.column for record in records} == set(COLUMNS)
            assert all(record.observed.valid and record.turns[1].text for record in records)
            written[name] = [replace(record, numbers={}) for record in records]
    assert written["base_tool_on"] == written["again"]


def test_generate_of_transformers_says_the_same_with_the_same_log_probs(bench: Bench) -> None:
    from codevision_ext.engines.transformers import TransformersEngine  # noqa: PLC0415

    asyncio.run(bench.engine.load(bench.first))
    renderer = bench.engine.renderer
    resized = [renderer.resize(each) for each in IMAGES]
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Why?"}]}]
    ids = renderer.prompt(asked, (), resized)
    with TransformersEngine(bench.first, context=1024) as reference:
        asyncio.run(reference.load(bench.first))
        likeliest = [
            asyncio.run(each.policy(0, temperature=0)(ids, resized, TURN)) for each in (reference, bench.engine)
        ]
        drawn = [asyncio.run(reference.policy(seed)(ids, resized, TURN)) for seed in (1, 1, 2)]
        at, before = asyncio.run(cut_at_and_before_the_end(reference.policy, renderer))
        with pytest.raises(EngineError, match="leave no room"):
            asyncio.run(reference.policy(0)([5] * 1024, (), 4))
    assert (at.finished, before.finished) == (True, False)
    mine, engines = likeliest
    assert mine.ids == engines.ids
    assert mine.log_probs == pytest.approx(engines.log_probs, abs=TOLERANCE)
    assert mine.finished == engines.finished
    assert drawn[0].ids == drawn[1].ids != drawn[2].ids
    own = [
        Played(ids=ids + each.ids, sampled=dict(enumerate(each.log_probs, len(ids))), resized=resized) for each in drawn
    ]
    assert worst(bench, bench.first, own) < TOLERANCE


def test_another_architecture_and_a_folder_without_weights_are_refused_by_name(bench: Bench, tmp_path: Path) -> None:
    from codevision_ext.models import tiny_model  # noqa: PLC0415

    other = tmp_path / "other"
    tiny_model.build("qwen2_5_vl", other, texts=tiny_model.tokenizer_texts(), hidden=32, layers=1, vocab_size=640)
    with pytest.raises(InputError, match="its weights have other names or shapes"):
        asyncio.run(bench.engine.load(other))
    (other / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"other: not a checkpoint: there are no weights"):
        asyncio.run(bench.engine.load(other))
    with pytest.raises(InputError, match=r"nowhere: not a checkpoint"):
        bench.renderer_of(tmp_path / "nowhere")


def test_a_request_that_does_not_fit_is_a_fault_of_ours_and_the_engine_lives_on(bench: Bench) -> None:
    policy = bench.engine.policy(0)
    with pytest.raises(EngineError, match="2000 prompt tokens leave no room"):
        asyncio.run(policy([5] * 2000, (), 4))
    assert len(asyncio.run(policy([5] * 20, (), 4)).ids) >= 1


def test_a_turn_that_nobody_waits_for_is_aborted_in_the_engine(bench: Bench) -> None:
    asyncio.run(bench.engine.load(bench.first))
    manager, renderer = bench.engine._engine.tokenizer_manager, bench.engine.renderer
    prompt = renderer.prompt([{"role": "user", "content": [{"type": "text", "text": "What is written?"}]}], (), ())

    async def cancelled() -> Any:
        sampling = asyncio.ensure_future(bench.engine.policy(0)(prompt, (), 900))
        while not manager.rid_to_state:  # noqa: ASYNC110  SGLang has no event for it
            await asyncio.sleep(0.01)
        (state,) = manager.rid_to_state.values()
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        while manager.rid_to_state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return state.out_list[-1]["meta_info"]["finish_reason"]["type"]

    assert asyncio.run(asyncio.wait_for(cancelled(), 60)) == "abort"


def test_an_engine_that_dies_is_said_in_one_sentence_at_once(bench: Bench) -> None:
    async def die() -> None:
        waiting = asyncio.gather(*[bench.engine.policy(seed)([5] * 20, (), 900) for seed in range(64)])
        await asyncio.sleep(0.2)
        bench.engine._children[0].kill()
        await waiting

    start = time.monotonic()
    with pytest.raises(EngineError, match="the rollout engine died"):
        asyncio.run(die())
    assert time.monotonic() - start < 10
    with pytest.raises(EngineError, match="the rollout engine died"):
        asyncio.run(bench.engine.policy(0)([5] * 20, (), 4))


def test_replicas_share_the_rollouts_and_say_what_one_engine_says(bench: Bench) -> None:
    from codevision_ext.engines import registry  # noqa: PLC0415

    wanted = registry.EngineConfig(checkpoint=bench.first, context=registry.context_of(bench.first), replicas=2)
    with registry.open_model("sglang", wanted) as player:
        asyncio.run(player.load(bench.first))

        async def play(*seeds: int) -> list[Played]:
            return await asyncio.gather(*[two_turns(player.policy(seed), player.renderer, IMAGES) for seed in seeds])

        both = asyncio.run(play(0, 1))
        assert largest_difference(player.renderer, bench.first, both) < TOLERANCE
        second = player.policy(1).func.__self__  # type: ignore[attr-defined]
        second._children[0].kill()
        assert asyncio.run(play(0))[0].ids == both[0].ids
        with pytest.raises(EngineError, match="the rollout engine died"):
            asyncio.run(play(1))
    assert gc.get_freeze_count() == 0, "triton lists what is frozen at exit, fifty lines behind the evaluation's table"


def test_a_weight_that_the_engine_does_not_know_is_refused_and_none_is_loaded() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_cpu_if_no_cuda()
        import torch  # noqa: PLC0415

        from codevision_ext.engines.sglang.weight_loader import load_weights  # noqa: PLC0415

    class Model(torch.nn.Module):
        config = SimpleNamespace(tie_word_embeddings=False)

        def __init__(self) -> None:
            super().__init__()
            self.visual = torch.nn.Linear(1, 1)
            self.taken: list[str] = []

        def load_weights(self, weights: Iterable[tuple[str, Any]]) -> None:
            self.taken += [name for name, _ in weights]

    model, one = Model(), torch.ones(1)
    load_weights(model, [("model.visual.weight", one), ("visual.bias", one)])
    assert model.taken == ["visual.weight", "visual.bias"]
    with pytest.raises(KeyError, match=r"no parameter model\.layers\.0\.weight"):
        load_weights(model, [("model.visual.bias", one), ("model.language_model.layers.0.weight", one)])
    assert model.taken == ["visual.weight", "visual.bias"]


def murmur3(data: bytes, seed: int = 0) -> int:
    """MurmurHash3, 32 bits, of whole 4-byte blocks; after its public description."""
    low, state = 0xFFFFFFFF, seed
    for (block,) in struct.iter_unpack("<I", data):
        block = block * 0xCC9E2D51 & low
        block = (block << 15 | block >> 17) & low
        state ^= block * 0x1B873593 & low
        state = (state << 13 | state >> 19) & low
        state = (state * 5 + 0xE6546B64) & low
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & low
    state = (state ^ state >> 13) * 0xC2B2AE35 & low
    return state ^ state >> 16


def test_the_noise_of_a_seed_is_murmurhash3() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_cpu_if_no_cuda()
        import torch  # noqa: PLC0415

        from codevision_ext.patches.sglang_sampling import murmur_hash32  # noqa: PLC0415
    assert murmur3(b"test") == 0xBA6BD213
    seeds, places, columns = [0, 7, 2**62 + 12345], [0, 513, 4], [0, 1, 639]
    hashes = murmur_hash32(
        torch.tensor(seeds, dtype=torch.uint64), torch.tensor(places), torch.tensor(columns)
    ).tolist()
    assert hashes == [
        [murmur3(struct.pack("<QII", seed, place, column)) for column in columns]
        for seed, place in zip(seeds, places, strict=True)
    ]
