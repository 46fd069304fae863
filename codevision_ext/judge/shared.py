"""The judges that a process shares, one for each setting."""

import os
from threading import Lock
from typing import TYPE_CHECKING, Final

from codevision_ext.config import JudgeSettings

if TYPE_CHECKING:
    from codevision_ext.judge.client import BlockingJudge, Judge

_JUDGES: Final[dict[str, "BlockingJudge"]] = {}


_JUDGES_LOCK: Final = Lock()


def open_judge(settings: JudgeSettings) -> "Judge":
    """A judge with these settings.

    Raises:
        InputError: the prompts or the cache's folder can't be used.
    """
    from codevision_ext.judge.client import Judge  # noqa: PLC0415  its libraries are slow to import

    key = os.environ[settings.api_key_env] if settings.api_key_env else None
    return Judge(api_key=key, **settings.model_dump(exclude={"api_key_env"}))


def shared_judge(settings: JudgeSettings) -> "BlockingJudge":
    """The one judge of this process with these settings; its threads share connections and the bound on requests."""
    from codevision_ext.judge.client import BlockingJudge  # noqa: PLC0415  its libraries are slow to import

    key = settings.model_dump_json()
    with _JUDGES_LOCK:
        if key not in _JUDGES:
            _JUDGES[key] = BlockingJudge(open_judge(settings))
        return _JUDGES[key]


def close_judges() -> None:
    """Ends the shared judges of this process; nobody may be asking."""
    with _JUDGES_LOCK:
        while _JUDGES:
            _JUDGES.popitem()[1].close()
