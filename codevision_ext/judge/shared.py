"""The judges that a process shares: one for each setting."""

from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Final

from codevision_ext.config import JudgeSettings

if TYPE_CHECKING:
    from codevision_ext.judge.client import BlockingJudge, Judge

_JUDGES: Final[dict[str, "BlockingJudge"]] = {}
_OPENED: Final = ExitStack()
_JUDGES_LOCK: Final = Lock()


def open_judge(settings: JudgeSettings) -> "Judge":
    """Return a judge with these settings.

    Raises:
        InputError: the prompts or the cache's folder can't be used.
    """
    from codevision_ext.io.chat_client import Endpoint  # noqa: PLC0415  its libraries are slow to import
    from codevision_ext.judge.client import Judge  # noqa: PLC0415

    fields = settings.model_dump(exclude={"base_url", "cache", "prompts"})
    return Judge(Endpoint(url=settings.base_url, **fields), cache=settings.cache, prompts=settings.prompts)


def shared_judge(settings: JudgeSettings) -> "BlockingJudge":
    """Return this process's judge with these settings; all threads share its connections and its concurrency."""
    from codevision_ext.judge.client import blocking_judge  # noqa: PLC0415  its libraries are slow to import

    key = settings.model_dump_json()
    with _JUDGES_LOCK:
        if key not in _JUDGES:
            _JUDGES[key] = _OPENED.enter_context(blocking_judge(open_judge(settings)))
        return _JUDGES[key]


def close_judges() -> None:
    """Close the shared judges of this process, while no thread waits for a verdict."""
    with _JUDGES_LOCK:
        _JUDGES.clear()
        _OPENED.close()
