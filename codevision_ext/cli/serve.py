"""Runs `codevision serve`: reads the options, opens engine and sandbox, and serves until it is stopped."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from codevision_ext.cli.endpoint import read_endpoint, refuse_endpoint_options
from codevision_ext.cli.serve_options import ServeOptions
from codevision_ext.engines.base import LoadedModel
from codevision_ext.engines.device import use_cpu_if_no_cuda
from codevision_ext.engines.registry import context_of
from codevision_ext.errors import InputError
from codevision_ext.evaluate import options
from codevision_ext.evaluate.command import open_checkpoints
from codevision_ext.evaluate.recipe_config import read_recipe_config
from codevision_ext.evaluate.run import RolloutConfig
from codevision_ext.evaluate.setup import with_checkpoint
from codevision_ext.io.inputs import require_checkpoint, require_files
from codevision_ext.io.stopping import run_stoppable
from codevision_ext.models.checkpoint_settings import checkpoint_settings, print_notes
from codevision_ext.rollout.code_tool import CodeTool
from codevision_ext.sandbox.settings import open_sandbox
from codevision_ext.serve.answers import ServedModel
from codevision_ext.serve.exchange import ServeLimits
from codevision_ext.serve.prompt import PromptLimits
from codevision_ext.serve.server import ServerConfig, bind, serve_until_stopped

_Opener = Callable[[], AbstractContextManager[LoadedModel]]


def run_server(args: ServeOptions) -> None:
    """Serves one model; returns only by an exception.

    Raises:
        InputError: an option or a file is wrong, or the address can't be used; no engine is started.
        InfraError: engine or sandbox can't start.
        Stopped: a signal stopped the server.
    """
    _check_options(args)
    folder = Path(args.model) if args.model else None
    if folder:  # before anything that takes long to import
        require_checkpoint(folder)
    require_files([args.recipe] if args.recipe else [])
    listener = bind(args.host, args.port, args.api_key)
    with listener:
        if args.recipe or folder:
            use_cpu_if_no_cuda()  # before verl, transformers or SGLang is imported
        config = options.read_rollout_config(
            read_recipe_config(args.recipe) if args.recipe else None,
            args.settings or (),
            turns=args.max_turns,
            tokens=args.max_tokens,
            context=None if args.recipe or not folder else context_of(folder),
        )
        name, config, engine = _checkpoint(args, folder, config) if folder else _upstream(args, config)
        prompt = PromptLimits(
            images=args.max_images,
            image_bytes=int(args.max_image_mb * 1e6),
            pixels=int(args.max_megapixels * 1e6),
            context=config.context,
        )
        server = ServerConfig(
            listener=listener,
            api_key=args.api_key,
            concurrency=args.concurrency,
            queue=args.queue,
            keep=args.keep,
            grace_s=args.grace_s,
            limits=ServeLimits(prompt=prompt, body_bytes=int(args.max_body_mb * 1e6), timeout_s=args.timeout_s),
        )
        with (
            open_sandbox(config.tool) if args.tools == "on" else nullcontext() as sandbox,
            engine() as model,
        ):
            served = ServedModel(
                name=args.name or name,
                model=model,
                config=config,
                tool=CodeTool.of(sandbox, config.tool) if sandbox else None,
                temperature=args.temperature,
                ignore_max_tokens=args.ignore_max_tokens,
            )
            run_stoppable(serve_until_stopped(served, folder, server))


def _check_options(args: ServeOptions) -> None:
    """Checks that the options go together."""
    if bool(args.model) == bool(args.upstream):
        raise InputError("give either MODEL, the folder of a checkpoint, or --upstream, the URL of a server")
    if args.tools not in ("on", "off"):
        raise InputError(f"--tools {args.tools}: is neither on nor off")
    if args.upstream and not args.upstream.startswith(("http://", "https://")):
        raise InputError(f"--upstream {args.upstream}: doesn't begin with http:// or https://")
    if args.upstream and (args.replicas, args.gpus, args.engine) != (1, 1, "sglang"):
        raise InputError("--engine, --replicas and --gpus need a checkpoint's folder; --upstream has its own")
    of_urls = {
        "--upstream-model": args.upstream_model,
        "--upstream-key-env": args.upstream_key_env,
        "--request": args.request != "{}",
        "--trained": args.trained,
    }
    if args.model:
        refuse_endpoint_options(of_urls, "--upstream")


def _upstream(args: ServeOptions, config: RolloutConfig) -> tuple[str, RolloutConfig, _Opener]:
    served = read_endpoint(
        str(args.upstream), args.upstream_model, args.upstream_key_env, args.request, args.trained, config
    )
    return served.endpoint.model, served.config, served.opener(args.temperature)


def _checkpoint(args: ServeOptions, folder: Path, config: RolloutConfig) -> tuple[str, RolloutConfig, _Opener]:
    opener = open_checkpoints(
        [folder],
        args.engine,
        config,
        seed=0,
        temperature=args.temperature,
        replicas=args.replicas,
        gpus=args.gpus,
    )
    own = checkpoint_settings(config.settings, folder)
    print_notes({folder: own})
    return folder.resolve().name, with_checkpoint(config, own), opener
