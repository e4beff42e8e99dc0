"""Records diffusers' schedulers: timesteps, sigmas, input scales and whole trajectories.

Command: python scripts/golden/schedulers.py      (writes tests/golden/schedulers/*.json)

A trajectory replaces the model by a fixed sequence of outputs and the random generator by a fixed
sequence of noise, so a port needs neither:
  model output of call k, element j   cos(0.1 * (k + 1) * (j + 1))         float64, rounded to float32
  noise drawn in call k, element j    sin(0.37 * (k + 1) + 1.3 * (j + 1))  float64, rounded to float32
  unit start, element j               1.5 * sin(1.7 * (j + 1))             float64, rounded to float32
  init image, element j               0.8 * cos(2.1 * (j + 1))             float64, rounded to float32
k counts step() calls from 0 (in the img2img part from 0 again), j counts elements from 0.
"""

import inspect

import diffusers
import numpy as np
import torch
from common import GOLDEN, f32, f32_list, update_manifest, versions, write_rows

ELEMENTS = 4
STEP_COUNTS = (1, 4, 20, 30, 50)
STRENGTH = 0.6

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LINEAR = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
V = {"prediction_type": "v_prediction"}
SAMPLE = {"prediction_type": "sample"}


def vector(fn):
    j = np.arange(1, ELEMENTS + 1, dtype=np.float64)
    return torch.from_numpy(fn(j).astype(np.float32))


def model_output(k):
    return vector(lambda j: np.cos(0.1 * (k + 1) * j))


def noise(k):
    return vector(lambda j: np.sin(0.37 * (k + 1) + 1.3 * j))


START = vector(lambda j: 1.5 * np.sin(1.7 * j))
INIT_IMAGE = vector(lambda j: 0.8 * np.cos(2.1 * j))


def spacings(base, offsets=(0, 1)):
    """base under every timestep spacing; leading with each steps_offset."""
    rows = {f"leading-o{o}": {**base, "timestep_spacing": "leading", "steps_offset": o} for o in offsets}
    rows["trailing"] = {**base, "timestep_spacing": "trailing", "steps_offset": 0}
    rows["linspace"] = {**base, "timestep_spacing": "linspace", "steps_offset": 0}
    return rows


def sigma_schedules(base, spacing="leading", offset=1):
    """The alternative sigma schedules of diffusers on one spacing."""
    base = {**base, "timestep_spacing": spacing, "steps_offset": offset}
    return {f"{kind}-{spacing}": {**base, f"use_{kind}_sigmas": True} for kind in ("karras", "exponential", "beta")}


