"""Wraps the code tool for verl, which loads it from the YAML of `rollout.multi_turn.tool_config_path`.

Each process has one sandbox.
"""

from typing import Any

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from codevision_ext.rollout.code_tool import TOOL_SCHEMA, CodeTool
from codevision_ext.rollout.image_history import ImageHistory
from codevision_ext.rollout.parsing import TOOL_NAME, read_call
from codevision_ext.sandbox.settings import open_sandbox, read_tool_settings


class CodeImageTool(BaseTool):
    """The tool `code_image_tool`. Our agent loop uses `code_tool`; verl's `ToolAgentLoop` calls `execute`.

    Raises:
        InputError: The YAML has a setting that nothing reads.
    """

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None) -> None:
        settings = read_tool_settings(config, "tool config")
        super().__init__(config, tool_schema or OpenAIFunctionToolSchema.model_validate(TOOL_SCHEMA))
        self._sandbox = open_sandbox(settings)
        self.code_tool = CodeTool.of(self._sandbox, settings)

    async def execute(
        self,
        instance_id: str,  # noqa: ARG002
        parameters: dict[str, Any],
        **kwargs: Any,
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Runs one call on the images of `agent_data`, for verl's own agent loop."""
        images = list(getattr(kwargs.get("agent_data"), "image_data", None) or [])
        parsed = read_call({"name": TOOL_NAME, "arguments": parameters}, len(images))
        if parsed.call is None:
            return ToolResponse(text=parsed.message), 0.0, {"call": str(parsed.status)}
        observation = await self.code_tool.acall(ImageHistory(images), parsed.call)
        image = {"image": list(observation.images)} if observation.images else {}  # verl refuses `image=None`
        return ToolResponse(text=observation.text, **image), 0.0, {"call": "ok", "ok": observation.step.ok}
