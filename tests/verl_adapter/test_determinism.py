"""What `codevision.deterministic` changes in verl, part by part; `test_reproducible.py` runs it as a whole."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from codevision_ext.errors import InputError
from codevision_ext.io.records import Record, RecordWriter, read_records
from codevision_ext.preflight.recipe import load_recipe
from codevision_ext.rollout.seeds import prompt_id
from codevision_ext.types import Outcome, Task

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers warn at import, by the dozen

RECIPES = Path(__file__).parents[2] / "recipe"


@pytest.fixture(scope="module")
def determinism() -> Any:
    from codevision_ext.engines.device import use_cpu_if_no_cuda  # noqa: PLC0415

    use_cpu_if_no_cuda()
    from codevision_ext.patches import verl_order as determinism  # noqa: PLC0415

    return determinism


def test_the_setting_fixes_what_verl_leaves_to_chance_and_is_on_in_the_demo_only(determinism: Any) -> None:
    config = load_recipe(RECIPES / "demo", "grpo", ["data.seed=3", "data.validation_shuffle=true"])
    assert config.codevision.deterministic
    assert not load_recipe(RECIPES / "qwen2_5_vl_7b", "grpo").codevision.deterministic
    assert (config.actor_rollout_ref.rollout.full_determinism, config.data.validation_shuffle) == (False, True)
    determinism.make_deterministic(config)
    assert (config.actor_rollout_ref.rollout.full_determinism, config.data.validation_shuffle) == (True, False)
    assert not config.actor_rollout_ref.actor.fsdp_config.full_determinism


def test_on_a_gpu_the_trainer_gets_deterministic_kernels_too(determinism: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_recipe(RECIPES / "demo", "grpo", ["data.seed=3"])
    monkeypatch.setattr(determinism, "on_cpu", lambda: False)
    determinism.make_deterministic(config)
    parts = config.actor_rollout_ref
    assert [parts[name].fsdp_config.full_determinism for name in ("actor", "ref")] == [True, True]


@pytest.mark.usefixtures("determinism")
def test_a_resumed_run_removes_the_records_that_it_writes_again_and_no_other(tmp_path: Path) -> None:
    from omegaconf import OmegaConf  # noqa: PLC0415

    from codevision_ext.config import Settings  # noqa: PLC0415
    from codevision_ext.verl_adapter import trainer  # noqa: PLC0415

    groups = [prompt_id(seed, "train", step, 0) for seed, step in ((0, 1), (0, 2), (0, 3), (1, 3))] + ["a-uuid"]
    records = [
        Record(
            group=group,
            id=f"{group}-0",
            task=Task(),
            observed=Outcome(correct=True, format=1.0),
            step=int(group[:6]) if group[0] == "0" else 3,
            split="train",
        )
        for group in groups
    ]
    RecordWriter(tmp_path, "train").write(*records)
    with (tmp_path / "train.jsonl").open("ab") as file:
        file.write(b'{"group": "000003-')  # the driver was killed
    resumed = object.__new__(trainer.CodeVisionTrainer)
    resumed.settings = Settings(records=str(tmp_path), deterministic=True)
    resumed.config = OmegaConf.create({"data": {"seed": 0}})
    resumed.global_steps = 1
    resumed.drop_repeated_records()
    assert [record.group for record in read_records(tmp_path / "train.jsonl")] == [groups[0], *groups[3:]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.seed=null"], r"codevision\.deterministic needs data\.seed"),
        (
            ["data.seed=0", "actor_rollout_ref.rollout.name=trtllm"],
            r"doesn't support actor_rollout_ref\.rollout\.name=trtllm",
        ),
        (
            ["data.seed=0", "+trainer.v1.sampler.custom_sampler={path: a.py, name: B}"],
            r"doesn't support trainer\.v1\.sampler\.custom_sampler",
        ),
    ],
)
def test_a_run_that_cannot_be_deterministic_is_refused_at_the_start(
    determinism: Any, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        determinism.make_deterministic(load_recipe(RECIPES / "demo", "grpo", overrides))


class Store:
    """Stands in for TransferQueue: lists what `listings` holds, one entry each time, the last one for ever."""

    def __init__(self, *listings: dict[str, dict[str, Any]]) -> None:
        self.listings = list(listings)
        self.cleared: list[str] = []

    def kv_list(self) -> dict[str, dict[str, dict[str, Any]]]:
        listing = self.listings.pop(0) if len(self.listings) > 1 else self.listings[0]
        return {"train": {key: tag for key, tag in listing.items() if key not in self.cleared}}

    def kv_clear(self, partition_id: str, keys: list[str]) -> None:  # noqa: ARG002
        self.cleared += keys


def listing(statuses: dict[str, str], rollouts: int) -> dict[str, dict[str, Any]]:
    """Returns prompts with their status, and the finished rollouts of each, in the order in which they arrived."""
    prompts = {name: {"is_prompt": True, "status": status, "global_steps": 1} for name, status in statuses.items()}
    finished = [name for name, status in statuses.items() if status == "finished"]
    return prompts | {f"{name}_{at}_0": {"seq_len": 1} for at in reversed(range(rollouts)) for name in finished}


@pytest.fixture
def sample(determinism: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    from verl.trainer.ppo.v1 import replay_buffer  # noqa: PLC0415

    def sample(store: Store, batch_size: int, *, fixed: bool = True) -> list[str]:
        monkeypatch.setattr(replay_buffer, "tq", store)
        buffer = replay_buffer.ReplayBuffer("sync", {}, None, "drop", {}, poll_interval=0.001)
        if fixed:
            determinism.fix_order(buffer)
        batch, _ = buffer.sample(global_steps=1, partition_id="train", batch_size=batch_size)
        return list(batch.keys)

    return sample


def test_rollouts_reach_the_trainer_in_the_order_of_their_prompts_however_they_arrive(sample: Any) -> None:
    arrived = listing(dict.fromkeys(("000001-00002-c", "000001-00000-a", "000001-00001-b"), "finished"), rollouts=11)
    keys = sample(Store(arrived), 3)
    prompts = ("000001-00000-a", "000001-00001-b", "000001-00002-c")
    assert keys == [f"{prompt}_{number}_0" for prompt in prompts for number in range(11)]
    assert sample(Store(arrived), 3, fixed=False) != keys, "verl's own order is that of arrival"


def test_which_prompts_are_taken_does_not_depend_on_which_finish_first(sample: Any) -> None:
    early = listing({"000001-00001-b": "finished", "000001-00000-a": "running"}, rollouts=2)
    late = listing({"000001-00001-b": "finished", "000001-00000-a": "finished"}, rollouts=2)
    assert sample(Store(early, late), 1) == ["000001-00000-a_0_0", "000001-00000-a_1_0"]
    assert sample(Store(early, late), 1, fixed=False)[0].startswith("000001-00001-b")


def test_prompts_get_the_ids_of_the_run_while_a_batch_is_fetched_and_random_ones_at_other_times(
    determinism: Any,
) -> None:
    from verl.trainer.ppo.v1 import trainer_base  # noqa: PLC0415

    counter = defaultdict(int)

    def next_id() -> str:
        counter["n"] += 1
        return f"id-{counter['n']}"

    with determinism.prompt_ids(trainer_base, next_id):
        assert [str(trainer_base.uuid.uuid4()) for _ in range(2)] == ["id-1", "id-2"]
    assert len(str(trainer_base.uuid.uuid4())) == 36