def euler():
    # stabilityai/stable-diffusion-xl-base-1.0 scheduler_config.json
    sdxl = {
        **SD,
        "prediction_type": "epsilon",
        "interpolation_type": "linear",
        "use_karras_sigmas": False,
        "timestep_spacing": "leading",
        "steps_offset": 1,
        "num_train_timesteps": 1000,
        "clip_sample": False,
        "sample_max_value": 1.0,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "trained_betas": None,
    }
    lead = {**SD, "timestep_spacing": "leading", "steps_offset": 1}
    return {
        "sdxl": sdxl,
        **spacings(SD),
        "v-leading": {**lead, **V},
        "v-trailing": {**SD, **V, "timestep_spacing": "trailing"},
        "sample-leading": {**lead, **SAMPLE},
        "linear-betas": {**LINEAR, "timestep_spacing": "linspace"},
        "log-linear": {**SD, "interpolation_type": "log_linear", "timestep_spacing": "linspace"},
        "sigma-min": {**lead, "final_sigmas_type": "sigma_min"},
        **sigma_schedules(SD),
        "karras-trailing": {**SD, "use_karras_sigmas": True, "timestep_spacing": "trailing"},
        "zero-snr-v": {**SD, **V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        "squaredcos-betas": {"beta_schedule": "squaredcos_cap_v2", "extra": True},
    }


def euler_ancestral():
    # stabilityai/sdxl-turbo scheduler_config.json
    turbo = {
        **SD,
        "prediction_type": "epsilon",
        "interpolation_type": "linear",
        "timestep_spacing": "trailing",
        "steps_offset": 1,
        "num_train_timesteps": 1000,
        "clip_sample": False,
        "sample_max_value": 1.0,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "use_karras_sigmas": False,
    }
    lead = {**SD, "timestep_spacing": "leading", "steps_offset": 1}
    return {
        "turbo": turbo,
        **spacings(SD),
        "v-leading": {**lead, **V},
        "v-trailing": {**SD, **V, "timestep_spacing": "trailing"},
        "linear-betas": {**LINEAR, "timestep_spacing": "linspace"},
        "zero-snr-v": {**SD, **V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    }


def ddim():
    base = {**SD, "clip_sample": False, "set_alpha_to_one": False}
    lead = {**base, "timestep_spacing": "leading", "steps_offset": 1}
    return {
        "sd15": lead,
        **spacings(base),
        "alpha-one": {**lead, "set_alpha_to_one": True},
        "v-leading": {**lead, **V},
        "v-trailing": {**base, **V, "timestep_spacing": "trailing"},
        "sample-leading": {**lead, **SAMPLE},
        "linear-betas": {**base, **LINEAR, "timestep_spacing": "leading"},
        "clip-sample": {**lead, "clip_sample": True},
        "zero-snr-v": {**base, **V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    }


def ddpm():
    base = {**SD, "clip_sample": False}
    lead = {**base, "timestep_spacing": "leading", "steps_offset": 1}
    return {
        **spacings(base),
        "v-leading": {**lead, **V},
        "sample-leading": {**lead, **SAMPLE},
        "linear-betas": {**base, **LINEAR, "timestep_spacing": "leading"},
        "clip-sample": {**lead, "clip_sample": True},
        "fixed-large": {**lead, "variance_type": "fixed_large", "extra": True},
        "fixed-small-log": {**lead, "variance_type": "fixed_small_log", "extra": True},
    }


def lcm():
    return {
        # latent-consistency/lcm-lora-sdxl: LCMScheduler.from_config of the SDXL Euler configuration
        "lcm-lora-sdxl": {
            **SD,
            "timestep_spacing": "leading",
            "steps_offset": 1,
            "set_alpha_to_one": False,
            "original_inference_steps": 50,
            "prediction_type": "epsilon",
        },
        "defaults": dict(SD),
        "v": {**SD, **V},
        "sample": {**SD, **SAMPLE},
        "linear-betas": dict(LINEAR),
        "clip-sample": {**SD, "clip_sample": True},
        "origin-100": {**SD, "original_inference_steps": 100},
        "scaling-1": {**SD, "timestep_scaling": 1.0},
    }


def lms():
    lead = {**SD, "timestep_spacing": "leading", "steps_offset": 1}
    return {
        **spacings(SD),
        "v-leading": {**lead, **V},
        "sample-leading": {**lead, **SAMPLE, "extra": True},
        "linear-betas": {**LINEAR, "timestep_spacing": "linspace"},
        "karras-leading": {**lead, "use_karras_sigmas": True},
        "karras-linspace": {**SD, "use_karras_sigmas": True, "timestep_spacing": "linspace"},
    }


def pndm():
    base = {**SD, "skip_prk_steps": True, "set_alpha_to_one": False}
    lead = {**base, "timestep_spacing": "leading", "steps_offset": 1}
    return {
        # runwayml/stable-diffusion-v1-5 scheduler_config.json
        "sd15": {**lead, "num_train_timesteps": 1000, "clip_sample": False, "trained_betas": None},
        **spacings(base),
        "alpha-one-o0": {**lead, "set_alpha_to_one": True, "steps_offset": 0},
        "alpha-one-o1": {**lead, "set_alpha_to_one": True},
        "v-leading": {**lead, **V},
        "linear-betas": {**base, **LINEAR, "timestep_spacing": "leading"},
    }


def unipc():
    lead = {**SD, "timestep_spacing": "leading", "steps_offset": 1}
    return {
        **spacings(SD),
        "v-leading": {**lead, **V},
        "sample-leading": {**lead, **SAMPLE},
        "linear-betas": {**LINEAR, "timestep_spacing": "linspace"},
        **sigma_schedules(SD),
        "sigma-min": {**lead, "final_sigmas_type": "sigma_min"},
        "order-1": {**lead, "solver_order": 1},
        "order-3": {**lead, "solver_order": 3, "extra": True},
    }


def dpmpp_2m():
    lead = {**SD, "timestep_spacing": "leading", "steps_offset": 1}
    return {
        **spacings(SD),
        "euler-at-final": {**lead, "euler_at_final": True},
        "karras-euler-at-final": {**lead, "use_karras_sigmas": True, "euler_at_final": True},
        "higher-order-final": {**lead, "lower_order_final": False},
        "sigma-min": {**lead, "final_sigmas_type": "sigma_min"},
        "v-leading": {**lead, **V},
        "v-trailing": {**SD, **V, "timestep_spacing": "trailing"},
        "sample-leading": {**lead, **SAMPLE},
        "linear-betas": {**LINEAR, "timestep_spacing": "linspace"},
        **sigma_schedules(SD),
        "karras-trailing": {**SD, "use_karras_sigmas": True, "timestep_spacing": "trailing"},
        "karras-linspace": {**SD, "use_karras_sigmas": True, "timestep_spacing": "linspace"},
        "heun": {**lead, "solver_type": "heun"},
        "order-1": {**lead, "solver_order": 1},
        "order-3": {**lead, "solver_order": 3, "extra": True},
        "dpmsolver": {**lead, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "extra": True},
        "lu-lambdas": {**lead, "use_lu_lambdas": True, "extra": True},
        "sde": {**lead, "algorithm_type": "sde-dpmsolver++", "extra": True},
    }


def flow_match_euler():
    return {
        # stabilityai/stable-diffusion-3-medium-diffusers scheduler_config.json
        "sd3": {"num_train_timesteps": 1000, "shift": 3.0},
        "shift-1": {"shift": 1.0},
        "shift-3-static": {"shift": 3.0, "use_dynamic_shifting": False},
        "shift-6": {"shift": 6.0},
        "karras": {"shift": 3.0, "use_karras_sigmas": True, "extra": True},
        "exponential": {"shift": 3.0, "use_exponential_sigmas": True, "extra": True},
        "beta": {"shift": 3.0, "use_beta_sigmas": True, "extra": True},
    }


FAMILIES = {
    "euler": ("EulerDiscreteScheduler", euler),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", euler_ancestral),
    "ddim": ("DDIMScheduler", ddim),
    "ddpm": ("DDPMScheduler", ddpm),
    "lcm": ("LCMScheduler", lcm),
    "lms": ("LMSDiscreteScheduler", lms),
    "pndm": ("PNDMScheduler", pndm),
    "unipc": ("UniPCMultistepScheduler", unipc),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", dpmpp_2m),
    "flow_match_euler": ("FlowMatchEulerDiscreteScheduler", flow_match_euler),
}


class FixedNoise:
    """Stands in for diffusers' randn_tensor: returns the noise of the current call."""

    def __init__(self):
        self.call = 0

    def __call__(self, shape, generator=None, device=None, dtype=None, layout=None):
        assert tuple(shape) == (1, 1, 1, ELEMENTS), shape
        return noise(self.call).reshape(shape)


def four_d(x):
    return x.reshape(1, 1, 1, ELEMENTS)


def run(scheduler, timesteps, start, fixed):
    """Steps through timesteps; returns per-call input scales and samples, or None if a value overflows."""
    sample, scales, trajectory = four_d(start), [], []
    for k, t in enumerate(timesteps):
        fixed.call = k
        if hasattr(scheduler, "scale_model_input"):
            scales.append(f32(scheduler.scale_model_input(torch.ones_like(sample), t).reshape(-1)[0]))
        else:
            scales.append(1.0)
        sample = scheduler.step(four_d(model_output(k)), t, sample, return_dict=False)[0]
        if not torch.isfinite(sample).all():
            return None
        trajectory.append(f32_list(sample))
    return scales, trajectory


def image_to_image(scheduler, steps, fixed):
    """diffusers' img2img: enters the schedule at strength 0.6 from a noised image."""
    init_steps = min(int(steps * STRENGTH), steps)
    t_start = max(steps - init_steps, 0)
    timesteps = scheduler.timesteps[t_start * scheduler.order :]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(t_start * scheduler.order)
    if hasattr(scheduler, "add_noise"):
        noised = scheduler.add_noise(four_d(INIT_IMAGE), four_d(START), timesteps[:1])
    else:
        noised = scheduler.scale_noise(four_d(INIT_IMAGE), timesteps[:1], four_d(START))
    outcome = run(scheduler, timesteps, noised, fixed)
    if outcome is None:
        return None
    return {"t_start": t_start, "noised": f32_list(noised), "final": outcome[1][-1]}


def record(cls, name, config, steps):
    """One golden row, or None where diffusers itself refuses or overflows."""
    config = dict(config)
    extra = config.pop("extra", False)
    module = inspect.getmodule(cls)
    fixed = FixedNoise()
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = fixed

    def fresh():
        scheduler = cls.from_config(config)
        scheduler.set_timesteps(steps)
        return scheduler

    try:
        scheduler = fresh()
        sigmas = f32_list(scheduler.sigmas) if hasattr(scheduler, "sigmas") else None
        timesteps = f32_list(scheduler.timesteps)
        init_sigma = f32(getattr(scheduler, "init_noise_sigma", 1.0))
        start = START * torch.tensor(init_sigma, dtype=torch.float32)
        outcome = run(scheduler, scheduler.timesteps, start, fixed)
        if outcome is None:
            return None
        i2i = image_to_image(fresh(), steps, fixed) if steps > 1 else None
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError, AssertionError) as error:
        print(f"  {cls.__name__} {name} N={steps}: refused by diffusers: {error!r}")
        return None
    row = {"name": name, "steps": steps, "extra": extra}
    row["config"] = {"_class_name": cls.__name__, **config}
    row |= {"timesteps": timesteps, "init_noise_sigma": init_sigma}
    if sigmas is not None:
        row["sigmas"] = sigmas
    row |= {"start": f32_list(start), "input_scale": outcome[0], "prev_sample": outcome[1]}
    if i2i is not None:
        row["img2img"] = i2i
    return row


def write_alphas(out):
    """Spot values of the cumulative alpha products of each beta schedule (DDIMScheduler's table)."""
    rows = []
    for name, config in {
        "scaled_linear": SD,
        "linear": LINEAR,
        "squaredcos_cap_v2": {"beta_schedule": "squaredcos_cap_v2"},
        "scaled_linear-zero-snr": {**SD, "rescale_betas_zero_snr": True},
    }.items():
        table = diffusers.DDIMScheduler.from_config(config).alphas_cumprod
        index = [0, 1, 2, 10, 100, 259, 499, 500, 759, 998, 999]
        rows.append({"name": name, "config": config, "index": index, "alphas_cumprod": f32_list(table[index])})
    write_rows(out / "alphas.json", {}, "rows", rows)


def main():
    torch.set_num_threads(1)
    out = GOLDEN / "schedulers"
    write_alphas(out)
    for family, (cls_name, configs) in FAMILIES.items():
        cls = getattr(diffusers, cls_name)
        rows = []
        for name, config in configs().items():
            for steps in STEP_COUNTS:
                row = record(cls, name, config, steps)
                if row is None:
                    print(f"  {family} {name} N={steps}: no row")
                else:
                    rows.append(row)
        head = {
            "scheduler": cls_name,
            "versions": {k: versions()[k] for k in ("diffusers", "torch")},
            "strength": STRENGTH,
            "unit_start": f32_list(START),
            "init_image": f32_list(INIT_IMAGE),
        }
        write_rows(out / f"{family}.json", head, "rows", rows)
        print(family, len(rows), "rows", (out / f"{family}.json").stat().st_size, "bytes")
    update_manifest("schedulers", "schedulers.py")


if __name__ == "__main__":
    main()
