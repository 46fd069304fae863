"""Counts what a server does, in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from codevision_ext.serve.admission import Admission
from codevision_ext.serve.answers import ChatAnswer

_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)


class Metrics:
    """The metrics of one server."""

    def __init__(self, admission: Admission) -> None:
        registry = self._registry = CollectorRegistry()
        running = Gauge("codevision_requests_running", "Requests whose rollouts run.", registry=registry)
        running.set_function(lambda: admission.running)
        waiting = Gauge("codevision_requests_waiting", "Requests that wait for a slot.", registry=registry)
        waiting.set_function(lambda: admission.waiting)
        self._requests = Counter(
            "codevision_requests", "Requests by HTTP status; 499: the client went away.", ["status"], registry=registry
        )
        self._rollouts = Counter("codevision_rollouts", "Rollouts by their end.", ["end_reason"], registry=registry)
        self._calls = Counter("codevision_tool_calls", "Tool calls by status.", ["status"], registry=registry)
        self._tokens = Counter("codevision_tokens", "Tokens by their origin.", ["kind"], registry=registry)
        self._seconds = Histogram(
            "codevision_rollout_seconds", "Seconds of a rollout.", registry=registry, buckets=_SECONDS
        )

    def ended(self, status: int) -> None:
        """Counts a request that ended with this HTTP status."""
        self._requests.labels(str(status)).inc()

    def answered(self, answer: ChatAnswer) -> None:
        """Counts a rollout that ended."""
        self._rollouts.labels(str(answer.trajectory.end_reason)).inc()
        for step in answer.trajectory.steps:
            self._calls.labels(str(step.status)).inc()
        for kind, number in (
            ("prompt", answer.tokens.prompt),
            ("sampled", answer.tokens.sampled),
            ("tool", answer.tokens.context),
        ):
            self._tokens.labels(kind).inc(number)
        self._seconds.observe(answer.seconds)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
