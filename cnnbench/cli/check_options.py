"""What a check takes from this machine's calibration: the noise profile that holds here, and the plan by it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cnnbench.cli.check_setup import CheckSetup, parse_percent
from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from cnnbench.regression.design import CheckPlan
    from cnnbench.regression.noise_profile import NoiseProfile


def choose_plan(options: Mapping[str, Any], profile: NoiseProfile | None) -> CheckPlan:
    """The plan for the tolerance asked for; `auto` is the profile's. Raises UsageError."""
    from cnnbench.regression.design import make_check_plan

    if options["tau"] != "auto":
        return make_check_plan(parse_percent(options["tau"], "--tau"), options["max_blocks"])
    if profile is None:
        raise UsageError(
            "--tau auto needs a noise profile of this machine; run `cnnbench calibrate`, or give a percentage"
        )
    return make_check_plan(profile.recommended_tolerance, options["max_blocks"])


def find_noise_profile(setup: CheckSetup, options: Mapping[str, Any]) -> tuple[NoiseProfile | None, str]:
    """The noise profile that holds here, if any, and what to say of it. Raises ComparisonError for one that does not fit."""
    from cnnbench.regression.noise_profile import load_profile, stored_profile_path

    path = options["profile"] or stored_profile_path(options["results"], setup.inventory.machine.id, setup.suite.name)
    if options["no_profile"] or (options["profile"] is None and not path.exists()):
        how = f"`cnnbench calibrate {options['suite']}` tells what can be seen here, and in how many blocks"
        return None, f"noise     not calibrated: {how}"
    profile = load_profile(path, setup.inventory.machine, setup.suite.digest, datetime.now(UTC))
    mode = "sequential" if options["sequential"] else "turns"
    if profile.mode != mode or profile.device != setup.device.id:
        return None, f"noise     {path} is of another way of measuring ({profile.mode}, {profile.device}): not used"
    unknown = [setup.names[job] for job in setup.jobs if setup.names[job] not in profile.jobs]
    if unknown:
        return None, f"noise     {path} knows nothing of {unknown[0]}: not used; calibrate all jobs of the suite"
    spread = f"d spreads by {100 * profile.worst_spread:.2f} % over {profile.blocks} blocks"
    until = f"from {profile.created_at[:10]}, holds to {profile.expires_at[:10]}"
    return profile, f"noise     {path}: {spread}; {until}"
