"""Ids and seeds of a deterministic run."""

from itertools import product

from codevision_ext.rollout.seeds import prompt_id, request_seed


def test_ids_of_prompts_sort_as_they_were_submitted_and_come_from_the_seed_of_the_run() -> None:
    ids = [prompt_id(7, "train", step, position) for step, position in product((1, 2, 10, 123_456), (0, 9, 10, 99_999))]
    assert ids == sorted(ids)
    assert not any("_" in name for name in ids), "verl splits its keys there"
    assert ids[0] == prompt_id(7, "train", 1, 0)
    assert len({ids[0], prompt_id(8, "train", 1, 0), prompt_id(7, "val", 1, 0)}) == 3


def test_every_request_of_a_run_has_a_seed_of_its_own_that_an_engine_takes() -> None:
    prompts = [prompt_id(run, "train", step, position) for run, step, position in product((0, 1), (1, 2), (0, 1))]
    seeds = [request_seed(*request) for request in product(prompts, (0, 1), (0, 1, 2), (100, 101))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
