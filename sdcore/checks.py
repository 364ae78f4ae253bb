"""What can be found wrong with a planned run before anything is computed."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from . import ports
from .errors import RequestError
from .latents import make_schedule
from .order import Plan
from .tokens import token_windows

if TYPE_CHECKING:
    from .run import Run

MOST_KNOWN = 64
SURELY_SHORT = 1000
"""Bytes of a prompt that fill so few windows in any tokenizer that counting them is not worth the time."""


def check_run(run: Run, plan: Plan, policy: Collection[str], known: set[object]) -> None:
    """Refuse what could not be carried out, or would go round the application's policy.

    Args:
        run: the run, after the plugins' changes.
        plan: its plan.
        policy: the plugins in ``always``.
        known: schedules that were found to be good before; setting one up can take a quarter of a second.

    Raises:
        RequestError: saying what cannot be carried out, and what can.
    """
    _check_texts(run, plan)
    _check_policy(run, plan, policy)
    key = _schedule_key(run, plan)
    if key not in known:
        _check_schedule(run, plan)
        if len(known) >= MOST_KNOWN:
            known.clear()
        known.add(key)


def _check_texts(run: Run, plan: Plan) -> None:
    request = run.request
    encoders: Any = run.model.text_encoders
    layers = min(int(encoder.config.num_hidden_layers) for encoder in encoders)
    if request.clip_skip is not None and request.clip_skip >= layers:
        raise RequestError(
            f"clip_skip is {request.clip_skip}, but the text encoder has {layers} layers; use at most {layers - 1}"
        )
    if plan.claimed(ports.prompt) or plan.claimed(ports.encode_text):
        return  # the text that is encoded is another
    for text in (request.prompt, request.negative_prompt or ""):
        if len(text.encode()) > SURELY_SHORT:
            for tokenizer in run.model.tokenizers:
                token_windows(tokenizer, text, request.long_prompt)


def _check_policy(run: Run, plan: Plan, policy: Collection[str]) -> None:
    if run.request.output != "latent":
        return
    watching = [*plan[ports.judge_image], *plan[ports.seal]]
    watching += [stage for stage in plan[ports.image] if stage.phase in ("safety", "watermark")]
    names = sorted({stage.plugin for stage in watching if stage.plugin in policy})
    if names:
        raise RequestError(
            f"output is 'latent', but the application has {', '.join(names)} look at every picture that leaves; "
            "use output='image'"
        )


def _schedule_key(run: Run, plan: Plan) -> object:
    request = run.request
    return (
        *(request.scheduler, request.steps, request.timesteps, request.sigmas, request.eta),
        *(request.image is None, request.strength, request.denoising_start, request.denoising_end),
        _replaced(plan),
    )


def _replaced(plan: Plan) -> bool:
    """Whether a plugin decides which noise levels are visited."""
    return plan.claimed(ports.sigmas) or plan.claimed(ports.timesteps)


def _check_schedule(run: Run, plan: Plan) -> None:
    request = run.request
    trained = int(run.model.scheduler_config.get("num_train_timesteps", 1000))
    if request.timesteps is not None and request.timesteps[0] >= trained:
        raise RequestError(
            f"timesteps begin at {request.timesteps[0]}, but this model was trained on 0 to {trained - 1}"
        )
    visited = make_schedule(run, Plan({}, {})).timesteps  # without stages: they are called once, in the run
    if visited or _replaced(plan):
        return
    if request.denoising_start not in (None, 1.0) or request.denoising_end is not None:
        raise RequestError(
            f"with steps={request.steps} no step lies between denoising_start {request.denoising_start or 0} and "
            f"denoising_end {request.denoising_end or 1}; use more steps, or a wider range"
        )
