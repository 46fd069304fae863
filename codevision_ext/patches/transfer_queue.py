"""Patch of TransferQueue."""

import os
from types import ModuleType

from codevision_ext.patches.guard import expect


def cores_for_ranks(common: ModuleType) -> None:
    """Shares the cores of a machine among verl's trainer ranks; TransferQueue would reset each rank to one thread.

    transfer_queue/utils/common.py:118 restores the number of threads at import, which is one on the CPU
    (`OMP_NUM_THREADS=1`). The engine waits while ranks compute, so the ranks can use all cores. The patch changes speed
    only.

    Drop when TransferQueue restores the number of threads from before its call.
    """
    expect(
        common,
        "limit_pytorch_auto_parallel_threads",
        "torch.set_num_threads(DEFAULT_TORCH_NUM_THREADS)",
        of="TransferQueue 0.1.11",
    )
    ranks = int(os.environ.get("RAY_LOCAL_WORLD_SIZE", "0"))  # verl sets it in its workers only
    if ranks:
        vars(common)["DEFAULT_TORCH_NUM_THREADS"] = max(1, len(os.sched_getaffinity(0)) // ranks)
        common.torch.set_num_threads(common.DEFAULT_TORCH_NUM_THREADS)
