"""A1111 sampler names and the diffusers schedulers that do the same, or the nearest thing, with what differs said.

This file imports nothing heavy, so that a plan can be checked before anything is loaded.
"""

from typing import Any, NamedTuple

from vernissage.errors import BadPlan, UnknownName
from vernissage.records.parameters import split_sampler


class Sampler(NamedTuple):
    """A diffusers scheduler class with its options, and how it differs from A1111's sampler of that name."""

    scheduler: str
    options: dict[str, Any]
    differs: str = ""


SAMPLERS: dict[str, Sampler] = {
    "Euler": Sampler("EulerDiscreteScheduler", {}),
    "Euler a": Sampler("EulerAncestralDiscreteScheduler", {}),
    "Heun": Sampler("HeunDiscreteScheduler", {}),
    "LMS": Sampler("LMSDiscreteScheduler", {}),
    "DPM2": Sampler("KDPM2DiscreteScheduler", {}),
    "DPM2 a": Sampler("KDPM2AncestralDiscreteScheduler", {}),
    "DPM++ 2M": Sampler("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M SDE": Sampler("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "DPM++ 3M SDE": Sampler(
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "solver_order": 3},
        "third order is approximated by diffusers' multistep solver",
    ),
    "DPM++ 2S a": Sampler("DPMSolverSinglestepScheduler", {}, "not ancestral: no fresh noise at each step"),
    "DPM++ SDE": Sampler("DPMSolverSinglestepScheduler", {}, "the deterministic single-step solver, no fresh noise"),
    "DDIM": Sampler("DDIMScheduler", {"clip_sample": False}),  # its default clips, which is meant for pixels, not for latents
    "PNDM": Sampler("PNDMScheduler", {"skip_prk_steps": True}),
    "PLMS": Sampler("PNDMScheduler", {"skip_prk_steps": True}),
    "UniPC": Sampler("UniPCMultistepScheduler", {}),
    "LCM": Sampler("LCMScheduler", {}),
    "DEIS": Sampler("DEISMultistepScheduler", {}),
}
NEAREST = {"DPM fast": "DPM++ 2M", "DPM adaptive": "DPM++ 2M", "Restart": "Euler"}
SCHEDULE_OPTIONS: dict[str, dict[str, Any]] = {
    "Karras": {"use_karras_sigmas": True},
    "Exponential": {"use_exponential_sigmas": True},
    "Beta": {"use_beta_sigmas": True},
    "SGM Uniform": {"timestep_spacing": "trailing"},
    "Simple": {},
    "Normal": {},
    "Automatic": {},
    "Uniform": {},
}
# Schedulers without any choice of sigmas.
_NO_SIGMAS = {"EulerAncestralDiscreteScheduler", "DDIMScheduler", "PNDMScheduler", "LCMScheduler"}
# Schedulers without any choice of spacing, which they would be given and ignore.
_NO_SPACING = {"DPMSolverSinglestepScheduler", "LCMScheduler"}
FLOW_SAMPLERS = {"Euler": "FlowMatchEulerDiscreteScheduler", "Heun": "FlowMatchHeunDiscreteScheduler"}


def find_sampler(name: str) -> Sampler:
    """The scheduler for an A1111 sampler name, with or without a schedule at its end.

    Raises:
        BadPlan: There is no such thing in diffusers, or the sampler does not take that schedule; names the nearest.
        UnknownName: Nobody knows this sampler.

    Example:
        >>> find_sampler("DPM++ 2M Karras")
        Sampler(scheduler='DPMSolverMultistepScheduler', options={'use_karras_sigmas': True}, differs='')
    """
    base, schedule = split_sampler(name)
    if base in NEAREST:
        raise BadPlan(f"The sampler {base!r} does not exist in diffusers.", hint=f"The nearest is {NEAREST[base]!r}.")
    if base not in SAMPLERS:
        raise UnknownName("sampler", name, SAMPLERS)
    sampler = SAMPLERS[base]
    options = SCHEDULE_OPTIONS[schedule] if schedule else {}
    without_sigmas = sampler.scheduler in _NO_SIGMAS and any("sigmas" in option for option in options)
    if without_sigmas or (sampler.scheduler in _NO_SPACING and "timestep_spacing" in options):
        raise BadPlan(f"The sampler {base!r} does not take the schedule {schedule!r}.", hint=f"Use {base!r} alone.")
    return sampler._replace(options=sampler.options | options)
